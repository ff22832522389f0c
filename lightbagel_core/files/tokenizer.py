"""Qwen2.5-VL's tokenizer from the files people have of it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedTokenizerFast, Qwen2TokenizerFast

from .embedded import TOKENIZER, content_of, without_files
from .tensor_files import Tensors, read_header

QWENS_IM_START = 151644  # tells Qwen2.5's vocabulary from another's
# Qwen2.5-VL's chat form for text and pictures. Folders made for other hosts often hold one that knows no pictures.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def find_tokenizer(*places: Path | None) -> Path | None:
    """The first place that is a safetensors file with a tokenizer inside, or folder with one: the places, the folders
    that files lie in, and `tokenizer` in those.
    """
    for place in places:
        if place is None or not place.exists():
            continue
        if "tokenizer.json" in _embedded(place):
            return place
        folder = place if place.is_dir() else place.parent
        for inner in (folder, folder / "tokenizer"):
            if (inner / "tokenizer.json").is_file() or (inner / "vocab.json").is_file():
                return inner
        if place.is_dir() and "tokenizer.json" in _embedded(place / "model.safetensors"):
            return place / "model.safetensors"
    return None


def _embedded(file: Path) -> Tensors:
    """The tokenizer's files inside a safetensors file; none in what is no such file, of which others complain."""
    if file.is_file() and file.suffix == ".safetensors":
        with suppress(ValueError):
            files = without_files(read_header(file))[1]
            return {name: files[name] for name in TOKENIZER if name in files}
    return {}


def open_tokenizer(place: Path | None) -> Any:
    """A fast tokenizer from `tokenizer.json`, or from `vocab.json` and `merges.txt`; with a chat template for pictures.
    `place`: a folder, or a safetensors file with these inside (see `embedded`).

    Its class is fixed: nothing that a folder says can bring in code.

    Raises:
        ValueError: there is none, or its files are damaged.
    """
    if place is None:
        raise ValueError(
            "Qwen2.5-VL's tokenizer was found neither beside the understanding branch nor beside the checkpoint. Name "
            "a folder with its tokenizer.json, or its vocab.json and merges.txt, with --tokenizer; ComfyUI has one in "
            "comfy/text_encoders/qwen25_tokenizer."
        )
    if place.is_dir():
        return _from_folder(place, place)
    with TemporaryDirectory() as folder:
        for name, stored in _embedded(place).items():
            (Path(folder) / name).write_bytes(content_of(stored))
        return _from_folder(Path(folder), place)


def _from_folder(folder: Path, place: Path) -> Any:
    """The tokenizer of a folder; `place` is where a person finds its files."""
    whole = (folder / "tokenizer.json").is_file()
    needed = ("tokenizer_config.json",) if whole else ("merges.txt", "tokenizer_config.json")
    for file in needed:
        if not (folder / file).is_file():
            raise ValueError(f"the tokenizer lacks {file} (looked in {place})")
    try:
        kind: Any = PreTrainedTokenizerFast if whole else Qwen2TokenizerFast
        tokenizer = kind.from_pretrained(folder, local_files_only=True)
        template = tokenizer.chat_template
    except Exception as error:  # the libraries' own errors share no base class
        named = place / ("tokenizer.json" if whole else "vocab.json")
        raise ValueError(f"{named} holds no tokenizer that can be read: {error}") from error
    if not isinstance(template, str) or "<|image_pad|>" not in template:
        if tokenizer.convert_tokens_to_ids("<|im_start|>") != QWENS_IM_START:
            raise ValueError(f"the tokenizer lacks chat_template.jinja (looked in {place})")
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Writes a tokenizer into a folder, for transformers 4 and 5 alike."""
    tokenizer.save_pretrained(folder)
    written = folder / "tokenizer_config.json"  # transformers 5 writes a class name that 4 does not know
    settings = json.loads(written.read_text("utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    written.write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def tokenizer_files(tokenizer: Any) -> dict[str, bytes]:
    """The files of a tokenizer by name, as `save_tokenizer` writes them."""
    with TemporaryDirectory() as folder:
        save_tokenizer(tokenizer, Path(folder))
        return {file.name: file.read_bytes() for file in sorted(Path(folder).iterdir()) if file.name in TOKENIZER}
