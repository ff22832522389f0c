"""The writer of checkpoint folders: what it writes opens, and a folder appears whole or not at all, on Windows too."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import make_tiny, tiny_config

from lightbagel_core.files import writer
from lightbagel_core.files.formats import open_model, read_config
from lightbagel_core.files.writer import Entry, write_checkpoint


def entry(name: str, *tensors: torch.Tensor) -> Entry:
    """Several tensors that are written in one go, each in two pieces."""
    named = tuple((f"{name}{i}", t.dtype, tuple(t.shape)) for i, t in enumerate(tensors))
    return Entry(named, lambda: (piece for t in tensors for piece in t.flatten().tensor_split(2)))


TENSORS = [
    (torch.arange(6.0).view(2, 3), torch.tensor(3.0)),
    (torch.arange(5, dtype=torch.int64), torch.empty(0, 4), torch.tensor([True, False])),
    (torch.arange(-4.0, 4).to(torch.float8_e4m3fn), torch.ones(3, dtype=torch.bfloat16)),
]
ENTRIES = {"fusion": [entry(f"x{i}.", *tensors) for i, tensors in enumerate(TENSORS)]}


def write(folder: Path, **options) -> None:
    write_checkpoint(folder, ENTRIES, tiny_config(), None, **options)


@pytest.mark.parametrize("shard", [1, 60, writer.SHARD])
def test_the_library_reads_what_is_written(tmp_path, shard):
    write(tmp_path / "new", shard=shard, about=lambda: {"said": "last"})
    files = sorted((tmp_path / "new").glob("*.safetensors"))
    assert len(files) == {1: 3, 60: 2}.get(shard, 1)
    read = {name: tensor for file in files for name, tensor in load_file(file).items()}
    wanted = {f"x{i}.{j}": tensor for i, tensors in enumerate(TENSORS) for j, tensor in enumerate(tensors)}
    assert read.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert read[name].dtype == tensor.dtype
        assert read[name].shape == tensor.shape
        assert torch.equal(read[name].float(), tensor.float())
    config = read_config(tmp_path / "new" / "config.json")
    assert config.metadata == tiny_config().metadata | {"said": "last"}


def test_a_saved_model_in_shards_opens_again(tmp_path, monkeypatch):
    monkeypatch.setattr(write_checkpoint, "__kwdefaults__", write_checkpoint.__kwdefaults__ | {"shard": 100_000})
    make_tiny().save_pretrained(tmp_path / "tiny")
    assert len(list((tmp_path / "tiny").glob("*.index.json"))) == 4
    assert len(open_model(tmp_path / "tiny").files) > 8


def test_files_are_readable_by_whom_the_user_lets(tmp_path):
    write(tmp_path / "new")
    (tmp_path / "plain").touch()
    assert {f.stat().st_mode for f in (tmp_path / "new").iterdir()} == {(tmp_path / "plain").stat().st_mode}


def test_a_piece_that_fails_leaves_nothing_or_what_can_be_resumed(tmp_path):
    def fails():
        raise OSError(5, "Input/output error")
        yield

    broken = {"fusion": [*ENTRIES["fusion"], Entry((("y", torch.float32, (1,)),), fails)]}
    for sources, left in ((None, []), ([1], [".new.writing", ".new.writing.json"])):
        with pytest.raises(ValueError, match=r"could not write .*new: .*Input/output error"):
            write_checkpoint(tmp_path / "new", broken, tiny_config(), None, sources=sources, shard=60)
        assert sorted(f.name for f in tmp_path.iterdir()) == left
    write(tmp_path / "new", sources=[1])  # other entries: nothing of the former is kept
    assert sorted(f.name for f in (tmp_path / "new").iterdir()) == ["config.json", "fusion.safetensors"]
    assert [f.name for f in tmp_path.iterdir()] == ["new"]


def test_a_save_that_was_killed_is_not_resumed(tmp_path):
    """Weights in memory have no name to know them by: those of another model might be left."""
    (tmp_path / ".new.writing").mkdir()
    (tmp_path / ".new.writing" / "fusion.safetensors").write_bytes(b"another's")
    (tmp_path / ".new.writing.json").write_bytes(b"null")
    write(tmp_path / "new")
    assert len(load_file(tmp_path / "new" / "fusion.safetensors")) == 7
    assert [f.name for f in tmp_path.iterdir()] == ["new"]


# --- as Windows behaves --------------------------------------------------------------------------------------------


def in_use(path: Path) -> PermissionError:
    """What Windows raises over a file that a program has open or mapped: WinError 32 comes as EACCES."""
    return PermissionError(
        13, "The process cannot access the file because it is being used by another process", str(path)
    )


def test_a_folder_in_use_stays_and_the_message_says_what_to_do(tmp_path, monkeypatch):
    write(tmp_path / "new", about=lambda: {"said": "first"})
    rename = Path.rename

    def denied(self, target):
        if self.name == "new":
            raise in_use(self)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", denied)
    with pytest.raises(ValueError, match=r"used by another process.*open from there must close it first, or"):
        write(tmp_path / "new", about=lambda: {"said": "second"})
    assert read_config(tmp_path / "new" / "config.json").metadata["said"] == "first"
    assert [f.name for f in tmp_path.iterdir()] == ["new"]


def test_an_old_folder_that_cannot_be_deleted_does_no_harm(tmp_path, monkeypatch):
    write(tmp_path / "new", about=lambda: {"said": "first"})
    rmtree = shutil.rmtree

    def denied(path, ignore_errors=False):
        if Path(path).name != ".new.old":
            rmtree(path, ignore_errors=ignore_errors)
        elif not ignore_errors:
            raise in_use(path)

    with monkeypatch.context() as patch:
        patch.setattr(writer.shutil, "rmtree", denied)
        write(tmp_path / "new", about=lambda: {"said": "second"})
    assert read_config(tmp_path / "new" / "config.json").metadata["said"] == "second"
    write(tmp_path / "new", about=lambda: {"said": "third"})
    assert [f.name for f in tmp_path.iterdir()] == ["new"]


def test_a_lock_that_cannot_be_deleted_while_it_is_held(tmp_path, monkeypatch):
    unlink = Path.unlink

    def denied(self, missing_ok=False):
        if self.name.endswith(".lock"):
            raise in_use(self)
        unlink(self, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", denied)
        write(tmp_path / "new")
    write(tmp_path / "new")
