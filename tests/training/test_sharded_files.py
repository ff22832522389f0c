"""Files that do not fit, are damaged, or lie where one process does not see them."""

import importlib
import json
import warnings

import pytest
import safetensors.torch
import torch
import torch.distributed as dist

if tuple(int(n) for n in torch.__version__.split(".")[:2]) < (2, 9):
    pytest.skip("checkpoints need torch 2.9", allow_module_level=True)

from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

from lightbagel_core.training import sharded_files


@pytest.fixture
def group():
    """A process group of this process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


@pytest.fixture
def tensors():
    return {"w": torch.arange(12.0).view(3, 4), "b": torch.ones(5, dtype=torch.bfloat16), "n": torch.tensor(3.0)}


def write(folder, tensors, group, asynchronous=False):
    finished = []
    future = sharded_files.write(folder, tensors, group, lambda: finished.append(True), asynchronous)
    if asynchronous:
        sharded_files.finish(future)
    assert finished == [True]


@pytest.mark.parametrize("asynchronous", [True, False])
def test_files_are_plain_safetensors(group, tmp_path, tensors, asynchronous):
    write(tmp_path, tensors, group, asynchronous)
    (file,) = tmp_path.iterdir()
    found = safetensors.torch.load_file(file)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], t) for name, t in tensors.items())


@pytest.mark.parametrize("asynchronous", [True, False])
def test_one_process_speaks_to_nobody(group, tmp_path, tensors, asynchronous, monkeypatch):
    """Threads that gloo starts for it would slow down those that train, for good; and torch does not warn of it."""

    def spoken(*_, **__):
        raise AssertionError("a collective in one process alone")

    warnings.simplefilter("error")
    importlib.reload(sharded_files)  # pytest has every test begin with filters of its own
    for name in ("gather_object", "scatter_object_list", "broadcast_object_list", "all_gather_object", "broadcast"):
        monkeypatch.setattr(dist, name, spoken)
    write(tmp_path, tensors, group, asynchronous)
    found = {name: torch.zeros_like(t) for name, t in tensors.items()}
    sharded_files.read(tmp_path, found, group)
    assert all(torch.equal(found[name], t) for name, t in tensors.items())


def test_tensors_that_do_not_fit_are_named(group, tmp_path, tensors):
    write(tmp_path, tensors, group)
    wrong = {"w": torch.zeros(4, 3), "b": torch.zeros(5), "new": torch.zeros(2)}
    with pytest.raises(ValueError, match="does not fit this training") as error:
        sharded_files.read(tmp_path, wrong, group)
    for said in (
        "it lacks new",
        "it has n, which is not trained here",
        "w is [3, 4], here [4, 3]",
        "b is torch.bfloat16, here torch.float32",
    ):
        assert said in str(error.value)
    assert not any(t.any() for t in wrong.values())


def test_a_damaged_file_is_said(group, tmp_path, tensors):
    write(tmp_path, tensors, group)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ValueError, match="is damaged"):
        sharded_files.read(tmp_path, tensors, group)


def test_a_part_whose_file_is_missing_is_said(group, tmp_path):
    """A process's file holds its rows, and where they begin."""
    for number, first, rows in ((1, 0, 1), (2, 1, 2)):
        place = {"DCP_SHARDING_INFO": json.dumps({"w": {"saved_offsets": [first, 0]}})}
        file = tmp_path / f"shard-0000{number}-model-00001-of-00001.safetensors"
        safetensors.torch.save_file({"w": torch.full((rows, 4), float(number))}, file, place)
    found = {"w": torch.zeros(3, 4)}
    sharded_files.read(tmp_path, found, group)
    assert found["w"][:, 0].tolist() == [1, 2, 2]
    (tmp_path / "shard-00001-model-00001-of-00001.safetensors").unlink()
    with pytest.raises(ValueError, match="w is there in part only: a file is missing"):
        sharded_files.read(tmp_path, found, group)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_files_that_one_process_does_not_see_are_said(group, tmp_path, tensors, monkeypatch, asynchronous):
    """As when each machine has a disk of its own under the folder's name."""
    original = HuggingFaceStorageWriter.write_data

    def elsewhere(self, *args):
        found = original(self, *args)
        for file in tmp_path.iterdir():
            file.unlink()
        return found

    monkeypatch.setattr(HuggingFaceStorageWriter, "write_data", elsewhere)
    with pytest.raises(sharded_files.Failed, match="on another machine; use a folder that all of them see"):
        write(tmp_path, tensors, group, asynchronous)
