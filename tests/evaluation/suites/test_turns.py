"""nano-multiturn: chains of two turns, and pictures made by hand that get the figures they should."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from instructions import as_set, asked, plainly
from scenes import BLUE, PAIR, RED

from lightbagel_core.evaluation.bench import Files
from lightbagel_core.evaluation.suites import turns
from lightbagel_core.evaluation.suites.checks import judge
from lightbagel_core.evaluation.suites.truth import FILE, fresh, read_truth, scene_of_dict, write, write_picture
from lightbagel_core.world.edits import Change
from lightbagel_core.world.scenes import Scene
from lightbagel_core.world.stories import UNDO

GREEN = replace(RED, colour="green")
FIRST, SECOND = Change("recolour", "left", {"colour": "green"}), Change("remove", "right", {})
ONE, TWO = Scene("white", (GREEN, BLUE)), Scene("white", (GREEN,))
IT = Change("recolour", "left", {"colour": "yellow"})
MOVE = [SECOND, Change("add", "top", {"shape": "square", "colour": "blue", "size": "small"})]


def chain(tmp_path: Path, kind: str, changes: list[Change], one: Scene | None, two: Scene | None) -> turns.Row:
    """What became of one chain on PAIR, whose turns drew these scenes; None: nothing."""
    folder = tmp_path / "prompts"
    for other in turns.KINDS:
        write(folder, f"{other}.json", {})
    write(folder, f"{kind}.json", {"a": {"id": "a.png", "turn1": "make the circle green", "turn2": "and then"}})
    write(folder, FILE, {"a": {"before": asdict(PAIR), "changes": [asdict(change) for change in changes]}})
    write_picture(folder, "a.png", PAIR)
    for turn, scene in enumerate((one, two), 1):
        if scene is not None:
            write_picture(tmp_path, f"a_turn{turn}.png", scene)
    (row,) = turns.rows_of(Files(folder, tmp_path))
    return row


YELLOW = replace(RED, colour="yellow")
CHAINS = {  # kind, what is asked, pictures, turn 1 right, turn 2 right
    "both": ("memory", [FIRST, SECOND], ONE, TWO, True, True),
    "the first forgotten": ("memory", [FIRST, SECOND], ONE, Scene("white", (RED,)), True, False),
    "the second not done": ("memory", [FIRST, SECOND], ONE, ONE, True, False),
    "the first never done": ("memory", [FIRST, SECOND], PAIR, Scene("white", (RED,)), False, False),
    "the first done late": ("memory", [FIRST, SECOND], PAIR, TWO, False, False),
    "turn 1 spoilt the rest, turn 2 kept that": (
        "memory",
        [FIRST, SECOND],
        Scene("grey", (GREEN, BLUE)),
        Scene("grey", (GREEN,)),
        False,
        True,
    ),
    "a removed thing came back": (
        "memory",
        [SECOND, FIRST],
        Scene("white", (RED,)),
        ONE,
        True,
        False,
    ),
    "it": ("reference", [FIRST, IT], ONE, Scene("white", (YELLOW, BLUE)), True, True),
    "it, after turn 1 went wrong": ("reference", [FIRST, IT], PAIR, Scene("white", (YELLOW, BLUE)), False, True),
    "not it but the other": (
        "reference",
        [FIRST, IT],
        ONE,
        Scene("white", (GREEN, replace(BLUE, colour="yellow"))),
        True,
        False,
    ),
    "the other one": ("the other", [FIRST, SECOND], ONE, TWO, True, True),
    "it instead of the other one": ("the other", [FIRST, SECOND], ONE, Scene("white", (BLUE,)), True, False),
    "moved": ("memory", [FIRST, *MOVE], ONE, Scene("white", (GREEN, replace(BLUE, place="top"))), True, True),
    "moved, the first forgotten": (
        "memory",
        [FIRST, *MOVE],
        ONE,
        Scene("white", (RED, replace(BLUE, place="top"))),
        True,
        False,
    ),
    "only half moved": ("memory", [FIRST, *MOVE], ONE, TWO, True, False),
    "undone": ("backtracking", [FIRST], ONE, PAIR, True, True),
    "undone to two pixels": ("backtracking", [FIRST], ONE, Scene("white", (replace(RED, dx=2), BLUE)), True, True),
    "undone, but moved": ("backtracking", [FIRST], ONE, Scene("white", (replace(RED, dx=3), BLUE)), True, False),
    "not undone": ("backtracking", [FIRST], ONE, ONE, True, False),
}


@pytest.mark.parametrize(("kind", "asked", "one", "two", "first", "second"), CHAINS.values(), ids=CHAINS)
def test_the_turns_apart(tmp_path, kind, asked, one, two, first, second):
    row = chain(tmp_path, kind, asked, one, two)
    assert (row["turn 1"], row["turn 2"], row["right"]) == (first, second, first and second)
    assert bool(row["reason"]) is not row["right"]
    assert (row["group"], row["missing"]) == (kind, 0)
    assert row["pictures"][-2:] == ["a_turn1.png", "a_turn2.png"]


@pytest.mark.parametrize(("one", "missing", "first"), [(ONE, 1, True), (None, 2, False)])
def test_a_turn_that_was_not_drawn_is_wrong(tmp_path, one, missing, first):
    row = chain(tmp_path, "reference", [FIRST, IT], one, None)
    assert (row["turn 1"], row["turn 2"], row["missing"]) == (first, False, missing)
    assert "turn 2: it was not drawn" in row["reason"]


def test_turn_2_is_measured_where_turn_1_was_right():
    rows = [
        {"id": "a", "group": kind, "right": one and two, "turn 1": one, "turn 2": two, "missing": 0}
        | {"prompt": "", "reason": "", "pictures": []}
        for kind, one, two in (
            ("memory", True, True),
            ("memory", True, False),
            ("memory", False, True),
            ("memory", False, False),
            ("reference", False, True),
        )
    ]
    scores = turns.scores_of(rows)
    assert {name: score.value for name, score in scores.overall.items()} == {
        "both turns, mean of kinds": 0.125,
        "both turns": 0.2,
        "turn 1": 0.4,
        "turn 2 after a right turn 1": 0.5,
    }
    assert scores.groups["memory"].value == 0.25
    assert scores.groups["memory: turn 2 after a right turn 1"].n == 2
    assert "reference: turn 2 after a right turn 1" not in scores.groups  # none came so far
    assert scores.groups["reference"].value == 0.0


@pytest.mark.parametrize("kind", turns.KINDS)
def test_chains_are_what_their_kind_says(kind):
    rng = fresh(turns.NAME, 5)
    for _ in range(60):
        one = turns.random_chain(rng, kind)
        after = one.first.apply(one.source)
        assert judge([one.first], one.source, after).right
        assert max(len(one.source.things), len(after.things)) <= 2
        if kind == "backtracking":
            assert one.words[1] in UNDO
            assert one.second == ()
            continue
        last = after
        for change in one.second:
            last = change.apply(last)
        assert judge(one.second, after, last).right
        assert not judge(one.second, after, after).done
        assert len(last.things) <= 2
        places, said = {change.place for change in one.second}, plainly(one.words[1])
        if kind == "reference":
            assert places == {one.first.place}
            assert "it" in said.split()
        else:
            assert one.first.place not in places
        if kind == "the other":
            assert "the other one" in said
            assert {t.place for t in after.things} == places | {one.first.place}


def test_the_words_ask_for_what_is_judged():
    """Read by another rule than the one that wrote them; words without their articles cannot be read so."""
    rng, unread = fresh(turns.NAME, 6), 0
    for kind in turns.KINDS:
        for _ in range(60):
            one = turns.random_chain(rng, kind)
            after = one.first.apply(one.source)
            alone = {"it": one.source.things[0].place} if len(one.source.things) == 1 else {}
            assert asked(one.words[0], one.source, **alone) == as_set([one.first])
            if kind == "backtracking":
                continue
            here = {"it": one.first.place} if kind == "reference" else {}
            if kind == "memory" and len(after.things) == 1:
                here = {"it": after.things[0].place}
            if kind == "the other":
                here = {"other": next(t.place for t in after.things if t.place != one.first.place)}
            words = plainly(one.words[1])
            if kind == "memory" and not {"a", "the"} & set(words.split()):
                unread += 1
                continue
            assert asked(words, after, **here) == as_set(one.second), one.words
    assert unread < 15


def test_turn_2_is_drawn_after_turn_1():
    assert turns.BENCH.history == 1


def test_a_suite_of_right_pictures(tmp_path):
    turns.write_prompts(tmp_path / "prompts", 12, (1, 2))
    files = Files(tmp_path / "prompts", tmp_path)
    for key, known in read_truth(files.prompts).items():
        source = scene_of_dict(known["before"])
        write_picture(tmp_path, f"{key}_turn1.png", Change(**known["changes"][0]).apply(source))
        write_picture(tmp_path, f"{key}_turn2.png", scene_of_dict(known["after"]))
    scores = turns.score(files)
    assert {score.value for score in (*scores.overall.values(), *scores.groups.values())} == {1.0}
    assert [score.n for score in scores.overall.values()] == [24] * 4
    assert len((tmp_path / "results.jsonl").read_text("utf-8").splitlines()) == 24


def test_a_chain_whose_prompt_cannot_be_used_is_wrong(tmp_path):
    turns.write_prompts(tmp_path / "prompts", 12, (1,))
    files = Files(tmp_path / "prompts", tmp_path)
    for key, known in read_truth(files.prompts).items():
        write_picture(tmp_path, f"{key}_turn1.png", Change(**known["changes"][0]).apply(scene_of_dict(known["before"])))
        write_picture(tmp_path, f"{key}_turn2.png", scene_of_dict(known["after"]))
    memory = json.loads((files.prompts / "memory.json").read_text("utf-8"))
    memory["1-0000"]["turn1"] = " "
    del memory["1-0004"]
    write(files.prompts, "memory.json", memory)
    scores = turns.score(files)
    assert (scores.groups["memory"].value, scores.groups["memory"].n, scores.missing) == (pytest.approx(1 / 3), 3, 4)
    assert scores.overall["turn 1"].n == 12
    assert any(note.startswith("2 items of truth.json have no row") for note in scores.notes)
    alone = turns.score(replace(files, prompts=files.prompts / "memory.json"))
    assert (alone.overall["both turns"].n, alone.missing) == (3, 4)


@pytest.mark.parametrize("kind", turns.KINDS)
def test_a_folder_that_lacks_a_kind_is_refused(tmp_path, kind):
    turns.write_prompts(tmp_path, 4, (1,))
    (tmp_path / f"{kind}.json").unlink()
    with pytest.raises(ValueError, match=rf"has no {kind}\.json.*write the prompts anew"):
        turns.read(Files(tmp_path, tmp_path), 1)


def test_the_layout_is_imgedits_of_several_turns(tmp_path):
    turns.write_prompts(tmp_path, 8, (3,))
    prompts = json.loads((tmp_path / "reference.json").read_text("utf-8"))
    assert {tuple(row) for row in prompts.values()} == {("id", "turn1", "turn2")}
    items = turns.BENCH.read(Files(tmp_path, tmp_path), 1).items
    assert sorted(item.group for item in items) == sorted(turns.KINDS * 2)
    (one,) = (item for item in items if item.id == "3-0001")
    assert one.turns == (prompts["3-0001"]["turn1"], prompts["3-0001"]["turn2"])
    assert [str(file) for (file,) in one.files] == ["3-0001_turn1.png", "3-0001_turn2.png"]
    assert one.sources[0].open().size == (128, 128)
    alone = turns.BENCH.read(Files(tmp_path / "reference.json", tmp_path), 1).items
    assert [item.id for item in alone] == ["3-0001", "3-0005"]


@pytest.mark.parametrize("content", [None, "[]", "{}", '{"a": {"id": "../a.png", "turn1": "a", "turn2": "b"}}'])
def test_a_folder_without_usable_chains_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "memory.json").write_text(content, "utf-8")
    with pytest.raises(ValueError, match="nano-multiturn"):
        turns.read(Files(tmp_path, tmp_path), 1)


def test_prompts_are_the_same_bytes_everywhere(tmp_path):
    turns.write_prompts(tmp_path, 30, (1, 2))
    names = [*(f"{kind}.json" for kind in turns.KINDS), FILE]
    content = b"".join((tmp_path / name).read_bytes() for name in names)
    assert hashlib.sha256(content).hexdigest()[:16] == "27c73f8d464b48ff"
