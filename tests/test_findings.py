"""The arms of the findings: each is what its file says, trains, and is scored."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks.findings import report as reporting
from benchmarks.findings.arms import HERE, Arm, arms, read
from benchmarks.findings.scoring import edits, prompts
from benchmarks.findings.training import trained
from lightbagel_core.training.stages import Batch, Stage, Validation


def stages() -> dict[str, Stage]:
    return {name: arm.trained_by(1, {}) for name, arm in arms().items()}


def test_each_arm_differs_from_both_kinds_of_token_in_what_its_file_says():
    found, both = stages(), arms()["both"]
    assert both == Arm("both", both.about, (1, 2, 3))
    said = {name: arm for name, arm in arms().items() if name != "both"}
    for name, arm in said.items():
        same = found[name] == found["both"]
        assert same == (not arm.stage), name
        assert arm.stage or arm.fusion or arm.random_output, name
        assert set(arm.seeds) <= set(both.seeds), "each is compared with the run of its own seed"
    assert {name for name, arm in arms().items() if len(arm.seeds) == 3} == {
        "both", "vae-alone", "vit-alone", "shift-1", "shift-2"
    }  # fmt: skip


def test_a_key_that_no_arm_has_is_refused(tmp_path):
    file = tmp_path / "odd.toml"
    file.write_text('about = "odd"\nseeds = [1]\nshift = 1.0\n', "utf-8")
    with pytest.raises(ValueError, match="says shift, which an arm does not have"):
        read(file)
    file.write_text('about = "odd"\nseeds = [1]\ndrawing.thought = "apart"\n', "utf-8")
    with pytest.raises(ValueError, match="no key thought"):
        read(file)
    assert len(list((HERE / "arms").glob("*.toml"))) == len(arms())


def test_the_report_pairs_runs_of_one_seed(tmp_path):
    def scored(arm: str, seed: int, right: int) -> None:
        folder = tmp_path / f"{arm}-{seed}"
        folder.mkdir()
        rows = {"a": [True] * right + [False] * (10 - right), "b": [True] * 10}
        held = {"arm": arm, "seed": seed, "edits": rows, "prompts": rows, "minutes": 6.0}
        (folder / "scores.json").write_text(json.dumps(held), "utf-8")

    for seed, right in ((1, 4), (2, 6), (3, 8)):
        scored("both", seed, right)
        scored("vit-alone", seed, right - 4)
    scored("depth-one", 2, 2)
    table = reporting.report(tmp_path)
    lines = {line.split(" | ")[0].strip("| "): line for line in table.splitlines() if line.startswith("|")}
    assert "0.700 0.800 0.900 (n 60)" in lines["both"]
    assert "-20.0 [-20.0, -20.0]" in lines["vit-alone"]
    assert "-20.0 (one seed: no interval)" in lines["depth-one"]
    assert "7 runs, 0.7 hours." in table
    assert (tmp_path / reporting.FIGURE).stat().st_size > 10_000
    with pytest.raises(ValueError, match="no run that is scored"):
        reporting.report(tmp_path / "empty")


def test_the_interval_over_seeds_is_students():
    """0.1, 0.2, 0.3: a standard error of 0.1 / sqrt(3), and 4.303 of them with two degrees of freedom."""
    mean, half = reporting.over_seeds([0.1, 0.2, 0.3])
    assert (mean, half) == pytest.approx((0.2, 4.30265 * 0.1 / 3**0.5), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(arms()))
def test_an_arm_trains_and_is_scored(name, tmp_path, monkeypatch):
    whole = Arm.trained_by

    def small(arm: Arm, *said) -> Stage:
        stage = whole(arm, *said)
        cache = replace(stage.cache, samples=4, chunks=2, renew=5)
        return replace(stage, compile=False, batch=Batch(samples=4), cache=cache, validation=Validation())

    monkeypatch.setattr(Arm, "trained_by", small)
    model = trained(arms()[name], 1, tmp_path, 2)
    for found in (edits(model, arms()[name].drawing, 1), prompts(model, 1)):
        assert {len(rows) for rows in found.values()} == {1}
