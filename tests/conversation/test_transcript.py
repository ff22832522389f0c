"""Transcripts: written whole, read again, and not believed."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from lightbagel_core.conversation import transcript
from lightbagel_core.conversation.entries import Answered, Drawn, Shown
from lightbagel_core.conversation.transcript import picture_name, read_transcript, write_picture, write_transcript
from lightbagel_core.files.writing import write_whole

RED, BLUE = (Image.new("RGB", (40, 30), colour) for colour in ("red", "blue"))
ODD = '"quotes", <script>, a\nline, 猫 \U0001f600 \ud800'
SETTINGS = {"width": 40, "height": 30, "seed": None, "guidance_interval": [0.0, 1.0]}
ENTRIES = [
    Shown(RED),
    Answered(ODD, "red", True),
    Drawn(ODD, "a star", BLUE, True, 0, SETTINGS),
    Shown(RED),
    Drawn("a star", "", BLUE, False, 0, SETTINGS),
]


@pytest.fixture
def folder(tmp_path) -> Path:
    write_transcript(tmp_path / "talk", "nano", 2, ENTRIES, False)
    return tmp_path / "talk"


def changed(folder: Path, change) -> Path:
    file = folder / "transcript.json"
    told = json.loads(file.read_text("utf-8"))
    change(told)
    file.write_text(json.dumps(told), "utf-8")
    return folder


def test_a_round_trip(folder):
    found = read_transcript(folder)
    assert (found.model, found.history) == ("nano", 2)
    assert [type(entry) for entry in found.entries] == [type(entry) for entry in ENTRIES]
    for ours, theirs in zip(ENTRIES, found.entries, strict=True):
        for name, value in vars(ours).items():
            other = getattr(theirs, name)
            if name == "picture":
                value, other = value.tobytes(), other.tobytes()
            assert other == value, name
    assert found.entries[0].picture is found.entries[3].picture  # one picture, looked at once


def test_what_lies_in_the_folder(folder):
    names = [picture_name(1, RED), picture_name(2, BLUE)]
    assert sorted(os.listdir(folder)) == sorted([*names, "conversation.html", "transcript.json"])
    with Image.open(folder / names[1]) as image:
        said = json.loads(image.text["lightbagel"])
    assert (said["instruction"], said["negative_prompt"], said["width"], said["model"]) == (ODD, "a star", 40, "nano")
    with Image.open(folder / names[0]) as image:
        assert image.text == {}


def test_a_picture_that_took_anothers_place_has_another_name(folder):
    write_transcript(folder, "nano", 0, [Shown(BLUE)], True)
    assert picture_name(1, RED) != picture_name(1, BLUE)
    (entry,) = read_transcript(folder).entries
    assert entry.picture.tobytes() == BLUE.tobytes()


def test_a_transcript_that_cannot_be_written_leaves_the_old_one(folder, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match="No space left on device"):
        write_transcript(folder, "nano", 0, [Shown(BLUE)], True)
    assert len(read_transcript(folder).entries) == 5
    assert not [name for name in os.listdir(folder) if name.endswith(".partial")]


def test_another_conversation_is_not_written_over(folder):
    with pytest.raises(ValueError, match="holds another conversation"):
        write_transcript(folder, "nano", 0, [Shown(BLUE)], False)
    with pytest.raises(ValueError, match="holds another conversation"):
        write_transcript(folder / "none" / "..", "nano", 0, [Shown(BLUE)], False)


def test_a_page_of_somebodys_own_is_not_written_over(tmp_path):
    (tmp_path / "conversation.html").write_text("mine", "utf-8")
    with pytest.raises(ValueError, match=r"holds a conversation\.html that is no conversation's"):
        write_transcript(tmp_path, "nano", 0, ENTRIES, False)
    assert os.listdir(tmp_path) == ["conversation.html"]
    assert (tmp_path / "conversation.html").read_text("utf-8") == "mine"


def test_a_first_try_that_failed_does_not_stand_in_the_way(tmp_path, monkeypatch):
    def fails(file, content, folder):
        if file.name == "transcript.json":
            raise ValueError("full")
        write_whole(file, content, folder)

    with monkeypatch.context() as patch:
        patch.setattr(transcript, "write_whole", fails)
        with pytest.raises(ValueError, match="full"):
            write_transcript(tmp_path, "nano", 0, ENTRIES, False)
    write_transcript(tmp_path, "nano", 0, ENTRIES, False)
    assert len(read_transcript(tmp_path).entries) == 5


@pytest.mark.parametrize(
    ("bound", "most", "message"),
    [
        ("MOST_PIXELS", 2 * 40 * 30 - 1, "more than 0 million pixels together"),
        ("LARGEST_PICTURE", 50, r"\.png is larger than 0 MiB"),
        ("LARGEST_JSON", 50, r"transcript\.json is larger than 0 MiB"),
    ],
)
def test_what_would_not_be_opened_is_not_written(tmp_path, monkeypatch, bound, most, message):
    monkeypatch.setattr(transcript, bound, most)
    with pytest.raises(ValueError, match=message):
        write_transcript(tmp_path / "talk", "nano", 0, ENTRIES, False)
    assert not (tmp_path / "talk").exists()


def test_a_picture_that_pil_would_not_open_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 30 - 1)
    with pytest.raises(ValueError, match="has too many pixels for a transcript's picture"):
        write_transcript(tmp_path / "talk", "nano", 0, ENTRIES, False)
    with pytest.raises(ValueError, match="has too many pixels for a transcript's picture"):
        write_picture(tmp_path / "talk", "nano", ENTRIES, ENTRIES[0])
    assert not (tmp_path / "talk").exists()


def test_a_picture_that_stands_twice_counts_once(tmp_path, monkeypatch):
    monkeypatch.setattr(transcript, "MOST_PIXELS", 2 * 40 * 30)
    write_transcript(tmp_path, "nano", 0, ENTRIES, False)
    assert len({id(entry.picture) for entry in read_transcript(tmp_path).entries if hasattr(entry, "picture")}) == 2


def test_numbers_of_other_libraries_are_numbers(tmp_path):
    settings = {"steps": np.int64(3), "shift": np.float32(0.5), "guidance_interval": (np.float32(0), np.float64(1))}
    entry = Drawn("a star", "", RED, False, 0, settings)
    with Image.open(write_picture(tmp_path, "nano", [entry], entry)) as image:
        assert json.loads(image.text["lightbagel"])["steps"] == 3
    write_transcript(tmp_path, "nano", 0, [entry], False)
    assert read_transcript(tmp_path).entries[0].settings == {"steps": 3, "shift": 0.5, "guidance_interval": [0.0, 1.0]}
    strange = Drawn("a star", "", RED, False, 0, {"steps": object()})
    with pytest.raises(ValueError, match="a drawing has a setting 'steps' that is no number, text or list of numbers"):
        write_transcript(tmp_path, "nano", 0, [strange], True)


def nested(depth: int) -> list:
    """Lists in lists, deeper than what is shallow can be written again."""
    found: list = []
    for _ in range(depth):
        found = [found]
    return found


def at(*path, value):
    """A change of a transcript: what lies at a path of keys becomes a value."""

    def change(told):
        *way, last = path
        for key in way:
            told = told[key]
        told[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (at("entries", 0, "picture", value="../x.png"), r"entry 1: its picture '\.\./x\.png' is not the name of a PNG"),
        (at("entries", 0, "picture", value="/etc/passwd"), "is not the name of a PNG file in the same folder"),
        (at("entries", 0, "picture", value="C:\\x.png"), "is not the name of a PNG file in the same folder"),
        (at("entries", 0, "picture", value=".."), "is not the name of a PNG file in the same folder"),
        (at("entries", 0, "picture", value="a\x00.png"), "is not the name of a PNG file in the same folder"),
        (at("entries", 0, "picture", value="transcript.json"), "is not the name of a PNG file in the same folder"),
        (at("entries", 0, "picture", value="none.png"), "none.png is missing"),
        (at("entries", 0, "picture", value=3), "entry 1 is damaged: its 'picture' is no str"),
        (at("entries", 0, "kind", value="run"), "entry 1 is neither a picture that was shown or drawn nor an answer"),
        (at("entries", 0, "kind", value=["shown"]), "entry 1 is neither"),
        (at("entries", 0, value="shown"), "entry 1 is neither"),
        (at("entries", 0, "more", value=1), "entry 1 holds 'more', which a transcript of version 1 does not have"),
        (at("entries", 1, "cut", value=1), "entry 2 is damaged: its 'cut' is no bool"),
        (at("entries", 2, "settings", value=[]), "entry 3 is damaged: its 'settings' is no dict"),
        (at("entries", 2, "history", value=True), "entry 3 is damaged: its 'history' is no int"),
        (at("entries", 2, "history", value=-1), "entry 3: its history is -1, and must be 0 or more"),
        (at("entries", 4, "history", value=1), "entry 5: its history is 1, and must be 0 where a prompt alone is"),
        (at("entries", 2, "settings", "a", value=nested(500)), "entry 3 has a setting 'a' that is no number, text or"),
        (at("entries", 2, "settings", "a", value={"b": 1}), "entry 3 has a setting 'a' that is no number, text or"),
        (at("entries", 2, "settings", "a", value=["b"]), "entry 3 has a setting 'a' that is no number, text or"),
        (at("entries", 2, "settings", "a", value=[1] * 101), "entry 3 has a setting 'a' that is longer than 100"),
        (at("entries", 2, "settings", "a", value="b" * 101), "entry 3 has a setting 'a' that is longer than 100"),
        (at("entries", 2, "settings", "a" * 101, value=1), "entry 3 has a setting 'a{50}' that is no number, text or"),
        (
            at("entries", 2, "settings", value=dict.fromkeys(map(str, range(65)))),
            "entry 3 has 65 settings, and at most",
        ),
        (lambda told: told["entries"][1].pop("answer"), "entry 2 is damaged: its 'answer' is missing"),
        (lambda told: told["entries"].pop(0), "entry 2 edits a picture, and there is none before it"),
        (at("entries", value={}), "is damaged: its 'entries' is no list"),
        (at("history", value=-1), "its history is -1, and must be 0 or more"),
        (at("lightbagel_conversation", value=2), "a transcript of version 2, and this reads version 1"),
        (at("lightbagel_conversation", value="x" * 99), "a transcript of version 'x{20}', and"),
        (at("lightbagel_conversation", value="\x1b[2J"), r"a transcript of version '\\x1b\[2J', and"),
        (at("lightbagel_conversation", value=nested(500)), r"a transcript of version '\?', and"),
        (lambda told: told.pop("lightbagel_conversation"), "is no transcript of a conversation"),
        (
            lambda told: told.update(entries=told["entries"][2:3]),
            "entry 1 edits a picture, and there is none before it",
        ),
    ],
)
def test_what_is_not_as_it_was_written_is_refused(folder, change, message):
    changed(folder, change)
    with pytest.raises(ValueError, match=message):
        read_transcript(folder)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[1]", "null", "\xff", "1" * 5000])
def test_damaged_json_is_a_sentence(folder, text):
    (folder / "transcript.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"transcript\.json is (damaged: it is no JSON|no transcript)"):
        read_transcript(folder)


def test_a_large_transcript_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(transcript, "LARGEST_JSON", 100)
    with pytest.raises(ValueError, match="is larger than 0 MiB"):
        read_transcript(folder)


def test_links_are_not_followed(folder, tmp_path):
    secret = tmp_path / "secret.png"
    RED.save(secret)
    name = picture_name(1, RED)
    (folder / name).unlink()
    (folder / name).symlink_to(secret)
    with pytest.raises(ValueError, match="is a link or no plain file, and a transcript opens only files of its own"):
        read_transcript(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(ValueError, match="is a link or no plain file"):
        read_transcript(folder)
    told = (folder / "transcript.json").rename(tmp_path / "transcript.json")
    (folder / "transcript.json").symlink_to(told)
    with pytest.raises(ValueError, match=r"transcript\.json is a link or no plain file"):
        read_transcript(folder)


def test_a_link_is_not_written_through(folder, tmp_path):
    secret, name = tmp_path / "secret.png", picture_name(1, RED)
    secret.write_bytes(b"mine")
    (folder / name).unlink()
    (folder / name).symlink_to(secret)
    write_transcript(folder, "nano", 0, ENTRIES, True)
    assert secret.read_bytes() == b"mine"
    assert len(read_transcript(folder).entries) == 5


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_is_not_waited_for(folder):
    (folder / "transcript.json").unlink()
    os.mkfifo(folder / "transcript.json")
    with pytest.raises(ValueError, match="is a link or no plain file"):
        read_transcript(folder)


def png_head(width: int, height: int) -> bytes:
    """The beginning of a PNG that says to have so many pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 100)
        + b"IDAT"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png_head(30_000, 30_000), "has too many pixels"),
        (png_head(10_000, 9_500), "has too many pixels"),
        (png_head(200, 200), "is damaged"),
        (b"\x89PNG\r\n\x1a\n", "is damaged"),
        (b"", "is no PNG file"),
        (b"GIF89a", "is no PNG file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is no PNG file"),
    ],
)
def test_pictures_that_are_none_or_too_large_are_refused(folder, content, message):
    (folder / picture_name(1, RED)).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_transcript(folder)


def test_pictures_too_many_for_memory_are_refused_before_they_are_read(folder, monkeypatch):
    monkeypatch.setattr(transcript, "MOST_PIXELS", 2 * 40 * 30 - 1)
    with pytest.raises(ValueError, match="more than 0 million pixels together"):
        read_transcript(folder)
    with pytest.raises(ValueError, match="more than 0 million pixels together"):
        write_transcript(folder, "nano", 0, ENTRIES, True)


def test_a_file_that_is_too_large_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(transcript, "LARGEST_PICTURE", 50)
    with pytest.raises(ValueError, match="is larger than 0 MiB"):
        read_transcript(folder)


def test_text_in_a_picture_is_not_kept(folder):
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x")
    RED.save(folder / picture_name(1, RED), pnginfo=info)
    assert read_transcript(folder).entries[0].picture.info == {}


def test_no_folder_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"there is no folder .* to open a conversation from"):
        read_transcript(tmp_path / "none")
    with pytest.raises(ValueError, match=r"transcript\.json is missing"):
        read_transcript(tmp_path)
