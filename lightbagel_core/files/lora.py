"""LoRAs in files: low-rank additions to the matrices of the DiT and of the fusion stack.

A LoRA adds strength * alpha / rank * up @ down to a matrix (arXiv 2106.09685, section 4.1). Those that training here
writes have the names that ComfyUI's own loader takes, Wan's original ones below `diffusion_model.`; the fusion stack is
`diffusion_model.lightbagel` there. Other people's LoRAs of Wan2.2-TI2V-5B are read too: with or without such a prefix,
under Wan's or diffusers' names, and as kohya's programs write them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from .key_maps import original_linear_name
from .tensor_files import Stored, Tensors, listed, read, read_header

ABOUT = "lightbagel"  # in a file's metadata, as JSON: what the LoRA is, and where it comes from
MODEL = "diffusion_model."
PREFIX = {"generation": MODEL, "fusion": f"{MODEL}lightbagel."}
DOWN, UP, ALPHA = "lora_A.weight", "lora_B.weight", "alpha"
_ENDS = {
    **{f".{end}": DOWN for end in ("lora_A.weight", "lora_A.default.weight", "lora_down.weight")},
    **{f".{end}": UP for end in ("lora_B.weight", "lora_B.default.weight", "lora_up.weight")},
    ".alpha": ALPHA,
}


@dataclass(frozen=True, eq=False)
class LowRank:
    """What is added to a matrix [out, in]: scale * up @ down. Both are read when they are added, and not before.

    down: [rank, in]. up: [out, rank]. scale: strength * alpha / rank.
    """

    down: Stored
    up: Stored
    scale: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def added_to(self, weight: Tensor) -> Tensor:
        """A matrix with it added, float32 and new, on the matrix's device.

        Raises:
            ValueError: the file is gone or no longer what it was.
        """
        down, up = (read(x).to(weight.device).float() for x in (self.down, self.up))
        return weight.float().addmm(up, down, alpha=self.scale)


def written_name(component: str, weight: str) -> str:
    """What the LoRA of a linear layer is called in the files written here, without an end; `weight` is "X.weight"."""
    layer = weight.removesuffix(".weight")
    return PREFIX[component] + (original_linear_name(layer) if component == "generation" else layer)


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
        ValueError: a file is missing, damaged, holds other things than LoRAs of linear layers, is of another model, or
            has nothing for the wanted components; a strength is no number.
    """
    found = {component: dict(tensors) for component, tensors in components.items()}
    for file, strength in loras.items():
        if not math.isfinite(strength):
            raise ValueError(f"the strength of {file} is {strength}, which is no number")
        for component, added in read_lora(file, found, wanted, strength).items():
            for weight, low_rank in added.items():
                stored = found[component][weight]
                if strength:
                    found[component][weight] = replace(stored, added=(*stored.added, low_rank.added_to))
    return found


def read_lora(
    file: Path, components: Mapping[str, Tensors], wanted: Collection[str] | None = None, strength: float = 1.0
) -> dict[str, dict[str, LowRank]]:
    """{component: {weight: what a file adds to it}}; arguments as in `with_loras`.

    Raises:
        ValueError: as `with_loras`.
    """
    halves = _halves(file)
    wanted = components.keys() if wanted is None else wanted
    spelled = {
        name: (component, weight)
        for component in PREFIX.keys() & components.keys()
        for weight, stored in components[component].items()
        if weight.endswith(".weight") and len(stored.shape) == 2
        for name in _spellings(component, weight)
    }
    strangers = [name for name in halves if name not in spelled and _component(name) in wanted]
    if strangers:
        raise ValueError(f"{file} is a LoRA of another model{_origin(file)}: this one has no {listed(strangers)}")
    if not halves.keys() & spelled.keys():
        owners = " and ".join(sorted({_component(name) for name in halves}))
        raise ValueError(
            f"{file} changes nothing here: it is a LoRA of the {owners} component, which is not used; leave it out"
        )
    found: dict[str, dict[str, LowRank]] = {}
    for name in (name for name in halves if name in spelled):
        component, weight = spelled[name]
        stored, parts = components[component][weight], halves[name]
        if len({DOWN, UP} & parts.keys()) < 2:
            raise ValueError(f"{file} is damaged: of the LoRA of {name} one half is missing")
        down, up = parts[DOWN], parts[UP]
        shapes = (down.shape, up.shape)
        rank = down.shape[0] if down.shape else 0
        if not rank or shapes != ((rank, stored.shape[1]), (stored.shape[0], rank)):
            raise ValueError(
                f"{file} is a LoRA of another model{_origin(file)}: for {weight} of the {component} component, which "
                f"is {list(stored.shape)}, it has {list(down.shape)} and {list(up.shape)}"
            )
        if weight in found.setdefault(component, {}):
            raise ValueError(f"{file} holds the LoRA of {weight} twice, under two names")
        alpha = float(read(parts[ALPHA]).float()) if ALPHA in parts else float(rank)
        if not math.isfinite(alpha):
            raise ValueError(f"{file} is damaged: the alpha of {name} is {alpha}")
        found[component][weight] = LowRank(down, up, strength * alpha / rank)
    return found


def _halves(file: Path) -> dict[str, dict[str, Stored]]:
    """{layer as the file spells it: {down, up, alpha: tensor}}.

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
            f"{file} holds what is no LoRA of a linear layer: {listed(strange)}; of adapters only such LoRAs can be "
            "read here"
        )
    if not found:
        raise ValueError(f"{file} is empty")
    return found


def _spellings(component: str, weight: str) -> set[str]:
    """How files may call the LoRA of a linear layer."""
    layer = weight.removesuffix(".weight")
    if component != "generation":
        return {prefix + PREFIX[component].removeprefix(MODEL) + layer for prefix in (MODEL, "")}
    names = {layer, original_linear_name(layer)}
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
