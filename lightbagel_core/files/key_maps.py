"""The names that other files give to our tensors.

Our own are those of the libraries: transformers' Qwen2.5-VL as it stands in memory, diffusers' Wan transformer and VAE.
Wan's original names are ComfyUI's too. The authors' checkpoint wraps everything in one module (docs/model.md,
section 8).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import torch
from einops import rearrange

_IN_RESNET = {
    ".norm1.": ".residual.0.",
    ".conv1.": ".residual.2.",
    ".norm2.": ".residual.3.",
    ".conv2.": ".residual.6.",
    ".conv_shortcut.": ".shortcut.",
}
_OF_FUSION = {
    "llm_norm": "und_norm",
    "vgen_norm": "gen_norm",
    "k_und_proj": "und_k",
    "v_und_proj": "und_v",
    "q_gen_proj": "gen_q",
    "k_gen_proj": "gen_k",
    "v_gen_proj": "gen_v",
    "o_gen_proj": "gen_out",
    "q_norm": "q_norm",
    "k_norm": "k_norm",
}
_DEAD = {"q_und_proj", "o_und_proj"}  # the und stream is frozen: its queries and outputs change nothing
_FUSION_LAYER = re.compile(
    r"(?:mm_attn|cross_attn)_layers\.(\d+)\.(?:(?:mm_attn|cross_attn)\.)?(\w+)\.(weight(?:_scale)?|bias)"
)
_SAVED = {  # the prefixes in what ComfyUI saves; the first that fits counts
    "fusion": "model.diffusion_model.lightbagel.",
    "generation": "model.diffusion_model.",
    "understanding": "text_encoders.transformer.",
    "vae": "vae.",
}
_OF_TRANSFORMER = {  # of its layers; the first that is found in a name counts
    "attn1.to_out.0": "self_attn.o",
    "attn1.to_": "self_attn.",
    "attn2.to_out.0": "cross_attn.o",
    "attn2.to_": "cross_attn.",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "proj_out": "head.head",
    "attn1.norm_": "self_attn.norm_",
    "attn2.norm_": "cross_attn.norm_",
    ".norm2": ".norm3",
    ".scale_shift_table": ".modulation",
    "scale_shift_table": "head.modulation",
}
_OUTSIDE = {
    r"^quant_conv\.": "conv1.",
    r"^post_quant_conv\.": "conv2.",
    r"\.conv_in\.": ".conv1.",
    r"\.norm_out\.": ".head.0.",
    r"\.conv_out\.": ".head.2.",
    r"\.mid_block\.attentions\.0\.": ".middle.1.",
}


def diffusers_transformer_name(originals: Iterable[str]) -> Callable[[str], str]:
    """What gives a Wan transformer's original names their diffusers' names; it is given all of them."""
    return {original: name for name, original in original_transformer_names(originals).items()}.__getitem__


def original_transformer_names(originals: Iterable[str]) -> dict[str, str]:
    """{diffusers' name: original name} of a Wan transformer's tensors, from all its original names.

    Raises:
        ValueError: two of them have one diffusers' name.
    """
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    originals = list(originals)
    numbered = {name: torch.tensor(i) for i, name in enumerate(originals)}
    found = {name: originals[int(i)] for name, i in convert_wan_transformer_to_diffusers(numbered).items()}
    twice = sorted(set(originals) - set(found.values()))
    if twice:
        raise ValueError(
            f"these tensors of a Wan transformer stand there twice, under two names: {', '.join(twice[:8])}"
        )
    return found


def original_layer_name(layer: str) -> str:
    """The original name of a layer of a Wan transformer, or of its modulation, from diffusers' name: what
    `diffusers_transformer_name` turns back.
    """
    for ours, theirs in _OF_TRANSFORMER.items():
        if ours in layer:
            return layer.replace(ours, theirs)
    return layer


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


def qwen_name(name: str) -> str:
    """Qwen2.5-VL's name in memory for one as its release, and ComfyUI's single file, have it; the former stay."""
    if name.startswith("visual."):
        return f"model.{name}"
    if name.startswith("model.") and not name.startswith(("model.visual.", "model.language_model.")):
        return f"model.language_model.{name.removeprefix('model.')}"
    return name


def author_names(names: Iterable[str], layers: int) -> dict[str, dict[str, str]]:
    """{component: {the name there: name in the authors' file}}; the DiT's stay original. Dead tensors are left out.

    What belongs nowhere, or where something else stands already, stands under "unknown". layers: of the fusion stack.
    """
    components: dict[str, dict[str, str]] = {"understanding": {}, "generation": {}, "fusion": {}, "unknown": {}}

    def put(component: str, there: str, name: str) -> None:
        if components[component].setdefault(there, name) != name:
            components["unknown"][name] = name

    for name in names:
        inner = name.removeprefix("vision_language_model.model.language_model.")
        fused = _FUSION_LAYER.fullmatch(inner)
        if name == "vgen_model_cross_att_context":
            put("fusion", "context", name)
        elif name.startswith("vgen_model."):
            put("generation", name.removeprefix("vgen_model."), name)
        elif fused is not None and fused[2] in _DEAD and int(fused[1]) < layers:
            continue
        elif fused is not None and fused[2] in _OF_FUSION:
            put("fusion", f"layers.{fused[1]}.{_OF_FUSION[fused[2]]}.{fused[3]}", name)
        elif name.startswith("vision_language_model.") and "attn_layers." not in name:
            put("understanding", name.removeprefix("vision_language_model."), name)
        else:
            components["unknown"][name] = name
    return components


def is_saved_by_comfyui(names: Iterable[str]) -> bool:
    """Whether a file's tensors are those of a LightBagel MODEL as ComfyUI's saving nodes write it."""
    return f"{_SAVED['fusion']}context" in names


def saved_names(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """{component: {the name there: name in a file of ComfyUI's saving nodes}}; what belongs nowhere under "unknown"."""
    components: dict[str, dict[str, str]] = {component: {} for component in (*_SAVED, "unknown")}
    for name in names:
        component = next((c for c, prefix in _SAVED.items() if name.startswith(prefix)), "unknown")
        components[component][name.removeprefix(_SAVED.get(component, ""))] = name
    return components


def unfolded_patches(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """The convolution [dim, C, 1, p, p] of a patch embedding kept as a Linear [dim, 1 * p * p * C].

    The Linear reads a patch in the order (frame, row, column, channel).
    """
    patch = round((weight.shape[1] // channels) ** 0.5)
    return rearrange(weight, "d (f r q c) -> d c f r q", f=1, r=patch, q=patch, c=channels).contiguous()
