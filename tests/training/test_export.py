"""What comes out: modules in one dtype, copies as they are stored, adapters as one file, sharded weights whole."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import make_tiny

from lightbagel_core.files.convert import convert
from lightbagel_core.files.formats import open_model
from lightbagel_core.training import adapters
from lightbagel_core.training.export import ABOUT, LORA, Part, write_adapters, write_model
from lightbagel_core.training.loading import Opening
from lightbagel_core.training.parallel import start, stop
from lightbagel_core.training.stages import Adapters, Lora, Model, Stage


@pytest.fixture(scope="module")
def tiny():
    return make_tiny()


@pytest.fixture(scope="module")
def stored(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored") / "model"
    tiny.save_pretrained(folder)
    return open_model(folder)


def test_each_component_comes_from_where_it_is_best(tiny, stored, tmp_path):
    files = stored.components
    parts = {
        "fusion": Part.of(tiny.fusion, list(tiny.fusion.parameters()), files["fusion"]),
        "vae": Part({}, files["vae"], casts=True),
        **{name: Part({}, files[name]) for name in ("understanding", "generation")},
    }
    write_model(tmp_path / "out", tiny.config, parts, tiny.und.tokenizer, torch.float16, True)
    made = open_model(tmp_path / "out")
    kinds = {part: {stored.dtype for stored in tensors.values()} for part, tensors in made.components.items()}
    assert kinds["fusion"] == kinds["vae"] == {torch.float16}
    assert kinds["understanding"] == kinds["generation"] == {torch.float32}
    written = load_file(tmp_path / "out" / "fusion.safetensors")
    assert all(torch.equal(written[name], w.half()) for name, w in tiny.fusion.state_dict().items())
    assert (tmp_path / "out" / "tokenizer.json").is_file()


@pytest.mark.parametrize("kind", ["float32", "float8"])
def test_what_is_frozen_in_a_component_comes_from_its_files_and_adapters_stay_out(stored, tmp_path, kind):
    """The context is trained, the layers are in float8 beside adapters; their files are float32, or float8 already."""
    pytest.importorskip("peft")
    model = stored.files[0].parent
    if kind == "float8":
        convert(stored, tmp_path / "model", torch.float8_e4m3fn, progress=False)
        model = tmp_path / "model"
    lora = Adapters(fusion=Lora(rank=2))
    stage = Stage(model=Model(model=str(model)), train=("context",), lora=lora, base="float8", device="cpu")
    world = start(stage)
    try:
        opening = Opening.of(stage, world, ["fusion"])
        opening.fill()
    finally:
        stop()
    files = open_model(model).components["fusion"]
    opening.fusion.context.data += 1
    part = Part.of(opening.fusion, opening.trained().values(), files)
    assert list(part.own) == ["context"]
    write_model(tmp_path / "out", opening.config, {"fusion": part}, None, torch.float32, True)
    before, written = (load_file(folder / "fusion.safetensors") for folder in (model, tmp_path / "out"))
    assert written.keys() == before.keys()
    torch.testing.assert_close(written.pop("context"), before.pop("context").float() + 1)
    assert {name: w.dtype for name, w in written.items()} == {name: w.dtype for name, w in before.items()}
    assert all(torch.equal(written[name].float(), before[name].float()) for name in before)


def test_what_began_fresh_is_written_whole_under_its_own_names():
    pytest.importorskip("peft")
    plain = make_tiny().fusion.state_dict().keys()
    stage = Stage(train=("context",), lora=Adapters(fusion=Lora(rank=2)), device="cpu")
    fresh = make_tiny().fusion
    adapters.add(fresh, stage.lora.fusion, "fusion")
    assert any(adapters.is_adapter(name) for name in fresh.state_dict())
    assert Part.of(fresh, [fresh.context], {}).own.keys() == plain


def test_a_tied_weight_that_is_trained_is_written_under_both_names(stored):
    module = torch.nn.Module()
    module.a, module.b = torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False)
    module.b.weight = module.a.weight
    some = dict(list(stored.components["fusion"].items())[:1])
    assert Part.of(module, [module.a.weight], some).own.keys() == {"a.weight", "b.weight"}


def test_only_the_first_process_writes(tiny, stored, tmp_path):
    part = Part.of(tiny.fusion, [], {})
    write_model(tmp_path / "out", tiny.config, {"fusion": part}, None, torch.float32, False)
    write_adapters(tmp_path / "out", {"generation.a": torch.zeros(2)}, {}, torch.float32, False)
    assert not (tmp_path / "out").exists()


def test_adapters_say_what_they_are(tmp_path):
    said = {"generation": {"rank": 2, "alpha": 4.0, "targets": ["to_q"]}}
    write_adapters(tmp_path, {"generation.a": torch.zeros(2)}, said, torch.float32, True)
    with safe_open(tmp_path / LORA, "pt") as file:
        assert json.loads(file.metadata()[ABOUT]) == said


def test_a_sharded_tensor_is_written_whole(tmp_path):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    start(Stage(device="cpu"))
    try:
        whole = torch.arange(12.0).view(4, 3)
        sharded = distribute_tensor(whole, init_device_mesh("cpu", (1,)), [Shard(0)])
        write_adapters(tmp_path, {"fusion.x": sharded}, {}, torch.bfloat16, True)
    finally:
        stop()
    assert torch.equal(load_file(tmp_path / LORA)["fusion.x"], whole.bfloat16())
