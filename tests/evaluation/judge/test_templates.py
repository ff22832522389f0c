"""Judge's prompts out of other people's files; Python itself says what their f-strings give."""

from __future__ import annotations

import importlib.util
import json

import pytest

from lightbagel_core.evaluation.judge.templates import message, named

FIELDS = ("row['Prompt']", "row['Explanation']")
SOURCE = '''
import nowhere_at_all  # never run
A = """line one
{"score" : [...]} \\u4e2d\\t"""
B: str = "b" "c" + 'd'
C = f"no gaps {{here}}"
D = f"a gap {A}"
E = "a" if A else "b"
F = "first"
F = "second"
G = "g"
G += "h"
'''
CHAT = '''
def build(row, picture):
    return [
        {"role": "system", "content": [{"type": "text", "text": "Be strict."}]},
        {
            "role": "user",
            "content": [
                {
                    "type": "text",
                    "text": f"""Judge {{fairly}}.
PROMPT: "{row["Prompt"]}"
EXPLANATION: "{row['Explanation']}"
End.""",
                },
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
            ],
        },
    ]
'''


@pytest.fixture
def written(tmp_path):
    def write(content: str, name: str = "prompts.py"):
        file = tmp_path / name
        file.write_text(content, "utf-8")
        return file

    return write


def test_names_of_a_python_file_that_is_never_run(written):
    file = written(SOURCE)
    assert named(file, ["B", "A", "F"], "x.py") == ["bcd", 'line one\n{"score" : [...]} 中\t', "second"]
    assert named(file, ["C"], "x.py") == ["no gaps {here}"]


@pytest.mark.parametrize("name", ["D", "E", "G", "nowhere_at_all", "Z"])
def test_a_name_that_is_no_plain_text(written, name):
    with pytest.raises(ValueError, match=rf"prompts\.py has no text '{name}' .*; give the bench's own x\.py"):
        named(written(SOURCE), [name], "x.py")


def test_a_message_is_what_python_makes_of_it(written):
    file = written(CHAT, "chat.py")
    spec = importlib.util.spec_from_file_location("chat", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    row = {"Prompt": "a {row} in 红色", "Explanation": 'the "red" one'}
    system, user = (part["content"][0]["text"] for part in module.build(row, "…"))
    values = dict(zip(FIELDS, row.values(), strict=True))
    assert message(file, "system", (), "x.py").filled({}) == system
    assert message(file, "user", FIELDS, "x.py").filled(values) == user
    with pytest.raises(ValueError, match="asks for \"row\\['Explanation'\\]\""):
        message(file, "user", FIELDS[:1], "x.py")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "no message"),
        ('M = {"role": "user", "content": make()}', "no message"),
        ('M = {"role": who, "content": "x"}', "no message"),
        ('M = {"role": "user", "content": f"{x!r}"}', "no message"),
        ('M = {"role": "user", "content": f"{x:>9}"}', "no message"),
        ('M = [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]', "several different"),
        ("def", "no readable Python"),
        ("x = 1\0", "no readable Python|no message"),
        ("M = " + "(" * 10_000, "no readable Python"),
        ('M = {"role": "user", "content": ' + "+".join(['"a"'] * 50_000) + "}", "no readable Python|no message"),
    ],
)
def test_no_message_that_could_be_used(written, source, says):
    with pytest.raises(ValueError, match=says):
        message(written(source), "user", ("x",), "x.py")


def test_the_same_message_twice_is_one(written):
    file = written('M = [{"role": "user", "content": "x"}, {"role": "user", "content": [{"text": "x"}]}]')
    assert message(file, "user", (), "x.py").filled({}) == "x"


def test_plain_files(written):
    text = "Judge {row} {\"score\": 1}: {row['Prompt']}"
    filled = {"row['Prompt']": "{p}"}
    for file in (written(text, "user.txt"), written(json.dumps({"user": text, "n": 3}), "p.json")):
        assert message(file, "user", FIELDS, "x").filled(filled) == 'Judge {row} {"score": 1}: {p}'
        assert message(file, "user", (), "x").filled({}) == text
        with pytest.raises(ValueError, match="no message"):
            message(file, "system", (), "x")
    assert named(written(text, "a.txt"), ["anything"], "x") == [text]
    assert named(file, ["user"], "x") == [text]
    for name in ("n", "none"):
        with pytest.raises(ValueError, match=f"no text '{name}'"):
            named(file, [name], "x")
    with pytest.raises(ValueError, match="no object"):
        named(written("[]", "list.json"), ["a"], "x")


@pytest.mark.parametrize("name", ["none.py", "none.json", "none.txt"])
def test_files_that_are_not_there(tmp_path, name):
    with pytest.raises(ValueError, match="there is no file"):
        named(tmp_path / name, ["a"], "x")
    with pytest.raises(ValueError, match="there is no file"):
        message(tmp_path / name, "user", (), "x")
    with pytest.raises(ValueError, match=r"prompts are missing: give vie_prompts\.py"):
        named(None, ["a"], "vie_prompts.py")
    (tmp_path / name).write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"cannot be read|readable JSON"):
        named(tmp_path / name, ["a"], "x")
