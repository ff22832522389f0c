"""A model's small files inside a safetensors file, as bytes beside its weights.

ComfyUI saves a model as one file, and only tensors of it: so config.json and the tokenizer's files are tensors there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .tensor_files import Stored, Tensors, read

CONFIG = "config.json"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
LIMIT = 64 << 20  # bytes; Qwen2.5-VL's largest, its tokenizer.json, has 11 MB


def as_tensor(content: bytes) -> Tensor:
    """A file's bytes as uint8 [N]."""
    return torch.tensor(list(content), dtype=torch.uint8)


def without_files(tensors: Tensors) -> tuple[Tensors, Tensors]:
    """The weights among the tensors of a file, and the small files by their names; a prefix before a name is dropped.

    Raises:
        ValueError: a file stands there twice.
    """
    weights: Tensors = {}
    files: Tensors = {}
    for key, tensor in tensors.items():
        name = next((name for name in (CONFIG, *TOKENIZER) if f".{key}".endswith(f".{name}")), None)
        if name is None or tensor.dtype != torch.uint8 or len(tensor.shape) != 1:
            weights[key] = tensor
        elif name in files:
            raise ValueError(f"{tensor.file} holds {name} twice: as {files[name].key} and as {key}")
        else:
            files[name] = tensor
    return weights, files


def content_of(stored: Stored) -> bytes:
    """The bytes of a small file.

    Raises:
        ValueError: they are more than such a file has, or the file that holds them is gone or changed.
    """
    if stored.bytes > LIMIT:
        raise ValueError(f"{stored.file} is damaged: its {stored.key} has {stored.bytes} bytes, {LIMIT} at most")
    return read(stored).numpy().tobytes()
