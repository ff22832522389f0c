"""What is drawn, and the ways to do it: ours, the naive one, and a plain Wan's step on as many tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor

from lightbagel_core.images import size_by_rule
from lightbagel_core.memory import plan
from lightbagel_core.model.forward import CleanImage, Part, VitImage
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.sampling.denoise import sample
from lightbagel_core.sampling.guidance import Guidance, combine
from lightbagel_core.sampling.solvers import make_solver

from . import flops
from .core import constants

NANO_SENTENCE = 12  # words of a longer one that the nano knows
SPECIALS = 7  # ids below are the tokenizer's markers


@dataclass(frozen=True, eq=False)
class Work:
    """The arguments of `LightBagel.draw`, random, for square pictures of `size` pixels."""

    size: int
    branches: dict[str, list[list[Content]]]
    noise: Tensor
    guidance: Guidance

    @property
    def samples(self) -> list[list[Content]]:
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


def source(model: LightBagel, size: int) -> list[Content]:
    """A source picture of the target's size as the model is given it: VAE latents and ViT tokens."""
    config, device = model.config, model.device
    clean = size_by_rule(size, size, config.vae_image)[0] // config.vae["scale_factor_spatial"]
    side = size_by_rule(size, size, config.vit_image)[0] // config.vit_image.stride
    latents = torch.randn(config.vae["z_dim"], clean, clean, device=device)
    features = torch.randn(side * side, config.fusion.und_dim, device=device, dtype=model.und.vlm.dtype)
    return [CleanImage(latents), VitImage(features, side, side)]


def generate(model: LightBagel, size: int, prompts: int = 1) -> Work:
    """Text to image with guidance, for several prompts at once; the negative prompt is the empty one."""
    texts: list[list[Content]] = [[prompt(model, seed)] for seed in range(prompts)]
    branches: dict[str, list[list[Content]]] = {"full": texts, "negative": [[model.text("")] for _ in texts]}
    return Work(size, branches, model.noise(prompts, size, size, 0), Guidance(3.0))


def edit(model: LightBagel, size: int, sources: int = 1) -> Work:
    """An edit with text and image guidance; without a source it still has three branches."""
    torch.manual_seed(0)
    pictures = [part for _ in range(sources) for part in source(model, size)]
    text, negative = prompt(model, 0), model.text("")
    branches: dict[str, list[list[Content]]] = {
        "full": [[*pictures, text]],
        "negative": [[*pictures, negative]],
        "no_image": [[text]],
    }
    return Work(size, branches, model.noise(1, size, size, 0), Guidance(3.0, 2.0))


def ours(model: LightBagel, work: Work, steps: int) -> Any:
    return model.draw(work.branches, work.noise, work.guidance, steps=steps, progress=False)


def naive_velocity(model: LightBagel, work: Work, x: Tensor, t: float) -> Tensor:
    """The guided velocity with nothing kept from step to step: each sample of each branch alone, encoded anew, and the
    learned context through the DiT's projections for each.

    What the VAE's encoder and the ViT made of the sources is given, as it is to `draw`.
    """

    def alone(name: str, number: int) -> Tensor:
        model.weights_changed()  # forgets what was made of the learned context
        context = model.encode([work.branches[name][number]], work.size, work.size)
        return model.velocity(x[number : number + 1], t, context)

    branches = [torch.cat([alone(name, i) for i in range(len(x))]) for name in work.guidance.branches]
    return combine(branches, work.guidance, model.gen.patch)


def wan_velocity(model: LightBagel, wan: WanTransformer3DModel, x: Tensor, t: float) -> Tensor:
    """A plain Wan's velocity of latents x [B, C, h, w], with the learned context for its text."""
    times = torch.full((len(x),), 1000 * t, device=x.device)
    learned = model.fusion.context.to(model.gen.dtype).repeat(len(x), 1, 1)
    frames = x[:, :, None].to(model.gen.dtype)
    return wan(hidden_states=frames, timestep=times, encoder_hidden_states=learned).sample[:, :, 0].float()


def naive(model: LightBagel, work: Work, steps: int) -> Tensor:
    """The same latents as `ours`, by the same solver."""
    default = model.config.defaults
    solver = make_solver(default.solver, steps, default.shift, model.device)
    return sample(lambda x, t: naive_velocity(model, work, x, t), work.noise, solver)


@dataclass(frozen=True)
class Operations:
    """What a work costs by flops.py: `encode` once a run, the others for each step."""

    encode: int
    ours: int
    wan: int
    naive: int

    @classmethod
    def of(cls, model: LightBagel, work: Work) -> Operations:
        config, samples = model.config, work.samples
        grid = model.gen.grid(*work.noise.shape[-2:])
        tokens, together = grid[0] * grid[1], constants(model, samples, grid)
        alone = sum(flops.encode(config, constants(model, [parts], grid)) for parts in samples)
        step = flops.fused_step(config, tokens, together.prefixes)
        naive = alone + len(samples) * flops.context(config) + step
        return cls(flops.encode(config, together), step, flops.wan_step(config, len(samples), tokens), naive)
