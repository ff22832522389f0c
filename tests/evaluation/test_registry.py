"""A bench is found by its name."""

from __future__ import annotations

import pytest

from lightbagel_core.evaluation.registry import MODULES, bench_named


@pytest.mark.parametrize("name", MODULES)
def test_every_bench_is_what_its_name_says(name):
    assert bench_named(name).name == name


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"there is no bench 'genevil'; there are geneval, .*nano-imgedit"):
        bench_named("genevil")
