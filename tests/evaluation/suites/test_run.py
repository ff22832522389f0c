"""All suites in one run, and what the nano reaches in them; the thresholds lie a little under what it reached."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scenes import PICTURE

from benchmarks.quality import GUIDANCE, SIDE, branches_of, is_right, tasks
from lightbagel_core.config import NANO
from lightbagel_core.evaluation.bench import Files
from lightbagel_core.evaluation.drawing.presets import Drawing
from lightbagel_core.evaluation.drawing.split import draw_bench
from lightbagel_core.evaluation.scores import read_scores
from lightbagel_core.evaluation.suites import describing, drawing, editing, run
from lightbagel_core.evaluation.suites.truth import fresh

FULL = ((101, 102), 50)  # seeds, samples of each
QUICK = ((102,), 20)


@pytest.fixture(scope="module")
def ran(nano, tmp_path_factory):
    """(the folder of a run with one item of each suite, its scores)."""
    out = tmp_path_factory.mktemp("run")
    return out, run.run_nano(nano, out, count=1, progress=False)


def test_one_call_makes_draws_asks_and_scores_everything(ran):
    out, scores = ran
    assert [one.bench for one in scores] == [*run.DRAWN, describing.NAME]
    for one in scores:
        name = one.bench
        assert json.dumps(read_scores(out / name).to_dict()) == json.dumps(one.to_dict())
        assert next(iter(one.overall.values())).n == (0 if one.missing else 1)
        assert (out / name / "prompts").is_dir()
        assert json.loads((out / name / "run.json").read_text("utf-8"))["made_with"]["bench"] == name
    drawn = ("nano-geneval/00000/samples/0000.png", "nano-imgedit/1-0000.png", "nano-multiturn/1-0000_turn1.png")
    assert all((out / file).is_file() for file in drawn)
    assert (out / "nano-multiturn" / "1-0000_turn2.png").is_file()


def test_a_run_that_is_there_is_neither_drawn_nor_asked_again(ran, nano, monkeypatch):
    out, scores = ran
    monkeypatch.setattr(nano, "draw", None)
    monkeypatch.setattr(describing.chat, "answers", None)
    assert run.run_nano(nano, out, count=1, progress=False) == scores


@pytest.mark.parametrize("other", [{"count": 2}, {"count": 1, "seeds": (2,)}, {"per_class": 1}])
def test_another_run_is_kept_out_of_the_folder(ran, nano, other):
    before = {file: file.read_bytes() for file in ran[0].rglob("*.json*")}
    with pytest.raises(ValueError, match="choose another folder"):
        run.run_nano(nano, ran[0], progress=False, **other)
    assert {file: file.read_bytes() for file in ran[0].rglob("*.json*")} == before


@pytest.mark.parametrize("asked", [{"count": 0}, {"per_class": 0}, {"seeds": ()}, {"seeds": (1, 1)}, {"seeds": (-1,)}])
def test_a_run_of_nothing_is_refused(nano, tmp_path, asked):
    with pytest.raises(ValueError, match=r"at least 1 item|there must be one"):
        run.run_nano(nano, tmp_path, progress=False, **asked)
    assert not list(tmp_path.iterdir())


def test_the_published_figures_have_400_items_of_each_class():
    assert run.FULL["per_class"] * len(run.FULL["seeds"]) == 400
    classes = {"nano-geneval": 6, "nano-geneval-short": 6, "nano-imgedit": 12, "nano-multiturn": 4}
    assert {name: number for name, (_, _, number) in run.DRAWN.items()} == classes


@pytest.fixture(params=["quick", pytest.param("full", marks=pytest.mark.slow)])
def reaches(request):
    """Whether a share of right ones lies above what it must: of `quick` or `full`, as many as are scored."""
    seeds, count = FULL if request.param == "full" else QUICK

    def reached(right, quick: float, full: float) -> bool:
        found = [one for seed in seeds for one in right(count, seed)]
        return sum(found) / len(found) >= (full if request.param == "full" else quick)

    return reached


def asked(group: str, count: int, seed: int) -> list[describing.Asked]:
    rng = fresh(describing.NAME, seed)
    return [describing.random_asked(rng, group, f"{seed}-{i}") for i in range(count)]


def test_it_describes(nano, reaches):
    def right(count, seed):
        return [row["right"] for row in describing.answered(nano, asked(describing.CAPTIONS, count, seed))]

    assert reaches(right, quick=0.95, full=0.97)


def test_it_answers_questions(nano, reaches):
    def right(count, seed):
        return [row["right"] for row in describing.answered(nano, asked(describing.QUESTIONS, count, seed))]

    assert reaches(right, quick=0.90, full=0.95)


def test_its_vae_keeps_what_matters(nano, reaches, tmp_path):
    def right(count, seed):
        items = asked(describing.RECONSTRUCTIONS, count, seed)
        return [row["right"] for row in describing.reconstructed(nano, items, tmp_path)]

    assert reaches(right, quick=0.95, full=0.97)


def test_it_counts(nano):
    assert nano.describe(PICTURE, "How many shapes are there?") == "two"


def test_it_draws_what_its_own_prompts_say(nano, reaches):
    """Those that it was taught: they name colours, and where two things stand."""

    def right(count, seed):
        wanted = tasks("text to image", count, seed)
        noise = nano.noise(count, SIDE, SIDE, seed)
        guidance = GUIDANCE["text to image"]
        pictures = nano.draw(branches_of(nano, wanted, guidance), noise, guidance, progress=False)
        return [is_right(task, image) for task, image in zip(wanted, pictures, strict=True)]

    assert reaches(right, quick=0.75, full=0.75)


def drawn(nano, suite, folder: Path, groups, count: int, seed: int, tokens=("vae", "vit")) -> Files:
    """Draws so many items of some groups of a suite."""
    files = Files(folder / "prompts", folder)
    suite.write_prompts(files.prompts, 2 * count, (seed,))
    items = [item for item in suite.read(files, 1).items if item.group in groups][:count]
    draw_bench(nano, suite.NAME, items, folder, Drawing(1, 50, source_tokens=tokens), progress=False)
    return files


def test_it_draws_single_things(nano, reaches, tmp_path):
    def right(count, seed):
        files = drawn(nano, drawing, tmp_path / str(seed), ("single_object", "colors"), count // 2, seed)
        drawing.score(files)
        rows = (files.out / "results.jsonl").read_text("utf-8").splitlines()
        return [json.loads(row)["correct"] for row in rows]

    assert reaches(right, quick=0.90, full=0.95)


def edits(nano, folder: Path, count: int, seed: int, tokens=("vae", "vit")) -> list[bool]:
    rows = editing.rows_of(drawn(nano, editing, folder, editing.KINDS, count, seed, tokens))
    return [row["right"] for row in rows if not row["missing"]]


def test_it_edits_and_leaves_the_rest(nano, reaches, tmp_path):
    assert reaches(lambda count, seed: edits(nano, tmp_path / str(seed), count, seed), quick=0.80, full=0.88)


@pytest.mark.slow
def test_both_kinds_of_source_token_beat_either_alone(nano, tmp_path):
    """The double fusion (paper, ablation of source tokens); all three see the same scenes and noise."""
    seeds, count = FULL

    def score(*tokens: str) -> int:
        return sum(sum(edits(nano, tmp_path / "".join(tokens) / str(seed), count, seed, tokens)) for seed in seeds)

    both, vae, vit = score("vae", "vit"), score("vae"), score("vit")
    assert both > max(vae, vit)


def test_it_fits_its_package():
    assert sum(f.stat().st_size for f in NANO.iterdir()) <= 32_000_000
    assert {f.suffix for f in NANO.iterdir()} <= {".safetensors", ".json", ".jinja"}
