"""nano-imgedit: its prompts say what their truth says, and pictures made by hand get the figures they should."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from instructions import as_set, asked

from lightbagel_core.evaluation.bench import Files
from lightbagel_core.evaluation.suites import editing
from lightbagel_core.evaluation.suites.checks import CASES, judge
from lightbagel_core.evaluation.suites.truth import FILE, read_truth, scene_of_dict, seen_in, write_picture
from lightbagel_core.world.arrangements import fits
from lightbagel_core.world.edits import ATTRIBUTES, Change

USUAL = 2 * len(editing.KINDS)  # edits of `files` that are in the means
LAST = 2 * len(editing.APART)


@pytest.fixture
def files(tmp_path):
    editing.write_prompts(tmp_path / "out" / "prompts", 2 * len(editing.CLASSES), (1,))
    return Files(tmp_path / "out" / "prompts", tmp_path / "out")


def pictures(files: Files, which: str) -> None:
    """Gives every edit the picture of its source ("before") or of what is wanted ("after")."""
    for key, known in read_truth(files.prompts).items():
        write_picture(files.out, f"{key}.png", scene_of_dict(known[which]))


def prompts_of(folder: Path) -> dict[str, dict[str, str]]:
    return json.loads((folder / editing.PROMPTS).read_text("utf-8"))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """(The prompts of 20 edits of each class; the scene before and the changes of each; its class)."""
    folder = tmp_path_factory.mktemp("many")
    editing.write_prompts(folder, 20 * len(editing.CLASSES), (7,))
    truth = read_truth(folder)
    scenes = {key: scene_of_dict(known["before"]) for key, known in truth.items()}
    changes = {key: [Change(**change) for change in known["changes"]] for key, known in truth.items()}
    return prompts_of(folder), scenes, changes, truth


def test_the_words_ask_for_what_the_truth_says(many):
    """Read by another rule than the one that wrote them."""
    prompts, scenes, changes, truth = many
    for key, before in scenes.items():
        if truth[key]["class"] != editing.PAIR:
            called = {"it": before.things[0].place} if len(before.things) == 1 else {}
            assert asked(prompts[key]["prompt"], before, **called) == as_set(changes[key])


def test_every_edit_can_be_told(many):
    _, scenes, changes, truth = many
    for key, before in scenes.items():
        after = scene_of_dict(truth[key]["after"])
        assert judge(changes[key], before, after).right
        nothing = judge(changes[key], before, before)
        assert (nothing.done, nothing.kept) == (False, True)
        assert fits(after)


def test_usual_pictures_have_one_thing_or_two_and_crowded_ones_three_or_four(many):
    _, scenes, _, truth = many
    for key, before in scenes.items():
        most, name = (
            max(len(scene.things) for scene in (before, scene_of_dict(truth[key]["after"]))),
            truth[key]["class"],
        )
        assert name == editing.PAIR or (most > 2) == (name == editing.CROWDED)
    crowded = [truth[key]["class"] == editing.CROWDED for key in scenes]
    assert sum(crowded) == 20


def test_crowded_edits_are_of_every_kind(many):
    prompts, _, _, truth = many
    kinds = Counter(prompts[key]["edit_type"] for key in prompts if truth[key]["class"] == editing.CROWDED)
    assert set(kinds) == set(editing.KINDS)
    assert all(
        prompts[key]["edit_type"] == truth[key]["class"] for key in prompts if truth[key]["class"] != editing.CROWDED
    )


def test_every_hard_case_is_there(many):
    _, scenes, changes, truth = many
    found = Counter(case for key, before in scenes.items() for case in editing.cases(changes[key], before))
    assert set(found) == set(CASES)
    assert min(found.values()) >= 2
    assert all(tuple(truth[key]["cases"]) == editing.cases(changes[key], before) for key, before in scenes.items())


def test_pictures_that_are_right_and_pictures_of_nothing_done(files):
    pictures(files, "after")
    scores = editing.score(files)
    assert {score.value for score in (*scores.overall.values(), *scores.groups.values())} == {1.0}
    assert set(editing.CLASSES) <= set(scores.groups)
    assert {score.n for score in scores.overall.values()} == {USUAL}  # those of `APART` are in no mean
    pictures(files, "before")
    scores = editing.score(files)
    assert {name.partition(",")[0]: score.value for name, score in scores.overall.items()} == {
        "right": 0.0,
        "done": 0.0,
        "kept": 1.0,
    }
    assert len(scores.worst) == USUAL + LAST
    assert {worst.score for worst in scores.worst} == {0.5}
    assert scores.worst[0].pictures == ("prompts/add/1-0000.png", "1-0000.png")
    assert all((files.out / name).is_file() for worst in scores.worst for name in worst.pictures)


def test_done_without_kept(files):
    """Every picture shows what is wanted, but something has moved by three pixels."""
    alone = 0  # pictures in which there was nothing to move
    for key, known in read_truth(files.prompts).items():
        after = scene_of_dict(known["after"])
        named = {change["place"] for change in known["changes"] if change["kind"] == "add"}
        moved = [t if t.place in named else replace(t, dx=t.dx + (3 if t.dx <= 0 else -3)) for t in after.things]
        write_picture(files.out, f"{key}.png", replace(after, things=tuple(moved)))
        alone += set(moved) == set(after.things) and known["class"] in editing.KINDS
    figures = editing.score(files).overall
    assert figures["done, all edits"].value == 1.0
    assert figures["kept, all edits"].value == pytest.approx(alone / USUAL)


def test_types_count_the_same_in_one_mean_and_edits_in_the_other():
    rows = [
        {"id": "a", "group": group, "cases": cases, "right": right, "done": True, "kept": right, "missing": False}
        | {"prompt": "", "reason": "", "pictures": []}
        for group, cases, right in (
            ("add", ["one thing"], True),
            ("add", ["one thing"], True),
            ("add", ["two things", "two of one shape"], True),
            ("remove", ["two things"], False),
            ("crowded", ["three things"], False),
        )
    ]
    scores = editing.scores_of(rows)
    assert scores.overall["right, mean of types"].value == 0.5
    assert scores.overall["right, all edits"].value == 0.75
    assert scores.groups["two things"].value == 0.5
    assert (scores.groups["two things: done"].value, scores.groups["two of one shape"].n) == (1.0, 1)
    assert (scores.groups["crowded"].value, scores.groups["three things"].n) == (0.0, 1)


def test_a_lacking_picture_is_wrong_in_every_figure(files):
    pictures(files, "after")
    (files.out / "1-0000.png").unlink()
    scores = editing.score(files)
    assert scores.missing == 1
    assert (scores.groups["add"].value, scores.groups["add: kept"].value) == (0.5, 0.5)
    lines = (files.out / "results.jsonl").read_text("utf-8").splitlines()
    assert json.loads(lines[0])["reason"] == "it was not drawn"


def test_an_edit_whose_prompt_cannot_be_used_is_wrong(files):
    pictures(files, "after")
    prompts = json.loads((files.prompts / editing.PROMPTS).read_text("utf-8"))
    prompts["1-0000"]["prompt"], prompts["1-0001"]["id"] = "", "../a.png"
    del prompts["1-0002"]
    (files.prompts / editing.PROMPTS).write_text(json.dumps(prompts), "utf-8")
    scores = editing.score(files)
    assert {score.n for score in scores.overall.values()} == {USUAL}
    assert scores.overall["right, all edits"].value == pytest.approx((USUAL - 3) / USUAL)
    assert (scores.groups["add"].value, scores.groups["add"].n, scores.missing) == (0.5, 2, 3)
    assert any(note.startswith("3 items of truth.json have no row") for note in scores.notes)


@pytest.mark.parametrize(("key", "value"), [("class", None), ("class", "juggle"), ("cases", None), ("cases", ["none"])])
def test_truth_without_what_an_edit_counts_for_is_refused(files, key, value):
    truth = read_truth(files.prompts)
    truth["1-0003"][key] = value
    (files.prompts / FILE).write_text(json.dumps(truth), "utf-8")
    with pytest.raises(ValueError, match=rf"truth\.json, '1-0003', has no '{key}"):
        editing.score(files)


def test_the_layout_is_imgedits(files):
    prompts = json.loads((files.prompts / "basic_edit.json").read_text("utf-8"))
    assert len(prompts) == USUAL + LAST
    alone, both = ("id", "prompt", "edit_type"), ("id", "prompt", "edit_type", "second")
    assert Counter(tuple(row) for row in prompts.values()) == {alone: USUAL + LAST - 2, both: 2}
    items = editing.BENCH.read(replace(files, prompts=files.prompts / "basic_edit.json"), 1).items
    assert [str(item.files[0][0]) for item in items] == [f"{key}.png" for key in prompts]
    for item in items:
        assert (files.prompts / prompts[item.id]["id"]).is_file()
        assert len(item.sources) == 1 + ("second" in prompts[item.id])
        assert {source.open().size for source in item.sources} == {(128, 128)}


def test_the_sources_are_what_the_truth_says(files):
    prompts = json.loads((files.prompts / "basic_edit.json").read_text("utf-8"))
    for key, known in read_truth(files.prompts).items():
        names = [prompts[key][name] for name in ("id", "second") if name in prompts[key]]
        seen = [seen_in(files.prompts / name)[0] for name in names]
        assert scene_of_dict(known["before"]).ordered() in seen


def test_what_is_wanted_of_a_second_picture_is_there(many, tmp_path):
    """Either of the two may be the one that is edited."""
    editing.write_prompts(tmp_path, 20 * len(editing.CLASSES), (7,))
    prompts, scenes, changes, _ = many
    edited = Counter()
    for key, row in prompts.items():
        if "second" in row:
            seen = [seen_in(tmp_path / row[name])[0] for name in ("id", "second")]
            which = seen.index(scenes[key].ordered())
            edited[which] += 1
            (change,) = changes[key]
            other = seen[1 - which]
            there = {t.place: t for t in other.things}.get(change.place)
            wanted = (
                {"background": other.background}
                if there is None
                else dict(zip(ATTRIBUTES, there.attributes, strict=False))
            )
            assert change.wanted == wanted
    assert set(edited) == {0, 1}


def test_a_second_picture_from_elsewhere_cannot_be_used(files):
    prompts = prompts_of(files.prompts)
    pairs = [key for key, row in prompts.items() if "second" in row]
    prompts[pairs[0]]["second"] = "../a.png"
    (files.prompts / editing.PROMPTS).write_text(json.dumps(prompts), "utf-8")
    reading = editing.read(files, 1)
    assert pairs[0] not in {item.id for item in reading.items}
    assert len(reading.items) == len(prompts) - 1
    (said,) = reading.unusable
    assert said.startswith(f"basic_edit.json, key '{pairs[0]}'")


def test_prompts_are_the_same_bytes_everywhere(tmp_path):
    editing.write_prompts(tmp_path, 32, (1, 2))
    content = (tmp_path / editing.PROMPTS).read_bytes() + (tmp_path / FILE).read_bytes()
    assert hashlib.sha256(content).hexdigest()[:16] == "492ad7f2fa395c17"


def test_truth_of_other_prompts_is_refused(files, tmp_path):
    (files.prompts / FILE).write_text("{}", "utf-8")
    with pytest.raises(ValueError, match="other prompts"):
        editing.score(files)
