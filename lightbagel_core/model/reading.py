"""What the VLM has read before, so that a conversation that goes on has it read nothing twice.

No und token sees a later one, and its position depends on what stands before it only. So a context that begins as an
earlier one did needs the states of its new tokens alone; they attend to the old ones' keys and values, which are kept.
A context that begins otherwise (fewer turns of history, say, whose positions begin anew) shares nothing with it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache

from .forward import as_read
from .packing import Pack
from .understanding import Understanding


@dataclass(frozen=True, eq=False)
class ReadSegment:
    """A segment of n und tokens that the VLM has read.

    states: after each layer, depth x [n, und_dim]. keys, values: of each layer, [heads, n, head_dim].
    """

    states: list[Tensor]
    keys: list[Tensor]
    values: list[Tensor]


@dataclass(eq=False)
class Reading:
    """What was read for the last context, by `Pack.keys`; it lies on the CPU, whatever the VLM runs on.

    segments: those of that context alone, so that it does not grow beyond what one context needs.
    """

    segments: dict[Hashable, ReadSegment] = field(default_factory=dict)

    def read(self, und: Understanding, tokens: Pack) -> list[Tensor]:
        """The VLM's states of all und tokens of a pack after each layer, depth x [U, und_dim]; it runs over those only
        that were not read before.
        """
        found = self._read(und, tokens, range(len(tokens.keys)))
        return [torch.cat([each.states[i] for each in found]).to(und.device) for i in range(und.depth)]

    def cache(self, und: Understanding, tokens: Pack) -> DynamicCache:
        """The VLM's keys and values of what one sample has before its target, for it to go on in words; the target's
        markers are not read.
        """
        found = self._read(und, tokens, [i for i, content in enumerate(tokens.contents) if content is not None])
        return _cache(und, found)

    def _read(self, und: Understanding, tokens: Pack, which: Sequence[int]) -> list[ReadSegment]:
        """Some segments of a pack, of which those alone are run that were not read before."""
        known = [i for i in which if tokens.keys[i] in self.segments]
        new = [i for i in which if tokens.keys[i] not in self.segments]
        made = self._run(und, tokens, known, new)
        keys = [tokens.keys[i] for i in which]
        self.segments = {key: made.get(key) or self.segments[key] for key in keys}
        return list(self.segments.values())

    def _run(self, und: Understanding, tokens: Pack, known: list[int], new: list[int]) -> dict[Hashable, ReadSegment]:
        """The new segments of a pack, read after the known ones."""
        if not new:
            return {}
        places = torch.arange(sum(tokens.sizes)).split(tokens.sizes)
        device, at = und.device, torch.cat([places[i] for i in new])
        cache = _cache(und, [self.segments[tokens.keys[i]] for i in known])
        embeddings = und.und_embeddings([as_read(tokens.contents[i]) for i in new])
        visible = tokens.visible[at][:, torch.cat([*(places[i] for i in known), at])]
        states = und.und_states(
            embeddings[None], tokens.positions[:, None, at].to(device), visible[None].to(device), cache
        )
        before = sum(tokens.sizes[i] for i in known)
        sizes = [tokens.sizes[i] for i in new]
        split = [
            [x.cpu().split(sizes, dim=-2) for x in layer]
            for layer in (
                [state[0] for state in states],
                [layer.keys[0, :, before:] for layer in cache.layers],
                [layer.values[0, :, before:] for layer in cache.layers],
            )
        ]
        # Copies, since a part of a tensor keeps all of it.
        return {
            tokens.keys[i]: ReadSegment(*([layer[n].clone() for layer in kind] for kind in split))
            for n, i in enumerate(new)
        }


def _cache(und: Understanding, read: Sequence[ReadSegment]) -> DynamicCache:
    """Keys and values of segments, one after the other, as the VLM's layers take them."""
    cache = DynamicCache()
    for layer in range(und.depth if read else 0):
        keys, values = (torch.cat(each, dim=1)[None].to(und.device) for each in (
            [segment.keys[layer] for segment in read], [segment.values[layer] for segment in read],
        ))  # fmt: skip
        cache.update(keys, values, layer)
    return cache
