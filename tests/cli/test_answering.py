"""lightbagel describe: on a terminal, in a pipe, as JSON; one question and several, one picture and several."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from scenes import one_thing

import lightbagel_core.cli
from lightbagel_core.cli.commands import main
from lightbagel_core.model.understanding import Understanding

SCHEMA = json.loads((Path(lightbagel_core.cli.__file__).parent / "describe.schema.json").read_text("utf-8"))
WHOLE = "a large red circle in the centre on a white background"
ASKED = ["describe the image", "how many shapes are there?"]
CPU = ["--device", "cpu"]


@pytest.fixture
def red(tmp_path):
    path = tmp_path / "red.png"
    one_thing("circle", "red").save(path)
    return str(path)


@pytest.fixture
def blue(tmp_path):
    path = tmp_path / "blue.png"
    one_thing("star", "blue").save(path)
    return str(path)


def wrong(value: Any, schema: dict[str, Any], where: str = "it") -> list[str]:
    """What of a value does not fit a JSON schema, by the keywords that ours has, and no others."""
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool}
    known = {"type", "required", "additionalProperties", "properties", "items", "minItems"}
    strange = set(schema) - known - {"$schema", "title", "description"}
    assert not strange, f"this check does not know {strange}"
    if not isinstance(value, kinds[schema["type"]]):
        return [f"{where} is no {schema['type']}"]
    found = [f"{where} lacks {name}" for name in schema.get("required", []) if name not in value]
    if isinstance(value, dict):
        inner = schema["properties"]
        if schema["additionalProperties"] is False:
            found += [f"{where} has {name}" for name in value if name not in inner]
        for name in inner.keys() & value.keys():
            found += wrong(value[name], inner[name], f"{where}.{name}")
    if isinstance(value, list):
        found += [f"{where} is too short"] if len(value) < schema.get("minItems", 0) else []
        for index, each in enumerate(value):
            found += wrong(each, schema["items"], f"{where}[{index}]")
    return found


def test_the_schema_refuses_what_is_otherwise():
    answer = {"question": "who?", "answer": "", "cut": False}
    good = {"model": "nano", "images": [{"image": "a.png", "answers": [answer]}]}
    assert wrong(good, SCHEMA) == []
    for bad in (
        [],
        {**good, "more": 1},
        {"images": good["images"]},
        {**good, "images": []},
        {**good, "images": [{"image": 3, "answers": [answer]}]},
        {**good, "images": [{"image": "a.png", "answers": [{**answer, "cut": "no"}]}]},
    ):
        assert wrong(bad, SCHEMA)


def test_several_questions_are_answered_a_line_each(red, capsys):
    assert main(["describe", red, *ASKED, *CPU]) == 0
    assert capsys.readouterr().out.splitlines() == [WHOLE, "one"]


def test_options_may_stand_between_the_questions(red, capsys):
    assert main(["describe", red, ASKED[0], *CPU, ASKED[1]]) == 0
    assert capsys.readouterr().out.splitlines() == [WHOLE, "one"]
    with pytest.raises(SystemExit):
        main(["describe", red, *CPU, ASKED[1], "--loud"])
    assert "unrecognized arguments" in capsys.readouterr().err


def test_several_questions_for_several_pictures(red, blue, capsys):
    assert main(["describe", red, *ASKED, "--each", blue, *CPU]) == 0
    star = WHOLE.replace("red circle", "blue star")
    assert capsys.readouterr().out.splitlines() == [f"{red}: {WHOLE}", f"{red}: one", f"{blue}: {star}", f"{blue}: one"]


@pytest.mark.parametrize("asked", [[], ASKED])
def test_json_follows_its_schema(red, blue, capsys, asked):
    assert main(["describe", red, *asked, "--each", blue, "--json", *CPU]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert len(out.splitlines()) == 1
    found = json.loads(out)
    assert wrong(found, SCHEMA) == []
    assert found["model"] == "nano"
    assert [image["image"] for image in found["images"]] == [red, blue]
    questions = asked or ["Describe the image"]
    assert [answer["question"] for answer in found["images"][0]["answers"]] == questions
    assert found["images"][0]["answers"][0] == {"question": questions[0], "answer": WHOLE, "cut": False}


def test_json_is_ascii_which_any_pipe_has(red, tmp_path, capsys):
    chinese = tmp_path / "图.png"
    one_thing("circle", "red").save(chinese)
    assert main(["describe", str(chinese), "--json", *CPU]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out)["images"][0]["image"] == str(chinese)


def test_what_was_cut_is_said(red, blue, capsys):
    assert main(["describe", red, *ASKED, "--max-new-tokens", "3", *CPU]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["a large red", "one"]
    cut = "was cut at 3 tokens; --max-new-tokens raises that\n"
    assert err == f'lightbagel: the answer to "describe the image" {cut}'
    assert main(["describe", red, "--each", blue, "--max-new-tokens", "3", "--json", *CPU]) == 0
    out, err = capsys.readouterr()
    assert [image["answers"][0]["cut"] for image in json.loads(out)["images"]] == [True, True]
    assert err == f"lightbagel: the answer for {red} {cut}lightbagel: the answer for {blue} {cut}"


def terminal(monkeypatch) -> list[str]:
    """Makes stdout a terminal; what is written to it, piece by piece."""
    pieces: list[str] = []
    write = sys.stdout.write
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "write", lambda text: pieces.append(text) or write(text))
    return pieces


def test_on_a_terminal_words_come_while_they_are_made(red, capsys, monkeypatch):
    pieces = terminal(monkeypatch)
    assert main(["describe", red, *CPU]) == 0
    assert capsys.readouterr().out == f"{WHOLE}\n"
    assert len([piece for piece in pieces if piece.strip()]) > 5


def test_on_a_terminal_each_answer_follows_its_question(red, capsys, monkeypatch):
    terminal(monkeypatch)
    assert main(["describe", red, *ASKED, *CPU]) == 0
    assert capsys.readouterr().out == f"> {ASKED[0]}\n{WHOLE}\n> {ASKED[1]}\none\n"


def test_json_on_a_terminal_is_json_alone(red, capsys, monkeypatch):
    terminal(monkeypatch)
    assert main(["describe", red, *ASKED, "--json", *CPU]) == 0
    assert wrong(json.loads(capsys.readouterr().out), SCHEMA) == []


def test_the_vit_runs_once_for_several_questions(red, monkeypatch):
    """Counted where pictures go in, through the whole command."""
    runs: list[int] = []
    init = Understanding.__init__

    def watched(self, vlm, *args, **kw):
        init(self, vlm, *args, **kw)
        vlm.model.visual.register_forward_hook(lambda *_: runs.append(1))

    monkeypatch.setattr(Understanding, "__init__", watched)
    assert main(["describe", red, *ASKED, "what colour is the circle?", *CPU]) == 0
    assert runs == [1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["RED", "what colour is the circle?", "who is it?"], "does not know: who"),
        (["RED", "what colour is the circle?", " "], "needs a question"),
        (["RED", "what colour is the circle?", "--max-new-tokens", "0", "--json"], "at least 1"),
        (["RED", *["what colour is the circle?"] * 80], "tokens long, and it reads fewer than 512"),
    ],
)
def test_what_cannot_be_answered_is_one_line(red, capsys, words, message):
    assert main(["describe", *[word.replace("RED", red) for word in words], *CPU]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert len(err.splitlines()) == 1
    assert out == ""
