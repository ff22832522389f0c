"""What a run is told: presets and files as stages, merged and overridden, and every mistake in them said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lightbagel_core.training.config_file import PRESETS, merge, read
from lightbagel_core.training.stages import DataSet, Stage

NAMES = sorted(file.stem for file in PRESETS.glob("*.toml"))


def stages(tmp_path, text: str, *overrides: str) -> list[Stage]:
    file = tmp_path / "run.toml"
    file.write_text(text, "utf-8")
    return read(file, overrides)


def test_there_are_the_presets_that_are_promised():
    assert NAMES == ["nano", "paper", "single-card-full", "single-card-fusion", "single-card-lora"]


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_can_be_read_and_overridden(name):
    for stage in read(name, ["steps=7", "checkpoints.keep=5"]):
        assert (stage.steps, stage.checkpoints.keep) == (7, 5)


def test_the_paper_says_what_the_paper_says():
    """training/presets/paper.toml against the table of the authors' numbers (docs/model.md, section 9)."""
    found = read("paper")
    assert [stage.steps for stage in found] == [50_000, 15_000, 15_000]
    for stage in found:
        o, d = stage.optimiser, stage.dropout
        assert (o.name, o.lr, o.betas, o.eps, o.weight_decay) == ("adamw", 3e-5, (0.9, 0.95), 1e-15, 0.0)
        assert (o.schedule, o.warmup, o.clip) == ("constant", 2000, 0.5)
        assert (stage.ema.decay, stage.ema.warmup) == (0.9999, False)
        assert (d.text, d.clean, d.vit, d.empty) == (0.1, 0.1, 0.5, 0.0)
        assert (stage.shift, stage.precision, stage.checkpointing) == (4.0, "bfloat16-mixed", True)
        assert stage.batch.tokens == 32 * 16384
        assert (stage.batch.device_tokens, stage.parallel.shard) == (20480, 8)
        assert set(stage.train) == {"generation", "fusion", "context"}
        assert [s.name for s in stage.data.sets] == ["text-to-image", "edits"]
    assert [s.data.turns for s in found] == ["joined", "joined", "mixed"]
    shares = [[s.weight / sum(t.weight for t in stage.data.sets) for s in stage.data.sets] for stage in found]
    assert [share for share, _ in shares] == pytest.approx([0.925, 0.879, 0.549])


def test_the_nano_is_made_in_five_stages():
    stages = read("nano")
    assert [s.name for s in stages] == ["vlm", "language", "vae", "decoder", "dit"]
    assert [s.recipe for s in stages] == ["nano-vlm", "nano-vlm-language", "nano-vae", "nano-vae-decoder", "drawing"]
    assert [s.batch.samples for s in stages] == [24, 24, 40, 40, 96]
    dit = stages[-1]
    assert dit.optimiser.lr == 1.4e-3
    assert dit.data.sets[0].edits == 0.62


def test_a_set_of_a_preset_is_given_its_folder_alone():
    for stage in read("paper", ["data.sets.edits.path=/my/edits"]):
        assert [s.path for s in stage.data.sets] == ["data/text-to-image", "/my/edits"]
        assert sum(s.weight for s in stage.data.sets) == pytest.approx(100)


def test_stages_differ_from_what_is_common(tmp_path):
    first, second = stages(
        tmp_path,
        """
        steps = 5
        [optimiser]
        lr = 1e-3
        betas = [0.5, 0.6]
        [[stages]]
        name = "a"
        optimiser.lr = 2
        [[stages]]
        name = "b"
        steps = 6
        """,
    )
    assert (first.steps, first.optimiser.lr, first.optimiser.betas) == (5, 2.0, (0.5, 0.6))
    assert isinstance(first.optimiser.lr, float)
    assert (second.steps, second.optimiser.lr) == (6, 1e-3)


def test_a_file_without_stages_is_one(tmp_path):
    (stage,) = stages(tmp_path, "")
    assert stage == Stage()


def test_lists_are_replaced_whole_and_tables_merged():
    base = {"a": [1, 2], "b": {"c": 1, "d": 2}}
    assert merge(base, {"a": [3], "b": {"c": 4}}) == {"a": [3], "b": {"c": 4, "d": 2}}
    assert base == {"a": [1, 2], "b": {"c": 1, "d": 2}}


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("steps=3", "steps", 3),
        ("optimiser.lr=1", "optimiser.lr", 1.0),
        ("optimiser.lr = 2e-4", "optimiser.lr", 2e-4),
        ("optimiser.betas=[0.1, 0.2]", "optimiser.betas", (0.1, 0.2)),
        ("compile=true", "compile", True),
        ("device=cuda:1", "device", "cuda:1"),
        ("device=none", "device", None),
        ("model.model=C:\\models\\new", "model.model", "C:\\models\\new"),
        ("model.model=a folder/of mine", "model.model", "a folder/of mine"),
        ('model.model="quoted"', "model.model", "quoted"),
        ('train=["context"]', "train", ("context",)),
        ("parallel={shard = 2}", "parallel.shard", 2),
    ],
)
def test_overrides(tmp_path, override, key, value):
    (found,) = stages(tmp_path, "", override)
    at: object = found
    for name in key.split("."):
        at = getattr(at, name)
    assert at == value


def test_one_stage_is_overridden_by_its_name():
    vlm, language, vae, decoder, dit = read("nano", ["stages.dit.dropout.vit=0.25", "steps=7", "stages.vae.steps=8"])
    assert (dit.dropout.vit, dit.dropout.empty) == (0.25, 0.5)
    assert vlm.dropout.vit == 0.5
    assert [stage.steps for stage in (vlm, language, vae, decoder, dit)] == [7, 7, 8, 7, 7]


def test_a_stage_that_is_not_there_cannot_be_overridden():
    with pytest.raises(ValueError, match="has no stage dti; it has vlm, language, vae, decoder, dit"):
        read("nano", ["stages.dti.steps=3"])
    with pytest.raises(ValueError, match=r"there is no key setps; did you mean steps"):
        read("nano", ["stages.dit.setps=3"])


def test_sets_are_a_list_or_have_names(tmp_path):
    (stage,) = stages(tmp_path, '[[data.sets]]\nkind = "folder"\npath = "x"\n[[data.sets]]\nweight = 2')
    assert [(s.name, s.kind, s.weight) for s in stage.data.sets] == [(None, "folder", 1.0), (None, "world", 2.0)]
    (stage,) = stages(tmp_path, "[data.sets.a]\nweight = 3", "data.sets.b.weight=4")
    assert [(s.name, s.weight) for s in stage.data.sets] == [("a", 3.0), ("b", 4.0)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("setps = 3", "there is no key setps; did you mean steps?"),
        ("[optimiser]\nlearning = 3", "there is no key optimiser.learning; known are name, lr"),
        ("[[data.sets]]\nwieght = 3", r"there is no key data.sets\[0\].wieght; did you mean data.sets\[0\].weight"),
        ("[data.sets.a]\nwieght = 3", "there is no key data.sets.a.wieght; did you mean data.sets.a.weight"),
        ("steps = 1.5", "steps is an int, not 1.5"),
        ("steps = true", "steps is an int, not True"),
        ('steps = "many"', "steps is an int, not 'many'"),
        ("compile = 1", "compile is a bool, not 1"),
        ("[optimiser]\nlr = true", "optimiser.lr is a float, not True"),
        ('[optimiser]\nname = "adam"', "optimiser.name is one of adamw, adamw-8bit, sgd, not 'adam'"),
        ("[optimiser]\nbetas = [0.9]", "optimiser.betas has 2 values, not 1"),
        ('train = "fusion"', "train is a list, not 'fusion'"),
        ('train = ["clip"]', r"train\[0\] is one of fusion"),
        ("model = 3", "model is a table, not 3"),
        ("shift = 0", "shift must be at least 1e-06, not 0"),
        ("steps = ", "cannot be read"),
        ("stages = []", r"stages are written as \[\[stages\]\]"),
        ("stages = 3", r"stages are written as \[\[stages\]\]"),
        ('[[stages]]\nname = "a"\n[[stages]]\nname = "a"', "stages need names of their own, these are called a, a"),
    ],
)
def test_mistakes_are_said(tmp_path, text, said):
    with pytest.raises(ValueError, match=said) as error:
        stages(tmp_path, text)
    assert "run.toml" in str(error.value)


@pytest.mark.parametrize("override", ["steps", "=3", "a b=3", "x='", "stages=3", "stages.train=3"])
def test_what_is_no_override_is_said(tmp_path, override):
    with pytest.raises(ValueError, match=r"is no override|there is no key"):
        stages(tmp_path, "", override)


def test_an_unknown_preset_is_answered_with_those_there_are(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no preset 'papre'; there are nano, paper, single-card-full"):
        read("papre")
    with pytest.raises(ValueError, match=r"there is no file .*papre\.toml"):
        read(tmp_path / "papre.toml")
    (tmp_path / "nano").mkdir()  # a folder of that name is no file
    monkeypatch.chdir(tmp_path)
    assert len(read("nano")) == 5


def test_the_example_of_the_documents_can_be_read(tmp_path):
    """A whole my.toml stands in docs/training.md; a world in place of a folder, so that it trains as it stands."""
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
    (example,) = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (stage,) = stages(tmp_path, example)
    assert stage.model.model == "nano"
    assert [s.kind for s in stage.data.sets] == ["world"]
    (mine,) = stages(tmp_path, example, "data.sets.mine.kind=folder", "data.sets.mine.path=pictures")
    assert mine.data.sets == (DataSet(name="mine", kind="folder", path="pictures"),)
