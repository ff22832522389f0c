"""What the command's words name, and the sentences it answers a mistake with."""

from __future__ import annotations

import argparse

import pytest
from PIL import Image

from lightbagel_core.training.command import add_arguments, command, stages_of


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def test_a_preset_with_steps_and_overrides():
    stages = stages_of(parsed("--preset", "nano", "--steps", "7", "seed=5", "optimiser.lr=1e-2"))
    assert [stage.name for stage in stages] == ["vlm", "vae", "dit"]
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
