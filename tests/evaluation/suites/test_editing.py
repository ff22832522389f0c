"""nano-imgedit: its prompts say what their truth says, and pictures made by hand get the figures they should."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
from scenes import PAIR, RED

from lightbagel_core.evaluation.bench import Files
from lightbagel_core.evaluation.suites import editing
from lightbagel_core.evaluation.suites.checks import CASES, Change, judge
from lightbagel_core.evaluation.suites.truth import FILE, fresh, read_truth, scene_of_dict, seen_in, write_picture
from lightbagel_core.world.arrangements import gap
from lightbagel_core.world.scenes import COLOURS, PLACES, RADIUS, SHAPES, Scene
from lightbagel_core.world.sentences import PLACE_PHRASE

WORDS = {*SHAPES, *COLOURS, *RADIUS}


@pytest.fixture(scope="module")
def edits():
    """Edits of each kind, usual and crowded ones: (kind, source, words, changes)."""
    rng = fresh(editing.NAME, 7)
    each = [(kind, crowded) for kind in editing.KINDS for crowded in (False, True) for _ in range(40)]
    return [(kind, *editing.random_edit(rng, kind, crowded)) for kind, crowded in each]


@pytest.fixture
def files(tmp_path):
    editing.write_prompts(tmp_path / "out" / "prompts", 16, (1,))
    return Files(tmp_path / "out" / "prompts", tmp_path / "out")


def pictures(files: Files, which: str) -> None:
    """Gives every edit the picture of its source ("before") or of what is wanted ("after")."""
    for key, known in read_truth(files.prompts).items():
        write_picture(files.out, f"{key}.png", scene_of_dict(known[which]))


def test_every_edit_changes_what_it_says_and_can_be_told(edits):
    for _, source, words, changes in edits:
        after = source
        for change in changes:
            after = change.apply(after)
        assert judge(changes, source, after).right, words
        nothing = judge(changes, source, source)
        assert (nothing.done, nothing.kept) == (False, True), words
        assert all(t.colour != after.background for t in after.things)


def test_nothing_touches_before_or_after(edits):
    for _, source, words, changes in edits[::12]:
        after = changes[0].apply(source)
        for scene in (source, after):
            assert all(gap(a, b) > 1 for a, b in combinations(scene.things, 2)), words


def test_the_words_name_one_thing_and_what_is_wanted_of_it(edits):
    """Read back by another rule than the one that wrote them: every word must hold of the thing that changes."""
    for kind, source, words, changes in edits:
        parts = words.split(" and ") if kind == "compose" else [words]
        assert len(parts) == len(changes)
        assert len({change.place for change in changes}) == len(changes)  # different things, or a thing and the rest
        for part, change in zip(parts, changes, strict=True):
            assert all(value in part.split() for value in change.wanted.values()), part
            if change.kind == "background":
                assert part == f"change the background to {change.wanted['background']}"
            elif change.kind == "add":
                assert part.endswith(PLACE_PHRASE[change.place])
                assert all(t.place != change.place for t in source.things)
            else:
                place = next((p for p in PLACES if part.find(PLACE_PHRASE[p]) > 0), None)
                said = part.split(" with ")[0].split()
                said = said[:-1] if said[0] == "make" else said
                meant = [t for t in source.things if {t.shape, t.colour, t.size} >= WORDS & set(said)]
                assert [t.place for t in meant if place in (None, t.place)] == [change.place], words


def test_usual_pictures_have_one_thing_or_two_and_crowded_ones_three():
    rng = fresh(editing.NAME, 8)
    for kind in editing.KINDS:
        for crowded in (False, True):
            for _ in range(20):
                source, words, changes = editing.random_edit(rng, kind, crowded)
                after = source
                for change in changes:
                    after = change.apply(after)
                assert (max(len(source.things), len(after.things)) > 2) == crowded, words


def test_every_hard_case_is_there(edits):
    found = Counter(case for _, source, _, changes in edits for case in editing.cases(changes, source))
    assert set(found) == set(CASES)
    assert min(found.values()) >= 10


def test_pictures_that_are_right_and_pictures_of_nothing_done(files):
    pictures(files, "after")
    scores = editing.score(files)
    assert {score.value for score in (*scores.overall.values(), *scores.groups.values())} == {1.0}
    assert set(editing.CLASSES) <= set(scores.groups)
    assert {score.n for score in scores.overall.values()} == {14}  # the two crowded ones are in no mean
    pictures(files, "before")
    scores = editing.score(files)
    assert {name.partition(",")[0]: score.value for name, score in scores.overall.items()} == {
        "right": 0.0,
        "done": 0.0,
        "kept": 1.0,
    }
    assert len(scores.worst) == 16
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
        alone += set(moved) == set(after.things) and known["class"] != editing.CROWDED
    figures = editing.score(files).overall
    assert figures["done, all edits"].value == 1.0
    assert figures["kept, all edits"].value == pytest.approx(alone / 14)


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
    assert {score.n for score in scores.overall.values()} == {14}
    assert scores.overall["right, all edits"].value == pytest.approx(11 / 14)
    assert (scores.groups["add"].value, scores.groups["add"].n, scores.missing) == (0.5, 2, 3)
    assert any(note.startswith("3 items of truth.json have no row") for note in scores.notes)


@pytest.mark.parametrize(("key", "value"), [("class", None), ("class", "swap"), ("cases", None), ("cases", ["none"])])
def test_truth_without_what_an_edit_counts_for_is_refused(files, key, value):
    truth = read_truth(files.prompts)
    truth["1-0003"][key] = value
    (files.prompts / FILE).write_text(json.dumps(truth), "utf-8")
    with pytest.raises(ValueError, match=rf"truth\.json, '1-0003', has no '{key}"):
        editing.score(files)


def test_the_layout_is_imgedits(files):
    prompts = json.loads((files.prompts / "basic_edit.json").read_text("utf-8"))
    assert len(prompts) == 16
    assert {tuple(row) for row in prompts.values()} == {("id", "prompt", "edit_type")}
    items = editing.BENCH.read(replace(files, prompts=files.prompts / "basic_edit.json"), 1).items
    assert [str(item.files[0][0]) for item in items] == [f"{key}.png" for key in prompts]
    for item in items:
        assert (files.prompts / prompts[item.id]["id"]).is_file()
        (source,) = item.sources
        assert source.open().size == (128, 128)


def test_the_sources_are_what_the_truth_says(files):
    prompts = json.loads((files.prompts / "basic_edit.json").read_text("utf-8"))
    for key, known in read_truth(files.prompts).items():
        seen, _ = seen_in(files.prompts / prompts[key]["id"])
        assert seen == scene_of_dict(known["before"]).ordered()


def test_prompts_are_the_same_bytes_everywhere(tmp_path):
    editing.write_prompts(tmp_path, 32, (1, 2))
    content = (tmp_path / editing.PROMPTS).read_bytes() + (tmp_path / FILE).read_bytes()
    assert hashlib.sha256(content).hexdigest()[:16] == "b8300725c4e26de7"


def test_truth_of_other_prompts_is_refused(files, tmp_path):
    (files.prompts / FILE).write_text("{}", "utf-8")
    with pytest.raises(ValueError, match="other prompts"):
        editing.score(files)


def test_what_cannot_be_told_is_drawn_again():
    assert not editing.fits(Scene("yellow", (replace(RED, colour="yellow"),)))
    assert not editing.fits(Scene("white", (RED, replace(RED, place="centre"))))
    assert editing.fits(PAIR)
    with pytest.raises(ValueError, match="named already"):
        editing.change_of(fresh(editing.NAME, 1), "remove", Scene("white", (RED,)), PAIR, ["left"])
    assert Change("remove", "left", {}).apply(Scene("white", (RED,))) == Scene("white")
