"""The table of plans: short enough to be read, each byte in a unit that fits."""

from __future__ import annotations

import pytest

from lightbagel_core.config import PUBLISHED
from lightbagel_core.files.formats import read_config
from lightbagel_core.training.config_file import read
from lightbagel_core.training.planning.plan_table import describe, gb
from lightbagel_core.training.planning.stage_plan import plan, shapes

CONFIG = read_config(PUBLISHED)


@pytest.fixture(scope="module")
def real():
    return shapes(PUBLISHED)


def test_a_table_is_narrow_and_says_what_is_not_known(real):
    table = describe([plan(stage, CONFIG, real, 32) for stage in read("paper")], 400)
    assert "hours at 400 TFLOP/s" in table
    assert "text-to-image*" in table
    assert "* not read yet" in table
    assert max(map(len, table.splitlines())) <= 120


def test_bytes_are_said_in_a_unit_that_fits():
    assert [gb(n) for n in (999, 5e5, 2.5e8, 3e9, 4e12)] == ["1.0 kB", "0.5 MB", "0.2 GB", "3.0 GB", "4.0 TB"]
