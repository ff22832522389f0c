"""LoRAs that training goes on from: rank, alpha and targets as their files have them, and those that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lightbagel_core.files.lora import written_name
from lightbagel_core.training.going_on import numbers, resolved
from lightbagel_core.training.loading import find
from lightbagel_core.training.stages import Adapters, Lora, Model, Stage


def layers_of(saved: Path, component: str) -> dict[str, tuple[int, int]]:
    """The linear layers of the blocks, [out, in]."""
    tensors = find(Model(str(saved)), [component]).components[component]
    numbered = {n: t.shape for n, t in tensors.items() if n.startswith(("blocks.", "layers."))}
    return {n.removesuffix(".weight"): s for n, s in numbered.items() if len(s) == 2 and n.endswith(".weight")}


def lora(path: Path, component: str, layers: dict[str, tuple[int, int]], rank: int = 3, **said: float) -> Path:
    held = {}
    for number, (layer, (outputs, inputs)) in enumerate(layers.items()):
        own = said.get("other", rank) if number else rank
        name = written_name(component, f"{layer}.weight")
        held[f"{name}.lora_A.weight"] = torch.randn(int(own), inputs)
        held[f"{name}.lora_B.weight"] = torch.randn(outputs, int(own))
        if "alpha" in said:
            held[f"{name}.alpha"] = torch.tensor(said["alpha"])
    save_file(held, path)
    return path


def gone_on(saved: Path, component: str = "generation", **said) -> Lora:
    stage = Stage(model=Model(str(saved)), train=("context",), lora=Adapters(**{component: Lora(**said)}))
    return resolved(stage, find(stage.model, [component]).components).lora.by_component()[component]


def test_rank_alpha_and_targets_are_the_files(saved, tmp_path):
    every = layers_of(saved, "generation")
    some = {name: shape for name, shape in every.items() if name.endswith(("attn1.to_q", "net.2"))}
    one = dict([next(iter(some.items()))])
    for layers, targets in ((every, ()), (some, ("attn1.to_q", "ffn.net.2")), (one, tuple(one))):
        file = str(lora(tmp_path / "lora.safetensors", "generation", layers, alpha=7.0))
        found = gone_on(saved, file=file)
        assert (found.rank, found.alpha, found.targets) == (3, 7.0, targets)
        assert (
            gone_on(
                saved,
                file=file,
                rank=3,
                alpha=7.0,
                targets=targets or ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"),
            ).rank
            == 3
        )
    assert gone_on(saved, file=str(lora(tmp_path / "plain.safetensors", "generation", one))).alpha == 3


def test_what_is_resolved_already_stays(saved, tmp_path):
    file = str(lora(tmp_path / "lora.safetensors", "fusion", layers_of(saved, "fusion"), alpha=1.0))
    stage = Stage(model=Model(str(saved)), train=("context",), lora=Adapters(fusion=Lora(file=file, dropout=0.1)))
    components = find(stage.model, ["fusion"]).components
    once = resolved(stage, components)
    assert once.lora.fusion == Lora(3, 1.0, 0.1, (), file)
    assert resolved(once, components) == once
    assert resolved(Stage(), components) == Stage()


def test_the_numbers_have_their_names_in_training(saved, tmp_path):
    layers = layers_of(saved, "generation")
    file = lora(tmp_path / "lora.safetensors", "generation", layers)
    found = numbers("generation", file, find(Model(str(saved)), ["generation"]).components["generation"])
    assert found.keys() == {f"{layer}.lora_{half}.weight" for layer in layers for half in "AB"}
    assert found["blocks.0.attn1.to_q.lora_A.weight"].shape[0] == 3


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"rank": 4}, r"lora.generation.rank is 4, and that of .*lora.safetensors is 3: leave it out"),
        ({"alpha": 4.0}, r"lora.generation.alpha is 4, and that of .*lora.safetensors is 7: leave it out"),
        ({"targets": ("to_q",)}, r"lora.generation.targets are not those of .* differ in blocks.0.attn1.to_k, "),
    ],
)
def test_what_disagrees_with_the_file_is_said(saved, tmp_path, said, message):
    file = lora(tmp_path / "lora.safetensors", "generation", layers_of(saved, "generation"), alpha=7.0)
    with pytest.raises(ValueError, match=message):
        gone_on(saved, file=str(file), **said)


def with_a_difference(path, layers):
    held = load_file(lora(path, "fusion", layers))
    save_file(
        held | {"diffusion_model.lightbagel.layers.0.gen_q.diff_b": torch.ones(layers["layers.0.gen_q"][0])}, path
    )


def test_files_that_cannot_be_gone_on_from_are_named(saved, tmp_path):
    layers = layers_of(saved, "fusion")
    path = tmp_path / "lora.safetensors"
    for made, message in (
        (
            lambda: lora(path, "fusion", layers, other=2),
            "has several ranks, 2 with alpha 2, 3 with alpha 3, .*model.loras",
        ),
        (lambda: lora(path, "generation", layers_of(saved, "generation")), "holds no LoRA of the fusion component"),
        (lambda: lora(path, "fusion", {"layers.99.gen_q": (4, 4)}), "LoRA of another model.*layers.99.gen_q"),
        (lambda: lora(path, "fusion", {"layers.0.gen_q": (4, 4)}), "LoRA of another model.*layers.0.gen_q"),
        (lambda: with_a_difference(path, layers), "differences of whole tensors too.*layers.0.gen_q.bias.*model.loras"),
        (path.unlink, "there is no file"),
    ):
        made()
        with pytest.raises(ValueError, match=message):
            gone_on(saved, "fusion", file=str(path))
