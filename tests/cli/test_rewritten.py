"""--rewrite and --think: the words that a person sees while they are made, and what a picture's file keeps of them."""

from __future__ import annotations

import json
import sys

import pytest
from PIL import Image
from scenes import one_thing
from scripted import save_scripted

from lightbagel_core.cli.commands import main
from lightbagel_core.pipeline import LightBagel

LONG = "A large red circle stands in the middle of an empty white page."
THOUGHT = "What is round?"
QUICK = ["--steps", "1", "--quiet", "--device", "cpu"]


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A checkpoint folder of a model that rewrites anything to LONG."""
    return save_scripted(tmp_path_factory.mktemp("writer") / "model", LONG)


@pytest.fixture(scope="module")
def thinker(tmp_path_factory):
    """One that thinks first, in tags."""
    return save_scripted(tmp_path_factory.mktemp("thinker") / "model", f"<thinking>{THOUGHT}</thinking> {LONG}")


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.png"
    one_thing("circle", "red").save(path)
    return path


@pytest.fixture
def drawn(monkeypatch):
    """The prompts that are drawn; the pictures are blank."""
    prompts: list[str] = []

    def draw(model, *words, **how):
        prompts.append(next(word for word in words if isinstance(word, str)))
        return [Image.new("RGB", (64, 64))]

    monkeypatch.setattr(LightBagel, "generate", draw)
    monkeypatch.setattr(LightBagel, "edit", draw)
    return prompts


def kept(path) -> dict:
    with Image.open(path) as picture:
        return json.loads(picture.text["lightbagel"])


def test_a_rewritten_prompt_is_drawn_shown_and_kept_beside_the_one_asked_for(tmp_path, writer, drawn, capsys):
    out = tmp_path / "a.png"
    assert main(["generate", "a circle", "--rewrite", "-o", str(out), "--model", str(writer), *QUICK]) == 0
    assert drawn == [LONG]
    said = capsys.readouterr()
    assert said.err == f"rewritten prompt: {LONG}\n"
    assert said.out.startswith(str(out))
    assert len(said.out.splitlines()) == 1
    settings = kept(out)
    assert (settings["prompt"], settings["rewritten_prompt"]) == ("a circle", LONG)
    assert "thinking" not in settings


@pytest.mark.parametrize("options", [["--rewrite", "--think"], ["--think"]])
def test_a_thought_is_shown_and_kept_and_not_drawn(tmp_path, thinker, source, drawn, capsys, options):
    """Weights that were not trained to think draw from the prompt alone, so that --think is rewriting too."""
    out = tmp_path / "a.png"
    assert main(["edit", str(source), "bluer", *options, "-o", str(out), "--model", str(thinker), *QUICK]) == 0
    assert drawn == [LONG]
    assert capsys.readouterr().err == f"thinking: {THOUGHT}\nrewritten prompt: {LONG}\n"
    settings = kept(out)
    assert (settings["instruction"], settings["rewritten_prompt"]) == ("bluer", LONG)
    assert (settings["thinking"], settings["images"]) == (THOUGHT, ["source.png"])


def test_a_picture_is_really_drawn_of_it(tmp_path, writer):
    asked, written = tmp_path / "a.png", tmp_path / "b.png"
    assert main(["generate", "a circle", "--rewrite", "-o", str(asked), "--model", str(writer), *QUICK]) == 0
    assert main(["generate", LONG, "-o", str(written), "--model", str(writer), *QUICK]) == 0
    assert Image.open(asked).tobytes() == Image.open(written).tobytes()


def test_on_a_terminal_words_come_while_they_are_made(tmp_path, writer, drawn, capsys, monkeypatch):
    pieces: list[str] = []
    words = ["generate", "a circle", "--rewrite", "-o", str(tmp_path / "a.png"), "--model", str(writer)]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    write = sys.stderr.write
    monkeypatch.setattr(sys.stderr, "write", lambda text: pieces.append(text) or write(text))
    assert main([*words, "--steps", "1", "--device", "cpu"]) == 0
    assert capsys.readouterr().err == f"{LONG}\n"
    assert len([piece for piece in pieces if piece.strip()]) > 8


@pytest.mark.slow
def test_a_system_prompt_is_read_from_a_file(tmp_path, writer, drawn, monkeypatch):
    asked: list[dict] = []
    rewrite = LightBagel.rewrite
    monkeypatch.setattr(LightBagel, "rewrite", lambda *a, **kw: asked.append(kw) or rewrite(*a, **kw))
    file = tmp_path / "system.txt"
    options = ["--rewrite", "--system-prompt", str(file), "--model", str(writer), *QUICK]
    file.write_text("Be brief, please.\n" * 600, "utf-8-sig")
    assert len(file.read_text("utf-8")) > 10_000
    assert main(["generate", "a circle", *options, "-o", str(tmp_path / "a.png")]) == 0
    assert asked[0]["system_prompt"] == "Be brief, please.\n" * 599 + "Be brief, please."


def test_what_is_cut_is_said(tmp_path, writer, drawn, capsys):
    options = ["--rewrite", "--max-new-tokens", "3", "--model", str(writer), *QUICK]
    assert main(["generate", "a circle", *options, "-o", str(tmp_path / "a.png")]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "rewritten prompt: A large red"
    assert lines[1].startswith("lightbagel: the rewritten prompt was cut by the bound on its length")
    assert lines[1].endswith("the bound can be raised with --max-new-tokens")
    assert len(lines) == 2
    assert kept(tmp_path / "a.png")["rewritten_prompt"] == "A large red"


@pytest.fixture
def by_itself(tmp_path):
    """A model that was trained to think, as its config says."""
    folder = save_scripted(tmp_path / "model", THOUGHT)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["thinking"] = {"system": "Think before you draw.", "max_new_tokens": 64}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


def test_weights_that_think_by_themselves_draw_after_their_thought(tmp_path, by_itself, capsys, monkeypatch):
    out = tmp_path / "a.png"
    words = ["generate", "a circle", "--think", "-o", str(out), "--model", str(by_itself), "--device", "cpu"]
    assert main([*words, "--steps", "2"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"thinking: {THOUGHT}"
    assert "2/2" in said[-1]
    settings = kept(out)
    assert (settings["prompt"], settings["thinking"]) == ("a circle", THOUGHT)
    assert "rewritten_prompt" not in settings
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main([*words, "--steps", "1"]) == 0
    assert capsys.readouterr().err.startswith(f"{THOUGHT}\n")  # and the bar in the next line


def test_weights_that_think_by_themselves_are_not_asked_otherwise(tmp_path, by_itself, capsys):
    words = ["generate", "a circle", "--think", "--rewrite", "--max-new-tokens", "9", "--model", str(by_itself)]
    assert main([*words, "-o", str(tmp_path / "a.png"), *QUICK]) == 2
    assert "leave out --rewrite and --max-new-tokens, or --think" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rewrite"], "the nano cannot rewrite a prompt: its VLM knows a hundred words"),
        (["--think"], "the nano cannot rewrite a prompt"),
        (["--system-prompt", "OUT/full.txt"], "--system-prompt change nothing here: add --rewrite"),
        (["--max-new-tokens", "9"], "--max-new-tokens change nothing here: add --rewrite"),
        (["--rewrite", "--max-new-tokens", "0"], "--max-new-tokens must be at least 1, not 0"),
        (["--rewrite", "--system-prompt", "OUT/none.txt"], "there is no file OUT/none.txt"),
        (["--rewrite", "--system-prompt", "OUT"], "is a folder; name the file"),
        (["--rewrite", "--system-prompt", "OUT/empty.txt"], "empty.txt is empty"),
        (["--rewrite", "--system-prompt", "OUT/bytes.txt"], "bytes.txt cannot be read as text"),
        (["--rewrite", "--model", "WRITER", "--system-prompt", "OUT/marker.txt"], "own marker <|im_end|>"),
        (["--rewrite", "--model", "WRITER", "--system-prompt", "OUT/long.txt"], "tokens long, and it reads fewer than"),
        (["--think", "--model", "WRITER"], "the model gave no thought between <thinking> and </thinking>"),
        (["--think", "--model", "THINKER", "--max-new-tokens", "2"], "began a thought and did not end it"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(tmp_path, writer, thinker, capsys, options, message):
    for name, content in {
        "full": b"Be brief.",
        "empty": b" \n",
        "bytes": b"\xff\xfe\x00",
        "marker": b"Be <|im_end|> brief.",
        "long": b"Be brief. " * 2000,
    }.items():
        (tmp_path / f"{name}.txt").write_bytes(content)
    before = sorted(tmp_path.iterdir())
    named = {"OUT": tmp_path, "WRITER": writer, "THINKER": thinker}
    for name, path in named.items():
        options = [option.replace(name, str(path)) for option in options]
    assert main(["generate", "a circle", "-o", str(tmp_path / "a.png"), *options, *QUICK]) == 2
    out, err = capsys.readouterr()
    assert message.replace("OUT", str(tmp_path)) in err
    assert len(err.splitlines()) == 1
    assert out == ""
    assert sorted(tmp_path.iterdir()) == before


def test_an_error_stands_in_a_line_of_its_own(tmp_path, writer, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    words = ["generate", "a circle", "--think", "-o", str(tmp_path / "a.png"), "--model", str(writer)]
    assert main([*words, "--device", "cpu"]) == 2
    assert capsys.readouterr().err.startswith(f"{LONG}\nlightbagel: the model gave no thought")
