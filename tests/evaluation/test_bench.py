"""What every bench has in common."""

from __future__ import annotations

import pytest

from lightbagel_core.evaluation.bench import Files
from lightbagel_core.evaluation.registry import MODULES, bench_named


@pytest.mark.parametrize("name", MODULES)
def test_a_prompt_file_that_is_not_there_is_a_sentence(name, tmp_path):
    bench = bench_named(name)
    with pytest.raises(ValueError, match="prompts"):
        bench.read(Files(tmp_path / "prompts", tmp_path / "out"), bench.samples)


@pytest.mark.parametrize("name", MODULES)
def test_a_batch_holds_whole_sets_of_samples(name):
    bench = bench_named(name)
    assert bench.batch % bench.samples == 0
    assert "{out}" in bench.official or bench.name.startswith("nano-") or not bench.official
    assert (bench.judged is None) or bench.score is not None
