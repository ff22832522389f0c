"""Opening for training: what is trained and in which dtype, what is read, what untrained parts begin with."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import drawings
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from tiny import make_tiny
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from lightbagel_core.files import tensor_files
from lightbagel_core.files.components import COMPONENTS
from lightbagel_core.files.lora import written_name
from lightbagel_core.files.precision import FLOAT8, Float8Linear
from lightbagel_core.model.attention import SDPA
from lightbagel_core.training import adapters, parallel
from lightbagel_core.training.loading import Opening, find
from lightbagel_core.training.loss import Drawing
from lightbagel_core.training.parallel import World
from lightbagel_core.training.stages import Adapters, Lora, Merged, Model, Optimiser, Parallel, Stage

ALONE = World(0, 1, torch.device("cpu"), 1)
PAIR = ("generation", "fusion")


def stage(saved, **said) -> Stage:
    return Stage(**{"model": Model(model=str(saved)), "device": "cpu", "checkpointing": False, **said})


def tensors(saved) -> dict[str, torch.Tensor]:
    """All that the files hold, by component and name."""
    found = find(Model(model=str(saved))).components
    return {f"{c}.{n}": tensor_files.read(t) for c, of in found.items() for n, t in of.items()}


def held(opening) -> dict[str, torch.Tensor]:
    return {f"{c}.{n}": p for c, module in opening.components.items() for n, p in module.named_parameters()}


def test_trained_tensors_are_masters_and_frozen_ones_what_inference_has(saved):
    opening = Opening.of(stage(saved), ALONE)
    assert all(p.is_meta for p in held(opening).values())
    opening.fill()
    files, found = tensors(saved), held(opening)
    assert found.keys() == files.keys()
    for name, tensor in found.items():
        if tensor.requires_grad or name.startswith("vae."):
            assert tensor.dtype == torch.float32, name
        torch.testing.assert_close(tensor.detach(), files[name].to(tensor.dtype), rtol=0, atol=0)
    assert found["generation.blocks.0.attn1.to_q.weight"].dtype == torch.bfloat16
    assert found["generation.blocks.0.scale_shift_table"].dtype == torch.float32
    assert found["understanding.lm_head.weight"].dtype == torch.bfloat16
    assert opening.trained().keys() == {name for name in files if name.startswith("fusion.")}
    assert opening.fusion.training
    assert not opening.vae.training
    assert opening.und.text_ids("a red circle")
    assert opening.config.name == "tiny"


@pytest.mark.parametrize(
    ("train", "begins", "others"),
    [
        (("context",), ["fusion.context"], 0),
        (("fusion",), ["fusion.layers."], 0),
        (("generation", "context"), ["generation.", "fusion.context"], 0),
        (("vae",), ["vae."], 0),
        # of the VLM what the fusion reads, and its eyes, but not its mouth
        (
            ("understanding",),
            [f"understanding.model.{part}" for part in ("visual.", "language_model.layers.", "language_model.emb")],
            1,
        ),
    ],
)
def test_what_is_named_is_trained_and_nothing_else(saved, train, begins, others):
    recipe = "nano-vae" if train == ("vae",) else "drawing"
    opening = Opening.of(stage(saved, train=train, recipe=recipe), ALONE)
    trained = {name for name, p in held(opening).items() if p.requires_grad}
    assert trained == {name for name in held(opening) if name.startswith(tuple(begins))}
    assert trained == opening.trained().keys()


def test_of_the_fusion_stack_some_layers_may_be_trained_and_a_fresh_one_left_out_adds_nothing(saved):
    few = stage(
        saved, train=("fusion", "context"), fusion_layers=(1,), model=Model(model=str(saved), fresh=("fusion",))
    )
    opening = Opening.of(few, ALONE)
    assert {name.split(".")[2] for name in opening.trained() if "layers" in name} == {"1"}
    assert "fusion.context" in opening.trained()
    opening.fill()
    assert not opening.fusion.layers[0].gen_out.weight.any()
    with pytest.raises(ValueError, match="fusion_layers names layer 7; there are 0 to"):
        Opening.of(replace(few, fusion_layers=(7,)), ALONE)
    with pytest.raises(ValueError, match='name "fusion" in train'):
        stage(saved, train=("context",), fusion_layers=(1,))


def test_a_recipe_of_the_vlm_alone_trains_all_of_it(saved):
    opening = Opening.of(stage(saved, train=("understanding",), recipe="nano-vlm"), ALONE, ["understanding"])
    assert all(p.requires_grad for p in opening.und.parameters())


def test_weights_of_sixteen_bits_are_trained_where_that_is_asked_for(saved):
    """All but what inference keeps in float32 too: the DiT's time, modulation and head, and norms."""
    said = stage(saved, train=PAIR, precision="bfloat16", optimiser=Optimiser("adamw-8bit"))
    opening, frozen = Opening.of(said, ALONE, PAIR), Opening.of(stage(saved, train=("context",)), ALONE, PAIR)
    for each in (opening, frozen):
        each.fill()
    kinds, expected = ({name: p.dtype for name, p in held(each).items()} for each in (opening, frozen))
    assert kinds.pop("fusion.context") == torch.bfloat16
    assert expected.pop("fusion.context") == torch.float32
    assert kinds == expected
    assert set(kinds.values()) == {torch.bfloat16, torch.float32}
    assert kinds["generation.scale_shift_table"] == torch.float32
    model = make_tiny()
    step = drawings.passes(drawings.batch(model.und)[1:2])
    Drawing(opening.gen, opening.fusion, SDPA, model.und)(step[0]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in opening.trained().values())


def test_a_frozen_base_may_be_float8_and_still_gives_gradients(saved):
    opening = Opening.of(stage(saved, base="float8", recipe="drawing"), ALONE, [*PAIR, "understanding"])
    opening.fill()
    layer = opening.gen.blocks[0].attn1.to_q
    assert isinstance(layer, Float8Linear)
    assert layer.weight.dtype == FLOAT8
    weight = tensors(saved)["generation.blocks.0.attn1.to_q.weight"]
    assert (layer.weight.float() * layer.weight_scale - weight).abs().max() < 0.04 * weight.abs().max()
    module = Drawing(opening.gen, opening.fusion, SDPA, opening.und)
    step = drawings.passes(drawings.batch(make_tiny().und)[1:2])
    with parallel.autocast(opening.stage, ALONE):
        module(step[0]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in opening.trained().values())


def test_what_is_not_needed_is_not_opened(saved, tmp_path):
    for name in ("understanding", "vae"):
        (tmp_path / f"{name}.safetensors").unlink(missing_ok=True)
    for name in ("config.json", "generation.safetensors", "fusion.safetensors"):
        (tmp_path / name).write_bytes((saved / name).read_bytes())
    opening = Opening.of(stage(tmp_path), ALONE, PAIR)
    opening.fill()
    assert opening.components.keys() == set(PAIR)
    assert (opening.und, opening.vae) == (None, None)


def test_a_model_without_a_fusion_stack_is_told_how_one_begins(saved):
    model = Model(
        understanding=str(saved / "understanding.safetensors"),
        generation=str(saved / "generation.safetensors"),
        config=str(saved / "config.json"),
    )
    with pytest.raises(ValueError, match=r'no fusion stack; .* model.fresh = \["fusion"\]'):
        find(model, PAIR)
    opening = Opening.of(stage(saved, model=replace(model, fresh=("fusion",))), ALONE, PAIR)
    opening.fill()
    assert not any(layer.gen_out.weight.any() for layer in opening.fusion.layers)
    assert all(p.dtype == torch.float32 for p in opening.fusion.parameters())


def test_everything_may_begin_fresh_without_any_file_of_it():
    model = Model(config="nano", fresh=COMPONENTS)
    opening = Opening.of(Stage(model=model, device="cpu"), ALONE, ["fusion", "understanding"])
    opening.fill()
    assert opening.und.text_ids("a red circle")
    assert opening.config.name == "nano"
    assert opening.opened.components == {}


# --- on several processes --------------------------------------------------------------------------------------------


@contextmanager
def rank_of(rank: int, size: int, said: Stage):
    """A process that believes it is one of several; nothing is exchanged."""
    dist.init_process_group("fake", rank=rank, world_size=size, store=FakeStore())
    try:
        # named by the rank, because torch keeps what it made for an equal mesh, of another rank's
        mesh = dist.device_mesh.init_device_mesh("cpu", (size,), mesh_dim_names=(f"shard{rank}",))
        yield World(rank, size, torch.device("cpu"), size, mesh)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("fresh", [(), ("fusion",)])
def test_each_of_three_processes_reads_its_own_rows_only(saved, monkeypatch, fresh):
    size = 3
    said = stage(saved, model=Model(model=str(saved), fresh=fresh), parallel=Parallel(shard=0), base="float32")
    alone = Opening.of(said, ALONE, PAIR)
    alone.fill()
    expected = held(alone)
    read = []
    mapped = tensor_files._mapped
    monkeypatch.setattr(
        tensor_files,
        "_mapped",
        lambda s, start, count: read.append(count * s.dtype.itemsize) or mapped(s, start, count),
    )
    parts, bytes_read = [], []
    for rank in range(size):
        with rank_of(rank, size, said) as world:
            read.clear()
            opening = Opening.of(said, world, PAIR)
            module = Drawing(opening.gen, opening.fusion, SDPA)
            opening.ready(module, drawings.units(module))
            found = held(opening)
            assert all(isinstance(p, DTensor) for p in found.values())
            parts.append({name: p.to_local().detach() for name, p in found.items()})
            bytes_read.append(sum(read))
            own = sum(t.nbytes for name, t in parts[-1].items() if not name.startswith(fresh))
            assert bytes_read[-1] == own
    for name, tensor in expected.items():
        together = torch.cat([part[name] for part in parts])
        torch.testing.assert_close(together, tensor.detach(), rtol=0, atol=0)
    total = sum(t.nbytes for name, t in expected.items() if not name.startswith(fresh))
    assert sum(bytes_read) == total
    assert max(bytes_read) < 0.4 * total


def test_float8_is_not_sharded(saved):
    said = stage(saved, base="float8", parallel=Parallel(shard=2))
    with rank_of(0, 2, said) as world, pytest.raises(ValueError, match=r"set parallel.shard = 1, or base = .bfloat16"):
        Opening.of(said, world)


def test_trained_weights_of_several_dtypes_are_not_sharded(saved):
    said = stage(saved, train=PAIR, precision="bfloat16", optimiser=Optimiser("adamw-8bit"), parallel=Parallel(shard=2))
    with rank_of(0, 2, said) as world, pytest.raises(ValueError, match=r"set parallel.shard = 1, or precision ="):
        Opening.of(said, world, PAIR)


# --- with LoRAs ------------------------------------------------------------------------------------------------------

LAYERS = {"generation": "blocks.0.attn1.to_q", "fusion": "layers.1.gen_v"}


@pytest.fixture(scope="module")
def look(tmp_path_factory):
    """(A file with a LoRA of a layer of each component, what it adds to each, its halves)."""
    made, products, halves = {}, {}, {}
    for component, layer in LAYERS.items():
        down, up = torch.randn(4, 64), torch.randn(64, 4)
        name = written_name(component, f"{layer}.weight")
        made |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up, f"{name}.alpha": torch.tensor(2.0)}
        products[component] = 2 / 4 * up @ down
        halves |= {f"{component}.{layer}.lora_{half}.weight": x for half, x in (("A", down), ("B", up))}
    path = tmp_path_factory.mktemp("look") / "look.safetensors"
    save_file(made, path)
    return path, products, halves


def test_loras_are_merged_into_what_is_opened(saved, look):
    path, products, _ = look
    both, one = Merged(str(path), -0.5), Merged(str(path), -0.5, components=("fusion",))
    before = tensors(saved)
    for lora, components in ((both, PAIR), (one, ("fusion",))):
        model = Model(model=str(saved), loras=(lora,))
        opening = Opening.of(stage(saved, model=model, base="float32", train=("context", "generation")), ALONE, PAIR)
        opening.fill()
        found = held(opening)
        for component, product in products.items():
            name = f"{component}.{LAYERS[component]}.weight"
            expected = before[name] - 0.5 * product * (component in components)
            torch.testing.assert_close(found.pop(name).detach(), expected)
        assert all(torch.equal(found[name], before[name]) for name in found)


def test_what_a_lora_does_not_touch_does_not_depend_on_it(saved, look):
    """So VLM and VAE need not read all pictures again for another LoRA."""
    model = Model(model=str(saved), loras=(Merged(str(look[0])),))
    assert find(model, ["understanding", "vae"]).files == find(Model(str(saved)), ["understanding", "vae"]).files
    assert look[0] in find(model, ["fusion"]).files


def test_a_lora_of_what_begins_fresh_is_refused(saved, look):
    model = Model(model=str(saved), fresh=("fusion",), loras=(Merged(str(look[0])),))
    with pytest.raises(ValueError, match=r"look.safetensors is a LoRA of a trained fusion, but here that begins fresh"):
        find(model, PAIR)
    assert find(replace(model, loras=(Merged(str(look[0]), components=("generation",)),)), PAIR).loras


def test_adapters_begin_with_a_files_numbers(saved, look):
    pytest.importorskip("peft")
    path, _, halves = look
    lora = Adapters(generation=Lora(file=str(path)), fusion=Lora(file=str(path)))
    opening = Opening.of(stage(saved, base="float32", train=(), lora=lora), ALONE, PAIR)
    opening.fill()
    assert opening.trained().keys() == halves.keys()
    assert all(torch.equal(tensor, halves[name]) for name, tensor in opening.trained().items())
    layer = opening.gen.blocks[0].attn1.to_q
    x = torch.randn(3, 64)
    torch.testing.assert_close(layer(x), layer.base_layer(x) + x @ look[1]["generation"].T)


def test_each_of_three_processes_has_its_own_rows_of_the_sums_and_of_a_files_adapters(saved, look):
    pytest.importorskip("peft")
    path, products, halves = look
    said = stage(
        saved,
        model=Model(model=str(saved), loras=(Merged(str(path), components=("fusion",)),)),
        lora=Adapters(generation=Lora(file=str(path))),
        parallel=Parallel(shard=0),
        train=("fusion",),
        base="float32",
    )
    parts = []
    for rank in range(3):
        with rank_of(rank, 3, said) as world:
            opening = Opening.of(said, world, PAIR)
            module = Drawing(opening.gen, opening.fusion, SDPA)
            opening.ready(module, drawings.units(module))
            parts.append({adapters.plain(name): p.to_local().detach() for name, p in held(opening).items()})
    together = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    summed = f"fusion.{LAYERS['fusion']}.weight"
    torch.testing.assert_close(together[summed], tensors(saved)[summed] + products["fusion"])
    begun = {name: x for name, x in halves.items() if name.startswith("generation")}
    assert all(torch.equal(together[name], x) for name, x in begun.items())
    assert sum(".lora_" in name for name in together) == len(begun) == 2
