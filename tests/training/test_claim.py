"""A run's folder is taken once; resuming it asks for the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lightbagel_core.training.claim import FILE, claim
from lightbagel_core.training.stages import Checkpoints, Optimiser, Stage, Validation


def test_a_folder_is_taken_once_and_gone_on_with_by_the_same_run(tmp_path):
    stages = [Stage(name="a"), Stage(name="b", seed=2)]
    with pytest.raises(ValueError, match="no run to go on with"):
        claim(tmp_path / "out", stages, resume=True)
    claim(tmp_path / "out", stages, resume=False)
    with pytest.raises(ValueError, match="add --resume"):
        claim(tmp_path / "out", stages, resume=False)
    claim(tmp_path / "out", stages, resume=True)


def test_what_changes_what_is_learned_is_named(tmp_path):
    claim(tmp_path, [Stage(name="a")], resume=False)
    other = Stage(name="a", optimiser=Optimiser(eps=1.0), seed=3)
    with pytest.raises(ValueError, match=r"optimiser.eps was 1e-15, now it is 1.0; seed was 1, now it is 3"):
        claim(tmp_path, [other], resume=True)
    with pytest.raises(ValueError, match=r"its stages are \['a'\], not \['b'\]"):
        claim(tmp_path, [Stage(name="b")], resume=True)


def test_how_often_and_how_long_may_differ(tmp_path):
    claim(tmp_path, [Stage(name="a")], resume=False)
    claim(
        tmp_path,
        [
            replace(
                Stage(name="a"), steps=5, checkpoints=Checkpoints(every=1), compile=True, optimiser=Optimiser(lr=1e-6)
            )
        ],
        resume=True,
    )
    claim(tmp_path, [replace(Stage(name="a"), validation=Validation(every=7))], resume=True)
    with pytest.raises(ValueError, match=r"validation.held_out was 0, now it is 7"):
        claim(tmp_path, [replace(Stage(name="a"), validation=Validation(held_out=7))], resume=True)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="holds other files"):
        claim(tmp_path, [Stage()], resume=False)
    assert [file.name for file in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_damaged_file_is_said(tmp_path):
    (tmp_path / FILE).write_text("{", "utf-8")
    with pytest.raises(ValueError, match="damaged"):
        claim(tmp_path, [Stage()], resume=True)
