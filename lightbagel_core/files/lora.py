"""LoRAs in files: low-rank additions to the matrices of the DiT and of the fusion stack.

A LoRA adds strength * alpha / rank * up @ down to a matrix (arXiv 2106.09685). Those that training here writes have the
names that ComfyUI's own loader takes, Wan's original ones below `diffusion_model.`; the fusion stack is
`diffusion_model.lightbagel` there. Other people's LoRAs of Wan2.2-TI2V-5B are read too: with or without such a prefix,
under Wan's or diffusers' names, and as kohya's programs write them; also with differences of whole tensors beside the
LoRAs (`X.diff` of a weight, `X.diff_b` of a bias), as ComfyUI's own extraction of a LoRA writes them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from .key_maps import original_layer_name
from .tensor_files import Stored, Tensors, listed, read, read_header

ABOUT = "lightbagel"  # in a file's metadata, as JSON: what the LoRA is, and where it comes from
MODEL = "diffusion_model."
PREFIX = {"generation": MODEL, "fusion": f"{MODEL}lightbagel."}
DOWN, UP, ALPHA, WEIGHT, BIAS = "lora_A.weight", "lora_B.weight", "alpha", "diff", "diff_b"
_ENDS = {
    **{f".{end}": DOWN for end in ("lora_A.weight", "lora_A.default.weight", "lora_down.weight")},
    **{f".{end}": UP for end in ("lora_B.weight", "lora_B.default.weight", "lora_up.weight")},
    **{f".{end}": end for end in (ALPHA, WEIGHT, BIAS)},
}


@dataclass(frozen=True, eq=False)
class LowRank:
    """What is added to a matrix [out, in]: scale * up @ down.

    down: [rank, in]. up: [out, rank]. scale: strength * alpha / rank.
    """

    down: Tensor
    up: Tensor
    scale: float

    def added_to(self, weight: Tensor) -> Tensor:
        """A matrix with it added, float32 and new, on the matrix's device."""
        down, up = (x.to(weight.device).float() for x in (self.down, self.up))
        return weight.float().addmm(up, down, alpha=self.scale)


@dataclass(frozen=True, eq=False)
class StoredLowRank:
    """The same in a file, from which it is read when it is added, and not before."""

    down: Stored
    up: Stored
    scale: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def read(self) -> LowRank:
        """It with its numbers.

        Raises:
            ValueError: the file is gone or no longer what it was.
        """
        return LowRank(read(self.down), read(self.up), self.scale)

    def added_to(self, weight: Tensor) -> Tensor:
        """As `LowRank.added_to`. Raises ValueError as `read`."""
        return self.read().added_to(weight)


@dataclass(frozen=True, eq=False)
class Difference:
    """What is added to a tensor as a whole: scale * values, of its shape, read from a file when they are added.

    scale: the strength.
    """

    values: Stored
    scale: float

    def added_to(self, weight: Tensor) -> Tensor:
        """A tensor with it added, as `StoredLowRank.added_to`."""
        return weight.float().add(read(self.values).to(weight.device).float(), alpha=self.scale)


Added = StoredLowRank | Difference


def written_name(component: str, weight: str) -> str:
    """What the LoRA of a linear layer is called in the files written here, without an end; `weight` is "X.weight"."""
    layer = weight.removesuffix(".weight")
    return PREFIX[component] + (original_layer_name(layer) if component == "generation" else layer)


def about(file: Path) -> dict[str, Any]:
    """What a LoRA file says of itself, if it was trained here; else nothing.

    Raises:
        ValueError: the file is no safetensors file.
    """
    read_header(file)
    with safe_open(file, "np") as opened:
        said = (opened.metadata() or {}).get(ABOUT, "{}")
    try:
        found = json.loads(said)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def merged(file: Path, strength: float, name: str, digest: str) -> dict[str, Any]:
    """What the metadata of a model says of a LoRA that was merged into its weights.

    Args:
        name: what the file is called there. digest: its SHA-256.

    Raises:
        ValueError: as `about`.
    """
    said = about(file)
    return {"name": name, "sha256": digest, "strength": strength} | ({"says": said} if said else {})


def with_loras(
    components: Mapping[str, Tensors], loras: Mapping[Path, float], wanted: Collection[str] | None = None
) -> dict[str, Tensors]:
    """The tensors of a model's components, with LoRAs added to them when they are read.

    Args:
        loras: files, and the strength of each; at 0 a LoRA adds nothing. Of what a file holds for a component that is
            not wanted nothing is added.
        wanted: components; default: those that are there.

    Raises:
        ValueError: a file is missing, damaged, holds other things than LoRAs and differences, is of another model, or
            has nothing for the wanted components; a strength is no number.
    """
    found = {component: dict(tensors) for component, tensors in components.items()}
    for file, strength in loras.items():
        if not math.isfinite(strength):
            raise ValueError(f"the strength of {file} is {strength}, which is no number")
        for component, added in read_lora(file, found, wanted, strength).items():
            for weight, one in added.items():
                stored = found[component][weight]
                if strength:
                    found[component][weight] = replace(stored, added=(*stored.added, one.added_to))
    return found


def components_of(file: Path) -> set[str]:
    """The components that a LoRA file adds to, by the names in it.

    Raises:
        ValueError: it is missing or damaged, or holds other things than LoRAs of linear layers.
    """
    return {_component(name) for name in _layers(file)}


def read_lora(
    file: Path, components: Mapping[str, Tensors], wanted: Collection[str] | None = None, strength: float = 1.0
) -> dict[str, dict[str, Added]]:
    """{component: {weight or bias: what a file adds to it}}; arguments as in `with_loras`.

    Raises:
        ValueError: as `with_loras`.
    """
    layers = _layers(file)
    wanted = components.keys() if wanted is None else wanted
    spelled = {
        spelling: (component, layer)
        for component in PREFIX.keys() & components.keys()
        for layer in {name.removesuffix(".weight").removesuffix(".bias") for name in components[component]}
        for spelling in _spellings(component, layer)
    }
    found: dict[str, dict[str, Added]] = {}
    strangers = [name for name in layers if name not in spelled and _component(name) in wanted]
    for name in (name for name in layers if name in spelled):
        component, layer = spelled[name]
        for target, one in _additions(file, name, layer, layers[name], components[component], strength):
            if target not in components[component]:
                strangers.append(name)
            elif target in found.setdefault(component, {}):
                raise ValueError(f"{file} holds what is added to {target} twice, under two names")
            else:
                found[component][target] = one
    if strangers:
        raise ValueError(f"{file} is a LoRA of another model{_origin(file)}: this one has no {listed(strangers)}")
    if not found:
        owners = " and ".join(sorted({_component(name) for name in layers}))
        raise ValueError(
            f"{file} changes nothing here: it is a LoRA of the {owners} component, which is not used; leave it out"
        )
    for component, added in found.items():
        for target, one in added.items():
            _check_shapes(file, component, target, components[component][target].shape, one)
    return found


def _additions(
    file: Path, name: str, layer: str, parts: Mapping[str, Stored], tensors: Tensors, strength: float
) -> Iterator[tuple[str, Added]]:
    """(weight or bias, what is added to it) of a layer that the file calls `name`.

    Raises:
        ValueError: the file is damaged.
    """
    weight = layer if layer in tensors else f"{layer}.weight"  # the modulation is no layer's
    if {DOWN, UP, ALPHA} & parts.keys():
        if len({DOWN, UP} & parts.keys()) < 2:
            raise ValueError(f"{file} is damaged: of the LoRA of {name} one half is missing")
        rank = parts[DOWN].shape[0] if parts[DOWN].shape else 0
        alpha = float(read(parts[ALPHA]).float()) if ALPHA in parts else float(rank)
        if not math.isfinite(alpha):
            raise ValueError(f"{file} is damaged: the alpha of {name} is {alpha}")
        yield weight, StoredLowRank(parts[DOWN], parts[UP], strength * alpha / max(rank, 1))
    if WEIGHT in parts:
        yield weight, Difference(parts[WEIGHT], strength)
    if BIAS in parts:
        yield f"{layer}.bias", Difference(parts[BIAS], strength)


def _check_shapes(file: Path, component: str, target: str, shape: tuple[int, ...], one: Added) -> None:
    """Raises ValueError where something cannot be added to a tensor of this shape."""
    if isinstance(one, Difference):
        fits, it_has = one.values.shape == shape, f"{list(one.values.shape)}"
    else:
        down, up = one.down.shape, one.up.shape
        fits = len(shape) == len(down) == 2 and down[0] > 0 and (down, up) == ((down[0], shape[1]), (shape[0], down[0]))
        it_has = f"{list(down)} and {list(up)}"
    if not fits:
        raise ValueError(
            f"{file} is a LoRA of another model{_origin(file)}: for {target} of the {component} component, which is "
            f"{list(shape)}, it has {it_has}"
        )


def _layers(file: Path) -> dict[str, dict[str, Stored]]:
    """{layer as the file spells it: {down, up, alpha, differences: tensor}}.

    Raises:
        ValueError: the file is missing or damaged, holds no LoRA, or something else beside it.
    """
    found: dict[str, dict[str, Stored]] = {}
    strange = []
    for name, stored in read_header(file).items():
        end = next((end for end in _ENDS if name.endswith(end)), None)
        if end is None or (_ENDS[end] == ALPHA and math.prod(stored.shape) != 1):
            strange.append(name)
        elif _ENDS[end] != ALPHA and not stored.dtype.is_floating_point:
            raise ValueError(f"{file} stores {name} as whole numbers, which cannot be read here")
        else:
            found.setdefault(name.removesuffix(end), {})[_ENDS[end]] = stored
    if strange:
        raise ValueError(
            f"{file} holds what is no LoRA of a linear layer: {listed(strange)}; of adapters only such LoRAs, and "
            "differences of whole tensors, can be read here"
        )
    if not found:
        raise ValueError(f"{file} is empty")
    return found


def _spellings(component: str, layer: str) -> set[str]:
    """How files may call a layer."""
    if component != "generation":
        return {prefix + PREFIX[component].removeprefix(MODEL) + layer for prefix in (MODEL, "")}
    names = {layer, original_layer_name(layer)}
    prefixed = {prefix + name for name in names for prefix in ("", MODEL, "transformer.", "base_model.model.")}
    kohyas = {name.replace(".", "_") for name in names}
    return prefixed | {prefix + name for name in kohyas for prefix in ("lora_unet_", "lora_unet__")}


def _component(name: str) -> str:
    """Whose the LoRA of a layer is, as a file spells it."""
    return "fusion" if name.removeprefix(MODEL).startswith("lightbagel.") else "generation"


def _origin(file: Path) -> str:
    """What a file trained here says of the model it was trained on, for a message."""
    base = about(file).get("base")
    name = base.get("name") if isinstance(base, dict) else base
    return f" ({name})" if isinstance(name, str) else ""
