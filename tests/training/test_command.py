"""What the command's words name, and the sentences it answers a mistake with."""

from __future__ import annotations

import argparse

import pytest
import torch
from PIL import Image

from lightbagel_core.training import running
from lightbagel_core.training.command import STOPPED, add_arguments, command, stages_of


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def test_a_preset_with_steps_and_overrides():
    stages = stages_of(parsed("--preset", "nano", "--steps", "7", "seed=5", "optimiser.lr=1e-2"))
    assert [stage.name for stage in stages] == ["vlm", "language", "vae", "decoder", "dit"]
    assert {(stage.steps, stage.seed, stage.optimiser.lr) for stage in stages} == {(7, 5, 1e-2)}


def test_a_file_and_overrides_in_any_order(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("steps = 3\n", "utf-8")
    assert [stage.seed for stage in stages_of(parsed("seed=4", str(file)))] == [4]


@pytest.mark.parametrize("words", [(), ("a.toml", "b.toml"), ("a.toml", "--preset", "nano")])
def test_one_config_is_needed(words):
    with pytest.raises(ValueError, match="one config"):
        stages_of(parsed(*words))


def test_a_folder_is_needed_unless_nothing_is_trained():
    with pytest.raises(ValueError, match="--out DIR"):
        command(parsed("--preset", "nano"))


def test_a_dry_run_takes_a_folder_for_granted_only_where_there_is_none(tmp_path, capsys):
    """One that is there and incomplete would stop the run itself."""
    asked = ("--preset", "single-card-lora", "--dry-run", f"data.sets.pictures.path={tmp_path / 'mine'}")
    assert command(parsed(*asked)) == 0
    assert "* not read yet" in capsys.readouterr().out
    (tmp_path / "mine").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "mine" / "cat.png")
    with pytest.raises(ValueError, match=r"mine cannot be learned from: there is no cat\.txt"):
        command(parsed(*asked))
    (tmp_path / "mine" / "cat.txt").write_text("a cat", "utf-8")
    assert command(parsed(*asked)) == 0
    assert "not read yet" not in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--devices", "--card", "--rate"])
def test_what_only_the_dry_run_asks_for_is_refused_without_it(option, tmp_path):
    with pytest.raises(ValueError, match=f"{option}: only --dry-run"):
        command(parsed("--preset", "nano", "--out", str(tmp_path), option, "2"))


@pytest.mark.parametrize(("ended", "status"), [(True, 0), (False, STOPPED)])
def test_a_run_that_was_stopped_before_its_end_has_a_status_of_its_own(monkeypatch, tmp_path, ended, status):
    monkeypatch.setattr(running, "run", lambda *_: ended)
    assert command(parsed("--preset", "nano", "--out", str(tmp_path))) == status


def test_what_the_machine_cannot_do_is_said_in_the_trainings_words(monkeypatch, tmp_path):
    from torch._dynamo.exc import BackendCompilerFailed

    failures = {
        MemoryError(): "batch.device_tokens=",
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB"): "batch.device_tokens=",
        BackendCompilerFailed("inductor", ValueError("no C++"), None): "compile=false",
        RuntimeError("[gloo/transport/tcp/pair.cc:1] Connection closed by peer"): "another process",
    }

    def fail(error):
        raise error

    for error, said in failures.items():
        monkeypatch.setattr(running, "run", lambda *_, error=error: fail(error))
        with pytest.raises(ValueError, match=said) as told:
            command(parsed("--preset", "nano", "--out", str(tmp_path)))
        assert "--offload" not in str(told.value)
        assert "--compile" not in str(told.value)


def test_a_fault_of_the_programs_own_is_not_dressed_up(monkeypatch, tmp_path):
    monkeypatch.setattr(running, "run", lambda *_: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):
        command(parsed("--preset", "nano", "--out", str(tmp_path)))
