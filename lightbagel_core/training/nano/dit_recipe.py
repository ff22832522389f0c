"""Stage 3: DiT, fusion stack and learned context by flow matching, with VLM and VAE frozen (paper section 3.3).

Times are drawn as the paper draws them; whole source segments are dropped independently. What the frozen parts give
(und states, latents) does not change: it is computed once for a pool of samples, which is renewed chunk by chunk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor, nn

from ...config import FusionConfig
from ...model import forward
from ...model.attention import SDPA
from ...model.forward import (
    CleanImage,
    Content,
    EncodedSegment,
    known_states,
    pack_samples,
    segment_of,
    und_states,
    velocity,
)
from ...model.fusion import FusionStack
from ...model.generation import Generation
from ...model.packing import pack
from ...model.sequence import ImageSegment, TokenLayout, lay_out
from ...model.understanding import Understanding
from ...model.vae import encode
from ...pipeline import LightBagel
from ...sampling.schedule import add_noise, training_time
from ...world.scenes import Scene, render
from ...world.sentences import random_edit, random_prompt
from ..dropout import SegmentDropout
from ..loop import Recipe, Training
from .vae_recipe import to_pixels
from .vlm_recipe import GRID, PATCH, vit_picture
from .vlm_recipe import config as vlm_config

CONFIG: dict[str, Any] = {
    "patch_size": [1, PATCH, PATCH],
    "num_attention_heads": 2,
    "attention_head_dim": 128,
    "in_channels": 48,
    "out_channels": 48,
    "text_dim": 256,
    "freq_dim": 256,
    "ffn_dim": 640,
    "num_layers": 6,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "rope_max_seq_len": 64,
}
RECIPE = Recipe(steps=21000, lr=1.4e-3, warmup=300)
BATCH = 64
EDITS = 0.6  # share of samples that are edits
DROPOUT = SegmentDropout(vit=0.3)  # the paper drops 0.5 of ViT segments; edits here lean on them more
CHUNK, CHUNKS, RENEW = 512, 16, 200  # samples a chunk, chunks in the pool, steps after which the oldest is replaced


def fusion_config(und: Understanding) -> FusionConfig:
    text = vlm_config(und.tokenizer)["text_config"]
    return FusionConfig(
        layers=CONFIG["num_layers"] - 1,
        und_layers=und.depth,
        und_dim=text["hidden_size"],
        gen_dim=CONFIG["num_attention_heads"] * CONFIG["attention_head_dim"],
        heads=CONFIG["num_attention_heads"],
        head_dim=CONFIG["attention_head_dim"],
        rope_theta=text["rope_theta"],
        mrope_section=(16, 24, 24),
        context_len=8,
        context_dim=CONFIG["text_dim"],
    )


@dataclass(frozen=True, eq=False)
class Sample:
    """One training sample with everything frozen already computed."""

    layout: TokenLayout
    segments: list[EncodedSegment]  # the target's markers last; states in bfloat16
    target: Tensor  # latents [48, 8, 8]
    edit: bool


def draw(rng: np.random.Generator) -> tuple[Scene | None, str, Scene]:
    """(source or None, prompt or instruction, target)."""
    if rng.random() < EDITS:
        return random_edit(rng)
    prompt, scene = random_prompt(rng)
    return None, prompt, scene


def keep(rng: np.random.Generator, edit: bool) -> tuple[bool, bool, str | None]:
    """Which segments of a sample stay: (clean VAE image, ViT image, text: "full", "empty" or None).

    Each whole segment is dropped independently. Half of the dropped texts become the empty prompt, which is what
    guidance asks for when drawing.
    """
    clean = edit and DROPOUT.keeps("clean", rng)
    vit = edit and DROPOUT.keeps("vit", rng)
    if DROPOUT.keeps("text", rng):
        return clean, vit, "full"
    return clean, vit, "empty" if rng.random() < 0.5 else None


@torch.no_grad()
def make_chunk(und: Understanding, vae: AutoencoderKLWan, seed: int, number: int) -> list[Sample]:
    """Chunk `number` of the endless supply of samples that `seed` gives."""
    rng = np.random.default_rng([seed, 7, number])
    drawn = [draw(rng) for _ in range(CHUNK)]
    pictures = [render(s) for _, _, s in drawn] + [render(s) for s, _, _ in drawn if s is not None]
    pixels = to_pixels(np.stack(pictures)).to(und.device)
    latents = torch.cat([encode(vae, part) for part in pixels.split(32)])
    targets, sources = latents[:CHUNK], iter(latents[CHUNK:])
    vit = iter(und.vit_images([vit_picture(s) for s, _, _ in drawn if s is not None]))
    parts_of: list[list[Content]] = []
    for source, text, _ in drawn:
        parts: list[Content] = []
        keep_clean, keep_vit, keep_text = keep(rng, source is not None)
        if source is not None:
            clean, seen = CleanImage(next(sources)), next(vit)
            parts += [clean] * keep_clean + [seen] * keep_vit
        if keep_text is not None:
            parts.append(und.text_ids(text if keep_text == "full" else ""))
        parts_of.append(parts)
    samples = []
    for start in range(0, CHUNK, 16):
        part = slice(start, start + 16)
        tokens = pack_samples(parts_of[part], PATCH, (GRID, GRID))
        states = torch.stack(und_states(und, tokens)).bfloat16()
        rows = zip(tokens.und, parts_of[part], targets[part], drawn[part], strict=True)
        for own, parts, target, (source, _, _) in rows:
            segments = [*(segment_of(content, PATCH) for content in parts), ImageSegment("noised", GRID, GRID)]
            read = states[:, own].split([segment.und_tokens for segment in segments], dim=1)
            held = [content.latents if isinstance(content, CleanImage) else None for content in [*parts, None]]
            encoded = [EncodedSegment(*pair) for pair in zip(read, held, strict=True)]
            samples.append(Sample(lay_out(segments), encoded, target, source is not None))
    return samples


class Pool:
    """The latest chunks of the supply; which ones depends on the step alone, so a resumed run sees the same."""

    def __init__(self, und: Understanding, vae: AutoencoderKLWan, seed: int) -> None:
        self.und, self.vae, self.seed = und, vae, seed
        self.chunks: deque[list[Sample]] = deque(maxlen=CHUNKS)
        self.newest = -1

    def batch(self, rng: np.random.Generator, step: int, size: int) -> list[Sample]:
        newest = CHUNKS - 1 + step // RENEW
        first = max(self.newest + 1, newest - CHUNKS + 1)
        for number in range(first, newest + 1):
            self.chunks.append(make_chunk(self.und, self.vae, self.seed, number))
        self.newest = newest
        picks = rng.integers(0, CHUNK * len(self.chunks), size)
        return [self.chunks[int(i) // CHUNK][int(i) % CHUNK] for i in picks]


def flow_matching_errors(
    gen: Generation,
    fusion: FusionStack,
    layouts: Sequence[TokenLayout],
    segments: Sequence[Sequence[EncodedSegment]],
    targets: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """The mean squared error of each sample's predicted velocity, [B], at one random time each.

    Args:
        layouts, segments: per sample; the noised target last, of one size for all.
        targets: normalised latents [B, C, h, w].
        generator: of noise and times, on the model's device.
    """
    device = fusion.context.device
    tokens = pack(layouts, segments)
    learned = gen.learned_context(fusion.context)
    context = forward.encode(gen, fusion, tokens, known_states(tokens, device), learned, SDPA, gen.dtype, device)
    noise = torch.randn(targets.shape, generator=generator, device=device)
    t = training_time(torch.randn(len(targets), generator=generator, device=device))
    predicted = velocity(gen, fusion, add_noise(targets, noise, t), t, context, SDPA)
    return (predicted - (noise - targets)).square().mean((1, 2, 3))


def loss(
    gen: Generation, fusion: FusionStack, samples: list[Sample], generator: torch.Generator
) -> tuple[Tensor, dict[str, float]]:
    """(the mean of the samples' errors, that of drawings and of edits apart)."""
    device = fusion.context.device
    targets = torch.stack([sample.target for sample in samples]).to(device)
    layouts, segments = [s.layout for s in samples], [s.segments for s in samples]
    error = flow_matching_errors(gen, fusion, layouts, segments, targets, generator)
    edit = torch.tensor([s.edit for s in samples], device=device)
    figures = {"draw": round(error[~edit].mean().item(), 4), "edit": round(error[edit].mean().item(), 4)}
    return error.mean(), figures


def build(und: Understanding) -> tuple[Generation, FusionStack]:
    return Generation(WanTransformer3DModel(**CONFIG)), FusionStack(fusion_config(und))


def train(
    out: Path,
    seed: int,
    und: Understanding,
    vae: AutoencoderKLWan,
    accelerator: Accelerator,
    recipe: Recipe,
    compiled: bool,
    start: LightBagel | None = None,
) -> tuple[Generation, FusionStack, Training]:
    torch.manual_seed(seed)
    gen, fusion = build(und)
    for block in gen.blocks:  # gates start nearer to zero than Wan's own, which are made for loading weights into
        nn.init.normal_(block.scale_shift_table, std=0.02)  # type: ignore[arg-type]
    if start is not None:
        gen.load_state_dict(start.gen.state_dict())
        fusion.load_state_dict(start.fusion.state_dict())
    gen.to(accelerator.device)
    fusion.to(accelerator.device)
    training = Training("dit", nn.ModuleDict({"gen": gen, "fusion": fusion}), recipe, out, accelerator)
    if compiled:
        for block in gen.blocks:
            block.compile(dynamic=True)
        fusion.compile_layers("gen_query_key_value", "und_key_value", "update", dynamic=True)
    pool = Pool(und, vae, seed)

    def step(rng: np.random.Generator, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        with torch.autocast(accelerator.device.type, enabled=False):
            samples = pool.batch(rng, training.step, BATCH)
        return loss(gen, fusion, samples, generator)

    training.run(step, seed)
    training.use_ema()
    gen.eval().requires_grad_(False)
    fusion.eval().requires_grad_(False)
    return gen, fusion, training
