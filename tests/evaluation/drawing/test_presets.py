"""The authors' settings are those of their paper and scripts."""

from __future__ import annotations

import pytest

from lightbagel_core.evaluation.drawing.presets import Drawing, authors


def test_the_authors_settings(nano):
    asked, negative, seed = authors(editing=False)
    settings = nano.settings(**asked)
    assert (settings.width, settings.height, settings.steps, settings.solver) == (1024, 1024, 50, "unipc")
    assert (settings.shift, settings.text_guidance, settings.renorm) == (4.0, 3.0, "none")
    assert seed == 42
    assert "low quality" in negative
    edits, same, _ = authors(editing=True)
    assert same == negative
    assert edits["image_guidance"] == 1.0
    assert "width" not in edits  # an edit has its source's size


def test_a_history_is_recorded_only_where_there_is_one():
    """A run that was begun before there was any goes on."""
    assert "history" not in Drawing(1, 1).to_dict()
    assert Drawing(1, 1, history=1).to_dict() == {**Drawing(1, 1).to_dict(), "history": 1}


def test_no_picture_and_no_batch_are_refused():
    for samples, batch in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="samples and batch must be at least 1"):
            Drawing(samples, batch)
