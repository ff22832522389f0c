"""The dry run of presets, as a person gets it."""

from __future__ import annotations

import pytest

from lightbagel_core.training.config_file import read
from lightbagel_core.training.planning.dry_run import dry_run


def test_the_nano_is_a_matter_of_megabytes():
    table = dry_run(read("nano"), rate=0.05)
    assert "not counted" in table
    assert "5.9 M, 177 tensors" in table
    with pytest.raises(ValueError, match=r"stage vlm needs 98\.3 MB"):
        dry_run(read("nano"), card=0.85e9)
