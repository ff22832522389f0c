"""Damaged files: every one ends in a clear error, and memory, mappings and open files are back where they were."""

from __future__ import annotations

import gc
import json
import os
import random
from pathlib import Path

import pytest
import torch
from format_files import float8_scaled, in_blocks, save, save_sharded
from PIL import Image
from tiny import make_tiny

from lightbagel_core.cli.commands import main
from lightbagel_core.files.tensor_files import read, read_any
from lightbagel_core.pipeline import LightBagel

CASES = 1500  # of each random kind


def held() -> tuple[int, int]:
    """(open files, mappings of safetensors files) of this process."""
    gc.collect()
    maps = sum(".safetensors" in line for line in Path("/proc/self/maps").read_text("utf-8").splitlines())
    return len(os.listdir("/proc/self/fd")), maps


def own_memory() -> int:
    """Bytes that are this process's own."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@pytest.fixture(autouse=True)
def nothing_stays():
    before, memory = held(), own_memory()
    yield
    assert held() == before
    assert own_memory() - memory < 100e6


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    tensors = {f"layers.{i}.und_k.weight": torch.randn(3, i + 1) for i in range(6)}
    tensors["layers.0.und_v.weight"] = torch.randn(4, 4).to(torch.float8_e4m3fn)
    return save(tensors, tmp_path_factory.mktemp("whole") / "a.safetensors").read_bytes()


def refused_or_sound(file: Path) -> bool:
    """Whether a file is refused, by a ValueError that names it; if it is not, all it lists can be read."""
    try:
        found = read_any(file)
    except ValueError as error:
        assert str(file) in str(error)  # noqa: PT017
        return True
    size = file.stat().st_size
    for stored in found.values():
        assert stored.offset + stored.bytes <= size
        assert tuple(read(stored).shape) == stored.shape
    return False


def test_cut_files(whole, tmp_path):
    file = tmp_path / "a.safetensors"
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert refused_or_sound(file), length
    file.write_bytes(whole)
    assert not refused_or_sound(file)


def test_random_bytes_in_the_header(whole, tmp_path):
    chance = random.Random(1)
    file, refused = tmp_path / "a.safetensors", 0
    length = int.from_bytes(whole[:8], "little")
    for _ in range(CASES):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(8 + length)] = chance.randrange(256)
        file.write_bytes(data)
        refused += refused_or_sound(file)
    assert refused > 0.8 * CASES


def test_wrong_header_lengths(whole, tmp_path):
    chance = random.Random(2)
    file = tmp_path / "a.safetensors"
    lengths = [0, 1, 2**63, 2**64 - 1, 10**8 + 1, len(whole), len(whole) - 8]
    for length in lengths + [chance.randrange(2 ** chance.randint(1, 64)) for _ in range(CASES)]:
        if length != int.from_bytes(whole[:8], "little"):
            file.write_bytes(length.to_bytes(8, "little") + whole[8:])
            assert refused_or_sound(file), length


def test_tensors_at_odd_places_are_read_all_the_same(whole, tmp_path):
    """Older writers did not align: there a tensor is copied instead of mapped."""
    length = int.from_bytes(whole[:8], "little")
    expected = {name: read(stored) for name, stored in read_any(write(tmp_path / "a.safetensors", whole)).items()}
    for spaces in range(1, 8):
        odd = (length + spaces).to_bytes(8, "little") + whole[8 : 8 + length] + b" " * spaces + whole[8 + length :]
        found = read_any(write(tmp_path / "odd.safetensors", odd))
        assert all(torch.equal(read(stored).float(), expected[name].float()) for name, stored in found.items())


def write(file: Path, data: bytes) -> Path:
    file.write_bytes(data)
    return file


def absurd(chance: random.Random) -> object:
    return chance.choice(
        [
            -1, 0, 2**31, 2**63, 2**64, 10**30, 1.5, None, "12", True, [], {}, [2**40, 2**40], [-1, 3], [[1]], [0],
            ["a"], [1] * 5000, "F99", "U8\x00", "\ud800", {"dtype": "F32"}, [10**6, 10], [3, 10**9],
        ]
    )  # fmt: skip


def test_absurd_headers(whole, tmp_path):
    """Shapes, dtypes and offsets that no file can have."""
    chance = random.Random(3)
    file, refused = tmp_path / "a.safetensors", 0
    length = int.from_bytes(whole[:8], "little")
    fields = json.loads(whole[8 : 8 + length])
    names = [name for name in fields if name != "__metadata__"]
    for _ in range(CASES):
        changed = json.loads(json.dumps(fields))
        kind = chance.choice(["dtype", "shape", "data_offsets", "all", "gone", "twice"])
        name = chance.choice(names)
        if kind == "all":
            changed[name] = absurd(chance)
        elif kind == "gone":
            del changed[name]
        elif kind == "twice":
            changed[f"{name}2"] = changed[name]
        else:
            changed[name][kind] = absurd(chance)
        text = json.dumps(changed).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
        refused += refused_or_sound(file)
    assert refused > 0.95 * CASES


@pytest.mark.parametrize(
    "shard",
    [
        "../secret.safetensors",
        "/etc/passwd",
        "a/../../secret.safetensors",
        "sub/part.safetensors",
        "..\\secret.safetensors",
        "C:\\secret.safetensors",
        "..",
        ".",
        "",
        "part\x00.safetensors",
        "part\n.safetensors",
        "~/part.safetensors",
        "file:///etc/passwd",
        "part.safetensors:stream",
        "nul.safetensors",
        "evil.pt",
        "evil.bin",
        3,
        None,
        ["part.safetensors"],
        {"a": 1},
        True,
    ],
)
def test_indexes_that_point_elsewhere(tmp_path, shard):
    save({"x": torch.ones(1)}, tmp_path / "secret.safetensors")
    folder = tmp_path / "model"
    save({"x": torch.ones(1)}, folder / "part.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": shard}}), "utf-8")
    assert refused_or_sound_index(index)


def refused_or_sound_index(index: Path) -> bool:
    try:
        read_any(index)
    except ValueError as error:
        assert str(index) in str(error) or "pickle" in str(error)  # noqa: PT017
        return True
    return False


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '"a"',
        "{}",
        '{"weight_map": 3}',
        '{"weight_map": []}',
        '{"weight_map": null}',
        '{"weight_map": {"x": "gone.safetensors"}}',
        '{"weight_map": {"y": "part.safetensors"}}',
        '{"weight_map": {"x": "part.safetensors", "x2": "twin.safetensors"}}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "\ufeff{}",
        "\x00" * 100,
    ],
)
def test_damaged_indexes(tmp_path, text):
    for name in ("part", "twin"):
        save({"x": torch.ones(1)}, tmp_path / f"{name}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text, "utf-8")
    assert refused_or_sound_index(index)


@pytest.mark.parametrize("there", [False, True])
def test_ten_thousand_shards(tmp_path, there):
    small = save({"x": torch.ones(1)}, tmp_path / "x.safetensors").read_bytes()
    names = [f"part-{i:05}.safetensors" for i in range(10_000)]
    if there:
        for name in names:
            (tmp_path / name).write_bytes(small)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {f"x{i}": name for i, name in enumerate(names)}}), "utf-8")
    with pytest.raises(ValueError, match="names 10000 files; no model here has more than 1000"):
        read_any(index)


@pytest.fixture(scope="module")
def float8_folder(tmp_path_factory) -> Path:
    """The tiny model's parts, its DiT in float8 with scales."""
    model, folder = make_tiny(), tmp_path_factory.mktemp("tiny") / "model"
    model.save_pretrained(folder)
    save(float8_scaled(model.gen.dit.state_dict(), in_blocks, new=True), folder / "generation.safetensors")
    return folder


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), -float("inf"), 0.0, -1.0])
def test_scales_that_are_none(float8_folder, tmp_path, capsys, scale):
    model = make_tiny()
    named = float8_scaled(model.gen.dit.state_dict(), in_blocks, new=True)
    named["blocks.1.ffn.net.2.weight_scale"] = torch.tensor(scale)
    file = save(named, tmp_path / "bad.safetensors")
    for dtype in (torch.float32, None):
        broken = LightBagel.from_pretrained(float8_folder, "cpu", dtype, components={"generation": file})
        with pytest.raises(ValueError, match=r"bad\.safetensors is damaged: blocks\.1\.ffn\.net\.2\.weight_scale is"):
            broken.need("generation")
    out = tmp_path / "out"
    assert main(["convert", str(out), "--model", str(float8_folder), "--generation", str(file), "--quiet"]) == 2
    assert "which is no scale" in capsys.readouterr().err
    assert not out.exists()


def test_damage_anywhere_in_a_whole_model_is_one_line(float8_folder, tmp_path, capsys):
    """Through the command line: each file of a checkpoint folder in turn cut, emptied, or replaced by noise."""
    chance = random.Random(4)
    cases = 0
    picture = tmp_path / "a.png"
    Image.new("RGB", (64, 64)).save(picture)
    asked = ["describe", str(picture), "--max-new-tokens", "2", "--device", "cpu", "--model", str(float8_folder)]
    assert main(asked) == 0
    capsys.readouterr()
    for file in sorted(float8_folder.iterdir()):
        if file.name in ("special_tokens_map.json", "chat_template.jinja"):
            continue
        good = file.read_bytes()
        damages = [b"", good[: len(good) // 2], chance.randbytes(min(len(good), 4096)), b"{}", b"\x80\x04cos\nsystem\n"]
        for data in damages:
            file.write_bytes(data)
            try:
                code = main(asked)
                text = capsys.readouterr().err
                if (file.name, data) == ("tokenizer_config.json", b"{}"):
                    continue  # nothing in it is needed
                assert code == 2, (file, data[:20])
                assert str(file.parent) in text
                assert len(text.strip().splitlines()) == 1, text
                cases += 1
            finally:
                file.write_bytes(good)
    assert cases >= 30


def test_a_shard_that_vanishes_between_listing_and_reading(tmp_path):
    named = {"a": torch.ones(4), "b": torch.ones(5), "c": torch.ones(6)}
    found = read_any(save_sharded(named, tmp_path, "model"))
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    (tmp_path / "model-00003-of-00003.safetensors").write_bytes(b"short")
    assert read(found["a"]).sum() == 4
    for name in ("b", "c"):
        with pytest.raises(ValueError, match="is damaged or no safetensors file"):
            read(found[name])
