"""A whole run: a stage begins with what the one before it made; what comes out opens and draws; resumed as unbroken."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import ranks
import torch
from runs import ROLLING, stages
from safetensors.torch import load_file, save_file

from lightbagel_core.config import NANO
from lightbagel_core.files.formats import read_config
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.training.journal import FILE, read
from lightbagel_core.training.running import MODEL, finished, following, run
from lightbagel_core.training.stages import Merged, Model, Stage

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


SGD = ("optimiser.name=sgd", "optimiser.lr=0.1", "validation.every=1", "validation.held_out=2")


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


@pytest.mark.slow
def test_stages_follow_each_other_and_the_whole_model_comes_out(unbroken):
    before, after = state(NANO), state(unbroken / MODEL)
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"gen", "fusion"}  # the frozen VLM and VAE are bit for bit what they were
    assert [file.name for file in (unbroken / "first" / MODEL).glob("*.safetensors")] == ["fusion.safetensors"]
    model = LightBagel.from_pretrained(unbroken / MODEL, "cpu")
    assert model.generate("a red circle", steps=2)[0].size == (96, 96)
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


@pytest.mark.slow
def test_the_rolling_cache_and_a_part_alone(tmp_path):
    cache = tmp_path / "cache"
    asked = stages(tmp_path, "steps=5", "output=trained", f"cache.folder={cache.as_posix()}", *ROLLING)
    assert run(asked, tmp_path / "out")
    assert any(cache.rglob("*.safetensors"))
    assert not (tmp_path / "out" / "train" / "cache").exists()
    assert sorted(file.name for file in (tmp_path / "out" / MODEL).iterdir()) == ["config.json", "fusion.safetensors"]
    model = LightBagel.from_pretrained(NANO, "cpu", components={"fusion": tmp_path / "out" / MODEL})
    assert model.generate("a red circle", steps=1)


@pytest.mark.slow
def test_a_finished_run_is_left_as_it_is(unbroken, capsys):
    asked = stages(unbroken.parent, more=TWO)
    before = (unbroken / MODEL / "fusion.safetensors").stat().st_mtime_ns
    assert run(asked, unbroken, resume=True)
    assert (unbroken / MODEL / "fusion.safetensors").stat().st_mtime_ns == before
    assert "the model lies in" in capsys.readouterr().err


@pytest.mark.slow
def test_a_finished_run_that_is_asked_for_more_steps_is_trained_on_from_its_last_one(tmp_path):
    asked = ("output=trained", "output_dtype=float32")
    assert run(stages(tmp_path, "steps=2", *asked), tmp_path / "out")
    assert run(stages(tmp_path, "steps=4", *asked), tmp_path / "out", resume=True)
    assert run(stages(tmp_path, "steps=4", *asked), tmp_path / "unbroken")
    longer, unbroken = (load_file(tmp_path / o / MODEL / "fusion.safetensors") for o in ("out", "unbroken"))
    assert all(torch.equal(longer[name], w) for name, w in unbroken.items())
    assert read_config(tmp_path / "out" / MODEL / "config.json").metadata["stages"]["train"]["steps"] == 4
    record = read(tmp_path / "out" / "train" / FILE)
    assert [line["step"] for line in record.of("step")] == [1, 2, 3, 4]
    shutil.rmtree(tmp_path / "out" / "train" / "checkpoints")
    with pytest.raises(ValueError, match="ended after 4 steps and is asked for 6, but its checkpoints are gone"):
        run(stages(tmp_path, "steps=6", *asked), tmp_path / "out", resume=True)


def test_a_stage_on_which_another_was_built_cannot_be_made_longer(tmp_path):
    made = tmp_path / "first" / MODEL
    made.mkdir(parents=True)
    config = read_config(NANO / "config.json").to_dict()
    config["metadata"]["stages"] = {"first": {"steps": 2}}
    (made / "config.json").write_text(json.dumps(config), "utf-8")
    first, second = Stage(name="first", steps=3), Stage(name="second")
    assert finished(replace(first, steps=2), made, tmp_path, [second])
    (tmp_path / "second").mkdir()
    with pytest.raises(ValueError, match="asked for 3, but second began with what it made then"):
        finished(first, made, tmp_path, [second])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process makes of two stages by SGD, in which rounding stays small."""
    folder = tmp_path_factory.mktemp("alone")
    assert run(stages(folder, *SGD, more=TWO), folder / "out")
    return state(folder / "out" / MODEL)


@pytest.mark.slow
@pytest.mark.parametrize("shard", [1, 2])
def test_no_process_goes_on_before_the_first_has_claimed_the_folder_and_written_a_stage(tmp_path, alone, shard):
    """The first of two is slow at both; the other must wait, and go on with what the first has written."""
    stages(tmp_path, more=TWO)
    said = {"config": str(tmp_path / "config.toml"), "out": str(tmp_path / "out")}
    ranks.run(2, [("run_slowly", said | {"overrides": [*SGD, f"parallel.shard={shard}"]})])
    began = [(tmp_path / "out" / f"began-{rank}").read_text("utf-8") for rank in range(2)]
    assert began[0] == began[1]
    assert began[0].endswith(str(tmp_path / "out" / "first" / MODEL))
    made, before = state(tmp_path / "out" / MODEL), state(NANO)
    assert not torch.equal(made["fusion.context"], before["fusion.context"])
    for name, tensor in alone.items():
        torch.testing.assert_close(made[name], tensor, rtol=1e-4, atol=1e-6, msg=name)


def test_what_a_stage_takes_from_earlier_ones(tmp_path):
    made = tmp_path / "vlm" / MODEL
    made.mkdir(parents=True)
    (made / "understanding.safetensors").touch()
    stage = Stage(name="dit", model=Model(config="nano", fresh=("understanding", "vae", "generation", "fusion")))
    found = following(stage, [Stage(name="vlm")], tmp_path).model
    assert found.understanding == found.tokenizer == str(made)
    assert found.config == str(made / "config.json")
    assert found.fresh == ("vae", "generation", "fusion")


def test_loras_that_an_earlier_stage_has_merged_are_not_merged_again(tmp_path):
    made = tmp_path / "look" / MODEL
    made.mkdir(parents=True)
    for name in ("generation", "generation_lora", "fusion_lora"):  # a LoRA beside it is no component
        (made / f"{name}.safetensors").touch()
    stage = Stage(name="more", model=Model("base", loras=(Merged("a", 0.5), Merged("b", components=("generation",)))))
    found = following(stage, [Stage(name="look")], tmp_path).model
    assert (found.generation, found.fusion) == (str(made), None)
    assert found.loras == (Merged("a", 0.5, ("fusion",)), Merged("b", 1.0, ()))


def test_a_lora_of_another_model_is_refused_before_the_folder_is_claimed(tmp_path):
    pytest.importorskip("peft")
    pair = {f"diffusion_model.lightbagel.layers.0.gen_q.lora_{half}.weight": torch.zeros(4, 4) for half in "AB"}
    save_file(pair, tmp_path / "look.safetensors")
    lora = f"lora.fusion.file={(tmp_path / 'look.safetensors').as_posix()}"
    with pytest.raises(ValueError, match=r"look\.safetensors is a LoRA of another model"):
        run(stages(tmp_path, "train=[]", "model.fresh=[]", lora), tmp_path / "out")
    assert not (tmp_path / "out").exists()
