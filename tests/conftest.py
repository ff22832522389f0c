"""Shared models, and what is said at the end. `tiny` has random weights (see tiny.py), `nano` is the trained one."""

from __future__ import annotations

import gc
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:  # fixtures import it for themselves: the contracts must run where it cannot be imported
    from lightbagel_core.pipeline import LightBagel

sys.path.append(str(Path(__file__).resolve().parents[1]))  # last, for benchmarks/, which are not installed
collect_ignore = ["comfy"]  # needs a ComfyUI and its environment
TRAINS = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 9)  # what the extra "train" asks for
if not TRAINS:
    collect_ignore += ["training", "test_findings.py"]
LEFT_OUT: list[pytest.Item] = []


def pytest_collection_finish() -> None:
    settle()


def settle() -> None:
    """Releasing weights collects garbage, which takes a third of a second with all in it that was imported."""
    gc.collect()
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    """Has the contracts run also where other tests cannot be imported, as after a change of names in a library."""
    config.option.continue_on_collection_errors = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the contracts first: where a library has changed, they say what, before all else that fails for it."""
    items.sort(key=lambda item: item.path.name != "test_contracts.py")


def pytest_deselected(items: list[pytest.Item]) -> None:
    LEFT_OUT.extend(item for item in items if item.get_closest_marker("slow"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if LEFT_OUT:
        terminalreporter.write_line(f"NOT RUN: {len(LEFT_OUT)} slow tests; pytest tests -m slow runs them", yellow=True)
    if not TRAINS:
        terminalreporter.write_line(
            "NOT RUN HERE: tests/training and tests/test_findings.py, which need torch 2.9 or newer", yellow=True
        )
    terminalreporter.write_line("NOT RUN HERE: tests/comfy, in a real ComfyUI; .ci/comfy runs them", yellow=True)


@pytest.fixture(scope="session")
def tiny() -> LightBagel:
    from tiny import make_tiny

    model = make_tiny()
    settle()  # the libraries of the models have been imported
    return model


@pytest.fixture(scope="session")
def saved(tiny: LightBagel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's checkpoint folder, to be read only."""
    path = tmp_path_factory.mktemp("model") / "tiny"
    tiny.save_pretrained(path)
    return path


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A checkpoint folder of the tiny model's that a test may change."""
    return Path(shutil.copytree(saved, tmp_path / "tiny"))


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Another number of threads is another way to add the same numbers up."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def nano() -> LightBagel:
    from tiny import whole

    from lightbagel_core.pipeline import LightBagel

    return whole(LightBagel.from_pretrained("nano", "cpu"))
