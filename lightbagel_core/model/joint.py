"""All pictures of a batch through the DiT at once, as training needs it: `forward`'s pass in another order.

`forward` sends source images ahead once and keeps what the noised tokens of every step attend to. Training has one step
per batch, so nothing is worth keeping, and two things count: nothing may be written in place, where autograd or
recomputation would see it, and each block and each fusion layer must be called exactly once, whatever a batch holds,
because processes that share their weights (FSDP) exchange them at every call. So clean and noised pictures go through
each block side by side, and each attends to what the layout lets it attend to.

Where pictures are of one size, each is a row of the batch; else their tokens stand in one row, without padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .attention import Attention, Reach
from .forward import States
from .fusion import FusionStack
from .generation import Generation, PackedRotary
from .packing import Pack
from .sequence import Rotary, mrope

WASTE = 0.8  # the shortest list of keys that is padded to another's length, as a share of it
SHORT = 256  # keys of the longest list beside which every list is padded: another call would cost more


@dataclass(frozen=True, eq=False)
class Groups:
    """Pictures that attend, M tokens together, in groups of equally many tokens each.

    each: per group the tokens of a picture and what its pictures reach, I of them W keys.
    tokens: their numbers among all gen tokens, group by group: int64 [M], or a slice where each follows the last.
    order: int64 [M], where among these stands the one with the lowest number, the next, and so on; None: in its place.
    keys: int64, what they attend to among the und tokens and then all gen tokens: I x W of a group, after each other.
    """

    each: list[tuple[int, Reach]]
    tokens: Tensor | slice
    order: Tensor | None
    keys: Tensor


def attended(tokens: Pack) -> list[Tensor]:
    """What each picture attends to, clean ones first, then the noised one of each sample: int64 numbers among the U und
    tokens and, after them, the tokens of all pictures in this order.
    """
    u = tokens.positions.shape[1]
    sizes = [image.positions.shape[1] for image in tokens.images] + [p.shape[1] for p in tokens.noised_positions]
    own = torch.arange(u, u + sum(sizes)).split(sizes)
    clean: list[list[tuple[int, int]]] = [[] for _ in tokens.und]  # per sample: (first column, number) of its images
    for number, image in enumerate(tokens.images):
        for row, column in image.places:
            clean[row].append((column, number))
    prefixes = [
        torch.cat([und, *(own[number] for _, number in sorted(images))])
        for und, images in zip(tokens.und, clean, strict=True)
    ]
    found = []
    for image in tokens.images:
        row = image.places[0][0]
        found.append(prefixes[row][image.attended - (tokens.width - tokens.lengths[row])])
    noised = own[len(tokens.images) :]
    return found + [torch.cat(pair) for pair in zip(prefixes, noised, strict=True)]


def groups(keys: Sequence[Tensor], sizes: Sequence[int], which: range, device: torch.device) -> Groups:
    """Some of the pictures, in groups of equally many tokens and nearly as many keys, or few.

    Args:
        keys: from `attended`, of all pictures. sizes: the tokens of each. which: those that attend.
    """
    starts = torch.tensor([0, *sizes]).cumsum(0)
    found: list[list[int]] = []
    for i in sorted(which, key=lambda i: (sizes[i], -len(keys[i]), i)):
        first = found[-1][0] if found else i
        longest = len(keys[first])
        near = longest <= SHORT or len(keys[i]) >= WASTE * longest
        if found and sizes[i] == sizes[first] and near:
            found[-1].append(i)
        else:
            found.append([i])
    each, own, attended = [], [], []
    for group in found:
        if len(keys[group[0]]) <= SHORT:
            group.sort()  # their tokens need no reordering then
        n, lengths = sizes[group[0]], tuple(len(keys[i]) for i in group)
        each.append((n, Reach(max(lengths), lengths, device)))
        own.append((starts[group, None] + torch.arange(n)).flatten())
        attended.append(pad_sequence([keys[i] for i in group], batch_first=True, padding_side="left").flatten())
    tokens, read = torch.cat(own), torch.cat(attended).to(device)
    first = int(tokens[0])
    if torch.equal(tokens, torch.arange(first, first + len(tokens))):
        return Groups(each, slice(first, first + len(tokens)), None, read)
    return Groups(each, tokens.to(device), tokens.argsort().to(device), read)


def attend(
    among: Groups, attention: Attention, q: Tensor, k: Tensor, v: Tensor, und_k: Tensor, und_v: Tensor
) -> Tensor:
    """What the M tokens of some groups attended to, [1, M, H, D], in the order of their numbers.

    Args:
        q, k, v: of all gen tokens, [B, N, H, D]. und_k, und_v: of all und tokens, [1, U, H, D].
    """
    q = q.flatten(0, 1)
    queries = q[among.tokens] if isinstance(among.tokens, slice) else _taken(q, among.tokens)
    keys = _taken(torch.cat([und_k[0], k.flatten(0, 1)]), among.keys)
    values = _taken(torch.cat([und_v[0], v.flatten(0, 1)]), among.keys)
    tokens = [n * len(reach.lengths) for n, reach in among.each]
    widths = [reach.width * len(reach.lengths) for _, reach in among.each]
    done = []
    for (_, reach), *parts in zip(
        among.each, queries.split(tokens), keys.split(widths), values.split(widths), strict=True
    ):
        own, read, held = (x.unflatten(0, (len(reach.lengths), -1)) for x in parts)
        done.append(attention(own, read, held, reach).flatten(0, 1))
    found = torch.cat(done)
    return (found if among.order is None else _taken(found, among.order))[None]


def _taken(x: Tensor, at: Tensor) -> Tensor:
    """x[at] of numbers [M] along the first dimension; backward, an embedding's is the quickest way to add them up."""
    return F.embedding(at, x.flatten(1)).unflatten(1, x.shape[1:])


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures as the DiT's blocks take them: a row each, [I, N, dim], or all tokens in one row, [1, N, dim].

    modulation: of each row [I, 6, dim], or of each token [1, N, 6, dim]. sizes: tokens of each.
    """

    sizes: tuple[int, ...]
    modulation: Tensor
    rotary: Rotary | PackedRotary

    @classmethod
    def of(cls, gen: Generation, grids: Sequence[tuple[int, int]], modulation: Tensor) -> Pictures:
        """From each one's (rows, columns) of tokens and modulation [I, 6, dim]."""
        sizes = tuple(rows * cols for rows, cols in grids)
        if len(set(grids)) == 1:
            return cls(sizes, modulation, gen.rotary(grids[0], modulation.device))
        tables = [gen.rotary(grid, modulation.device) for grid in grids]
        cos, sin = (torch.cat(table, dim=1) for table in zip(*tables, strict=True))
        repeats = torch.tensor(sizes, device=modulation.device)
        spread = modulation.repeat_interleave(repeats, dim=0, output_size=sum(sizes))
        return cls(sizes, spread[None], PackedRotary(cos, sin, sizes))

    def rows(self, tokens: Tensor) -> Tensor:
        """Flat tokens [N, dim] as the blocks take them."""
        packed = isinstance(self.rotary, PackedRotary)
        return tokens[None] if packed else tokens.unflatten(0, (len(self.sizes), -1))

    def after(self, count: int) -> Pictures:
        """All but the first `count` of them."""
        sizes = self.sizes[count:]
        if not isinstance(self.rotary, PackedRotary):
            return Pictures(sizes, self.modulation[count:], self.rotary)
        first = sum(self.sizes[:count])
        rotary = PackedRotary(self.rotary.cos[:, first:], self.rotary.sin[:, first:], sizes)
        return Pictures(sizes, self.modulation[:, first:], rotary)


def velocities(
    gen: Generation,
    fusion: FusionStack,
    tokens: Pack,
    states: States,
    noised: Sequence[Tensor],
    t: Tensor,
    attention: Attention,
) -> list[Tensor]:
    """The velocity n - x of each sample's target at x_t, float32 [C, h, w].

    Args:
        tokens: of B samples, whose targets may be of several sizes.
        states: the VLM's, of the pack's und tokens.
        noised: x_t of each sample's target, [C, h, w]. t: flow times in 0..1, [B].
    """
    config, device = fusion.config, fusion.context.device
    images = tokens.images if config.layers else []  # without fusion nothing attends to them
    clean = len(images)
    latents = [image.content.latents.to(device) for image in images] + list(noised)
    grids = [gen.grid(*x.shape[-2:]) for x in latents]
    sizes = [rows * cols for rows, cols in grids]
    keys = attended(tokens)
    everyone, targets = (groups(keys, sizes, range(i, len(sizes)), device) for i in (0, clean))
    positions = torch.cat([x.positions for x in images] + tokens.noised_positions, dim=1).to(device)
    rotary, und_rotary = (_rotary(fusion, p[:, None].to(device)) for p in (positions, tokens.positions))
    temb, modulation = gen.time(torch.cat([t.new_zeros(clean), t]))
    pictures = Pictures.of(gen, grids, modulation)
    learned = gen.context_states(fusion.context)
    x = pictures.rows(_embedded(gen, latents))
    for i, block in enumerate(gen.blocks):
        x = block(x, learned, pictures.modulation, pictures.rotary)
        if i >= config.layers:
            continue
        among = targets if i == config.layers - 1 else everyone  # nothing attends to what others become after the last

        flat, read = x.flatten(0, 1), states(config.und_layer(i))[None].to(device)
        given = fusion[i].joint(flat[None], rotary, read, und_rotary, partial(attend, among, attention))[0]
        if among is targets and clean:
            flat, pictures = flat[sum(sizes[:clean]) :], pictures.after(clean)
        x = pictures.rows(flat + given.type_as(flat))
    drawn: list[Tensor] = []
    parts = zip(x.flatten(0, 1).split(sizes[clean:]), temb[clean:], grids[clean:], strict=True)
    for grid, same in groupby(parts, key=lambda part: part[2]):
        rows, times, _ = zip(*same, strict=True)
        drawn += gen.head(torch.stack(rows), torch.stack(times), grid)
    return drawn


def _embedded(gen: Generation, latents: Sequence[Tensor]) -> Tensor:
    """The tokens of pictures, flat, [N, dim]; neighbours of one size in one call."""
    found = []
    for _, same in groupby(latents, key=lambda x: x.shape):
        found.append(gen.embed(torch.stack(list(same))).flatten(0, 1))
    return torch.cat(found)


def _rotary(fusion: FusionStack, positions: Tensor) -> Rotary:
    config = fusion.config
    return mrope(positions, config.head_dim, config.rope_theta, config.mrope_section)
