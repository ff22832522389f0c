"""Tensors in files whose bytes are written by hand: what is listed, read, mapped and cut into pieces."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from format_files import save_sharded

from lightbagel_core.files import tensor_files
from lightbagel_core.files.tensor_files import (
    check_fit,
    chunks,
    find,
    listed,
    read,
    read_any,
    read_header,
    read_rows,
    sha256,
)

NUMBERS = [1.5, -2.0, 0.25, 3.0, -0.5, 100.0]


def by_hand(file: Path) -> Path:
    """Two tensors: F32 [2, 3], then BF16 [2], 1.0 and -2.0; a comment in the header."""
    fields = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "BF16", "shape": [2], "data_offsets": [24, 28]},
    }
    header = json.dumps(fields).encode()
    header += b" " * (-len(header) % 8)
    data = struct.pack("<6f", *NUMBERS) + struct.pack("<2H", 0x3F80, 0xC000)
    file.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return file


def test_a_header_says_names_shapes_dtypes_and_places(tmp_path):
    file = by_hand(tmp_path / "x.safetensors")
    found = read_header(file)
    assert list(found) == ["a", "b"]
    assert [(t.shape, t.dtype, t.bytes) for t in found.values()] == [
        ((2, 3), torch.float32, 24),
        ((2,), torch.bfloat16, 4),
    ]
    size = file.stat().st_size
    assert [t.offset for t in found.values()] == [size - 28, size - 4]
    assert read(found["a"]).tolist() == [NUMBERS[:3], NUMBERS[3:]]
    assert read(found["b"]).tolist() == [1.0, -2.0]


@pytest.mark.parametrize("size", [4, 8, 12, 16, 1000])
def test_pieces_are_the_whole_in_order_and_no_larger(tmp_path, size):
    stored = read_header(by_hand(tmp_path / "x.safetensors"))["a"]
    pieces = list(chunks(stored, size))
    assert torch.cat(pieces).tolist() == NUMBERS
    assert max(piece.nbytes for piece in pieces) <= size
    assert len(pieces) == max(1, -(-24 // size))


def test_of_some_rows_no_other_byte_is_read(tmp_path, monkeypatch):
    held = read_header(by_hand(tmp_path / "x.safetensors"))
    read_bytes = []
    mapped = tensor_files._mapped
    monkeypatch.setattr(
        tensor_files, "_mapped", lambda s, at, count: read_bytes.append(4 * count) or mapped(s, at, count)
    )
    assert read_rows(held["a"], 1, 2).tolist() == [NUMBERS[3:]]
    assert read_rows(held["b"], 0, 1).tolist() == [1.0]
    assert read_rows(held["a"], 2, 2).shape == (0, 3)
    assert read_bytes == [12, 4]
    turned = replace(held["a"], shape=(3, 2), rework=lambda x: x.T)
    assert read_rows(turned, 1, 3).tolist() == [[-2.0, -0.5], [0.25, 100.0]]


def test_a_tensor_is_its_place_in_the_file_but_never_writes_to_it(tmp_path):
    file = by_hand(tmp_path / "x.safetensors")
    before = file.read_bytes()
    tensor = read(read_header(file)["a"])
    maps = Path("/proc/self/maps")
    assert str(file) in maps.read_text(encoding="utf-8")
    tensor.mul_(2)
    assert tensor.flatten().tolist() == [2 * x for x in NUMBERS]
    assert file.read_bytes() == before
    del tensor
    assert str(file) not in maps.read_text(encoding="utf-8")


def test_a_file_that_changed_after_it_was_listed_is_not_read(tmp_path):
    stored = read_header(by_hand(tmp_path / "x.safetensors"))["a"]
    (tmp_path / "x.safetensors").unlink()
    by_hand(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"x\.safetensors is damaged.*replaced or changed after it was opened"):
        read(stored)


def test_a_sharded_set_is_read_as_one(tmp_path):
    tensors = {f"t{i}": torch.arange(i + 1, dtype=torch.float32) for i in range(5)}
    found = read_any(save_sharded(tensors, tmp_path, "model"))
    assert found.keys() == tensors.keys()
    assert {t.file.name for t in found.values()} == {f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)}
    for name, tensor in tensors.items():
        assert torch.equal(read(found[name]), tensor)


def test_the_first_name_that_is_there_is_found(tmp_path):
    assert find(tmp_path, "ema", "model") is None
    (tmp_path / "model.safetensors").touch()
    assert find(tmp_path, "ema", "model") == tmp_path / "model.safetensors"
    (tmp_path / "ema.safetensors.index.json").touch()
    assert find(tmp_path, "ema", "model") == tmp_path / "ema.safetensors.index.json"


def test_misfits_are_named_together(tmp_path):
    found = read_header(by_hand(tmp_path / "x.safetensors"))
    check_fit(found, {"a": (2, 3), "b": (2,)}, "it")
    with pytest.raises(
        ValueError, match=r"^it does not fit the config\. missing: c; unexpected: b; wrong shape: a \[2, 3\] instead of"
    ):
        check_fit(found, {"a": (3, 2), "c": (1,)}, "it")


def test_long_lists_are_cut():
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(i) for i in range(11)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 3 more"


def test_checksums(tmp_path, monkeypatch):
    file = tmp_path / "x"
    file.write_bytes(bytes(range(256)) * 1000)
    assert sha256(file) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert sha256(file, lambda: True) == hashlib.sha256(b"").hexdigest()  # nobody wants it any more


@pytest.mark.parametrize("ending", [".pt", ".bin", ".CKPT"])
def test_pickles_are_refused_by_their_names(tmp_path, ending):
    file = (tmp_path / "x").with_suffix(ending)
    with pytest.raises(ValueError, match="can run any code"):
        tensor_files.refuse_pickle(file)
    tensor_files.refuse_pickle(tmp_path / "x.safetensors")
