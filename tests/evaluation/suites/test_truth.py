"""What the suites share: pictures read back, files of the same bytes, figures of rows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import PurePosixPath

import numpy as np
import pytest
from PIL import Image
from scenes import PAIR, PICTURE

from lightbagel_core.evaluation.items import Item
from lightbagel_core.evaluation.statistics import bootstrap, mean_of_means
from lightbagel_core.evaluation.suites import truth
from lightbagel_core.world.arrangements import random_scene
from lightbagel_core.world.edits import Change
from lightbagel_core.world.reader import same_spot

GREEN = Change("recolour", "left", {"colour": "green"})
ITEM = Item("1-0000", "add", ("add a cat",), ((PurePosixPath("1-0000.png"),),))


def rows(*right: int, **more: object) -> list[truth.Row]:
    return [{"id": str(i), "right": bool(r), "missing": 0, **more} for i, r in enumerate(right)]


def test_a_picture_is_read_from_its_file_at_any_size(tmp_path):
    PICTURE.resize((256, 256), Image.Resampling.NEAREST).save(tmp_path / "a.png")
    assert truth.seen_in(tmp_path / "a.png") == (PAIR, "")
    small = PICTURE.resize((96, 96), Image.Resampling.BICUBIC)
    small.save(tmp_path / "c.png")
    assert truth.seen_in(tmp_path / "c.png") == (PAIR, "")
    Image.effect_noise((128, 128), 90).save(tmp_path / "b.png")
    assert truth.seen_in(tmp_path / "b.png") == (None, "")


@pytest.mark.parametrize("side", [96, 128, 192, 256, 384])
def test_scenes_of_up_to_four_things_are_read_at_any_size(side):
    rng = np.random.default_rng(side)
    for _ in range(40):
        scene = random_scene(rng)
        image = truth.picture(scene).resize((side, side), Image.Resampling.BICUBIC)
        assert same_spot(scene, truth.read_picture(image), tolerance=1)


@pytest.mark.parametrize(("size", "how"), [((64, 64), "BICUBIC"), ((96, 200), "BICUBIC"), ((200, 256), "BOX")])
def test_a_larger_picture_is_averaged_and_a_smaller_one_has_soft_edges(monkeypatch, size, how):
    found = []
    monkeypatch.setattr(Image.Image, "resize", lambda self, to, resample: found.append((to, resample)) or PICTURE)
    truth.read_picture(Image.new("RGB", size))
    assert found == [((128, 128), Image.Resampling[how])]


def test_a_file_that_is_no_picture_says_so(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    seen, problem = truth.seen_in(tmp_path / "a.png")
    assert seen is None
    assert problem == "a.png is not an image this can read; convert it to PNG or JPEG"


def test_a_scene_is_the_same_after_a_file(tmp_path):
    truth.write(tmp_path, truth.FILE, {"1-0000": {"before": asdict(PAIR), "changes": [asdict(GREEN)], "class": "add"}})
    before, changes, known = truth.truth_of(truth.read_truth(tmp_path), ITEM)
    assert (before, changes, known["class"]) == (PAIR, [GREEN], "add")
    truth.write_picture(tmp_path, "add/a.png", PAIR)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "add" / "a.png")), np.asarray(PICTURE))


def test_rows_are_written_one_a_line_with_newlines_as_they_are_everywhere(tmp_path):
    truth.write(tmp_path, "a.jsonl", [{"a": 1}, {"a": "é"}])
    assert (tmp_path / "a.jsonl").read_bytes() == b'{"a": 1}\n{"a": "\\u00e9"}\n'


ROW = {"before": asdict(PAIR), "changes": [asdict(GREEN)], "class": "add"}


@pytest.mark.parametrize(
    "row",
    [
        None,
        [],
        {},
        {**ROW, "before": None},
        {**ROW, "before": {"background": "white"}},
        {**ROW, "before": {"background": ["white"], "things": []}},
        {**ROW, "before": {"background": "white", "things": [{"shape": "circle"}]}},
        {**ROW, "before": {"background": "white", "things": [{**asdict(PAIR)["things"][0], "place": "moon"}]}},
        {**ROW, "before": {"background": "white", "things": [{**asdict(PAIR)["things"][0], "dx": "1"}]}},
        {**ROW, "changes": []},
        {**ROW, "changes": "recolour"},
        {**ROW, "changes": [{"kind": "recolour"}]},
        {**ROW, "changes": [{**asdict(GREEN), "kind": ["recolour"]}]},
        {**ROW, "changes": [{**asdict(GREEN), "place": "moon"}]},
        {**ROW, "changes": [{**asdict(GREEN), "wanted": {"weight": "1"}}]},
        {**ROW, "changes": [{**asdict(GREEN), "kind": "add"}]},
    ],
)
def test_damaged_truth_is_said_with_its_file_and_item(row):
    with pytest.raises(ValueError, match=r"truth\.json, '1-0000', is damaged: .*write it anew"):
        truth.truth_of({"1-0000": row}, ITEM)


@pytest.mark.parametrize("row", [None, {}, {"class": "swap"}, {"class": ["add"]}])
def test_an_item_of_no_class_is_refused(row):
    assert truth.class_of(ROW, "a", ("add", "remove")) == "add"
    with pytest.raises(ValueError, match=r"truth\.json, 'a', has no 'class'"):
        truth.class_of(row, "a", ("add", "remove"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "has no truth.json"), ("{", "is damaged"), ("[]", "holds no object"), ("{}", "belongs to other prompts")],
)
def test_truth_that_cannot_be_used_is_refused_in_words(tmp_path, content, reason):
    if content is not None:
        (tmp_path / truth.FILE).write_text(content, "utf-8")
    with pytest.raises(ValueError, match=reason):
        truth.truth_of(truth.read_truth(tmp_path), ITEM)


def test_the_random_numbers_of_suites_and_seeds_differ():
    first = {truth.fresh(suite, seed).integers(2**40) for suite in truth.SUITES for seed in (1, 2)}
    assert len(first) == 8


def test_why_a_picture_is_missing_is_what_the_drawing_noted(tmp_path):
    assert truth.why_missing(ITEM, tmp_path) == "it was not drawn"
    (tmp_path / "not-drawn").mkdir()
    (tmp_path / "not-drawn" / "1-0000.txt").write_text("this model does not know: cat.\n", "utf-8")
    assert truth.why_missing(ITEM, tmp_path) == "this model does not know: cat."


def test_pictures_that_are_there_are_shown_below_the_runs_folder(tmp_path):
    for name in ("out/a.png", "b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    out = tmp_path / "out"
    assert truth.shown(out, out / "a.png", out / "lacking.png", tmp_path / "b.png") == ["a.png"]


def test_every_group_counts_the_same_in_a_mean():
    score = truth.mean_share({"a": rows(1, 1, 1, 1), "b": rows(0), "none": []})
    assert (score.value, score.n) == (0.5, 5)


def test_a_means_interval_is_the_bootstraps_where_that_has_one():
    groups = {"a": rows(*[1] * 60, *[0] * 40), "b": rows(*[1] * 50, *[0] * 150), "c": rows(*[1] * 30, *[0] * 30)}
    score = truth.mean_share(groups)
    values = {name: [[float(row["right"])] for row in some] for name, some in groups.items()}
    other = bootstrap(values, mean_of_means)
    assert score.value == other.value
    assert score.low == pytest.approx(other.low, abs=0.01)
    assert score.high == pytest.approx(other.high, abs=0.01)


def test_a_means_interval_has_a_width_where_nothing_varies():
    score = truth.mean_share({"a": rows(*[0] * 20), "b": rows(*[0] * 20)})
    one = truth.share(rows(*[0] * 20))
    assert (score.value, score.low) == (0.0, 0.0)
    assert score.high == pytest.approx(one.high / 2**0.5)


def test_the_worst_come_first_and_only_with_pictures():
    some = rows(0, 1, 0, 0, done=False, kept=True, prompt="", reason="", pictures=["a.png"])
    some[2]["kept"] = False
    some[3]["pictures"] = []
    assert [(one.id, one.score) for one in truth.worst_of(some, "done", "kept")] == [("2", 0.0), ("0", 0.5)]


def test_prompts_that_cannot_be_said_are_counted():
    assert len(truth.notes_on(rows(1, 0, reason=""))) == 1
    unknown = rows(0, reason="this model does not know: cat. The words it knows: a") + rows(1, reason="")
    unknown[0]["missing"] = 1
    _, note = truth.notes_on(unknown)
    assert note.startswith("1 of 2 prompts")
