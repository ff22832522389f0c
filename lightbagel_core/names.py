"""Wan's two sets of tensor names: diffusers', which our checkpoints use, and the original ones, which ComfyUI uses."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

_IN_RESNET = {
    ".norm1.": ".residual.0.",
    ".conv1.": ".residual.2.",
    ".norm2.": ".residual.3.",
    ".conv2.": ".residual.6.",
    ".conv_shortcut.": ".shortcut.",
}
_OUTSIDE = {
    r"^quant_conv\.": "conv1.",
    r"^post_quant_conv\.": "conv2.",
    r"\.conv_in\.": ".conv1.",
    r"\.norm_out\.": ".head.0.",
    r"\.conv_out\.": ".head.2.",
    r"\.mid_block\.attentions\.0\.": ".middle.1.",
}


def original_transformer_names(originals: Iterable[str]) -> dict[str, str]:
    """{diffusers' name: original name} of a Wan transformer's tensors, from all its original names."""
    originals = list(originals)
    numbered = {name: torch.tensor(i) for i, name in enumerate(originals)}
    return {name: originals[int(i)] for name, i in convert_wan_transformer_to_diffusers(numbered).items()}


def original_vae_name(name: str, res_blocks: int) -> str:
    """The original name of a residual (Wan2.2) VAE's tensor; `res_blocks` is the config's num_res_blocks."""
    if ".resnets." in name:
        for ours, theirs in _IN_RESNET.items():
            name = name.replace(ours, theirs)
        name = re.sub(r"\.mid_block\.resnets\.([01])\.", lambda m: f".middle.{2 * int(m[1])}.", name)
        name = re.sub(r"\.down_blocks\.(\d+)\.resnets\.", r".downsamples.\1.downsamples.", name)
        return re.sub(r"\.up_blocks\.(\d+)\.resnets\.", r".upsamples.\1.upsamples.", name)
    name = re.sub(r"\.down_blocks\.(\d+)\.downsampler\.", rf".downsamples.\1.downsamples.{res_blocks}.", name)
    name = re.sub(r"\.up_blocks\.(\d+)\.upsampler\.", rf".upsamples.\1.upsamples.{res_blocks + 1}.", name)
    for ours, theirs in _OUTSIDE.items():
        name = re.sub(ours, theirs, name)
    return name
