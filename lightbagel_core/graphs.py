"""A denoising step as a CUDA graph: launched as one, where the device would wait for the program's many launches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Step = Callable[[Tensor, Tensor], Tensor]  # of latents [B, C, h, w] and times, like the latents


def recorded(step: Step) -> Step:
    """`step`, recorded when it is first called and replayed from then on, for arguments of the same shapes.

    Recording costs about four steps. What else the step reads must stay where it is.
    """
    replays: list[Any] = []

    def run(x: Tensor, t: Tensor) -> Tensor:
        if not replays:
            replays.append(torch.cuda.make_graphed_callables(step, (x.clone(), t.clone())))
        return replays[0](x, t).clone()  # the graph writes its result to the same place every time

    return run
