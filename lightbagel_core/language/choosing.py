"""How the next word of an answer is chosen: always the likeliest, or by chance with a seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

import torch


class Choosing(TypedDict, total=False):
    """Settings of how words are chosen; what is left out changes nothing.

    temperature: 0, the default: always the likeliest word; above 0: by chance, the higher the more surprising.
    top_k: among this many likeliest words; 0: among all. top_p: among the likeliest that together reach this
    probability. min_p: not among those less likely than this part of the likeliest. These three need a temperature.
    repetition_penalty: above 1, what was said already becomes less likely.
    seed: the same one gives the same words.
    """

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int


DEFAULTS = Choosing(temperature=0.0, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0, seed=0)
MOST = {"temperature": 100, "top_k": 10**9, "top_p": 1, "min_p": 1, "repetition_penalty": 100, "seed": 2**64 - 1}
WHOLE, ABOVE_ZERO = ("top_k", "seed"), ("top_p", "repetition_penalty")
BY_CHANCE = ("top_k", "top_p", "min_p")


def options_of(choosing: Choosing) -> dict[str, Any]:
    """The options of the stock `generate` for settings; the seed is for `seeded`.

    Raises:
        ValueError: an unknown setting, or one outside its range; one for choosing by chance, without a temperature.
    """
    given: dict[str, Any] = {name: value for name, value in choosing.items() if value is not None}
    for name, value in given.items():
        if name not in DEFAULTS:
            raise ValueError(f"there is no setting {name!r} of how words are chosen; there are {', '.join(DEFAULTS)}")
        if isinstance(value, bool) or not isinstance(value, int if name in WHOLE else int | float):
            raise ValueError(f"{name} must be a {'whole ' if name in WHOLE else ''}number, not {value!r}")
        if not 0 <= value <= MOST[name] or (name in ABOVE_ZERO and value == 0):  # which NaN is not either
            least = "above 0 and at most" if name in ABOVE_ZERO else "between 0 and"
            raise ValueError(f"{name} must lie {least} {MOST[name]}, not {value}")
    if not given.get("temperature"):
        vain = ", ".join(name for name in BY_CHANCE if name in given)
        if vain:
            raise ValueError(f"without a temperature nothing is left to {vain}: set one above 0, such as 0.7")
        return {"do_sample": False, "repetition_penalty": float(given.get("repetition_penalty", 1.0))}
    kept = {name: value for name, value in (DEFAULTS | given).items() if name != "seed"}
    return {"do_sample": True, **kept}


@contextmanager
def seeded(device: torch.device, seed: int | None) -> Iterator[None]:
    """Inside, what is chosen by chance on a device begins with a seed; afterwards the generators of the CPU and of a
    CUDA device are as before.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed or 0)
        yield
