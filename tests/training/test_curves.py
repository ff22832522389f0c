"""The picture of a record: every figure of it is on some axis, at its step, and the file is whole or not there."""

from __future__ import annotations

import builtins
import os

import numpy as np
import pytest
from PIL import Image

from lightbagel_core.training.curves import check_matplotlib, panels, running_mean, write_curves
from lightbagel_core.training.journal import Record

pytest.importorskip("matplotlib")

STEPS = range(1, 41)


def record(note: str = "", resumed: bool = True) -> Record:
    lines = [{"kind": "start", "step": 0}]
    for step in STEPS:
        lines.append({"kind": "step", "step": step, "loss": 100.0 / step, "lr": 1e-5 * step, "seconds": 180 * step})
        if step == 20 and resumed:
            lines.append({"kind": "start", "step": step})
        if step % 10 == 0:
            suites = {"nano-geneval": step / 100, "nano-imgedit": step / 50}
            lines.append({"kind": "validation", "step": step, "held_out": 0.5 + 1 / step, "suites": suites})
    return Record(lines, note)


@pytest.fixture
def figures(monkeypatch):
    """The figures that are written."""
    from matplotlib.figure import Figure

    seen = []
    before = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: seen.append(self) or before(self, *a, **k))
    return seen


def lines_of(axes):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def test_every_figure_is_drawn_at_its_step(tmp_path, figures):
    write_curves(tmp_path / "new" / "curves.png", record("the last line is torn"), "nano $1$")
    assert os.listdir(tmp_path / "new") == ["curves.png"]
    with Image.open(tmp_path / "new" / "curves.png") as image:
        assert image.format == "PNG"
        assert image.width > 1000
        assert min(image.convert("L").getdata()) < 60
    (figure,) = figures
    axes = {axis.get_title(loc="left"): axis for axis in figure.axes if axis.get_visible()}
    assert list(axes) == ["loss", "learning rate", "suites"], "there is no gradient norm in this record"
    loss = lines_of(axes["loss"])
    assert (list(STEPS), [100.0 / step for step in STEPS]) in loss.values()
    assert loss["held out"] == ([10, 20, 30, 40], [0.5 + 1 / step for step in (10, 20, 30, 40)])
    assert axes["loss"].get_yscale() == "log", "from 100 to 0.5"
    assert lines_of(axes["learning rate"])["rate"] == (list(STEPS), [1e-5 * step for step in STEPS])
    assert lines_of(axes["suites"])["nano-imgedit"] == ([10, 20, 30, 40], [0.2, 0.4, 0.6, 0.8])
    assert axes["suites"].get_ylim() == (0, 1)
    for axis in axes.values():
        assert any(list(line.get_xdata()) == [20, 20] for line in axis.lines), "where it was resumed"
        assert axis.get_xlim() == axes["loss"].get_xlim()
    texts = [text.get_text() for text in figure.texts if not text.get_parse_math()]
    assert texts == ["nano $1$", "40 steps in 2.0 hours, resumed once (dashed). The last line is torn."]


def test_a_mean_runs_over_the_values_before():
    values = np.random.default_rng(0).normal(size=1000)
    mean, width = running_mean(values)
    assert width == 20
    for at in (0, 1, 19, 20, 500, 999):
        assert mean[at] == pytest.approx(values[max(0, at - 19) : at + 1].mean())
    assert running_mean(values[:3])[1] == 10
    assert len(running_mean(values[:0])[0]) == 0


def test_what_is_no_number_is_left_out():
    lines = [
        {"kind": "step", "step": 1, "loss": None},
        {"kind": "step", "step": 2, "loss": 1.0, "gradient_norm": None},
        {"kind": "validation", "step": 2, "held_out": None, "suites": None},
    ]
    (panel,) = panels(Record(lines))
    assert panel.heading == "loss"
    assert [values.tolist() for values in panel.points["loss"]] == [[2], [1.0]]
    assert list(panel.points) == ["loss"]


@pytest.mark.parametrize("loss", [[], [1.0], [0.0, 1.0], [-1.0, 100.0]])
def test_a_record_of_little_is_a_picture_too(tmp_path, figures, loss):
    lines = [{"kind": "step", "step": step, "loss": value} for step, value in enumerate(loss)]
    write_curves(tmp_path / "curves.png", Record(lines))
    (figure,) = figures
    assert [axis.get_yscale() for axis in figure.axes] == ["linear"] * bool(loss)
    said = {0: "The record has no figures yet.", 1: "0 steps in 0 minutes.", 2: "1 step in 0 minutes."}
    assert figure.texts[1].get_text() == said[len(loss)]


def test_a_file_that_cannot_be_written_leaves_the_former(tmp_path, monkeypatch):
    write_curves(tmp_path / "curves.png", record())
    before = (tmp_path / "curves.png").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match=r"could not write .*curves.png: No space left"):
        write_curves(tmp_path / "curves.png", record(resumed=False))
    assert (tmp_path / "curves.png").read_bytes() == before
    assert os.listdir(tmp_path) == ["curves.png"]


def test_without_matplotlib_a_sentence_names_what_to_install(tmp_path, monkeypatch):
    imported = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    for act in (check_matplotlib, lambda: write_curves(tmp_path / "curves.png", record())):
        with pytest.raises(ValueError, match=r"need matplotlib: pip install 'lightbagel\[train\]'"):
            act()
