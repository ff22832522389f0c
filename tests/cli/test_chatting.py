"""lightbagel chat as a person or a script meets it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from PIL import Image

from lightbagel_core.cli import chatting
from lightbagel_core.cli.commands import main
from lightbagel_core.cli.line_input import _plain
from lightbagel_core.conversation import transcript
from lightbagel_core.conversation.conversation import Conversation
from lightbagel_core.conversation.transcript import read_transcript
from lightbagel_core.files.writing import write_whole

RED, BLUE = "a large red circle in the centre on a white background", "make the circle blue"
QUICK = ["--steps", "1", "--quiet", "--device", "cpu"]


@pytest.fixture
def chat(monkeypatch, capsys, tmp_path):
    """Has a chat of these lines; gives the lines on stdout and on stderr."""
    monkeypatch.setattr(chatting.tempfile, "mkdtemp", lambda prefix: str(tmp_path / "scratch"))

    def run(
        *lines: str, options: tuple[str, ...] = (), status: int = 0, terminal: bool = False
    ) -> tuple[list[str], list[str]]:
        stdin = io.StringIO("".join(f"{line}\n" for line in lines))
        monkeypatch.setattr(sys, "stdin", stdin)
        if terminal:
            monkeypatch.setattr(stdin, "isatty", lambda: True)
            monkeypatch.setattr(chatting, "line_reader", lambda commands: _plain)
        assert main(["chat", *QUICK, *options]) == status
        out, err = capsys.readouterr()
        return out.splitlines(), err.splitlines()

    return run


def test_words_draw_first_and_then_edit(chat, tmp_path):
    out, err = chat(RED, "/ask what colour is the circle?", BLUE, f"/draw {RED}", f"/save {tmp_path / 'talk'}")
    assert err == []
    first, _, second, third, page = out
    for path in (first, second, third):
        with Image.open(path) as image:
            assert image.size == (96, 96)
        assert Path(path).parent == tmp_path / "scratch"
    assert page == str(tmp_path / "talk" / "conversation.html")
    drawn, answered, edited, again = read_transcript(tmp_path / "talk").entries
    assert [(e.text, e.edited) for e in (drawn, edited, again)] == [(RED, False), (BLUE, True), (RED, False)]
    assert out[1] == answered.answer


def test_a_shown_picture_is_edited_at_once(chat, tmp_path):
    Image.new("RGB", (96, 128), "red").save(tmp_path / "a b.png")
    out, err = chat(f'/show "{tmp_path / "a b.png"}"', BLUE, f"/save {tmp_path / 'talk'}")
    assert err == []
    assert out[0] == "a picture of 96x128"
    shown, edited = read_transcript(tmp_path / "talk").entries
    assert edited.edited
    assert shown.picture.size == (96, 128)


def test_an_error_is_a_line_and_the_chat_goes_on(chat, tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    out, err = chat(
        BLUE.replace("blue", "pink"),
        "/edit make it so",
        "/undo",
        "/show nowhere.png",
        "/drow",
        "/save",
        "/seed x",
        "/seed 99999999999999999999",
        RED,
        f"/save {tmp_path / 'file'}",
        "/ask who?",
        "/undo",
        status=2,
    )
    wanted = [
        "does not know: pink", "there is no picture to edit yet", "there is nothing to undo", "no image file",
        "there is no /drow", "say where to save it: /save FOLDER", "a seed is a whole number, not 'x'",
        "the seed must lie between", "it is a file; name a folder", "does not know: who",
    ]  # fmt: skip
    assert len(err) == len(wanted), err
    for line, words in zip(err, wanted, strict=True):
        assert line.startswith("lightbagel: ")
        assert words in line
    assert len(out) == 2
    assert out[1] == f"gone: the picture of {RED!r}"


def test_settings_are_those_of_the_options(chat, tmp_path):
    options = ("--size", "64x96", "--text-guidance", "1.5", "--image-guidance", "1.25", "--negative", "a green star")
    out, err = chat(RED, "/seed 7", BLUE, f"/save {tmp_path / 'talk'}", options=options)
    assert (err, out[1]) == ([], "seed 7")
    drawn, edited = read_transcript(tmp_path / "talk").entries
    assert drawn.picture.size == edited.picture.size == (64, 96)
    assert (drawn.settings["seed"], edited.settings["seed"]) == (0, 7)
    assert (drawn.settings["image_guidance"], edited.settings["image_guidance"]) == (1.0, 1.25)
    assert drawn.settings["text_guidance"] == edited.settings["text_guidance"] == 1.5
    assert drawn.negative_prompt == edited.negative_prompt == "a green star"


def test_a_new_seed_is_said(chat):
    out, _ = chat("/seed", "/seed")
    assert len({int(line.removeprefix("seed ")) for line in out}) == 2


def test_it_goes_on_where_it_was_saved(chat, tmp_path):
    folder = tmp_path / "talk"
    chat(RED, f"/save {folder}", options=("--history", "1"))
    out, err = chat(BLUE, "/save", options=("--open", str(folder)))
    assert err == []
    assert Path(out[0]).parent == folder
    found = read_transcript(folder)
    assert found.history == 1
    assert found.entries[1].history == 1
    assert len(found.entries) == 2


def test_warnings_are_sentences(chat):
    _, err = chat(RED, BLUE, BLUE, BLUE, options=("--history", "2", "--size", "100x64"))
    told = "lightbagel: this edit is drawn after 2 earlier turns; the published recipe trains at most one"
    assert err[0] == "lightbagel: size 100x64 rounded to 96x64"
    assert err[1].startswith(told)
    assert len(err) == 2


def test_help_and_quit(chat):
    out, err = chat("/help", "", "/quit", RED)
    assert "/save [FOLDER]" in "\n".join(out)
    assert err == []
    assert not [line for line in out if line.endswith(".png")]


def test_ctrl_c_stops_a_drawing_and_not_the_chat(chat, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Conversation, "draw", interrupted)
        out, err = chat(RED, "/help", terminal=True)
    assert err == ["", "stopped; the conversation is as it was (/quit leaves)"]
    assert "/undo" in "\n".join(out)


def test_pictures_are_shown_where_the_terminal_can(chat, monkeypatch, tmp_path):
    monkeypatch.setattr(chatting, "protocol", lambda stream, environment: "kitty")
    out, _ = chat(RED)
    assert out[0].startswith("\x1b_Ga=T,f=100,q=2,")
    assert not (tmp_path / "scratch").exists()


def test_a_cut_answer_is_said(chat):
    out, err = chat(RED, "/ask describe the image", options=("--max-new-tokens", "2"))
    assert len(out[1].split()) == 2
    assert err == ["lightbagel: the answer was cut at 2 tokens; --max-new-tokens raises that"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--history", "-1"], "the history is a number of earlier turns"),
        (["--open", "nowhere"], "there is no folder nowhere to open a conversation from"),
        (["--max-new-tokens", "0"], "--max-new-tokens must be at least 1, not 0"),
        (["--steps", "0"], "steps must be at least 1, not 0"),
        (["--size", "0x64"], "a size of 0x64 does not work"),
        (["--image-guidance", "nan"], "the image guidance must be a finite number, not nan"),
        (["--count", "2"], "unrecognized arguments: --count 2"),
    ],
)
def test_wrong_options_are_one_line(capsys, monkeypatch, options, message):
    monkeypatch.setattr(sys, "stdin", io.StringIO(RED))
    try:
        code = main(["chat", *QUICK, *options])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_a_script_in_a_pipe(tmp_path):
    lines = f"{RED}\n/ask what colour is the circle?\n{BLUE}\n/save {tmp_path / 'talk'}\n"
    words = [sys.executable, "-m", "lightbagel_core", "chat", *QUICK]
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONIOENCODING": "utf-8"}
    root = Path(__file__).parents[2]
    done = subprocess.run(words, input=lines.encode(), cwd=root, env=environment, capture_output=True, check=False)
    assert done.returncode == 0
    assert b"lightbagel:" not in done.stderr  # a library may say something there
    assert done.stdout.decode("utf-8").splitlines()[-1] == str(tmp_path / "talk" / "conversation.html")
    assert len(read_transcript(tmp_path / "talk").entries) == 3


def test_what_was_not_saved_is_kept_at_a_terminal(chat, tmp_path):
    out, err = chat(RED, terminal=True)
    scratch = tmp_path / "scratch"
    assert out[0] == "nano: say what to draw; /help lists the commands, /quit leaves"
    assert err == [f"the conversation was not saved; it lies in {scratch} now, and --open {scratch} goes on with it"]
    assert len(read_transcript(scratch).entries) == 1


def test_what_was_saved_is_not_saved_again(chat, tmp_path):
    save = f"/save {tmp_path / 'talk'}"
    _, err = chat(RED, save, f"/draw {BLUE}", "/undo", terminal=True)
    assert err == []
    _, err = chat(RED, "/undo", terminal=True)
    assert err == []
    _, err = chat(BLUE, options=("--open", str(tmp_path / "talk")), terminal=True)
    assert len(read_transcript(tmp_path / "talk").entries) == 1
    assert len(read_transcript(tmp_path / "scratch").entries) == 2
    assert "it lies in" in err[0]


def test_what_cannot_be_kept_is_said(chat, monkeypatch):
    def save(*args):
        raise ValueError("the disk is full")

    monkeypatch.setattr(Conversation, "save", save)
    _, err = chat(RED, terminal=True)
    assert err == ["lightbagel: the conversation was not saved, and could not be now: the disk is full"]


def test_what_a_warning_says_does_not_move_the_cursor(chat, monkeypatch):
    def draw(*args, **options):
        warnings.warn_explicit("it said \x1b[2J\u202eno", UserWarning, "x.py", 1, "lightbagel_core.x")
        raise ValueError("no\x9b picture")

    monkeypatch.setattr(Conversation, "draw", draw)
    _, err = chat(RED, status=2)
    assert err == ["lightbagel: it said [2Jno", "lightbagel: no picture"]


@pytest.mark.parametrize("fault", [TypeError, RuntimeError, EOFError])
def test_a_fault_of_the_program_does_not_end_the_conversation(chat, monkeypatch, tmp_path, fault):
    def ask(*args):
        raise fault("no\nsuch \x1b[2Jthing" + "x" * 999)

    monkeypatch.setattr(Conversation, "ask", ask)
    out, err = chat(RED, "/ask what?", f"/save {tmp_path / 'talk'}", status=2)
    assert len(out) == 2
    assert len(read_transcript(tmp_path / "talk").entries) == 1
    assert err[-1].startswith(f"lightbagel: this is a fault of lightbagel's: {fault.__name__}: no such [2Jthingxxx")
    assert err[-1].endswith("xxx; the conversation is as it was")
    assert len(err[-1]) < 400
    assert "test_chatting.py" in err[-3]  # where in the program
    assert len(err) < 15


def test_a_fault_after_the_drawing_says_that_there_is_one(chat, monkeypatch):
    def present(self):
        raise TypeError("no such thing")

    monkeypatch.setattr(chatting.Chat, "present", present)
    out, err = chat(RED, "/undo", status=2)
    assert err[-1].endswith("TypeError: no such thing; what the line asked for was done before that")
    assert out == [f"gone: the picture of {RED!r}"]


def test_ctrl_c_after_the_drawing_says_that_there_is_one(chat, monkeypatch):
    def present(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(chatting.Chat, "present", present)
    _, err = chat(RED, "/undo", terminal=True)
    assert err == ["", "stopped; what the line asked for was done before that (/quit leaves)"]


def test_a_picture_is_written_elsewhere_where_its_folder_takes_none(chat, tmp_path, monkeypatch):
    folder = tmp_path / "talk"
    chat(RED, f"/save {folder}")

    def full(file, content, scratch):
        if scratch == folder:
            raise ValueError(f"could not write {file}: No space left on device")
        write_whole(file, content, scratch)

    monkeypatch.setattr(transcript, "write_whole", full)
    out, err = chat(BLUE, "/undo", options=("--open", str(folder)), status=2)
    (line,) = err
    said, _, where = line.partition(": it lies in ")
    assert said.startswith(f"lightbagel: drawn, but could not write {folder}")
    assert Path(where).parent == tmp_path / "scratch"
    assert Path(where).is_file()
    assert out == [f"gone: the picture of {BLUE!r}"]


def test_a_full_disk_behind_stdout_does_not_end_the_chat(chat, monkeypatch, tmp_path):
    def full(self):
        raise OSError(28, "No space left on device")

    class Full(io.StringIO):
        flush = full

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Full())
        _, err = chat(RED, "", f"/save {tmp_path / 'talk'}", status=2)
    assert len(err) == 3
    assert all("No space left on device" in line for line in err)
    assert len(read_transcript(tmp_path / "talk").entries) == 1


def test_where_nothing_can_be_read_the_chat_ends(chat, monkeypatch):
    def gone():
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(chatting, "line_reader", lambda commands: gone)
    _, err = chat(RED, status=2)
    assert err == ["lightbagel: [Errno 5] Input/output error"]


def test_ctrl_c_ends_a_script(monkeypatch, capsys):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Conversation, "draw", interrupted)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{RED}\n/help\n"))
    assert main(["chat", *QUICK]) == 130
    assert capsys.readouterr() == ("", "lightbagel: interrupted\n")


def test_names_of_folders_are_those_of_people(chat, tmp_path):
    folder = tmp_path / "my talk"
    Image.new("RGB", (96, 128), "red").save(tmp_path / "my cat.png")
    out, err = chat(rf"/show {tmp_path}/my\ cat.png", f'/save "{folder}"', "/show ~nobody-of-that-name/x", status=2)
    assert out == ["a picture of 96x128", str(folder / "conversation.html")]
    assert len(err) == 1
    assert "there is no image file ~nobody-of-that-name" in err[0]


def test_what_a_model_is_called_does_not_move_the_cursor(chat, monkeypatch):
    monkeypatch.setattr(chatting, "shown", lambda text: "its name" if text == "nano" else text)
    out, _ = chat(terminal=True)
    assert out[0].startswith("its name: say what to draw")


def test_ctrl_c_twice_loses_nothing(chat, monkeypatch, tmp_path):
    """The second one while the first is told of."""

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(Conversation, "ask", interrupted)
    monkeypatch.setattr(chatting.Chat, "became_of", interrupted)
    chat(RED, "/ask what?", terminal=True, status=130)
    assert len(read_transcript(tmp_path / "scratch").entries) == 1
