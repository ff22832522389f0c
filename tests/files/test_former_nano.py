"""Checkpoints of the former nano still open: 128 pixels, another vocabulary, fusion of 2 heads x 128.

former_nano/ holds its config and tokenizer as they shipped; the weights here are random.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tiny import make_tiny

from lightbagel_core.files.formats import read_config
from lightbagel_core.files.tokenizer import open_tokenizer
from lightbagel_core.pipeline import LightBagel

FORMER = Path(__file__).parent / "former_nano"
TENSORS = {  # the beginning of a checksum of the names and shapes in each of its files
    "understanding": "87d6c239251cd7b8",
    "generation": "3bd091df1890b5de",
    "fusion": "ad93c056378a95e2",
    "vae": "5c95989a9843291d",
}


@pytest.fixture(scope="module")
def former(tmp_path_factory) -> Path:
    """A checkpoint folder like the former nano's."""
    folder = tmp_path_factory.mktemp("former") / "nano"
    make_tiny(read_config(FORMER / "config.json"), open_tokenizer(FORMER)).save_pretrained(folder, torch.float16)
    shutil.copytree(FORMER, folder, dirs_exist_ok=True)
    return folder


def checksum(file: Path) -> str:
    with safe_open(file, "pt") as tensors:
        lines = [f"{name} {tensors.get_slice(name).get_shape()}" for name in sorted(tensors.keys())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def test_its_tensors_are_those_of_the_former_files(former):
    assert {name: checksum(former / f"{name}.safetensors") for name in TENSORS} == TENSORS


def test_it_draws_and_edits_pictures_of_its_own_size(former):
    model = LightBagel.from_pretrained(former, "cpu")
    (drawn,) = model.generate("a large red circle on the left on a white background", steps=1, progress=False)
    assert drawn.size == (128, 128)
    (edited,) = model.edit(drawn, "make the circle blue", steps=1, progress=False)
    assert edited.size == (128, 128)
    with pytest.raises(ValueError, match="does not know: purple"):
        model.text("a purple circle")
