"""The arms of the findings: each is what its file says, trains, and is scored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.findings import scoring
from benchmarks.findings.arms import BASE, HERE, Arm, arms, read
from benchmarks.findings.report import SCORES, over_seeds, report
from benchmarks.findings.training import minutes, start, trained
from lightbagel_core.training.loading import Opening
from lightbagel_core.training.parallel import World
from lightbagel_core.training.stages import Batch, Stage, Validation

RESULTS = HERE / "results"
DOCUMENT = Path(__file__).parents[1] / "docs" / "findings.md"


def stages() -> dict[str, Stage]:
    return {name: arm.trained_by(1, {}) for name, arm in arms().items()}


def test_each_arm_differs_from_both_kinds_of_token_in_what_its_file_says():
    found, both = stages(), arms()["both"]
    assert both == Arm("both", "", both.about, (1, 2, 3))
    assert next(iter(arms())) == BASE == both.name
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
    file.write_text('question = ""\nabout = "odd"\nseeds = [1]\nshift = 1.0\n', "utf-8")
    with pytest.raises(ValueError, match="says shift, which an arm does not have"):
        read(file)
    file.write_text('question = ""\nabout = "odd"\nseeds = [1]\ndrawing.thought = "apart"\n', "utf-8")
    with pytest.raises(ValueError, match="no key thought"):
        read(file)
    file.write_text('question = "odd"\nabout = "odd"\nseeds = [1]\n', "utf-8")
    with pytest.raises(ValueError, match="question 'odd', which is none of source tokens"):
        read(file)
    assert len(list((HERE / "arms").glob("*.toml"))) == len(arms())


def write(out: Path, arm: str, seed: int, right: int, steps: int = 9) -> None:
    """A scored run, right in so many of ten edits of one kind and all of another, and so of prompts."""
    rows = {"a": [True] * right + [False] * (10 - right), "b": [True] * 10}
    held = {"arm": arm, "seed": seed, "steps": steps, "minutes": 6.0}
    held |= {"edits": rows, "done": rows, "kept": {"a": [True] * 10, "b": [True] * 10}, "prompts": rows}
    file = out / f"{arm}-{seed}" / SCORES
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(held), "utf-8")


def test_the_report_pairs_runs_of_one_seed(tmp_path):
    for seed, right in ((1, 4), (2, 6), (3, 8)):
        write(tmp_path, "both", seed, right)
        write(tmp_path, "vit-alone", seed, right - 4)
        write(tmp_path, "shift-1", seed, 5)
    write(tmp_path, "depth-one", 2, 2)
    parts = report(tmp_path, tmp_path).split("\n\n")
    tables = dict(zip(parts[:-1:2], parts[1:-1:2], strict=True))
    assert [*tables] == ["source tokens", "timestep shift", "fusion depth", "edits by kind", "prompts by kind"]
    both = "| both | 1, 2, 3 | 0.700; 0.800; 0.900 (n 60) |  | 0.800; 1.000 | 0.700; 0.800; 0.900 (n 60) |  |"
    assert all(both in table for table in [*tables.values()][:3])
    assert "| 0.500; 0.600; 0.700 (n 60) | -20.0 [-20.0, -20.0] | 0.600; 1.000 |" in tables["source tokens"]
    assert "| -5.0 [-29.8, +19.8] |" in tables["timestep shift"], "5, -5, -15 points: 4.303 standard errors of 5.77"
    assert "| depth-one | 2 | 0.600 (n 20) | -20.0 | 0.600; 1.000 |" in tables["fusion depth"], (
        "of one seed no interval"
    )
    assert "| a | 0.60 (n 30) | 0.20 (n 30) | 0.50 (n 30) |" in tables["edits by kind"], "no arm of one seed"
    # Three arms of three seeds: twice a standard deviation of 0.1, once none; six degrees of freedom, 2.4469 of them.
    apart = 100 * 2.4469 * (2 * (0.1**2 + 0.1**2 + 0) / 3) ** 0.5
    assert parts[-1] == (
        f"10 runs of 9 steps, 1.0 hours; seeds alone set two of them {apart:.1f} points of the edits and"
        f" {apart:.1f} of the prompts apart"
    )
    assert all((tmp_path / f"findings-{what}.png").stat().st_size > 10_000 for what in ("edits", "prompts"))


def test_runs_that_cannot_be_compared_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no run of both that is scored"):
        report(tmp_path, tmp_path)
    write(tmp_path, "both", 1, 5)
    write(tmp_path, "both", 2, 5, steps=8)
    with pytest.raises(ValueError, match="of 8, 9 steps, which are not comparable"):
        report(tmp_path, tmp_path)
    scores = tmp_path / "both-2" / SCORES
    said = json.loads(scores.read_text("utf-8"))
    scores.write_text(json.dumps(said | {"steps": 9, "prompts": {"a": [True]}}), "utf-8")
    with pytest.raises(ValueError, match="20 edits and 1 prompts, 20 edits and 20 prompts, which are not comparable"):
        report(tmp_path, tmp_path)


def test_the_interval_over_seeds_is_students():
    """0.1, 0.2, 0.3: a standard error of 0.1 / sqrt(3), and 4.303 of them with two degrees of freedom."""
    mean, half = over_seeds([0.1, 0.2, 0.3])
    assert (mean, half) == pytest.approx((0.2, 4.30265 * 0.1 / 3**0.5), abs=1e-4)


def test_the_document_says_what_the_runs_gave(tmp_path):
    *parts, whole = report(RESULTS, tmp_path).split("\n\n")
    said = DOCUMENT.read_text("utf-8")
    for title, table in zip(parts[::2], parts[1::2], strict=True):
        assert table in said, title
    assert whole in " ".join(said.split())


def test_a_random_output_begins_as_the_base_does_in_all_else(tmp_path):
    """As training opens and fills them."""

    def begun(name: str) -> dict[str, torch.Tensor]:
        arm = arms()[name]
        stage = arm.trained_by(1, start(arm, 1, tmp_path))
        opening = Opening.of(stage, World(0, 1, torch.device("cpu"), 1), ["fusion"])
        opening.fill()
        return opening.components["fusion"].state_dict()

    both, random = begun("both"), begun("random-start")
    outputs = [name for name in both if name.endswith("gen_out.weight")]
    assert both.keys() == random.keys()
    assert {name for name in both if not torch.equal(both[name], random[name])} == {*outputs}
    assert not any(both[name].any() for name in outputs)
    bound = both[outputs[0]].shape[1] ** -0.5  # torch's linear layers are uniform within it
    assert all(0.99 * bound < random[name].abs().max() <= bound for name in outputs)
    assert len({random[name].sum().item() for name in outputs}) == len(outputs) == 5


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(arms()))
def test_an_arm_trains_and_is_scored(name, tmp_path, monkeypatch):
    whole = Arm.trained_by

    def small(arm: Arm, *said) -> Stage:
        stage = whole(arm, *said)
        cache = replace(stage.cache, samples=4, chunks=2, renew=5)
        return replace(stage, compile=False, batch=Batch(samples=4), cache=cache, validation=Validation())

    monkeypatch.setattr(Arm, "trained_by", small)
    monkeypatch.setattr(scoring, "KINDS", ("recolour", "swap"))  # which all take the same way
    monkeypatch.setattr(scoring, "TAGS", ("two_object",))
    model = trained(arms()[name], 1, tmp_path, 2)
    assert minutes(arms()[name], tmp_path) > 0
    found = scoring.edits(model, arms()[name].drawing, 2) | {"prompts": scoring.prompts(model, 2)}
    asked = {what: {kind: len(rows) for kind, rows in part.items()} for what, part in found.items()}
    assert asked.pop("prompts") == {"two_object": 2}
    assert asked == {what: {"recolour": 2, "swap": 2} for what in ("edits", "done", "kept")}
