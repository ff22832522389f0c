"""What validation draws: checked before training, the same every time, whoever draws it, and all on one sheet."""

from __future__ import annotations

import json
import os
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from lightbagel_core.training import validation_pictures
from lightbagel_core.training.stages import Edit, Validation
from lightbagel_core.training.validation_pictures import Wish, draw, gathered, wishes_of, write_samples

pytest.importorskip("matplotlib")
RED, BLUE = (200, 10, 20), (20, 10, 200)


def known(words: str) -> None:
    if "cat" in words:
        raise ValueError("the nano does not know 'cat'")


def test_sources_are_files_or_sentences(tmp_path):
    Image.new("RGB", (30, 20), RED).save(tmp_path / "a.png")
    (tmp_path / "no_ending").write_bytes((tmp_path / "a.png").read_bytes())
    sources = (str(tmp_path / "a.png"), str(tmp_path / "no_ending"), "a blue star on a grey background")
    asked = Validation(prompts=("a red star",), edits=tuple(Edit(source, "make the star red") for source in sources))
    wishes = wishes_of(asked, known)
    assert [wish.seed for wish in wishes] == [0, 1, 2, 3]
    assert wishes[0].source is None
    assert [wish.source.size for wish in wishes[1:]] == [(30, 20), (30, 20), (128, 128)]
    assert wishes[3].source.getpixel((64, 64)) == (40, 80, 224)
    assert [wish.name for wish in wishes] == ["", *sources]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Validation(prompts=("a star", "a cat")), r"prompts\[1\] cannot be drawn: the nano does not know 'cat'"),
        (Validation(prompts=(" ",)), r"prompts\[0\] cannot be drawn: it is empty"),
        (Validation(edits=(Edit("a red star", "make it a cat"),)), r"edits\[0\].instruction cannot be drawn"),
        (Validation(edits=(Edit("gone.png", "x"),)), r"edits\[0\].source: there is no image file gone.png"),
        (Validation(edits=(Edit("a red dog", "x"),)), r"edits\[0\].source is neither a picture's file nor a sentence"),
    ],
)
def test_what_cannot_be_drawn_is_refused_at_once(asked, said):
    with pytest.raises(ValueError, match=said):
        wishes_of(asked, known)


class Fake:
    """Draws pictures of a colour by the seed, in sizes of their own; fails where it is told to."""

    def generate(self, prompt, seed, progress):
        if prompt == "memory":
            raise torch.OutOfMemoryError
        if prompt == "nan":
            raise ValueError("the picture came out as NaN; use --dtype float32")
        return [Image.new("RGB", (10 + seed, 20), (seed, 1, 2))]

    def edit(self, source, instruction, seed, progress):
        return [Image.new("RGB", source.size, (seed, 3, 4))]


def wishes(*prompts: str):
    return wishes_of(Validation(prompts=prompts, edits=(Edit("a red star", "make the star blue"),)), known)


def test_what_fails_is_a_sentence():
    a, b, c, d = draw(Fake(), wishes("a star", "memory", "nan"))
    assert (a.size, b, c) == ((10, 20), "not enough memory to draw this", "the picture came out as NaN")
    assert d.getpixel((0, 0)) == (3, 3, 4)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_every_process_has_all_pictures(monkeypatch, world):
    """Processes are threads here, which add as processes do."""
    barrier, sums, own = threading.Barrier(world), {}, threading.local()
    lock = threading.Lock()

    def added(values):
        with lock:
            kept = sums.setdefault(own.calls, torch.zeros_like(values))
            kept += values
        barrier.wait()
        own.calls += 1
        return kept.clone()

    monkeypatch.setattr(validation_pictures, "added", added)
    asked = wishes("a star", "nan", "a circle", "größe")
    found: dict = {}

    def process(rank):
        own.calls = 0
        found[rank] = gathered(draw(Fake(), asked, rank, world))

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(world)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)
    expected = draw(Fake(), asked)
    assert len(found) == world
    for pictures in found.values():
        for one, other in zip(pictures, expected, strict=True):
            assert one == other if isinstance(other, str) else np.array_equal(np.asarray(one), np.asarray(other))


def test_one_sheet_holds_all_and_says_what_was_asked(tmp_path):
    asked = wishes("a star", "a circle")
    drawn = [Image.new("RGB", (128, 128), RED), "the picture came out as NaN", Image.new("RGB", (256, 128), BLUE)]
    file = tmp_path / "samples" / "step-00000500.png"
    write_samples(file, asked, drawn, 500, "nano")
    assert os.listdir(file.parent) == [file.name]
    with Image.open(file) as image:
        said = json.loads(image.text["lightbagel"])
        pixels = np.asarray(image.convert("RGB"))
    assert said["step"] == 500
    assert [row["words"] for row in said["asked"]] == ["a star", "a circle", "make the star blue"]
    boxes = {colour: np.argwhere((pixels == colour).all(-1)) for colour in (RED, BLUE)}
    assert np.ptp(boxes[RED], axis=0).tolist() == [381, 381], "all of it but its frame"
    source = np.argwhere((pixels == (222, 40, 40)).all(-1))
    assert source[:, 1].max() < boxes[BLUE][:, 1].min(), "the source stands before its result"
    assert source[:, 0].max() > boxes[BLUE][:, 0].min() - 384, "in one row"


def test_a_sheet_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "sheet.png"
    drawn = [Image.new("RGB", (64, 64), RED)] * 2
    write_samples(file, wishes("a star"), drawn, 1)
    before = file.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match=r"could not write .*sheet.png: No space left"):
        write_samples(file, wishes("a star"), drawn, 2)
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["sheet.png"]


def test_the_model_draws_the_same_every_time(tiny):
    source = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8))
    asked = [Wish("a red star", 0), Wish("a red star", 1), Wish("make the star blue", 0, source, "noise")]
    once, again = (draw(tiny, asked) for _ in range(2))
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(once, again, strict=True))
    assert not np.array_equal(np.asarray(once[0]), np.asarray(once[1]))
