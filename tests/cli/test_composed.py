"""lightbagel compose, with a VLM whose answers are scripted in a checkpoint folder."""

from __future__ import annotations

import json
import warnings
from types import SimpleNamespace

import pytest
from PIL import Image
from scenes import PICTURE
from scripted import save_scripted

from lightbagel_core.cli.commands import main
from lightbagel_core.pipeline import LightBagel

QUICK = ["--steps", "1", "--quiet", "--device", "cpu"]
PLAN = json.dumps({"steps": [{"kind": "words", "text": "Blue it is:"}, {"kind": "edit", "text": "make it blue"}]})


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """It answers with the plan, also when it is asked for a verdict."""
    return str(save_scripted(tmp_path_factory.mktemp("scripted") / "model", PLAN))


def test_words_and_pictures_go_into_a_folder(model, tmp_path, capsys):
    PICTURE.save(tmp_path / "a.png")
    out = tmp_path / "out"
    options = ["--image", str(tmp_path / "a.png"), "--out", str(out), "--model", model, *QUICK]
    assert main(["compose", "Blue, please.", *options]) == 0
    printed, told = capsys.readouterr()
    assert printed == f"{out / 'composition.html'}\n"
    assert "words: Blue it is:\nedit: make it blue\n" in told
    assert "lightbagel: the picture is kept, for what the VLM said of it is no verdict" in told
    assert sorted(file.name for file in out.iterdir()) == ["001.png", "composition.html", "composition.md"]
    with Image.open(out / "001.png") as picture:
        assert json.loads(picture.text["lightbagel"])["request"] == "Blue, please."


def test_what_is_wrong_is_said_before_anything_is_made(model, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    for options, message in {
        ("--out", str(tmp_path / "full"), "--model", model): "something lies in",
        ("--out", str(tmp_path / "a"), "--model", model, "--tries", "99"): "between 0 and 10 times, not 99",
        ("--out", str(tmp_path / "b"), "--model", model): "no picture before it. Word the request otherwise.",
        ("--out", str(tmp_path / "c")): "the nano cannot plan",
    }.items():
        assert main(["compose", "Blue, please.", *options, *QUICK]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["a.txt"]


def test_what_was_made_before_a_failure_is_kept(tmp_path, capsys, monkeypatch):
    plan = json.dumps({"steps": [{"kind": "words", "text": "Now:"}, {"kind": "draw", "text": "a circle"}]})
    folder = save_scripted(tmp_path / "model", plan)

    def fail(self, *args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(LightBagel, "generate", fail)
    out = tmp_path / "out"
    assert main(["compose", "A circle, please.", "--out", str(out), "--model", str(folder), *QUICK]) == 130
    assert f"what was made until then is in {out / 'composition.html'}" in capsys.readouterr().err
    assert "Now:" in (out / "composition.md").read_text("utf-8")


def test_what_the_vlm_said_does_not_move_the_cursor(model, tmp_path, capsys, monkeypatch):
    def compose(self, request, pictures, tries, **how):
        warnings.warn("the picture is kept, for it said \x1b[2J\u202eno", UserWarning, stacklevel=2)
        return SimpleNamespace(save=lambda folder: folder)

    monkeypatch.setattr(LightBagel, "compose", compose)
    assert main(["compose", "Blue, please.", "--out", str(tmp_path / "out"), "--model", model, *QUICK]) == 0
    assert capsys.readouterr().err.endswith("lightbagel: the picture is kept, for it said [2Jno\n")
