"""A run's folder is taken once; resuming it asks for the same; one run at a time is in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from lightbagel_core.training.checkpoints import Checkpoints as Kept
from lightbagel_core.training.claim import FILE, claim
from lightbagel_core.training.data.sets import identity, open_sets
from lightbagel_core.training.parallel import start, stop
from lightbagel_core.training.stages import Batch, Checkpoints, Data, DataSet, Optimiser, Stage, Validation


def take(out, *stages: Stage, resume: bool = True) -> None:
    """Takes a folder and lets it go."""
    with claim(out, stages, resume):
        pass


def test_a_folder_is_taken_once_and_gone_on_with_by_the_same_run(tmp_path):
    stages = [Stage(name="a"), Stage(name="b", seed=2)]
    with pytest.raises(ValueError, match="no run to go on with"):
        take(tmp_path / "out", *stages)
    take(tmp_path / "out", *stages, resume=False)
    with pytest.raises(ValueError, match="add --resume"):
        take(tmp_path / "out", *stages, resume=False)
    take(tmp_path / "out", *stages)


def test_what_changes_what_is_learned_is_named(tmp_path):
    take(tmp_path, Stage(name="a"), resume=False)
    other = Stage(name="a", optimiser=Optimiser(eps=1.0), seed=3)
    with pytest.raises(ValueError, match=r"optimiser.eps was 1e-15, now it is 1.0; seed was 1, now it is 3"):
        take(tmp_path, other)
    with pytest.raises(ValueError, match=r"its stages are \['a'\], not \['b'\]"):
        take(tmp_path, Stage(name="b"))


def test_how_often_and_how_long_may_differ(tmp_path):
    take(tmp_path, Stage(name="a"), resume=False)
    take(tmp_path, replace(Stage(name="a"), steps=5, checkpoints=Checkpoints(every=1), compile=True))
    take(tmp_path, replace(Stage(name="a"), validation=Validation(every=7)))
    take(tmp_path, replace(Stage(name="a"), batch=Batch(samples=64, device_tokens=9)))
    with pytest.raises(ValueError, match=r"validation.held_out was 0, now it is 7"):
        take(tmp_path, replace(Stage(name="a"), validation=Validation(held_out=7)))


def test_which_weights_come_out_may_differ(tmp_path):
    stage = Stage(name="a", validation=Validation(every=5, held_out=2))
    take(tmp_path, stage, resume=False)
    take(tmp_path, replace(stage, output="trained", output_from="best"))


def test_how_long_may_not_differ_where_it_says_what_the_learning_rate_is(tmp_path):
    cosine = Stage(steps=5, optimiser=Optimiser(schedule="cosine"))
    take(tmp_path, cosine, resume=False)
    with pytest.raises(ValueError, match="steps was 5, now it is 9: a cosine over others has other learning rates"):
        take(tmp_path, replace(cosine, steps=9))
    take(tmp_path, cosine)


def picture(folder: Path, name: str, size: int = 8, level: int = 0) -> None:
    Image.new("RGB", (size, size), (level, 0, 0)).save(folder / f"{name}.png")
    (folder / f"{name}.txt").write_text(name, "utf-8")


@pytest.fixture
def drawn(tmp_path) -> Stage:
    """A stage that a run in `out` has begun with, on two pictures in `data`."""
    data = tmp_path / "data"
    data.mkdir()
    picture(data, "one")
    picture(data, "two")
    stage = Stage(name="a", data=Data((DataSet("folder", path=str(data)),)))
    take(tmp_path / "out", stage, resume=False)
    take(tmp_path / "out", stage)
    return stage


@pytest.mark.parametrize(
    "change",
    [
        lambda data: picture(data, "three"),
        lambda data: [file.rename(file.with_stem("zero")) for file in data.glob("two.*")],
        lambda data: picture(data, "two", size=9),
        lambda data: (data / "two.txt").write_text("something else", "utf-8"),
    ],
    ids=["came", "renamed", "other size", "other text"],
)
def test_pictures_that_came_or_changed_are_said(tmp_path, drawn, change):
    change(tmp_path / "data")
    message = "the pictures of the stage a, their sizes or their texts are not those it began with"
    with pytest.raises(ValueError, match=message):
        take(tmp_path / "out", drawn)


def test_a_damaged_picture_can_be_replaced(tmp_path, drawn):
    """By one of the same size; what was read of the folder is then made anew, since its identity is another."""
    before = identity(open_sets(drawn))
    picture(tmp_path / "data", "two", level=200)
    take(tmp_path / "out", drawn)
    assert identity(open_sets(drawn)) != before


def test_a_run_that_goes_on_is_not_disturbed_by_a_second_one(tmp_path):
    """Whose checkpoints would remove what the first one is writing."""
    take(tmp_path, Stage(), resume=False)
    partial = tmp_path / "train" / "checkpoints" / ".step-00000002.partial"

    def second() -> None:
        start(Stage(device="cpu"))
        try:
            with claim(tmp_path, [Stage()], resume=True):
                Kept(partial.parent, 1)
        finally:
            stop()

    with claim(tmp_path, [Stage()], resume=True):
        partial.mkdir(parents=True)
        with pytest.raises(ValueError, match=r"another run is writing to .* now"):
            second()
        assert partial.is_dir()
    second()
    assert not partial.exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="holds other files"):
        take(tmp_path, Stage(), resume=False)
    assert [file.name for file in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_damaged_file_is_said(tmp_path):
    (tmp_path / FILE).write_text("{", "utf-8")
    with pytest.raises(ValueError, match="damaged"):
        take(tmp_path, Stage())
