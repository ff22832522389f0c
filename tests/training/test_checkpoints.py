"""Checkpoints that are whole or not there, on another number of processes, and after a kill at any time."""

import json
import random
import shutil
import signal
import threading
import time

import pytest
import safetensors.torch
import torch
import torch.distributed as dist

if tuple(int(n) for n in torch.__version__.split(".")[:2]) < (2, 9):
    pytest.skip("checkpoints need torch 2.9", allow_module_level=True)

from toy_training import begin, start

from lightbagel_core.training.checkpoints import Checkpoints


@pytest.fixture
def alone():
    """A process group of this process."""
    start()
    yield
    dist.destroy_process_group()


@pytest.fixture
def tensors():
    return {"w": torch.arange(12.0).view(3, 4), "b": torch.ones(5, dtype=torch.bfloat16), "n": torch.tensor(3.0)}


def zeros(tensors):
    return {name: torch.zeros_like(t) for name, t in tensors.items()}


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("asynchronous", [True, False])
def test_what_was_saved_comes_back(alone, tmp_path, tensors, asynchronous):
    checkpoints = Checkpoints(tmp_path / "run", 2, {"steps": 9})
    assert checkpoints.latest() is None
    checkpoints.save(7, tensors, 12.34, asynchronous)
    assert checkpoints.latest() == 7
    found = zeros(tensors)
    checkpoints.load(7, found)
    assert all(torch.equal(found[name], t) for name, t in tensors.items())
    assert checkpoints.note(7) == {"step": 7, "seconds": 12.3, "torch": torch.__version__, "config": {"steps": 9}}
    assert names(tmp_path / "run") == ["step-00000007"]


def test_no_file_is_a_pickle(alone, tmp_path, tensors):
    checkpoints = Checkpoints(tmp_path, 2)
    checkpoints.save(1, tensors, value=0.5)
    checkpoints.wait()
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert {p.suffix for p in files} == {".safetensors", ".json"}
    for file in files:
        json.loads(file.read_text("utf-8")) if file.suffix == ".json" else safetensors.torch.load_file(file)


def test_later_changes_do_not_reach_an_asynchronous_save(alone, tmp_path, tensors, monkeypatch):
    """Writing is held up until the weights were changed."""
    changed, write = threading.Event(), safetensors.torch.save
    monkeypatch.setattr(safetensors.torch, "save", lambda *a, **k: (changed.wait(20), write(*a, **k))[1])
    checkpoints = Checkpoints(tmp_path, 2)
    before = {name: t.clone() for name, t in tensors.items()}
    checkpoints.save(1, tensors)
    assert checkpoints.steps() == []
    for t in tensors.values():
        t.fill_(-1)
    changed.set()
    checkpoints.wait()
    found = zeros(tensors)
    checkpoints.load(1, found)
    assert all(torch.equal(found[name], t) for name, t in before.items())


def test_a_step_that_is_being_saved_is_not_waited_for(alone, tmp_path, tensors, monkeypatch):
    """As where a validation and a checkpoint fall on one step; the value is that of the first."""
    go, write = threading.Event(), safetensors.torch.save
    monkeypatch.setattr(safetensors.torch, "save", lambda *a, **k: (go.wait(20), write(*a, **k))[1])
    checkpoints = Checkpoints(tmp_path, 2)
    checkpoints.save(1, tensors, value=3.0)
    checkpoints.save(1, tensors)
    assert checkpoints.steps() == []
    go.set()
    assert checkpoints.latest() == 1
    assert checkpoints.best() == (1, 3.0)


def test_the_last_ones_and_the_best_stay(alone, tmp_path, tensors):
    checkpoints = Checkpoints(tmp_path, 2)
    for step, value in enumerate([float("nan"), 3.0, 4.0, 6.0, float("nan"), 3.5]):
        checkpoints.save(step, tensors, value=value)
    checkpoints.wait()
    assert names(tmp_path) == ["step-00000001", "step-00000004", "step-00000005"]
    assert checkpoints.best() == Checkpoints(tmp_path, 2).best() == (1, 3.0)


def test_a_save_that_fails_does_not_cost_the_best(alone, tmp_path, tensors, monkeypatch):
    """A checkpoint is the best when it is there, not when it is asked for."""
    checkpoints = Checkpoints(tmp_path, 1)
    checkpoints.save(1, tensors, value=3.0)
    checkpoints.wait()
    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(ValueError, match="step 2 could not be written"):
            checkpoints.save(2, tensors, value=1.0, asynchronous=False)
    for step in (3, 4):
        checkpoints.save(step, tensors)
    checkpoints.wait()
    assert checkpoints.best() == (1, 3.0)
    assert checkpoints.steps() == [1, 4]


def test_a_checkpoint_that_is_there_gets_its_value_later(alone, tmp_path, tensors):
    checkpoints = Checkpoints(tmp_path, 1)
    checkpoints.save(1, tensors, 12.0)
    checkpoints.save(1, tensors, value=3.0)
    assert checkpoints.best() == (1, 3.0)
    assert checkpoints.note(1)["seconds"] == 12.0


def test_what_a_killed_save_left_is_removed_and_never_seen(alone, tmp_path, tensors):
    for name in (".step-00000009.partial", ".step-00000002.removed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shard-00001-model-00001-of-00001.safetensors").write_bytes(b"half")
    checkpoints = Checkpoints(tmp_path, 2)
    assert names(tmp_path) == []
    assert checkpoints.latest() is None


def test_a_step_that_is_there_already_stays(alone, tmp_path, tensors):
    checkpoints = Checkpoints(tmp_path, 2)
    checkpoints.save(1, tensors)
    checkpoints.save(1, zeros(tensors))
    found = zeros(tensors)
    checkpoints.load(1, found)
    assert torch.equal(found["w"], tensors["w"])


def test_a_step_that_is_not_there_is_said(alone, tmp_path, tensors):
    checkpoints = Checkpoints(tmp_path, 2)
    checkpoints.save(1, tensors)
    with pytest.raises(ValueError, match=r"no checkpoint of step 5 in .*; there are 1"):
        checkpoints.load(5, tensors)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_full_disk_is_said_and_leaves_nothing(alone, tmp_path, tensors, asynchronous):
    """Files may not grow above 100 kB for a while, which fails as a full disk does."""
    resource = pytest.importorskip("resource")
    checkpoints = Checkpoints(tmp_path, 2)
    checkpoints.save(1, tensors)
    checkpoints.wait()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))

    def save():
        checkpoints.save(2, {"w": torch.zeros(1_000_000)}, asynchronous=asynchronous)
        checkpoints.wait()

    try:
        with pytest.raises(ValueError, match=r"step 2 could not be written to .*(File too large|27)"):
            save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["step-00000001"]
    checkpoints.save(2, tensors)
    assert checkpoints.latest() == 2


def test_a_folder_that_cannot_be_written_to_is_said(alone, tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(ValueError, match="checkpoints cannot be written to"):
        Checkpoints(tmp_path / "file" / "run", 2)


def finish(processes, seconds=60.0):
    end = time.monotonic() + seconds
    for process in processes:
        process.join(max(0, end - time.monotonic()))
        process.kill()
    return [process.exitcode for process in processes]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """All tensors at the end of the toy training in one go, by optimiser."""
    found = {}

    def end(optimiser, steps=10):
        if (optimiser, steps) not in found:
            out = tmp_path_factory.mktemp("unbroken")
            assert finish(begin(1, out, optimiser, steps, 1000)) == [0]
            found[optimiser, steps] = safetensors.torch.load_file(out / "final.safetensors")
        return found[optimiser, steps]

    return end


def close(out, expected, error=1e-6):
    found = safetensors.torch.load_file(out / "final.safetensors")
    assert found.keys() == expected.keys()
    for name, t in expected.items():
        assert torch.allclose(found[name], t, rtol=0, atol=error), name


def remove(out, step):
    """Has a run look as if it had been killed before this checkpoint."""
    shutil.rmtree(out / "checkpoints" / f"step-{step:08d}")
    (out / "final.safetensors").unlink()


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", ["adamw", "adamw-8bit"])
@pytest.mark.parametrize(("first", "second"), [(2, 1), (2, 2), (1, 2), (2, 3)])
def test_saved_by_some_processes_and_opened_by_others(tmp_path, unbroken, optimiser, first, second):
    """Ends as if the run had not been broken off after step 6 of 10."""
    if optimiser == "adamw-8bit":
        pytest.importorskip("torchao")
    assert finish(begin(first, tmp_path, optimiser, 10, 6)) == [0] * first
    close(tmp_path, unbroken(optimiser))
    remove(tmp_path, 10)
    assert finish(begin(second, tmp_path, optimiser, 10, 1000)) == [0] * second
    close(tmp_path, unbroken(optimiser))


def reached(out, step, processes):
    """Waits until the run has done so many steps."""
    while not (done := out / "done-0").exists() or int(done.read_text("utf-8") or 0) < step:
        assert all(process.is_alive() for process in processes)
        time.sleep(0.001)


@pytest.mark.slow
@pytest.mark.parametrize("tenth", range(1, 10))
def test_a_kill_loses_at_most_the_steps_since_the_last_checkpoint(alone, tmp_path, unbroken, tenth):
    """30 steps, saved every 3; killed at some time in the three steps after each tenth, also within saves."""
    processes = begin(1, tmp_path, "adamw", 30, 3, 0.04)
    reached(tmp_path, 3 * tenth, processes)
    time.sleep(random.Random(tenth).uniform(0, 0.06))
    processes[0].kill()
    assert finish(processes) == [-signal.SIGKILL]
    done = int((tmp_path / "done-0").read_text("utf-8") or 3 * tenth)
    latest = Checkpoints(tmp_path / "checkpoints", 2).latest() or 0
    assert latest >= done - 6  # the one that was being written is not there yet
    assert latest % 3 == 0
    assert finish(begin(1, tmp_path, "adamw", 30, 3)) == [0]
    close(tmp_path, unbroken("adamw", 30), 0)


@pytest.mark.slow
def test_a_kill_of_two_processes_at_once(tmp_path, unbroken):
    processes = begin(2, tmp_path, "adamw", 30, 3, 0.005)
    reached(tmp_path, 10, processes)
    for process in processes:
        process.kill()
    assert finish(processes) == [-signal.SIGKILL] * 2
    assert finish(begin(2, tmp_path, "adamw", 30, 3)) == [0, 0]
    close(tmp_path, unbroken("adamw", 30))


@pytest.mark.slow
def test_a_request_to_stop_ends_in_a_checkpoint(alone, tmp_path, unbroken):
    processes = begin(1, tmp_path, "adamw", 30, 1000, 0.05)
    reached(tmp_path, 4, processes)
    processes[0].terminate()
    assert finish(processes) == [0]
    done = int((tmp_path / "done-0").read_text("utf-8"))
    assert Checkpoints(tmp_path / "checkpoints", 2).latest() == done
    assert 4 <= done < 30
    assert finish(begin(1, tmp_path, "adamw", 30, 1000)) == [0]
    close(tmp_path, unbroken("adamw", 30), 0)
