"""Is each input what the node's schema says? ComfyUI asks that of what stands in a node's boxes, and of the sockets at
both ends of a link; it cannot ask it of what comes out of a socket without a type (a switch, a bypassed node, a pack's
loader that found no CLIP), nor of a number that comes by a link.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from comfy_api.latest import io

# What says of an object that it is of a socket's kind.
KNOWN_BY = {io.Model: "get_wrappers", io.Clip: "cond_stage_model", io.Vae: "latent_channels"}


def checked(execute: Callable[..., io.NodeOutput]) -> Callable[..., io.NodeOutput]:
    """An `execute` whose inputs are checked first; it raises ValueError with the name of one that does not fit."""
    signature = inspect.signature(execute)

    @functools.wraps(execute)
    def run(cls: type[io.ComfyNode], *args: Any, **inputs: Any) -> io.NodeOutput:
        schema = cls.define_schema().inputs
        strange = sorted(inputs.keys() - {declared.id for declared in schema})
        if strange:
            raise ValueError(
                f"this node has no input {strange[0]!r}: the workflow was made with another version of LightBagel's "
                "nodes. Update them, or take the input out of the workflow."
            )
        bound = signature.bind_partial(cls, *args, **inputs).arguments
        given = {**bound, **bound.get("settings", {})}
        for declared in schema:
            if given.get(declared.id) is not None or not declared.optional:
                check(declared, declared.id, given.get(declared.id))
        return execute(cls, *args, **inputs)

    return run


def check(declared: io.Input, name: str, value: Any) -> None:
    """Raises ValueError where a value is not of the kind, or not in the range, that an input declares."""
    for kind, attribute in KNOWN_BY.items():
        if isinstance(declared, kind.Input) and not hasattr(value, attribute):
            raise unfit(name, f"a {kind.io_type}", value)
    if isinstance(declared, io.DynamicCombo.Input):
        if not isinstance(value, dict):
            raise unfit(name, "one of its choices", value)
        for inner in (i for option in declared.options if option.key == value.get(name) for i in option.inputs):
            check(inner, inner.id, value.get(inner.id))
    elif isinstance(declared, io.Autogrow.Input):
        if not isinstance(value, dict):
            raise unfit(name, "pictures (IMAGE)", value)
        for each, image in value.items():
            if image is not None:
                check_image(each, image)
    elif isinstance(declared, io.Image.Input):
        check_image(name, value)
    elif isinstance(declared, io.Mask.Input):
        if not isinstance(value, torch.Tensor) or value.ndim < 2 or value.numel() == 0:
            raise unfit(name, "a mask of height and width (MASK)", value)
        if not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"the {name} input holds values that are no numbers (NaN): the node that made it went wrong"
            )
    elif isinstance(declared, io.Conditioning.Input):
        check_conditioning(name, value)
    elif isinstance(declared, io.String.Input | io.Combo.Input) and not isinstance(value, str):
        raise unfit(name, "text" if isinstance(declared, io.String.Input) else "one of its choices", value)
    elif isinstance(declared, io.Int.Input | io.Float.Input):
        check_number(declared, name, value)


def check_image(name: str, image: Any) -> None:
    """Raises ValueError for what is no IMAGE [B, H, W, C] of one, three or four channels."""
    if not isinstance(image, torch.Tensor) or image.ndim != 4 or image.shape[-1] not in (1, 3, 4):
        raise unfit(name, "a picture (IMAGE) of height, width and 1, 3 or 4 channels", image)
    if image.numel() == 0:
        raise unfit(name, "a picture (IMAGE) with something in it", image)


def check_conditioning(name: str, value: Any) -> None:
    """Raises ValueError for what is no CONDITIONING: pairs of a tensor and of what stands beside it."""
    pairs = value if isinstance(value, list | tuple) else [value]
    for pair in pairs:
        kinds = [torch.Tensor, dict]
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(map(isinstance, pair, kinds)):
            raise unfit(name, "a conditioning (CONDITIONING)", value)


def check_number(declared: Any, name: str, value: Any) -> None:
    whole = isinstance(declared, io.Int.Input)
    if not isinstance(value, int if whole else int | float):
        raise unfit(name, "a whole number" if whole else "a number", value)
    if not declared.min <= value <= declared.max:
        raise ValueError(f"{name} must lie between {declared.min} and {declared.max}, not be {value}")


def unfit(name: str, wanted: str, value: Any) -> ValueError:
    found = "nothing" if value is None else f"something of type {type(value).__name__}"
    if isinstance(value, torch.Tensor):
        found = f"numbers in the shape {list(value.shape)}"
    return ValueError(f"the {name} input needs {wanted}; what is connected gives {found}")
