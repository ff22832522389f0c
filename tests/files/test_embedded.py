"""Small files among a file's tensors."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from lightbagel_core.files import embedded
from lightbagel_core.files.embedded import as_tensor, content_of, without_files
from lightbagel_core.files.tensor_files import read_header


def test_files_come_out_as_they_went_in(tmp_path):
    """Whatever stands before their names; a tensor that only bears such a name stays one."""
    texts = {"a.b.config.json": b"{}", "tokenizer.json": bytes(range(256)), "x.chat_template.jinja": b""}
    tensors = {name: as_tensor(text) for name, text in texts.items()}
    tensors |= {"tokenizer_config.json": torch.zeros(3), "xconfig.json": as_tensor(b"{}"), "weight": torch.zeros(2)}
    save_file(tensors, tmp_path / "a.safetensors")
    weights, files = without_files(read_header(tmp_path / "a.safetensors"))
    assert weights.keys() == {"tokenizer_config.json", "xconfig.json", "weight"}
    assert {name: content_of(stored) for name, stored in files.items()} == {
        "config.json": b"{}",
        "tokenizer.json": bytes(range(256)),
        "chat_template.jinja": b"",
    }


def test_one_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    save_file({"config.json": as_tensor(b"{}" * 20)}, tmp_path / "a.safetensors")
    (stored,) = without_files(read_header(tmp_path / "a.safetensors"))[1].values()
    monkeypatch.setattr(embedded, "LIMIT", 39)
    with pytest.raises(ValueError, match=r"its config\.json has 40 bytes, 39 at most"):
        content_of(stored)
