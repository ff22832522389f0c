"""What a stage leaves: the averages, where there are any; the folder, the record and the metadata of what was done."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from runs import stages
from safetensors.torch import load_file

from lightbagel_core.config import NANO
from lightbagel_core.files.checkpoint import fill
from lightbagel_core.files.components import empty_components
from lightbagel_core.files.formats import open_model, read_config
from lightbagel_core.files.lora import about
from lightbagel_core.files.precision import Precision
from lightbagel_core.files.tensor_files import read
from lightbagel_core.model.attention import SDPA
from lightbagel_core.model.forward import CleanImage, segment_of
from lightbagel_core.model.generation import Generation
from lightbagel_core.model.sequence import ImageSegment
from lightbagel_core.model.understanding import VitImage
from lightbagel_core.training import one_stage
from lightbagel_core.training.checkpoints import Checkpoints
from lightbagel_core.training.data.samples import Sample
from lightbagel_core.training.export import lora_file
from lightbagel_core.training.held_out import HeldOut
from lightbagel_core.training.loading import Opening
from lightbagel_core.training.loss import Drawing, noised
from lightbagel_core.training.one_stage import run_stage
from lightbagel_core.training.parallel import start, stop
from lightbagel_core.training.running import run


@pytest.mark.slow
def test_the_averages_are_what_comes_out(tmp_path):
    (stage,) = stages(tmp_path, "steps=2", "output=trained", "output_dtype=float32")
    world = start(stage)
    try:
        assert run_stage(stage, world, tmp_path / "train", tmp_path / "model", last=True)
        made = load_file(tmp_path / "model" / "fusion.safetensors")
        checkpoints = Checkpoints(tmp_path / "train" / "checkpoints", 1)
        shard = next(checkpoints.path(2).glob("*.safetensors"))
    finally:
        stop()
    held = load_file(shard)
    assert not any(name.split(".")[1] in ("generation", "understanding", "vae") for name in held)
    for name, tensor in made.items():
        torch.testing.assert_close(tensor, held[f"ema.fusion.{name}"], rtol=0, atol=1e-7)
    assert any(not torch.equal(held[f"ema.fusion.{n}"], held[f"weight.fusion.{n}"]) for n in made)
    metadata = json.loads((tmp_path / "model" / "config.json").read_text("utf-8"))["metadata"]
    assert metadata["started_from"] == "nano"
    assert metadata["torch"] == torch.__version__
    assert metadata["stages"]["train"]["steps"] == 2
    assert metadata["before"] == read_config(NANO / "config.json").metadata


F32 = "output_dtype=float32"
BOTH = ("lora.fusion.rank=2", "lora.fusion.alpha=3", "lora.generation.rank=1")
ADAPTERS = ("steps=1", "train=[]", "output=trained", *BOTH)


def trained(stage, out) -> None:
    world = start(stage)
    try:
        assert run_stage(stage, world, out / "train", out / "model", last=True)
    finally:
        stop()


def test_loras_alone_come_out_as_files_that_say_what_they_are(tmp_path):
    pytest.importorskip("peft")
    (stage,) = stages(tmp_path, *ADAPTERS, "cache.folder=/home/someone/cache", "data.sets.world.licence=mine")
    trained(replace(stage, model=replace(stage.model, fresh=())), tmp_path)
    files = {component: lora_file(component) for component in ("fusion", "generation")}
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == ["config.json", *files.values()]
    metadata = read_config(tmp_path / "model" / "config.json").metadata["stages"]["train"]
    assert metadata["steps"] == 1
    data = [{"name": "world", "kind": "world", "count": None, "weight": 1.0, "licence": "mine"}]
    for component, (rank, alpha) in {"fusion": (2, 3.0), "generation": (1, 1)}.items():
        said = about(tmp_path / "model" / files[component])
        assert (said["component"], said["rank"], said["alpha"], said["targets"]) == (component, rank, alpha, [])
        assert (said["base"]["name"], said["base"]["started_from"]) == ("nano", "nano")
        assert said["base"]["files"] == {f"{component}.safetensors": (NANO / f"{component}.safetensors").stat().st_size}
        assert (said["data"], said["config"]) == (metadata["data"], metadata["config"])
        assert said["data"] == data
        assert said["config"]["lora"]["fusion"] == {"rank": 2, "alpha": 3.0}
        assert said["config"]["cache"] == {"folder": "cache"}
        assert said["stages"]["train"]["steps"] == 1
    prefix = {"fusion": "diffusion_model.lightbagel.layers.", "generation": "diffusion_model.blocks."}
    for component, file in files.items():
        assert all(name.startswith(prefix[component]) for name in load_file(tmp_path / "model" / file))


def errors(gen, fusion, und) -> torch.Tensor:
    """The errors of a prompt and an edit, which follow the velocity one to one."""
    module = Drawing(gen, fusion, SDPA, und)
    z, dim = gen.dit.config.in_channels, und.vlm.config.vision_config.out_hidden_size
    rng = torch.Generator().manual_seed(0)

    def latents() -> torch.Tensor:
        return torch.randn(z, 4 * gen.patch, 4 * gen.patch, generator=rng)

    samples = []
    for text in ("a red circle", "make the circle blue"):
        contents = [tuple(und.text_ids(text))]
        if "make" in text:
            contents = [CleanImage(latents()), VitImage(torch.randn(4, dim, generator=rng), 2, 2), *contents]
        segments = (*(segment_of(content, gen.patch) for content in contents), ImageSegment("noised", 4, 4))
        samples.append(Sample(segments, [*contents, None], latents(), len(contents) > 1))
    with torch.no_grad():
        return torch.cat([module(noised([each], [(0, i)], 4.0)) for i, each in enumerate(samples)])


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, nano):
    """(A run's folder with LoRAs of both components, merged and apart; the errors of PEFT's own modules; and the
    matrices as PEFT merges them.)
    """
    pytest.importorskip("peft")
    from peft.tuners.lora import LoraLayer

    folder = tmp_path_factory.mktemp("adapted")
    (stage,) = stages(folder, "steps=3", "train=[]", "output=whole", F32, *BOTH, "optimiser.lr=0.05")
    found = {}
    write = one_stage._write

    def looked(opening, *rest):
        nano.need("understanding")
        found["errors"] = errors(opening.gen, opening.fusion, nano.und)
        write(opening, *rest)
        for name in ("generation", "fusion"):
            for at, layer in opening.components[name].named_modules():
                if isinstance(layer, LoraLayer):
                    layer.merge()
                    found[f"{name}.{at}.weight"] = layer.get_base_layer().weight.detach().clone()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_stage, "_write", looked)
        trained(replace(stage, model=replace(stage.model, fresh=())), folder)
    return folder, found.pop("errors"), found


def test_loras_applied_to_the_base_give_what_training_had(adapted, nano):
    folder, expected, _ = adapted
    loras = {folder / "model" / lora_file(name): 1.0 for name in ("generation", "fusion")}
    opened = open_model(NANO, loras=loras)
    device = torch.device("cpu")
    modules = empty_components(opened.config, opened.config_file, ["generation", "fusion"])
    for name, module in modules.items():
        fill(name, module, opened.components[name], Precision(torch.float32, False), device)
    nano.need("understanding", "generation", "fusion")
    found = errors(Generation(modules["generation"]), modules["fusion"], nano.und)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    plain = errors(nano.gen, nano.fusion, nano.und)
    assert ((expected - plain).abs() > 0.0002 * plain).any()  # training has changed something


def test_the_merged_model_is_what_peft_merges(adapted):
    folder, _, merged = adapted
    made = open_model(folder / "model").components
    assert {name.split(".")[0] for name in merged} == {"generation", "fusion"}
    before = open_model(NANO).components
    for name, expected in merged.items():
        component, _, weight = name.partition(".")
        assert made[component][weight].dtype == torch.float32
        torch.testing.assert_close(read(made[component][weight]), expected, rtol=1e-5, atol=1e-6)
    for component, tensors in before.items():
        others = [name for name in tensors if f"{component}.{name}" not in merged]
        assert all(torch.equal(read(made[component][name]), read(tensors[name])) for name in others)


def test_training_goes_on_from_loras_as_they_were(adapted, nano):
    folder, expected, _ = adapted
    files = (f"lora.{name}.file={folder / 'model' / lora_file(name)}" for name in ("generation", "fusion"))
    (stage,) = stages(folder / "more", "train=[]", "model.fresh=[]", *files)
    world = start(stage)
    try:
        opening = Opening.of(stage, world, ["generation", "fusion"])
        opening.fill()
    finally:
        stop()
    lora = opening.stage.lora
    assert (lora.fusion.rank, lora.fusion.alpha, lora.fusion.targets) == (2, 3.0, ())
    nano.need("understanding")
    torch.testing.assert_close(errors(opening.gen, opening.fusion, nano.und), expected, rtol=1e-5, atol=1e-5)


AFTER = """
[[stages]]
name = "train"
steps = 3
train = []
lora.fusion.rank = 2
lora.fusion.alpha = 3.0
lora.generation.rank = 1
[[stages]]
name = "second"
steps = 0
train = ["context"]
"""


@pytest.mark.slow
def test_a_stage_after_loras_begins_with_them_merged(adapted, tmp_path):
    """A run of two stages, of which the second has no steps: the same model comes out as from the first alone."""
    folder, _, _ = adapted
    asked = stages(tmp_path, "optimiser.lr=0.05", "model.fresh=[]", F32, more=AFTER)
    assert run(asked, tmp_path / "out")
    between = tmp_path / "out" / "train" / "model"
    assert {file.name for file in between.glob("*.safetensors")} == {
        f"{name}{end}.safetensors" for name in ("generation", "fusion") for end in ("", "_lora")
    }
    made, expected = (open_model(at).components for at in (tmp_path / "out" / "model", folder / "model"))
    for component, tensors in expected.items():
        for name, stored in tensors.items():
            torch.testing.assert_close(read(made[component][name]).float(), read(stored).float(), rtol=0, atol=1e-6)


def test_the_best_checkpoint_comes_out_where_it_is_asked_for(tmp_path, monkeypatch):
    said = ("output=trained", "output_from=best", "validation.every=1", "validation.held_out=2", "ema.decay=0", F32)
    (stage,) = stages(tmp_path, "steps=3", "train=['context']", *said, "checkpoints.keep=5")
    losses = iter([9.0, 3.0, 1.0, 2.0])
    monkeypatch.setattr(HeldOut, "loss", lambda self, module: next(losses))
    world = start(stage)
    try:
        assert run_stage(stage, world, tmp_path / "train", tmp_path / "model", last=True)
        checkpoints = Checkpoints(tmp_path / "train" / "checkpoints", 5)
        held = [load_file(next(checkpoints.path(step).glob("*.safetensors"))) for step in (2, 3)]
    finally:
        stop()
    best, last = (each["weight.fusion.context"] for each in held)
    made = load_file(tmp_path / "model" / "fusion.safetensors")["context"]
    assert torch.equal(made, best)
    assert not torch.equal(made, last)
    done = read_config(tmp_path / "model" / "config.json").metadata["stages"]["train"]
    assert (done["steps"], done["best"]) == (3, {"step": 2, "held_out": 1.0})


@pytest.mark.slow
def test_a_kill_before_all_is_written_leaves_nothing_that_looks_finished(tmp_path, monkeypatch):
    pytest.importorskip("peft")
    (stage,) = stages(tmp_path, *ADAPTERS)
    stage = replace(stage, model=replace(stage.model, fresh=()))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(one_stage, "write_loras", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(stage, tmp_path)
    assert not (tmp_path / "model").exists()
    trained(stage, tmp_path)  # nothing is left to train
    assert (tmp_path / "model" / lora_file("fusion")).is_file()


@pytest.mark.slow
def test_a_trained_context_beside_adapters_keeps_the_layers_as_they_are_stored(tmp_path):
    pytest.importorskip("peft")
    (stage,) = stages(tmp_path, *ADAPTERS, 'train=["context"]', "base=float8", "precision=bfloat16-mixed", F32)
    trained(replace(stage, model=replace(stage.model, fresh=())), tmp_path)
    made, before = load_file(tmp_path / "model" / "fusion.safetensors"), load_file(NANO / "fusion.safetensors")
    assert made.keys() == before.keys()
    assert not torch.equal(made.pop("context"), before.pop("context").float())
    assert all(torch.equal(made[name], before[name]) for name in before)
