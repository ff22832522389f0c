"""What a model is made of and which card it fits, from its files' headers; no weight is read."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from ..config import ATTENTION
from ..files.components import COMPONENTS
from ..files.formats import Opened
from ..files.lora import StoredLowRank, read_lora
from ..files.lora import about as said_by
from ..files.precision import Precision, default_device, is_scale
from ..files.tensor_files import Tensors
from ..memory import plan
from ..model.attention import choose, why_not

TITLES = {
    "understanding": "understanding (Qwen2.5-VL)",
    "generation": "generation (Wan DiT)",
    "fusion": "fusion",
    "vae": "VAE",
}
NO_FUSION = "no fusion file: this is the plain Wan DiT, which hears no prompt, and the plain Qwen2.5-VL"


def about(opened: Opened) -> str:
    """Lines for a person: components, parameters, dtypes as stored, where they lie, LoRAs, what fits which card."""
    lines = [opened.config.name]
    for component in COMPONENTS:
        if component in opened.components:
            lines.append(f"  {TITLES[component]:<28}{_about_component(opened.components[component])}")
    if "fusion" not in opened.components:
        lines.append(f"  {NO_FUSION}")
    default = opened.config.defaults
    lines.append(f"  tokenizer: {opened.tokenizer or 'none found'}")
    lines.append(
        f"  default {default.width}x{default.height}, {default.steps} steps of {default.solver}, "
        f"shift {default.shift:g}, text guidance {default.text_guidance:g}, in edits {default.edit_text_guidance:g}"
    )
    lines += [
        f"  {key}: {value if isinstance(value, str) else json.dumps(value)}"
        for key, value in opened.config.metadata.items()
    ]
    lines += [line for file, strength in opened.loras.items() for line in _about_lora(opened, file, strength)]
    return "\n".join([*lines, *_cards(opened), _kernels()])


def _about_lora(opened: Opened, file: Path, strength: float) -> list[str]:
    """What a LoRA is added to, as found in its file; below that what it says of itself."""
    lines = [f"  LoRA {file}, strength {strength:g}"]
    for component, added in read_lora(file, opened.components).items():
        ranks = sorted({one.rank for one in added.values() if isinstance(one, StoredLowRank)})
        matrices = sum(isinstance(one, StoredLowRank) for one in added.values())
        rank = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}" if ranks else "no rank"
        others = f", and to {len(added) - matrices} tensors as a whole" if len(added) > matrices else ""
        lines.append(f"    added to {matrices} matrices of the {component} component, {rank}{others}")
    said = said_by(file)
    data = said.get("data", [])
    lines += [f"    its {key}: {_worded(said[key])}" for key in ("component", "rank", "alpha", "base") if key in said]
    lines += [f"    its data: {_worded(one)}" for one in (data if isinstance(data, list) else [data])]
    return lines


def _worded(said: Any) -> str:
    """What a file says, in one line."""
    if isinstance(said, dict):
        return ", ".join(f"{key} {_worded(value)}" for key, value in said.items())
    return " ".join(said.split()) if isinstance(said, str) else json.dumps(said)


def _kernels() -> str:
    """Which attention kernels would be used here, and why not others."""
    device = default_device()
    dtype = Precision.of(None, device).compute
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    kind = str(dtype).removeprefix("torch.")
    others = "; ".join(f"{n}: {why}" for n in ATTENTION if (why := why_not(n, device, dtype)))
    return f"  attention on {name} in {kind}: {choose(device, dtype)}" + (f" ({others})" if others else "")


def _about_component(tensors: Tensors) -> str:
    weights = {name: stored for name, stored in tensors.items() if not is_scale(name, tensors)}
    count = sum(math.prod(stored.shape) for stored in weights.values())
    held: Counter[str] = Counter()
    for stored in weights.values():
        held[str(stored.dtype).removeprefix("torch.")] += stored.bytes
    dtypes = ", ".join(name for name, _ in held.most_common())
    files = {stored.file for stored in weights.values()}
    where = str(next(iter(files))) if len(files) == 1 else f"{len(files)} files in {_folder(files)}"
    return f"{count / 1e6:>10.2f} M  {size(sum(held.values())):>8}  {dtypes}  {where}"


def size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"


def _folder(files: set[Path]) -> str:
    return os.path.commonpath([file.parent for file in files])


def _cards(opened: Opened) -> list[str]:
    """For each size of card, how the model runs on it."""
    default = opened.config.defaults
    work = plan.Work(default.width, default.height)
    lines = [
        f"  an edit at {work.width}x{work.height} with image guidance, by arithmetic "
        f"({plan.MARGIN / 1e9:g} GB left to the system):"
    ]
    for card in plan.CARDS:
        way = plan.best_way(opened.config, opened.components, card * 1e9, work)
        if way is None:
            lines.append(f"    {card:>3} GB  does not fit")
            continue
        mode, offload, need = way
        options = f"--dtype {mode}" + (f" --offload {offload}" if offload else "")
        lines.append(f"    {card:>3} GB  {options:<38} needs {size(need)}")
    return lines
