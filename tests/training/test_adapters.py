"""LoRA by PEFT: where adapters are put, that they change nothing at first, and what of a component is trained then."""

from __future__ import annotations

import sys

import drawings
import pytest
import torch
from tiny import make_tiny

from lightbagel_core.files.components import empty_components
from lightbagel_core.files.precision import Float8Linear
from lightbagel_core.model.attention import SDPA
from lightbagel_core.training import adapters
from lightbagel_core.training.loading import Opening
from lightbagel_core.training.loss import Drawing
from lightbagel_core.training.parallel import World
from lightbagel_core.training.stages import Adapters, Lora, Model, Stage

ALONE = World(0, 1, torch.device("cpu"), 1)
NEED = ("generation", "fusion", "understanding")
BOTH = Adapters(generation=Lora(rank=4), fusion=Lora(rank=2, alpha=4.0))


def opened(saved, **said) -> Opening:
    said = {"train": (), "lora": BOTH, "base": "float32", "precision": "float32", **said}
    opening = Opening.of(Stage(model=Model(model=str(saved)), device="cpu", **said), ALONE, NEED)
    opening.fill()
    return opening


def errors(opening) -> torch.Tensor:
    module = Drawing(opening.gen, opening.fusion, SDPA, opening.und)
    return torch.cat([module(each) for each in drawings.passes(drawings.batch(make_tiny().und)[:2])])


def test_without_peft_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"need PEFT: pip install .lightbagel\[train\]."):
        adapters.add(torch.nn.Linear(2, 2), Lora(rank=1), "fusion")


def test_layers_are_chosen_by_the_ends_of_their_names(tiny):
    everywhere = adapters.targets(tiny.gen.dit, Lora(rank=1), "generation")
    assert len(everywhere) == len(tiny.gen.blocks) * 10  # q, k, v, out of two attentions, two of the feed-forward
    assert all(name.startswith("blocks.") for name in everywhere)
    assert len(adapters.targets(tiny.fusion, Lora(rank=1), "fusion")) == len(tiny.fusion.layers) * 6
    some = adapters.targets(tiny.gen.dit, Lora(rank=1, targets=("attn1.to_q", "proj_out")), "generation")
    assert some == [*(f"blocks.{i}.attn1.to_q" for i in range(len(tiny.gen.blocks))), "proj_out"]
    with pytest.raises(
        ValueError, match=r"lora.fusion.targets: no linear .* ends in q; there are gen_k, gen_out, gen_q"
    ):
        adapters.targets(tiny.fusion, Lora(rank=1, targets=("gen_q", "q")), "fusion")


def test_names_are_plain_and_tell_adapters():
    wrapped = "blocks.0.attn1.to_q.base_layer.weight"
    half = "blocks.0.attn1.to_q.lora_B.default.weight"
    assert (adapters.plain(wrapped), adapters.is_adapter(wrapped)) == ("blocks.0.attn1.to_q.weight", False)
    assert (adapters.plain(half), adapters.is_adapter(half)) == ("blocks.0.attn1.to_q.lora_B.weight", True)


def test_adapters_of_rank_r_on_a_base_that_stays_as_it_is(saved):
    pytest.importorskip("peft")
    plain, opening = (opened(saved, train=("context",), lora=lora) for lora in (Adapters(), BOTH))
    trained = opening.trained()
    assert all(".lora_" in name or name == "fusion.context" for name in trained)
    q = "generation.blocks.0.attn1.to_q"
    assert [tuple(trained[f"{q}.lora_{half}.weight"].shape) for half in "AB"] == [(4, 64), (64, 4)]
    assert tuple(trained["fusion.layers.0.und_k.lora_A.weight"].shape) == (2, 64)
    assert len(trained) == 1 + 2 * (4 * 10 + 3 * 6)
    added = {adapters.plain(name) for name, _ in opening.fusion.named_parameters() if adapters.is_adapter(name)}
    assert added == {name.removeprefix("fusion.") for name in trained if name.startswith("fusion.layers")}
    torch.testing.assert_close(errors(opening), errors(plain), rtol=0, atol=0)
    before = {name: p.clone() for name, p in opening.components["fusion"].named_parameters()}
    errors(opening).sum().backward()
    optimiser = torch.optim.SGD(trained.values(), 0.1)
    optimiser.step()
    moved = {name for name, p in opening.components["fusion"].named_parameters() if not torch.equal(p, before[name])}
    assert moved == {n for n in before if n == "context" or ".lora_B." in n}  # A has no gradient while B is zero
    assert not torch.equal(errors(opening), errors(plain))


def test_an_adapter_adds_alpha_over_rank_times_its_product(saved):
    pytest.importorskip("peft")
    layer = opened(saved).fusion.layers[0].gen_q
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    x = torch.randn(3, 64)
    product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    torch.testing.assert_close(layer(x), layer.base_layer(x) + 4.0 / 2 * x @ product.T)


def test_they_begin_as_pefts_own_do(saved):
    """The spread of A over many seeds, beside PEFT's own beginning off the meta device."""
    pytest.importorskip("peft")
    component = make_tiny().fusion
    adapters.add(component, Lora(rank=2), "fusion")
    theirs = torch.cat([p.flatten() for name, p in component.named_parameters() if ".lora_A." in name])
    ours = torch.cat([p.flatten() for n, p in opened(saved).trained().items() if ".lora_A." in n and "fusion" in n])
    assert abs(ours.std() / theirs.std() - 1) < 0.1
    assert ours.abs().max() <= 1 / 64**0.5 + 1e-6
    assert theirs.abs().max() <= 1 / 64**0.5 + 1e-6


def test_adapters_act_on_float8_too(saved):
    pytest.importorskip("peft")
    said = {"base": "float8", "precision": "bfloat16-mixed", "train": ("context",)}
    with_, without = (opened(saved, lora=lora, **said) for lora in (BOTH, Adapters()))
    assert isinstance(with_.gen.blocks[0].attn1.to_q.base_layer, Float8Linear)
    assert isinstance(with_.fusion.layers[0].gen_q.base_layer, Float8Linear)
    with torch.autocast("cpu", torch.bfloat16):
        found = errors(with_)
        torch.testing.assert_close(found, errors(without), rtol=0, atol=0)
    found.sum().backward()
    halves = [p for name, p in with_.trained().items() if ".lora_B." in name]
    assert all(p.grad is not None and p.grad.any() for p in halves)


def test_names_in_files_are_those_of_the_base(saved):
    """What PEFT wraps is filled from the same tensors; nothing is left on the meta device."""
    pytest.importorskip("peft")
    opening = opened(saved)
    config = opening.config
    names = dict(empty_components(config, "tiny", ["generation"])["generation"].named_parameters())
    held = dict(opening.components["generation"].named_parameters())
    assert {adapters.plain(name) for name in held if not adapters.is_adapter(name)} == set(names)
    assert not any(p.is_meta for p in held.values())
