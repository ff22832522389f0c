"""What comes out: modules in one dtype, copies as they are stored, LoRAs as files and merged, sharded weights whole."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import make_tiny

from lightbagel_core.files.checkpoint import weights
from lightbagel_core.files.convert import convert
from lightbagel_core.files.formats import open_model
from lightbagel_core.files.lora import about
from lightbagel_core.files.tensor_files import read
from lightbagel_core.training import adapters
from lightbagel_core.training.export import Part, lora_file, trained_loras, write_loras, write_model
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
    assert not (tmp_path / "out").exists()


def adapter(layer: str, rank: int = 2) -> dict[str, torch.Tensor]:
    """The halves of an adapter on a layer of 64 to 64, as training names them."""
    return {f"{layer}.lora_A.weight": torch.randn(rank, 64), f"{layer}.lora_B.weight": torch.randn(64, rank)}


def test_a_lora_has_the_names_that_comfyui_takes_and_says_what_it_is(tmp_path):
    made = adapter("generation.blocks.0.attn2.to_out.0") | adapter("fusion.layers.1.gen_q", rank=4)
    said = {"generation": {"rank": 2, "alpha": 4.0}, "fusion": {"rank": 4, "alpha": 4}}
    write_loras(tmp_path, trained_loras(made, {"generation": 4.0, "fusion": 4}), said, torch.float16)
    layers = {
        "generation": "diffusion_model.blocks.0.cross_attn.o",
        "fusion": "diffusion_model.lightbagel.layers.1.gen_q",
    }
    for (component, layer), half in zip(
        layers.items(),
        (made["generation.blocks.0.attn2.to_out.0.lora_A.weight"], made["fusion.layers.1.gen_q.lora_A.weight"]),
        strict=True,
    ):
        held = load_file(tmp_path / lora_file(component))
        assert held.keys() == {f"{layer}.{end}" for end in ("lora_A.weight", "lora_B.weight", "alpha")}
        assert torch.equal(held[f"{layer}.lora_A.weight"], half.half())
        assert held[f"{layer}.alpha"].dtype == torch.float32
        assert held[f"{layer}.alpha"] == 4
        assert about(tmp_path / lora_file(component)) == said[component]
        with safe_open(tmp_path / lora_file(component), "pt") as file:
            assert file.metadata()["format"] == "pt"


@pytest.mark.parametrize(
    ("stored_as", "written_as", "kind"),
    [
        ("float32", "bfloat16", "bfloat16"),
        ("bfloat16", "float32", "float32"),
        ("float8_e4m3fn", "bfloat16", "float8_e4m3fn"),
        ("float8_e4m3fn", "float32", "float32"),  # what a later stage goes on from
    ],
)
def test_a_merged_matrix_is_the_sum_and_all_else_as_it_is_stored(stored, tmp_path, stored_as, written_as, kind):
    convert(stored, tmp_path / "model", getattr(torch, stored_as), progress=False)
    files = open_model(tmp_path / "model").components["generation"]
    name = "blocks.0.attn1.to_q.weight"
    lora = trained_loras(adapter("generation.blocks.0.attn1.to_q"), {"generation": 3.0})["generation"][name]
    part = Part({}, files, merged={name: lora})
    write_model(tmp_path / "out", stored.config, {"generation": part}, None, getattr(torch, written_as), True)
    made = open_model(tmp_path / "out", need=["generation"]).components["generation"]
    assert made[name].dtype == getattr(torch, kind)
    found, before = (weight_of(tensors, name) for tensors in (made, files))
    expected = before + 3 / 2 * lora.up @ lora.down
    bound = {"float32": 1e-6, "bfloat16": 0.004, "float8_e4m3fn": 0.04}[kind]
    assert (found - expected).norm() < bound * expected.norm()
    assert (found - before).norm() > 0.5 * before.norm()
    assert all(made[other].dtype == files[other].dtype for other in files if not other.startswith(name))
    assert all(torch.equal(read(made[other]), read(files[other])) for other in files if not other.startswith(name))


def test_a_lora_is_merged_into_what_began_fresh_and_into_what_an_earlier_stage_made(tiny, stored, tmp_path):
    name = "layers.0.gen_q.weight"
    lora = trained_loras(adapter("fusion.layers.0.gen_q"), {"fusion": 2})["fusion"][name]
    files = stored.components["fusion"]
    for part in (Part.of(tiny.fusion, [], {}, merged={name: lora}), Part({}, files, casts=True, merged={name: lora})):
        write_model(tmp_path / "out", tiny.config, {"fusion": part}, None, torch.float16, True)
        made = load_file(tmp_path / "out" / "fusion.safetensors")
        expected = tiny.fusion.state_dict() | {name: tiny.fusion.layers[0].gen_q.weight + lora.up @ lora.down}
        assert all(torch.equal(made[n], w.half()) for n, w in expected.items())


def test_float8_that_an_earlier_stage_left_keeps_its_scales(stored, tmp_path):
    convert(stored, tmp_path / "model", torch.float8_e4m3fn, progress=False)
    files = open_model(tmp_path / "model").components["fusion"]
    part = Part({}, files, casts=True)
    write_model(tmp_path / "out", stored.config, {"fusion": part}, None, torch.bfloat16, True)
    made = open_model(tmp_path / "out", need=["fusion"]).components["fusion"]
    for name in ("layers.0.gen_q.weight", "context"):
        assert torch.equal(weight_of(made, name).bfloat16(), weight_of(files, name).bfloat16())


def weight_of(tensors, name: str) -> torch.Tensor:
    return dict(weights(tensors, {name: torch.float32}, torch.device("cpu")))[name]


def test_a_sharded_tensor_is_gathered_whole():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    start(Stage(device="cpu"))
    try:
        whole = torch.arange(12.0).view(4, 3)
        sharded = distribute_tensor(whole, init_device_mesh("cpu", (1,)), [Shard(0)])
        pair = {"fusion.x.lora_A.weight": sharded, "fusion.x.lora_B.weight": sharded}
        loras = trained_loras(pair, {"fusion": 2.0})
    finally:
        stop()
    assert torch.equal(loras["fusion"]["x.weight"].down, whole)
    assert loras["fusion"]["x.weight"].alpha == 2
