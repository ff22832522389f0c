"""VLM, DiT and fusion stack as one model: context first, then velocity. The paper's figure 2, in its order.

Nothing but the noised tokens depends on the denoising step. `encode` therefore takes the VLM's states of all und
tokens, sends the clean source images through the DiT once (at t = 0), and keeps, for every fusion layer, their keys
and values: what the noised tokens attend to. `velocity` is what a step costs: the DiT's blocks and, after each, one
attention to prefix and self. Both work on batches of samples with different contents, so guidance branches run side
by side.

The DiT is one callable, whoever runs it: `generation.Generation` is diffusers' Wan, ComfyUI brings its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..config import FusionConfig
from .attention import Attention, Reach
from .fusion import FusionStack
from .generation import SharedTime
from .packing import CleanTokens, Pack, pack
from .sequence import ImageSegment, Rotary, Segment, TextSegment, lay_out, mrope
from .understanding import Understanding, VitImage

AfterBlock = Callable[[Tensor, int], Tensor | None]  # of tokens [B, N, dim] and the block's number; None: stop there
# dit(latents [B, C, h, w], t [B] or shared, the learned context in the host's own form, after_block): the velocity, or
# None where it was stopped.
Dit = Callable[[Tensor, Tensor | SharedTime, Any, AfterBlock], Tensor | None]
Known = dict[Hashable, list[tuple[Tensor, Tensor]]]  # by `CleanTokens.key`: keys and values of each layer, [N, H, D]
States = Callable[[int], Tensor]  # of a layer of the VLM: the states [U, und_dim] of a pack's und tokens after it


@dataclass(frozen=True, eq=False)
class CleanImage:
    """A source image as normalised VAE latents, [C, h, w]."""

    latents: Tensor


Content = Sequence[int] | VitImage | CleanImage  # what a segment holds; a text's token ids


@dataclass(frozen=True, eq=False)
class EncodedSegment:
    """A segment that the VLM has read.

    states: of its und tokens after each layer, [depth, n, und_dim]. latents: of a clean image, [C, h, w].
    """

    states: Tensor
    latents: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Context:
    """All that stays constant over a run, for B samples whose target has N tokens.

    keys, values: per fusion layer [B, P + N, H, D]: a sample's prefix, at the end of the first P columns, then room for
        its noised tokens' own, which every step writes. So a context serves one step at a time.
    reach: how many of the P + N each sample attends to.
    rotary: M-RoPE tables of the target's tokens, [B, N, D] each.
    learned: the learned context as the DiT takes it.
    """

    keys: list[Tensor]
    values: list[Tensor]
    reach: Reach
    rotary: Rotary
    learned: Any

    def rows(self, index: list[int]) -> Context:
        """The same for some of the samples, in this order; an index may be repeated; neighbours in order are a view."""
        cos, sin = self.rotary
        run = range(index[0], index[0] + len(index)) if index else range(0)
        at: Any = slice(run.start, run.stop) if index == list(run) else index
        return Context(
            [k[at] for k in self.keys],
            [v[at] for v in self.values],
            self.reach.rows(index),
            (cos[at], sin[at]),
            self.learned,
        )


def segment_of(content: Content, patch: int) -> Segment:
    """The segment of a content; `patch` is the DiT's latents per token side."""
    if isinstance(content, VitImage):
        return ImageSegment("vit", content.rows, content.cols)
    if isinstance(content, CleanImage):
        height, width = content.latents.shape[-2:]
        return ImageSegment("clean", height // patch, width // patch)
    return TextSegment(len(content))


def pack_samples(samples: Sequence[Sequence[Content]], patch: int, target: tuple[int, int]) -> Pack:
    """The constant tokens of samples whose noised targets have (rows, cols) tokens; an image is the same where it is
    the same object.
    """
    segments = [[segment_of(content, patch) for content in sample] for sample in samples]
    layouts = [lay_out([*found, ImageSegment("noised", *target)]) for found in segments]
    return pack(layouts, [[*map(hashable, sample), None] for sample in samples])


def hashable(content: Content) -> Hashable:
    """A content as it is compared: images are the same where they are the same object, texts where their ids are."""
    return content if isinstance(content, VitImage | CleanImage) else tuple(content)


def as_read(content: Content | None) -> Sequence[int] | VitImage | None:
    """What the VLM reads of a content; None: two markers, as of any VAE image."""
    return None if isinstance(content, CleanImage) else content


def und_states(und: Understanding, tokens: Pack) -> list[Tensor]:
    """The VLM's states of all und tokens after each layer, depth x [U, und_dim]."""
    embeddings = und.und_embeddings([as_read(content) for content in tokens.contents])
    positions, visible = tokens.positions[:, None].to(und.device), tokens.visible[None].to(und.device)
    return [state[0] for state in und.und_states(embeddings[None], positions, visible)]


def known_states(tokens: Pack, device: torch.device) -> States:
    """The same where the pack holds `EncodedSegment`s; a layer's are brought to the device when they are asked for."""
    return lambda layer: torch.cat([content.states[layer].to(device) for content in tokens.contents])


def encode(
    dit: Dit,
    fusion: FusionStack,
    tokens: Pack,
    states: States,
    learned: Any,
    attention: Attention,
    dtype: torch.dtype,
    device: torch.device,
    known: Known | None = None,
) -> Context:
    """The context of a pack's samples.

    Args:
        learned: the learned context as `dit` takes it.
        dtype: of keys and values. device: where they lie.
        known: keys and values of source images, after equal segments, from earlier calls with the same weights: those
            are not computed again, and what is computed is added.
    """
    config, n = fusion.config, tokens.noised_positions[0].shape[1]
    und_rotary, index = _rotary(config, tokens.positions[:, None].to(device)), tokens.und_index.to(device)
    keys: list[Tensor] = []
    values: list[Tensor] = []
    for i in range(config.layers):
        read = states(config.und_layer(i))[None].to(device)
        for buffers, x in zip((keys, values), fusion[i].und_key_value(read, und_rotary, dtype), strict=True):
            buffer = x.new_empty(len(tokens.und), tokens.width + n, *x.shape[2:])
            buffer[:, :-n] = x[0][index]
            buffers.append(buffer)
    known = {} if known is None else known
    for image in tokens.images:
        if image.key in known:
            places = _Places([image], device)
            for i, (k, v) in enumerate(known[image.key]):
                places.write(keys[i], k[None])
                places.write(values[i], v[None])
    if config.layers:  # else nothing attends to the sources
        new = [image for image in tokens.images if image.key not in known]
        encode_sources(dit, fusion, new, keys, values, learned, attention)
    for image in tokens.images:
        row, start = image.places[0]
        at = row, slice(start, start + image.positions.shape[1])
        known[image.key] = [(k[at], v[at]) for k, v in zip(keys, values, strict=True)]
    reach = Reach(tokens.width + n, tuple(length + n for length in tokens.lengths), device)
    rotary = _rotary(config, torch.stack(tokens.noised_positions, dim=1).to(device))
    return Context(keys, values, reach, rotary, learned)


def encode_sources(
    dit: Dit,
    fusion: FusionStack,
    images: Sequence[CleanTokens],
    keys: list[Tensor],
    values: list[Tensor],
    learned: Any,
    attention: Attention,
) -> None:
    """Sends clean source images through the DiT at t = 0 and writes their keys and values, layer by layer.

    An image sees strictly fewer tokens than an image that attends to it. So images of one size that attend to equally
    many tokens go through together, and those that attend to fewer go first.

    Args:
        keys, values: per fusion layer [B, P + N, H, D], the und tokens' already there.
    """
    if not images:
        return
    device, last = keys[0].device, fusion.config.layers - 1
    still = SharedTime(torch.zeros(1, device=device))
    groups: dict[tuple[int, ...], list[CleanTokens]] = {}
    for image in images:
        groups.setdefault((len(image.attended), *image.content.latents.shape), []).append(image)
    for _, group in sorted(groups.items()):
        places = _Places(group, device)
        rotary = _rotary(fusion.config, torch.stack([image.positions for image in group], dim=1).to(device))

        def after_block(tokens: Tensor, i: int, places: _Places = places, rotary: Rotary = rotary) -> Tensor | None:
            q, k, v = fusion[i].gen_query_key_value(tokens, rotary)
            places.write(keys[i], k)
            places.write(values[i], v)
            if i == last:  # nothing attends to what it would become
                return None
            attended = attention.dense(q.type_as(keys[i]), keys[i][places.attended], values[i][places.attended])
            return tokens + fusion[i].update(attended).type_as(tokens)

        # Once each image alone in the DiT's own attention; they meet in the fusion only.
        dit(torch.stack([image.content.latents for image in group]).to(device), still, learned, after_block)


class _Places:
    """Where in the buffers the tokens of some images of one size are written, and what they attend to."""

    def __init__(self, images: Sequence[CleanTokens], device: torch.device) -> None:
        found = [(number, *place) for number, image in enumerate(images) for place in image.places]
        self.images, rows, first = torch.tensor(found, device=device).unbind(1)
        columns = first[:, None] + torch.arange(images[0].positions.shape[1], device=device)
        self.written = rows[:, None], columns
        row = torch.tensor([image.places[0][0] for image in images], device=device)
        self.attended = row[:, None], torch.stack([image.attended for image in images]).to(device)

    def write(self, buffer: Tensor, x: Tensor) -> None:
        """Writes x [images, N, H, D] into the rows [B, P + N, H, D] of all samples that have these images."""
        buffer[self.written] = x[self.images].type_as(buffer)


def velocity(
    dit: Dit, fusion: FusionStack, latents: Tensor, t: Tensor, context: Context, attention: Attention
) -> Tensor:
    """The velocity n - x at x_t, like the latents.

    Args:
        latents: x_t, as `dit` takes them: here [B, C, h, w].
        t: the time of each, as `dit` takes it: here flow times in 0..1, [B].
        context: of B samples and this size of target; the noised tokens' columns of its buffers are written.
    """
    attend = partial(attention, reach=context.reach)

    def after_block(tokens: Tensor, i: int) -> Tensor:
        if i >= fusion.config.layers:
            return tokens
        return fusion[i](tokens, context.rotary, context.keys[i], context.values[i], attend)

    drawn = dit(latents, t, context.learned, after_block)
    assert drawn is not None  # it was not stopped
    return drawn


def _rotary(config: FusionConfig, positions: Tensor) -> Rotary:
    return mrope(positions, config.head_dim, config.rope_theta, config.mrope_section)
