"""nano-geneval: its prompts, and pictures made by hand that are right or wrong in each task."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace

import pytest
from PIL import Image

from lightbagel_core.evaluation.bench import Files
from lightbagel_core.evaluation.suites import drawing
from lightbagel_core.evaluation.suites.truth import write, write_picture
from lightbagel_core.world.scenes import COLOURS, SHAPES, Scene, Thing

A_STAR = {"class": "star", "count": 1}
ON_LEFT, ON_RIGHT = Thing("circle", "red", "large", "left"), Thing("star", "blue", "small", "right")
PAIR = Scene("white", (ON_LEFT, ON_RIGHT))
THREE = Scene("grey", tuple(Thing("circle", "red", "small", place, 1, -1) for place in ("left", "right", "top")))
BLUE = Thing("circle", "blue", "small", "centre")  # read first; no thing is surer than another
TWO = Scene("white", (BLUE, replace(ON_LEFT, size="small")))
# A row of metadata, a scene that fulfils it, and one that does not.
TASKS = [
    ({"tag": "single_object", "include": [A_STAR], "prompt": "a star"}, PAIR, Scene("white", (ON_LEFT,))),
    (
        {"tag": "two_object", "include": [{"class": "circle", "count": 1}, A_STAR], "prompt": "a circle and a star"},
        PAIR,
        THREE,
    ),
    (
        {
            "tag": "counting",
            "include": [{"class": "circle", "count": 3, "color": "red"}],
            "exclude": [{"class": "circle", "count": 4}],
            "prompt": "three red circles",
        },
        THREE,
        replace(THREE, things=(*THREE.things, Thing("circle", "blue", "small", "bottom"))),
    ),
    (
        {
            "tag": "colors",
            "include": [{"class": "circle", "count": 1, "color": "red"}],
            "prompt": "a red circle",
        },
        TWO,
        Scene("white", (replace(ON_LEFT, colour="green"), ON_RIGHT)),
    ),
    (
        {
            "tag": "position",
            "include": [A_STAR, {"class": "circle", "count": 1, "position": ["left of", 0]}],
            "prompt": "a circle left of a star",
        },
        PAIR,
        Scene("white", (replace(ON_LEFT, place="top"), replace(ON_RIGHT, place="bottom"))),
    ),
    (
        {
            "tag": "color_attr",
            "include": [{"class": "circle", "count": 1, "color": "red"}, {**A_STAR, "color": "blue"}],
            "prompt": "a red circle and a blue star",
        },
        PAIR,
        Scene("white", (replace(ON_LEFT, colour="blue"), replace(ON_RIGHT, colour="red"))),
    ),
]


@pytest.fixture
def files(tmp_path):
    """For each task two rows, of which the first has a right picture and the second a wrong one."""
    files = Files(tmp_path / "prompts", tmp_path / "out")
    write(files.prompts, drawing.PROMPTS[drawing.NAME], [metadata for metadata, *_ in TASKS for _ in range(2)])
    scenes = [scene for _, *pair in TASKS for scene in pair]
    for number, scene in enumerate(scenes):
        write_picture(files.out, f"{number:05}/samples/0000.png", scene)
    return files


def test_right_and_wrong_pictures_of_each_task(files):
    scores = drawing.score(files)
    assert {tag: (score.value, score.n) for tag, score in scores.groups.items()} == dict.fromkeys(
        drawing.TAGS, (0.5, 2)
    )
    assert [score.value for score in scores.overall.values()] == [0.5, 0.5]
    assert (scores.bench, scores.missing, len(scores.worst)) == ("nano-geneval", 0, 6)


def test_the_results_are_in_genevals_own_form(files):
    drawing.score(files)
    lines = [json.loads(line) for line in (files.out / "results.jsonl").read_text("utf-8").splitlines()]
    assert list(lines[5]) == ["filename", "tag", "prompt", "correct", "reason", "metadata", "details"]
    assert [line["correct"] for line in lines] == [True, False] * 6
    assert lines[5]["reason"] == "expected fewer than 4 circle, found 4"
    assert json.loads(lines[5]["metadata"]) == TASKS[2][0]
    assert json.loads(lines[0]["details"]) == {"circle": [[3, 45, 41, 83, 1.0]], "star": [[92, 50, 120, 78, 1.0]]}


def test_an_unreadable_picture_is_wrong_and_a_lacking_one_missing_and_wrong(files):
    (files.out / "00000" / "samples" / "0000.png").write_bytes(b"")
    (files.out / "00002" / "samples" / "0000.png").unlink()
    Image.effect_noise((128, 128), 90).save(files.out / "00006" / "samples" / "0000.png")
    (files.out / "not-drawn" / "00002" / "samples").mkdir(parents=True)
    (files.out / "not-drawn" / "00002" / "samples" / "0000.txt").write_text("this model does not know: and", "utf-8")
    scores = drawing.score(files)
    assert [scores.groups[tag].value for tag in drawing.TAGS] == [0, 0, 0.5, 0, 0.5, 0.5]
    assert scores.missing == 1
    assert any("1 of 12 prompts hold words" in note for note in scores.notes)
    reasons = {worst.id: worst.reason for worst in scores.worst}
    assert "not an image" in reasons["00000"]
    assert reasons["00006"] == "the picture shows no clear scene"
    assert "00002" not in reasons  # there is nothing to show


def test_a_row_that_cannot_be_used_is_in_no_figure_and_so_there_is_none(files):
    prompts = files.prompts / drawing.PROMPTS[drawing.NAME] if files.prompts.is_dir() else files.prompts
    lines = prompts.read_text("utf-8").splitlines()
    lines[3] = json.dumps({**json.loads(lines[3]), "prompt": ""})
    prompts.write_text("\n".join(lines), "utf-8")
    with pytest.raises(ValueError, match=r"1 rows of .* write the prompts anew.*line 4: 'prompt' is no text"):
        drawing.score(files)


def test_without_any_picture_it_says_so(tmp_path, files):
    with pytest.raises(ValueError, match="no picture of nano-geneval"):
        drawing.score(replace(files, out=tmp_path / "empty"))


def test_prompts_are_the_same_bytes_everywhere_and_another_seed_has_others(tmp_path):
    drawing.write_prompts(tmp_path / "a", 60, (1,))
    content = (tmp_path / "a" / drawing.PROMPTS[drawing.SHORT]).read_bytes()
    assert hashlib.sha256(content).hexdigest()[:16] == "7d9296e428cba8a8"
    drawing.write_prompts(tmp_path / "b", 60, (1, 2))
    both = (tmp_path / "b" / drawing.PROMPTS[drawing.SHORT]).read_bytes()
    assert both.startswith(content)
    assert both != 2 * content


def test_each_task_is_asked_for_as_geneval_would(tmp_path):
    drawing.write_prompts(tmp_path, 100, (1,))
    rows = [json.loads(line) for line in (tmp_path / drawing.PROMPTS[drawing.SHORT]).read_text("utf-8").splitlines()]
    assert Counter(row["tag"] for row in rows) == dict(zip(drawing.TAGS, [17] * 4 + [16] * 2, strict=True))
    names = {2: "two", 3: "three", 4: "four"}
    for row in rows:
        one, *other = row["include"]
        said = " ".join(filter(None, (one.get("color"), one["class"])))
        if row["tag"] == "counting":
            assert row["prompt"] == f"{names[one['count']]} {said}s"
            assert row["exclude"] == [{"class": one["class"], "count": one["count"] + 1}]
        elif row["tag"] == "position":
            relation, towards = other[0]["position"]
            assert (row["prompt"], towards) == (f"a {other[0]['class']} {relation} a {said}", 0)
        else:
            second = [" ".join(filter(None, ("a", o.get("color"), o["class"]))) for o in other]
            assert row["prompt"] == " and ".join([f"a {said}", *second])
            assert "exclude" not in row
        assert len({clause["class"] for clause in row["include"]}) == len(row["include"])
    assert {len(drawing.read(Files(tmp_path, tmp_path), 1, name).items) for name in drawing.PROMPTS} == {100}


def test_the_long_prompts_say_more_of_the_same(tmp_path):
    """What a long prompt says is read back by another rule than the one that wrote it, and asks for the same."""
    drawing.write_prompts(tmp_path, 300, (1,))
    short, long = (
        [json.loads(line) for line in (tmp_path / drawing.PROMPTS[name]).read_text("utf-8").splitlines()]
        for name in (drawing.SHORT, drawing.NAME)
    )
    assert hashlib.sha256(json.dumps(long).encode()).hexdigest()[:16] == "b3d870746411ccb0"
    coloured = Counter()
    for few, many in zip(short, long, strict=True):
        assert {**few, "prompt": ""} == {**many, "prompt": ""}
        words, classes = many["prompt"].split(), [clause["class"] for clause in many["include"]]
        if many["tag"] == "counting":
            assert many["prompt"].startswith(few["prompt"].split()[0])
            assert f"{many['include'][0]['color']} {classes[0]}s" in many["prompt"]
            continue
        assert sorted(word for word in words if word in SHAPES) == sorted(classes)
        for clause in many["include"]:
            before = words[words.index(clause["class"]) - 1] if words[0] != clause["class"] else ""
            assert clause.get("color") in (None, before)
            coloured["asked" if "color" in clause else before in COLOURS] += 1
            if "position" in clause:
                relation, towards = clause["position"]
                other = many["include"][towards]["class"]
                nouns = {kind: [w for w in words if w in SHAPES].index(kind) for kind in classes}
                inverse = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
                side = {"left of": "left", "right of": "right", "above": "top", "below": "bottom"}[relation]
                said = [word for word in inverse if f" {word} " in many["prompt"]]
                if said:
                    first = nouns[clause["class"]] < nouns[other]
                    assert said == [relation if first else inverse[relation]]
                else:
                    after = many["prompt"].split(clause["class"])[1].split(" and ")[0]
                    assert side in after.split()
    assert coloured["asked"] > 100
    assert coloured[True] > 4 * coloured[False] > 0  # a colour that is not asked for may be left open
