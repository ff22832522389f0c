"""Shared models, and what is said at the end. `tiny` has random weights (see tiny.py), `nano` is the trained one."""

from __future__ import annotations

from typing import Any

import pytest
from tiny import make_tiny, whole

from lightbagel_core.pipeline import LightBagel

collect_ignore = ["comfy"]  # needs a ComfyUI and its environment


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line("NOT RUN HERE: tests/comfy, in a real ComfyUI; .ci/comfy runs them", yellow=True)


@pytest.fixture(scope="session")
def tiny() -> LightBagel:
    return make_tiny()


@pytest.fixture(scope="session")
def nano() -> LightBagel:
    return whole(LightBagel.from_pretrained("nano", "cpu"))
