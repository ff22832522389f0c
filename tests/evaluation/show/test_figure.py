"""Figures: the file is a picture that holds every run, and nothing else is left behind."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from invented import geneval, imgedit, run
from PIL import Image, ImageColor

from lightbagel_core.evaluation.show import figure
from lightbagel_core.evaluation.show.figure import STYLES, write_figure

pytest.importorskip("matplotlib")


@pytest.fixture
def texts(monkeypatch):
    """Every text of the figures that are drawn."""
    from matplotlib.text import Text

    seen: list[str] = []

    def draw(self, *args, **kwargs):
        seen.append(self.get_text())
        assert not self.get_parse_math(), "a dollar in a name is a dollar"
        return before(self, *args, **kwargs)

    before = Text.draw
    monkeypatch.setattr(Text, "draw", draw)
    return seen


def colours(file):
    """How many pixels of a picture have each colour."""
    with Image.open(file) as image:
        return {colour: count for count, colour in image.convert("RGB").getcolors(1 << 24)}


def test_four_runs_of_two_benches(tmp_path, texts):
    names = ["first", "second_run", "a$b$", "x" * 80]
    runs = [run(name, scores) for name in names for scores in (geneval(missing=2), imgedit())]
    write_figure(tmp_path / "figure.png", runs)
    assert os.listdir(tmp_path) == ["figure.png"]
    image = Image.open(tmp_path / "figure.png")
    assert image.format == "PNG"
    assert image.width > 1000
    assert image.getpixel((0, 0))[:3] == (255, 255, 255)
    seen = colours(tmp_path / "figure.png")
    for index, (colour, _) in enumerate(STYLES):
        assert (seen.get(ImageColor.getrgb(colour), 0) > 500) == (index < 4)
    for text in ("4 runs compared", "GenEval", "ImgEdit Basic", "first", "second_run", "a$b$", "the paper"):
        assert text in texts
    assert any(text.startswith("x" * 40) and text.endswith("…") for text in texts)
    assert "share, 0 to 1 · 8 pictures missing, counted with the lowest score" in texts
    assert {"0.575", "1,600", "0.91", "3.72*", "compose (paper: hybrid)", "single object", "n"} <= set(texts)
    assert any("95 % intervals, of which the table says" in text and "arXiv 2510.22946" in text for text in texts)


def test_one_run_without_a_paper_needs_no_key(tmp_path, texts):
    write_figure(tmp_path / "figure.png", [run("nano", geneval("nano-geneval"))], {"nano-geneval": "Own"}, "How good")
    assert {"How good", "Own"} <= set(texts)
    assert not {"nano", "the paper", "paper"} & set(texts)


def test_a_name_in_another_script_is_drawn_or_marked(tmp_path, texts, monkeypatch):
    monkeypatch.setattr("lightbagel_core.evaluation.show.fonts._of_system", list)
    write_figure(tmp_path / "figure.png", [run("红色", geneval()), run("b", geneval())])
    assert "?" in texts
    assert not any("红" in text for text in texts)


def test_parts_of_groups_are_left_to_the_table_where_rows_are_many(tmp_path, texts):
    scores = geneval("own")
    parts = {f"{tag}: {part}": score for tag, score in scores.groups.items() for part in ("done", "kept")}
    few = dict(list(parts.items())[:9])
    for groups, finer in (
        ({**scores.groups, **few}, 0),
        ({**scores.groups, **parts, "alone: in name": few.popitem()[1]}, 12),
    ):
        texts.clear()
        write_figure(tmp_path / "figure.png", [run("a", type(scores)("own", "share", scores.overall, groups))])
        assert ("single object: done" in texts) == (not finer)
        assert "single object" in texts
        assert ("alone: in name" in texts) == bool(finer)
        assert (f"share, 0 to 1 · {finer} finer figures stand in the table" in texts) == bool(finer)


def test_panels_go_where_there_is_room():
    places, ends = figure._places([4, 2, 1, 1], 2)
    assert places == [(0, 0), (1, 0), (1, 2), (1, 3)]
    assert ends == [4, 4]


def test_a_key_is_broken_into_lines():
    entries = [(None, "a" * 20)] * 5
    lines = figure._lines(entries, 6)
    assert [len(line) for line in lines] == [2, 2, 1]
    assert figure._lines(entries[:1], 1) == [entries[:1]]


@pytest.mark.parametrize(("count", "message"), [(0, "no run"), (7, "at most 6 runs, these are 7")])
def test_too_few_or_too_many_runs_are_a_sentence(tmp_path, count, message):
    with pytest.raises(ValueError, match=message):
        write_figure(tmp_path / "figure.png", [run(str(i), geneval()) for i in range(count)])
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        write_figure(tmp_path / "none" / "figure.png", [run("a", geneval())])


def test_without_matplotlib_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match="need matplotlib: pip install matplotlib"):
        write_figure(tmp_path / "figure.png", [run("a", geneval())])


def test_a_users_own_settings_of_matplotlib_are_left_alone(tmp_path):
    import matplotlib

    with matplotlib.rc_context({"font.size": 31, "text.usetex": True}):
        write_figure(tmp_path / "figure.png", [run("a", geneval())])
        assert matplotlib.rcParams["font.size"] == 31
        assert matplotlib.rcParams["text.usetex"]


def test_no_display_is_asked_for():
    """Nor is matplotlib imported before a figure is drawn."""
    code = "import sys, lightbagel_core.evaluation.show.figure; print('matplotlib' in sys.modules)"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "False"
    assert "pyplot" not in vars(figure)
