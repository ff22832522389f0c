"""A model's weights as other people's files have them: names, shapes, shards and float8, written out by hand.

Names are those of the authors (docs/model.md, section 8) and of the libraries' own writers, not of the code under test.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

LANGUAGE = "vision_language_model.model.language_model."
Named = dict[str, Tensor]


def wan_original(name: str) -> str:
    """The original name of a tensor of diffusers' Wan transformer."""
    if name == "scale_shift_table":
        return "head.modulation"
    pairs = {
        "condition_embedder.time_embedder.linear_1": "time_embedding.0",
        "condition_embedder.time_embedder.linear_2": "time_embedding.2",
        "condition_embedder.time_proj": "time_projection.1",
        "condition_embedder.text_embedder.linear_1": "text_embedding.0",
        "condition_embedder.text_embedder.linear_2": "text_embedding.2",
        "proj_out.": "head.head.",
        ".attn1.": ".self_attn.",
        ".attn2.": ".cross_attn.",
        ".to_out.0.": ".o.",
        ".ffn.net.0.proj.": ".ffn.0.",
        ".ffn.net.2.": ".ffn.2.",
        ".norm2.": ".norm3.",  # the norm before cross-attention
        ".scale_shift_table": ".modulation",
    }
    for ours, theirs in pairs.items():
        name = name.replace(ours, theirs)
    return re.sub(r"\.to_([qkv])\.", r".\1.", name)


def qwen_release(name: str) -> str:
    """Qwen2.5-VL's name in its release for one in memory."""
    return re.sub(r"^model\.(visual\.)|^(model\.)language_model\.", lambda m: m[1] or m[2], name)


def author_fusion(state: Mapping[str, Tensor], und_dim: int, old: bool) -> Named:
    """The fusion stack as the authors name it, dead und queries and outputs included; `old`: by the former names."""
    layer = f"{LANGUAGE}{'cross' if old else 'mm'}_attn_layers."
    inside = "cross_attn." if old else "mm_attn."
    rename = {"und_k": "k_und_proj", "und_v": "v_und_proj", "gen_q": "q_gen_proj", "gen_k": "k_gen_proj"}
    rename |= {"gen_v": "v_gen_proj", "gen_out": "o_gen_proj", "q_norm": "q_norm", "k_norm": "k_norm"}
    named: Named = {"vgen_model_cross_att_context": state["context"]}
    for name, tensor in state.items():
        if name == "context":
            continue
        _, number, kind, leaf = name.split(".")
        if kind in ("und_norm", "gen_norm"):
            named[f"{layer}{number}.{'llm_norm' if kind == 'und_norm' else 'vgen_norm'}.{leaf}"] = tensor
            continue
        named[f"{layer}{number}.{inside}{rename[kind]}.{leaf}"] = tensor
        if kind == "und_k":
            dead = {"weight": ("q_und_proj.weight",), "bias": ("q_und_proj.bias",)}[leaf]
            named |= {f"{layer}{number}.{inside}{d}": torch.zeros_like(tensor) for d in dead}
            if leaf == "weight":
                named[f"{layer}{number}.{inside}o_und_proj.weight"] = tensor.new_zeros(und_dim, tensor.shape[0])
    return named


def patch_linear(convolution: Tensor) -> Tensor:
    """The patch embedding as the Linear that the authors keep: a patch in the order frame, row, column, channel."""
    return convolution.permute(0, 2, 3, 4, 1).flatten(1)


def authors(states: Mapping[str, Mapping[str, Tensor]], old: bool = False) -> Named:
    """The authors' whole checkpoint, without the VAE."""
    named = {f"vision_language_model.{name}": t for name, t in states["understanding"].items()}
    for name, tensor in states["generation"].items():
        tensor = patch_linear(tensor) if name == "patch_embedding.weight" else tensor
        named[f"vgen_model.{wan_original(name)}"] = tensor
    und_dim = states["understanding"]["model.language_model.norm.weight"].shape[0]
    return named | author_fusion(states["fusion"], und_dim, old)


def saved_by_comfyui(
    states: Mapping[str, Mapping[str, Tensor]], vae: Callable[[str], str], files: Mapping[str, bytes]
) -> Named:
    """A LightBagel as ComfyUI's CheckpointSave writes it, of the components in `states`; `vae` gives a VAE tensor's
    original name. `files`: config.json, which stands with the MODEL, and the tokenizer's, which stand with the CLIP.
    """
    named: Named = {}
    if "generation" in states:
        wan = "model.diffusion_model."
        named |= {f"{wan}{wan_original(name)}": t for name, t in states["generation"].items()}
        named |= {f"{wan}lightbagel.{name}": t for name, t in states["fusion"].items()}
    named |= {f"text_encoders.transformer.{name}": t for name, t in states.get("understanding", {}).items()}
    named |= {f"vae.{vae(name)}": t for name, t in states.get("vae", {}).items()}
    for name, content in files.items():
        prefix = "model.diffusion_model.lightbagel." if name == "config.json" else "text_encoders."
        named[prefix + name] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    return named


def float8_scaled(named: Mapping[str, Tensor], which: Callable[[str, Tensor], bool], new: bool = False) -> Named:
    """Weights in float8 with a scale each, as ComfyUI's files of the older or the newer kind have them."""
    made: Named = {} if new else {"scaled_fp8": torch.empty(2, dtype=torch.float8_e4m3fn)}
    for name, tensor in named.items():
        if not which(name, tensor):
            made[name] = tensor
            continue
        scale = tensor.abs().amax().float() / 448
        stem = name.removesuffix(".weight")
        made[name] = (tensor.float() / scale).to(torch.float8_e4m3fn)
        made[f"{stem}.{'weight_scale' if new else 'scale_weight'}"] = scale if new else scale.reshape(1)
        if new:
            about = json.dumps({"format": "float8_e4m3fn"}).encode()
            made[f"{stem}.comfy_quant"] = torch.tensor(list(about), dtype=torch.uint8)
    return made


def in_blocks(name: str, tensor: Tensor) -> bool:
    """The matrices that files in float8 keep in it: those of numbered layers."""
    return tensor.ndim == 2 and name.endswith(".weight") and bool(re.search(r"(layers|blocks)\.\d+\.", name))


def save(named: Mapping[str, Tensor], file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous().clone() for name, t in named.items()}, file, {"format": "pt"})
    return file


def save_sharded(named: Mapping[str, Tensor], folder: Path, stem: str, count: int = 3) -> Path:
    names = sorted(named)
    where = {}
    for i in range(count):
        shard = f"{stem}-{i + 1:05}-of-{count:05}.safetensors"
        save({n: named[n] for n in names[i::count]}, folder / shard)
        where |= dict.fromkeys(names[i::count], shard)
    index = folder / f"{stem}.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}), "utf-8")
    return index


CODES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float8_e4m3fn: "F8_E4M3"}


def lora(components: Mapping[str, Mapping[str, Any]], file: Path, seed: int = 0, **metadata: str) -> Path:
    """A LoRA of rank 4 and alpha 2 for every matrix in a DiT's blocks and a fusion stack's layers, under the names of
    ComfyUI's loader; `components` holds what has the matrices' shapes. It changes pictures plainly.
    """
    names = {"generation": wan_original, "fusion": "lightbagel.{}".format}
    generator, named = torch.Generator().manual_seed(seed), {}
    for component, tensors in components.items():
        for name, tensor in tensors.items():
            if component in names and len(tensor.shape) == 2 and name.startswith(("blocks.", "layers.")):
                layer = "diffusion_model." + names[component](name).removesuffix(".weight")
                named[f"{layer}.lora_A.weight"] = torch.randn(4, tensor.shape[1], generator=generator)
                named[f"{layer}.lora_B.weight"] = 0.2 * torch.randn(tensor.shape[0], 4, generator=generator)
                named[f"{layer}.alpha"] = torch.tensor(2.0)
    save_file(named, file, {"format": "pt", **metadata})
    return file


def save_hollow(named: Iterable[tuple[str, Any]], file: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    """A safetensors file whose header is real and whose data is a hole in the file: tens of gigabytes of nothing.

    `named` gives things with a shape. float8 and its scales as in ComfyUI's older files.
    """
    fields: dict[str, Any] = {}
    at = 0
    for name, like in named:
        for each, kind, shape in _fields(name, tuple(like.shape), dtype):
            length = math.prod(shape) * kind.itemsize
            fields[each] = {"dtype": CODES[kind], "shape": list(shape), "data_offsets": [at, at + length]}
            at += length
    text = json.dumps(fields).encode()
    text += b" " * (-len(text) % 8)  # as the library's own writer does
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        out.truncate(8 + len(text) + at)
    return file


def _fields(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> list[tuple[str, torch.dtype, tuple[int, ...]]]:
    if dtype != torch.float8_e4m3fn:
        return [(name, dtype, shape)]
    if not (len(shape) == 2 and name.endswith(".weight") and re.search(r"(layers|blocks)\.\d+\.", name)):
        return [(name, torch.bfloat16, shape)]
    return [(name, dtype, shape), (f"{name.removesuffix('.weight')}.scale_weight", torch.float32, (1,))]
