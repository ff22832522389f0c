"""What is drawn, and the ways to do it that are compared: ours, the naive one, and a plain Wan's on as many tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor, nn

from lightbagel_core.images import size_by_rule
from lightbagel_core.memory import plan
from lightbagel_core.model import forward as fused
from lightbagel_core.model.forward import CleanImage, Part, VitImage
from lightbagel_core.model.packing import Pack
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.sampling.denoise import sample
from lightbagel_core.sampling.guidance import Guidance, combine
from lightbagel_core.sampling.solvers import make_solver

from . import flops

NANO_SENTENCE = 12  # words of a longer one that the nano knows
SPECIALS = 7  # ids below are the tokenizer's markers


@dataclass(frozen=True, eq=False)
class Work:
    """The arguments of `LightBagel.draw`, random, for square pictures of `size` pixels."""

    size: int
    branches: dict[str, list[list[Part]]]
    noise: Tensor
    guidance: Guidance

    @property
    def samples(self) -> list[list[Part]]:
        """Those of all branches, in the order in which `draw` encodes them."""
        return [parts for name in self.guidance.branches for parts in self.branches[name]]

    @property
    def noised(self) -> Tensor:
        """The noise once for each branch."""
        return self.noise.repeat(len(self.guidance.branches), 1, 1, 1)


def prompt(model: LightBagel, seed: int) -> list[int]:
    """A text segment of random words: as long as the plan assumes, or as the nano's sentences."""
    words = NANO_SENTENCE if model.config.name == "nano" else plan.TEXT - 2
    vocabulary = model.config.understanding["text_config"]["vocab_size"]
    ids = torch.randint(SPECIALS, vocabulary, (words,), generator=torch.Generator().manual_seed(seed))
    start, end = model.text("")
    return [start, *ids.tolist(), end]


def source(model: LightBagel, size: int) -> list[Part]:
    """A source picture of the target's size as the model is given it: VAE latents and ViT tokens."""
    config = model.config
    clean = size_by_rule(size, size, config.vae_image)[0] // config.vae["scale_factor_spatial"]
    side = size_by_rule(size, size, config.vit_image)[0] // config.vit_image.stride
    latents = torch.randn(config.vae["z_dim"], clean, clean, device=model.device)
    features = torch.randn(side * side, config.fusion.und_dim, device=model.device)
    return [CleanImage(latents), VitImage(features, side, side)]


def drawing(model: LightBagel, size: int, prompts: int = 1) -> Work:
    """Text to image with guidance, for several prompts at once; the negative prompt is the empty one."""
    texts: list[list[Part]] = [[prompt(model, seed)] for seed in range(prompts)]
    branches: dict[str, list[list[Part]]] = {"full": texts, "negative": [[model.text("")] for _ in texts]}
    return Work(size, branches, model.noise(prompts, size, size, 0), Guidance(3.0))


def edit(model: LightBagel, size: int, sources: int = 1) -> Work:
    """An edit with text and image guidance; without a source it still has three branches."""
    torch.manual_seed(0)
    pictures = [part for _ in range(sources) for part in source(model, size)]
    text = prompt(model, 0)
    branches: dict[str, list[list[Part]]] = {
        "full": [[*pictures, text]],
        "negative": [[*pictures, model.text("")]],
        "no_image": [[text]],
    }
    return Work(size, branches, model.noise(1, size, size, 0), Guidance(3.0, 2.0))


def ours(model: LightBagel, work: Work, steps: int) -> Any:
    return model.draw(work.branches, work.noise, work.guidance, steps=steps, progress=False)


@torch.no_grad()
def naive_velocity(model: LightBagel, work: Work, x: Tensor, t: float) -> Tensor:
    """The guided velocity with nothing kept from step to step: each sample of each branch alone, encoded anew, and the
    learned context through the DiT's projections for each.

    What the VAE's encoder and the ViT made of the sources is given, as it is to `draw`.
    """
    und, gen, fusion = model.und, model.gen, model.fusion

    def alone(name: str, number: int) -> Tensor:
        samples, one = [work.branches[name][number]], x[number : number + 1]
        tokens = packed(model, work, samples)
        states = fused.und_states(und, samples, tokens)
        clean = [part.latents for part in samples[0] if isinstance(part, CleanImage)]
        learned = gen.learned_context(fusion.context.to(gen.dtype))
        grid = gen.grid(*one.shape[-2:])
        context = fused.prefix(gen, fusion, tokens, grid, states, clean, learned, model.attention)
        return fused.velocity(gen, fusion, one, torch.full((1,), t, device=one.device), context, model.attention)

    branches = [torch.cat([alone(name, i) for i in range(len(x))]) for name in work.guidance.branches]
    return combine(branches, work.guidance, model.gen.patch)


def naive(model: LightBagel, work: Work, steps: int) -> Tensor:
    """The same latents as `ours`, by the same solver."""
    default = model.config.defaults
    solver = make_solver(default.solver, steps, default.shift, model.device)
    return sample(lambda x, t: naive_velocity(model, work, x, t), work.noise, solver)


def wan_velocity(model: LightBagel, wan: WanTransformer3DModel, x: Tensor, t: float) -> Tensor:
    """A plain Wan's velocity of latents x [B, C, h, w], with the learned context for its text."""
    times = torch.full((len(x),), 1000 * t, device=x.device)
    learned = model.fusion.context.to(model.gen.dtype).repeat(len(x), 1, 1)
    frames = x[:, :, None].to(model.gen.dtype)
    return wan(hidden_states=frames, timestep=times, encoder_hidden_states=learned).sample[:, :, 0].float()


@torch.no_grad()
def plain(model: LightBagel, wan: WanTransformer3DModel, work: Work, steps: int) -> Tensor:
    """What a plain Wan makes of the same noise in as many steps of as many branches, side by side."""
    default, count = model.config.defaults, len(work.guidance.branches)
    solver = make_solver(default.solver, steps, default.shift, model.device)

    def velocity(x: Tensor, t: float) -> Tensor:
        together = wan_velocity(model, wan, x.repeat(count, 1, 1, 1), t)
        return combine(list(together.chunk(count)), work.guidance, model.gen.patch)

    return sample(velocity, work.noise, solver)


def wan_flops(model: LightBagel, work: Work) -> int:
    """Of a plain Wan's step."""
    return flops.wan_step(model.config, len(work.noised), target_tokens(model, work))


def packed(model: LightBagel, work: Work, samples: Sequence[Sequence[Part]]) -> Pack:
    """The constant tokens of some of a work's samples."""
    grid = model.gen.grid(*work.noise.shape[-2:])
    return fused.packed(samples, [fused.layout_of(parts, model.gen.patch, grid) for parts in samples])


def step_flops(model: LightBagel, work: Work) -> int:
    """Of one guided step."""
    prefixes = [len(prefix) for prefix in packed(model, work, work.samples).prefix]
    return flops.fused_step(model.config, target_tokens(model, work), prefixes)


def target_tokens(model: LightBagel, work: Work) -> int:
    rows, cols = model.gen.grid(*work.noise.shape[-2:])
    return rows * cols


def ours_flops(model: LightBagel, work: Work, steps: int) -> int:
    encoded = flops.encode(model.config, packed(model, work, work.samples))
    return encoded + steps * step_flops(model, work)


def naive_flops(model: LightBagel, work: Work, steps: int) -> int:
    encoded = sum(flops.encode(model.config, packed(model, work, [parts])) for parts in work.samples)
    return steps * (encoded + len(work.samples) * flops.context(model.config) + step_flops(model, work))


@contextmanager
def forwards(model: LightBagel) -> Iterator[dict[str, int]]:
    """Counts what runs inside: passes through the VLM's layers, images through the DiT, updates of fusion layers.

    Of each block and layer it watches a module that every way of computing it must call.
    """
    counts = {"vlm_passes": 0, "dit_rows": 0, "fusion_updates": 0}

    def adding(name: str, rows: bool = False) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            counts[name] += len(args[0]) if rows else 1

        return hook

    watched = [
        model.und.vlm.model.language_model.layers[0].mlp.register_forward_pre_hook(adding("vlm_passes")),
        model.gen.blocks[0].ffn.register_forward_pre_hook(adding("dit_rows", rows=True)),
        *(layer.gen_out.register_forward_pre_hook(adding("fusion_updates")) for layer in model.fusion.layers),
    ]
    try:
        yield counts
    finally:
        for handle in watched:
            handle.remove()
