"""What the judged benches share."""

from __future__ import annotations

import json
import os
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lightbagel_core.evaluation import results
from lightbagel_core.evaluation.items import Item, Source
from lightbagel_core.evaluation.results import SMALL, Outcome, drawn, is_drawn, left_out, png, png_of, worst, write_text


def item(name: str = "a", **more) -> Item:
    return Item(name, "g", (f"draw {name}",), ((PurePosixPath(f"{name}.png"),),), **more)


def test_a_judge_gets_the_pixels_and_nothing_of_what_was_written_beside_them(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    text = PngInfo()
    text.add_text("lightbagel", json.dumps({"prompt": "secret words"}))
    picture = Image.fromarray(pixels)
    picture.info["icc_profile"] = b"secret words"
    picture.save(tmp_path / "a.png", pnginfo=text)
    assert b"secret words" in (tmp_path / "a.png").read_bytes()
    sent = png_of(drawn(tmp_path, item()))()
    assert b"secret" not in sent
    assert {sent[i + 4 : i + 8] for i in range(len(sent)) if sent[i + 4 : i + 8].isalpha()} >= {b"IHDR", b"IEND"}
    assert all(chunk not in sent for chunk in (b"tEXt", b"iTXt", b"zTXt", b"iCCP", b"eXIf"))
    assert (np.asarray(Image.open(BytesIO(sent))) == pixels).all()
    assert png(picture) == sent


def test_a_picture_that_cannot_be_read_is_said_when_it_is_needed(tmp_path):
    ready = png_of(drawn(tmp_path, item()))
    assert not is_drawn(tmp_path, item())
    with pytest.raises(ValueError, match="no image file"):
        ready()
    (tmp_path / "a.png").write_bytes(b"no picture")
    assert is_drawn(tmp_path, item())
    with pytest.raises(ValueError, match="convert it"):
        ready()


def test_results_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "deep" / "result.json"
    write_text(file, "红\n")
    assert file.read_bytes() == "红\n".encode()

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match=r"could not write .*result\.json: No space"):
        write_text(file, "other")
    assert file.read_text("utf-8") == "红\n"
    assert [path.name for path in file.parent.iterdir()] == ["result.json"]


def test_the_worst_come_first_with_their_sources(tmp_path):
    out = tmp_path / "out"
    edit = item("e", sources=(Source.of_file(out / "bench" / "x y.jpg"),))
    other = item("s", beside={PurePosixPath("s_SRCIMG.png"): bytes, PurePosixPath("s.json"): bytes})
    rows = [Outcome(item("best"), 5, ""), Outcome(edit, 2, "so so"), Outcome(other, 1, "gone", "missing")]
    low, high = worst(rows, 5, out)
    assert (low.id, low.prompt, low.score, low.reason, low.pictures) == (
        "s",
        "draw s",
        1,
        "gone",
        ("s_SRCIMG.png", "s.png"),
    )
    assert high.pictures == ("bench/x y.jpg", "e.png")
    many = [Outcome(item(str(index)), 1, "") for index in range(99)]
    assert [row.id for row in worst(many, 5, out)] == [str(index) for index in range(results.WORST)]


def test_sources_that_lie_elsewhere_are_copied_small_and_anew_at_each_scoring(tmp_path):
    out = tmp_path / "out"
    (out / SMALL).mkdir(parents=True)
    (out / SMALL / "mine.png").write_bytes(b"not ours")
    files = [tmp_path / "bench" / name for name in ("../a.png", "b.png", "gone.png")]
    (tmp_path / "bench").mkdir()
    Image.new("RGB", (1000, 500), (222, 40, 40)).save(files[0])
    Image.new("RGB", (64, 64), (5, 6, 7)).save(files[1])
    rows = [Outcome(item(str(i), sources=(Source.of_file(file),)), i, "") for i, file in enumerate(files)]
    found = worst(rows, 5, out)
    shown = [row.pictures[0] for row in found]
    assert [len(row.pictures) for row in found] == [2, 2, 1], "a source that cannot be read is left out"
    assert all(name.startswith("worst/") for name in shown[:2])
    with Image.open(out / shown[0]) as large, Image.open(out / shown[1]) as small:
        assert (large.size, large.getpixel((9, 9))) == ((384, 192), (222, 40, 40))
        assert (small.size, small.getpixel((9, 9))) == ((64, 64), (5, 6, 7))
    assert worst(rows[:1], 5, out) == found[:1]
    assert sorted(file.name for file in (out / SMALL).iterdir()) == sorted(["mine.png", Path(shown[0]).name])


def test_a_note_of_what_was_not_used(tmp_path):
    assert left_out(tmp_path / "p.json", []) == []
    (note,) = left_out(tmp_path / "p.json", ["row 3 is empty", "row 4 too"])
    assert "p.json" in note
    assert "2 entries" in note
    assert "row 3 is empty" in note
