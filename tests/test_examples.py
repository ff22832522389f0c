"""docs/examples: each runs as a person starts it, in a folder of its own, and leaves there what its docstring says."""

from __future__ import annotations

import csv
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightbagel_core.training.config_file import read as read_config
from lightbagel_core.training.data.sets import open_sets
from lightbagel_core.world.scenes import COLOURS

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "docs" / "examples"
RED, BLUE = "a large red circle on the left on a white background", "make the circle blue"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs an example with arguments in an empty folder, which is the result."""

    def example(name: str, *arguments: str) -> Path:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return tmp_path

    monkeypatch.chdir(tmp_path)
    return example


def opened(file: Path) -> Image.Image:
    picture = Image.open(file)
    assert (picture.mode, picture.size) == ("RGB", (96, 96))
    return picture


def most_different(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of two pictures in levels of 0..255."""
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(other)).max())


def table(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_each_example_has_a_test_and_says_how_it_is_run():
    tests = Path(__file__).read_text("utf-8")
    examples = sorted(EXAMPLES.glob("*.py"))
    assert len(examples) == 6
    for example in examples:
        assert f'run("{example.stem}"' in tests
        assert f"    python docs/examples/{example.name}" in example.read_text("utf-8")


def test_none_lies_where_comfyui_would_serve_it_in_place_of_the_workflows():
    """tests/comfy/test_server.py fetches what is served."""
    others = ("example_workflows", "example", "examples", "workflow")
    assert [name for name in others if (ROOT / name).exists()] == []


def test_generate(run, nano, capsys):
    folder = run("generate", "a small green star above a large blue square", "--seed", "4", "--steps", "3")
    expected = nano.generate("a small green star above a large blue square", seed=4, steps=3, progress=False)[0]
    assert most_different(opened(folder / "generated.png"), expected) <= 1
    assert "generated.png, 96x96: a small green star" in capsys.readouterr().out


def test_edit(run, nano, capsys):
    folder = run("edit", "--steps", "8")
    before, after = opened(folder / "before.png"), opened(folder / "after.png")
    assert capsys.readouterr().out == f"before.png: {nano.describe(before)}\nafter.png:  {nano.describe(after)}\n"
    assert nano.describe(before) == RED
    assert nano.describe(after) == RED.replace("red", "blue")


def test_edit_of_a_picture_of_ones_own(run, tmp_path):
    Image.new("RGB", (96, 96), "yellow").save(tmp_path / "mine.png")
    folder = run("edit", "mine.png", "change the background to grey", "--steps", "2")
    assert most_different(opened(folder / "before.png"), Image.open(tmp_path / "mine.png")) == 0
    assert most_different(opened(folder / "after.png"), opened(folder / "before.png")) > 50


def test_a_sampler_of_ones_own_draws_what_the_model_does(run, nano):
    folder = run("own_sampler", "--steps", "5")
    settings = {"solver": "euler", "seed": 3, "steps": 5, "progress": False}
    drawn = opened(folder / "drawn.png")
    assert most_different(drawn, nano.generate(RED, text_guidance=2.0, **settings)[0]) <= 1
    expected = nano.edit(drawn, BLUE, text_guidance=2.0, image_guidance=1.0, **settings)[0]
    assert most_different(opened(folder / "edited.png"), expected) <= 1


def test_describing_a_folder(run, nano, tmp_path, capsys):
    pictures = {f"{colour}.png": Image.new("RGB", (96, 96), colour) for colour in ("white", "yellow", "black")}
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture either", encoding="utf-8")
    folder = run("describe_folder", ".")
    rows = table(folder / "descriptions.csv")
    assert [row["file"] for row in rows] == sorted(pictures)
    assert {row["file"]: row["answer"] for row in rows} == {n: nano.describe(p) for n, p in pictures.items()}
    assert "left out: broken.jpg is not an image" in capsys.readouterr().out


def test_reading_velocities(run, nano):
    rows = table(run("velocities", "--steps", "4", "--guidance", "3") / "velocities.csv")
    times = [float(row["t"]) for row in rows]
    assert len(times) == 4
    assert times == sorted(times, reverse=True)
    assert 0.99 < times[0] <= 1
    context = nano.encode([[nano.text(RED)], [nano.text("")]], 96, 96)
    first, without = nano.velocity(nano.noise(2, 96, 96, 3)[:1].repeat(2, 1, 1, 1), times[0], context)
    expected = 2 * (first - without).norm() / first.norm()  # (3 - 1) times what the words change
    assert float(rows[0]["moved"]) == pytest.approx(float(expected), rel=1e-2)
    assert float(rows[0]["length"]) == pytest.approx(float(first.square().mean().sqrt()), rel=1e-2)


def test_guidance_of_1_moves_nothing(run):
    rows = table(run("velocities", "--steps", "2", "--guidance", "1") / "velocities.csv")
    assert [float(row["moved"]) for row in rows] == [pytest.approx(0, abs=1e-5)] * 2


def test_twenty_pictures_are_sets_that_look_toml_trains_on(run, capsys):
    folder = run("twenty_pictures", "pictures")
    assert "20 pictures in pictures/look, 400 in pictures/replay" in capsys.readouterr().out.replace("\\", "/")
    (stage,) = read_config(EXAMPLES / "look.toml")
    look, replay, edits = open_sets(stage)
    assert (look.count, replay.count, edits.count) == (20, 400, None)
    assert not any("background" in text.read_text("utf-8") for text in (folder / "pictures" / "look").glob("*.txt"))
    assert np.median(np.asarray(look[0].turns[0].target)[:2]) < 60
    named = re.compile(rf"background$| on ({'|'.join(COLOURS)})$|black")
    assert all(named.search(text.read_text("utf-8").strip()) for text in (folder / "pictures" / "replay").glob("*.txt"))
