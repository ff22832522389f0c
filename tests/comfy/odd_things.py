"""A pack of one node for tests: it gives what no good node gives, on a socket that fits everywhere."""

from __future__ import annotations

import math
from typing import Any

import torch
from comfy_api.latest import ComfyExtension, io


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(len(shape)))


THINGS = {
    # IMAGE [B, H, W, C]
    "image": lambda: noise(1, 64, 64, 3),
    "image with alpha": lambda: noise(1, 48, 80, 4),
    "grey image": lambda: noise(1, 64, 64, 1),
    "image of two channels": lambda: noise(1, 64, 64, 2),
    "image of NaN": lambda: torch.full((1, 64, 64, 3), math.nan),
    "image of infinities": lambda: torch.full((1, 64, 64, 3), math.inf),
    "image far out of range": lambda: noise(1, 64, 64, 3) * 1e30 - 5e29,
    "image of one pixel": lambda: noise(1, 1, 1, 3),
    "a sliver": lambda: noise(1, 1, 64, 3),
    "no image in a batch": lambda: noise(0, 64, 64, 3),
    "image without a height": lambda: noise(1, 0, 64, 3),
    "image without a batch": lambda: noise(64, 64, 3),
    "half precision image": lambda: noise(1, 64, 64, 3).half(),
    "image of whole numbers": lambda: torch.full((1, 64, 64, 3), 200, dtype=torch.uint8),
    "twenty images": lambda: noise(20, 32, 32, 3),
    "a film": lambda: noise(1, 2, 64, 64, 3),
    # MASK [B, H, W]
    "mask": lambda: noise(1, 64, 64).round(),
    "mask of NaN": lambda: torch.full((1, 64, 64), math.nan),
    "mask of another size": lambda: noise(3, 7, 200),
    "mask without a batch": lambda: noise(64, 64),
    "a mask of nothing": lambda: noise(0, 0, 0),
    # LATENT
    "latent": lambda: {"samples": torch.zeros(1, 48, 4, 4)},
    "latent of a frame": lambda: {"samples": torch.zeros(1, 48, 1, 4, 4)},
    "latent of five frames": lambda: {"samples": torch.zeros(1, 48, 5, 4, 4)},
    "filled latent": lambda: {"samples": torch.full((1, 48, 4, 4), 0.5)},
    "latent of another model": lambda: {"samples": torch.zeros(1, 4, 8, 8)},
    "latent of NaN": lambda: {"samples": torch.full((1, 48, 4, 4), math.nan)},
    "latent of odd sides": lambda: {"samples": torch.zeros(2, 48, 3, 5)},
    "latent without samples": dict,
    # no socket's
    "nothing": lambda: None,
    "number": lambda: 7,
    "not a number": lambda: math.nan,
    "words": lambda: "a red circle",
    "bytes": lambda: b"\x00\xff",
    "list": list,
    "list of numbers": lambda: list(range(1000)),
    "dictionary": lambda: {"a": 1},
    "empty conditioning": list,
    "conditioning of another encoder": lambda: [[noise(1, 77, 768), {"pooled_output": noise(1, 768)}]],
}


class OddThing(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OddThing",
            inputs=[io.Combo.Input("kind", options=list(THINGS))],
            outputs=[io.AnyType.Output()],
        )

    @classmethod
    def execute(cls, kind: str) -> io.NodeOutput:
        return io.NodeOutput(THINGS[kind]())


class Odd(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [OddThing]


async def comfy_entrypoint() -> Any:
    return Odd()
