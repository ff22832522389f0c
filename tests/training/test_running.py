"""A whole run: a stage begins with what the one before it made; what comes out opens and draws; resumed as unbroken."""

from __future__ import annotations

import pytest
import torch
from runs import ROLLING, stages

from lightbagel_core.config import NANO
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.training.running import MODEL, following, run
from lightbagel_core.training.stages import Model, Stage

TWO = """
[[stages]]
name = "first"
steps = 2
[[stages]]
name = "second"
steps = 3
train = ["generation", "fusion", "context"]
output_dtype = "float32"
"""


def state(folder) -> dict[str, torch.Tensor]:
    model = LightBagel.from_pretrained(folder, "cpu", torch.float32)
    model.need("generation", "fusion", "understanding", "vae")
    parts = {"gen": model.gen, "fusion": model.fusion, "und": model.und.vlm, "vae": model.vae}
    return {f"{part}.{name}": w for part, module in parts.items() for name, w in module.state_dict().items()}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    asked = stages(folder, more=TWO)
    assert run(asked, folder / "out")
    return folder / "out"


def test_stages_follow_each_other_and_the_whole_model_comes_out(unbroken):
    before, after = state(NANO), state(unbroken / MODEL)
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"gen", "fusion"}  # the frozen VLM and VAE are bit for bit what they were
    assert [file.name for file in (unbroken / "first" / MODEL).glob("*.safetensors")] == ["fusion.safetensors"]
    model = LightBagel.from_pretrained(unbroken / MODEL, "cpu")
    assert model.generate("a red circle", steps=2)[0].size == (128, 128)
    assert {name: done["steps"] for name, done in model.config.metadata["stages"].items()} == {"first": 2, "second": 3}
    assert model.config.metadata["before"]["seed"] == 1


@pytest.mark.slow
def test_a_run_that_is_resumed_ends_where_an_unbroken_one_does(unbroken, tmp_path, monkeypatch):
    """Stopped in the middle of each stage, and once between them."""
    from lightbagel_core.training import trainer

    asked = stages(tmp_path, more=TWO)
    whole, stops = trainer.Trainer.run, iter([1, 2, 2, None])

    def partly(self, until=None):
        return whole(self, next(stops))

    monkeypatch.setattr(trainer.Trainer, "run", partly)
    for attempt in range(4):
        done = run(asked, tmp_path / "out", resume=attempt > 0)
        if done:
            break
    ours, theirs = state(unbroken / MODEL), state(tmp_path / "out" / MODEL)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-6, msg=name)


def test_the_rolling_cache_and_a_part_alone(tmp_path):
    cache = tmp_path / "cache"
    asked = stages(tmp_path, "steps=5", "output=trained", f"cache.folder={cache.as_posix()}", *ROLLING)
    assert run(asked, tmp_path / "out")
    assert any(cache.rglob("*.safetensors"))
    assert not (tmp_path / "out" / "train" / "cache").exists()
    assert sorted(file.name for file in (tmp_path / "out" / MODEL).iterdir()) == ["config.json", "fusion.safetensors"]
    model = LightBagel.from_pretrained(NANO, "cpu", components={"fusion": tmp_path / "out" / MODEL})
    assert model.generate("a red circle", steps=1)


def test_a_finished_run_is_left_as_it_is(unbroken, capsys):
    asked = stages(unbroken.parent, more=TWO)
    before = (unbroken / MODEL / "fusion.safetensors").stat().st_mtime_ns
    assert run(asked, unbroken, resume=True)
    assert (unbroken / MODEL / "fusion.safetensors").stat().st_mtime_ns == before
    assert "the model lies in" in capsys.readouterr().err


def test_what_a_stage_takes_from_earlier_ones(tmp_path):
    made = tmp_path / "vlm" / MODEL
    made.mkdir(parents=True)
    (made / "understanding.safetensors").touch()
    stage = Stage(name="dit", model=Model(config="nano", fresh=("understanding", "vae", "generation", "fusion")))
    found = following(stage, [Stage(name="vlm")], tmp_path).model
    assert found.understanding == found.tokenizer == str(made)
    assert found.config == str(made / "config.json")
    assert found.fresh == ("vae", "generation", "fusion")
