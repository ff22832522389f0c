"""ImgEdit Basic: its prompt file, the judge's questions and record, and its two overall figures."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from pathlib import PurePosixPath

import numpy as np
import pytest
from PIL import Image

from lightbagel_core.evaluation import statistics
from lightbagel_core.evaluation.bench import Answer, Files
from lightbagel_core.evaluation.benches.imgedit import marks, questions, read, record, score
from lightbagel_core.evaluation.statistics import mean_of_all, mean_of_means

ROWS = {
    "1082": {"id": "animal/1.jpg", "prompt": "Make the shell smooth.", "edit_type": "adjust"},
    "673": {"id": "style/2.jpg", "prompt": "As a woodcut of <edit_prompt>.", "edit_type": "style"},
    "7": {"id": "daily object/3.jpg", "prompt": 'Remove the "77" — 红色.', "edit_type": "remove"},
}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(statistics, "DRAWS", 50)


@pytest.fixture
def files(tmp_path):
    """A bench's folder with sources of 6 x 4, and an output folder."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "out").mkdir()
    for shade, row in enumerate(ROWS.values()):
        file = tmp_path / "bench" / row["id"]
        file.parent.mkdir(parents=True)
        Image.new("RGB", (6, 4), (shade * 40,) * 3).save(file)
    file = tmp_path / "bench" / "basic_edit.json"
    file.write_text(json.dumps(ROWS), "utf-8")
    return Files(file, tmp_path / "out")


def test_it_reads_its_prompt_file(files):
    reading = read(files, 1)
    assert reading.unusable == ()
    assert [(item.id, item.group, item.turns) for item in reading.items] == [
        (key, row["edit_type"], (row["prompt"],)) for key, row in ROWS.items()
    ]
    assert [item.files for item in reading.items] == [((PurePosixPath(f"{key}.png"),),) for key in ROWS]
    shades = [np.asarray(item.sources[0].open()).mean() for item in reading.items]
    assert shades == pytest.approx([0, 40, 80], abs=2)


def test_sources_may_lie_elsewhere(files, tmp_path):
    (tmp_path / "bench" / "animal").rename(tmp_path / "animal")
    first = read(Files(files.prompts, files.out, images=tmp_path), 1).items[0]
    assert first.sources[0].open().size == (6, 4)
    with pytest.raises(ValueError, match="no image file"):
        read(files, 1).items[0].sources[0].open()


@pytest.mark.parametrize(
    ("key", "row", "says"),
    [
        ("../9", {}, "cannot become the name"),
        ("con", {}, "cannot become the name"),
        ("C:9", {}, "cannot become the name"),
        ("9", {"id": "../../etc/passwd"}, "does not stay below"),
        ("9", {"id": "/etc/passwd"}, "does not stay below"),
        ("9", {"id": "C:\\x.jpg"}, "does not stay below"),
        ("9", {"id": None}, "is no name of a file"),
        ("9", {"prompt": ""}, "'prompt' is no text"),
        ("9", {"edit_type": 3}, "'edit_type' is no text"),
        ("9", None, "is no object"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_the_rest_goes_on(files, key, row, says):
    bad = None if row is None else {"id": "animal/1.jpg", "prompt": "p", "edit_type": "add", **row}
    files.prompts.write_text(json.dumps({**ROWS, key: bad}), "utf-8")
    reading = read(files, 1)
    assert [item.id for item in reading.items] == list(ROWS)
    assert len(reading.unusable) == 1
    assert says in reading.unusable[0]
    assert repr(key) in reading.unusable[0]


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"a": 1}', '[{"Prompt": "x", "prompt_id": 1}]'])
def test_another_file_is_refused(files, content):
    files.prompts.write_text(content, "utf-8")
    with pytest.raises(ValueError, match=r"basic_edit\.json"):
        read(files, 1)
    with pytest.raises(ValueError, match="one picture"):
        read(files, 4)


def judged(files, answers):
    (files.out / "result.json").write_text(json.dumps(answers), "utf-8")
    return score(files)


def drawn(files, *keys):
    for key in keys:
        Image.new("RGB", (6, 4), (200, 0, 0)).save(files.out / f"{key}.png")


def said(*marks):
    names = ("Prompt Compliance", "Visual Seamlessness", "Physical & Detail Fidelity")
    lines = [f"{name}: {mark}" for name, mark in zip(names, marks, strict=False)]
    return "\n".join(["Brief reasoning: it is done; almost: quite.", *lines])


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (said(5, 4, 3), [5, 4, 3]),
        ("Brief reasoning: 4 of 5\r\nA: 1 \r\n  B & C: 5\r\n", [1, 5]),
        ("A: B: 3\nA:3\nA: 3/5\nA: 4.5\nA: -1\nA: \n**A**: 2", [2]),
        ("A: ²\nA: " + "9" * 5000, []),
        ("", []),
    ],
)
def test_marks_are_read_line_by_line(answer, found):
    assert marks(answer) == found


def test_the_figures_of_a_result_made_by_hand(files):
    rows = {**ROWS, "8": {**ROWS["7"]}, "9": {**ROWS["7"]}, "10": {**ROWS["7"]}}
    files.prompts.write_text(json.dumps(rows), "utf-8")
    drawn(files, "8", "10")
    answers = {"1082": said(5, 4, 4), "673": said(2, 3, 2), "7": said(4, 4, 3), "8": {"error": "policy"}}
    scores = judged(files, answers | {"10": said(5, 5, 6), "9": {"error": "no such file"}, "none": said(1, 1, 1)})
    types = {"adjust": 13 / 3, "style": 7 / 3, "remove": (11 / 3 + 1 + 1 + 1) / 4}
    assert {name: figure.value for name, figure in scores.groups.items()} == pytest.approx(types, abs=1e-9)
    assert [figure.n for figure in scores.groups.values()] == [1, 1, 4]
    assert scores.overall["mean of types"].value == pytest.approx(sum(types.values()) / 3, abs=1e-9)
    assert scores.overall["mean of samples"].value == pytest.approx((13 / 3 + 7 / 3 + 11 / 3 + 3) / 6, abs=1e-9)
    assert next(iter(scores.overall)) == "mean of types"
    assert (scores.missing, scores.refused) == (1, 2)
    assert "In 1 of 3 judgements the second or third mark is above the first" in scores.notes[1]
    assert [(row.id, row.reason) for row in scores.worst[:3]] == [
        ("8", "policy"),
        ("9", "the picture is missing"),
        ("10", "the judgement cannot be read"),
    ]
    source, picture = scores.worst[0].pictures
    assert picture == "8.png"
    with Image.open(files.out / source) as small:
        assert small.getpixel((2, 2))[0] == pytest.approx(80, abs=3), "the source, small and in the run's folder"
    for figure in (*scores.overall.values(), *scores.groups.values()):
        assert 1 <= figure.low <= figure.value <= figure.high <= 5


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("Brief reasoning: it is blue.\nA: 1", "Brief reasoning: it is blue."),
        ("The circle is still not green.\nNote: it is blue.\nA: 1", "The circle is still not green."),
        ("Evaluation\n\nBrief reasoning: it is blue.\nA: 1", "Brief reasoning: it is blue."),
        (
            "### Evaluation of the edited picture:\n**Brief reasoning:** it is blue.\nA: 1",
            "Brief reasoning: it is blue.",
        ),
        ("**Brief reasoning:**\nIt is blue.\nA: 1", "It is blue."),
        ("Brief reasoning:\nA: 1", "Brief reasoning:"),
        ("理由：是蓝色的\nA: 1", "理由：是蓝色的"),
        ("\nA: 1", "A: 1"),
    ],
)
def test_the_reason_is_what_the_judge_said_and_no_heading(files, lines, why):
    assert judged(files, {"7": lines}).worst[-1].reason == why


def test_the_papers_parts_give_its_two_overall_figures(tmp_path):
    """3.77 in the paper is the mean of its nine types; weighted by the bench's own counts they give 3.72."""
    parts = {
        "add": (95, 4.21),
        "adjust": (94, 3.23),
        "extract": (117, 1.83),
        "replace": (92, 4.55),
        "remove": (86, 3.80),
        "background": (94, 4.15),
        "style": (100, 4.66),
        "compose": (23, 3.93),
        "action": (36, 3.60),
    }
    rows, answers, means = {}, {}, {}
    for name, (count, mean) in parts.items():
        total = round(mean * 3 * count)  # of all marks of the type, as near as whole marks come
        means[name] = total / (3 * count)
        for index in range(count):
            left = total * (index + 1) // count - total * index // count
            rows[key := str(len(rows))] = {"id": "a.jpg", "prompt": "p", "edit_type": name}
            answers[key] = said(left // 3, (left + 1) // 3, (left + 2) // 3)
    assert len(rows) == 737
    files = Files(tmp_path / "basic_edit.json", tmp_path)
    files.prompts.write_text(json.dumps(rows), "utf-8")
    scores = judged(files, answers)
    both = [figure.value for figure in scores.overall.values()]
    by_hand = [sum(means.values()) / 9, sum(parts[name][0] * mean for name, mean in means.items()) / 737]
    assert both == pytest.approx(by_hand, abs=1e-9)
    assert by_hand == pytest.approx([3.7733, 3.7166], abs=5e-4)
    exact = [[[mean]] * count for count, mean in parts.values()]
    both = [statistics.bootstrap(dict(enumerate(exact)), mean).value for mean in (mean_of_means, mean_of_all)]
    assert both == pytest.approx([33.96 / 9, sum(count * mean for count, mean in parts.values()) / 737], abs=1e-9)
    assert both == pytest.approx([3.7733, 3.7166], abs=5e-5)


@pytest.mark.parametrize("content", ["[]", "{}", '{"other": "A: 4"}', "{", None])
def test_results_of_something_else_are_refused(files, content):
    if content is not None:
        (files.out / "result.json").write_text(content, "utf-8")
    with pytest.raises(ValueError, match=r"result\.json"):
        score(files)


def test_without_results_it_is_said_what_makes_them(files):
    with pytest.raises(ValueError, match=r"there is no .*result\.json; ImgEdit's basic_bench\.py writes it"):
        score(files)
    with pytest.raises(ValueError, match="is a folder; name the file"):
        score(replace(files, results=files.out))


@pytest.mark.parametrize("answer", [None, 4, [], "", "I cannot help with that.", {"error": None}, {}])
def test_a_judgement_that_is_none_counts_as_the_lowest(files, answer):
    drawn(files, *ROWS)
    scores = judged(files, dict.fromkeys(ROWS, said(5, 5, 5)) | {"7": answer})
    assert (scores.missing, scores.refused) == (0, 1)
    assert scores.groups["remove"].value == 1
    assert scores.groups["style"].value == 5


def test_what_was_not_used_is_noted(files):
    files.prompts.write_text(json.dumps({**ROWS, "..": ROWS["7"]}), "utf-8")
    scores = judged(files, {"7": said(4, 3)})
    assert "1 of 1 judgements have other than three marks" in scores.notes[1]
    assert "basic_edit.json" in scores.notes[2]
    assert scores.groups["remove"].value == 3.5
    (files.out / "result.json").write_text('{"7": "A: 2", "7": "A: 5"}', "utf-8")
    assert score(files).groups["remove"].value == 2
    assert "stands twice" in score(files).notes[-1]


@pytest.fixture
def prompts(files):
    """The bench's judge prompts, beside its prompt file."""
    file = files.prompts.with_name("prompts.json")
    types = [row["edit_type"] for row in ROWS.values()]
    file.write_text(json.dumps({name: f"{name}: <edit_prompt>." for name in types}), "utf-8")
    return file


def test_a_judge_is_asked_about_what_is_there(files, prompts):
    drawn(files, "673", "7")
    style, remove = questions(files)
    assert (style.id, style.text, style.system) == ("673", "style: As a woodcut of <edit_prompt>..", "")
    assert remove.text == 'remove: Remove the "77" — 红色..'
    shades = [np.asarray(Image.open(BytesIO(make()))).mean(axis=(0, 1)) for make in style.pictures]
    assert shades[0] == pytest.approx([40, 40, 40], abs=2)
    assert list(shades[1]) == [200, 0, 0]
    readable = {said(4, 4, 1): True, said(4, 4): False, said(4, 4, 6): False, said(0, 1, 1): False, "no": False}
    assert {answer: style.readable(answer) for answer in readable} == readable


def test_a_judge_without_prompts(files, prompts, tmp_path):
    drawn(files, "673")
    elsewhere = prompts.rename(tmp_path / "prompts.json")
    with pytest.raises(ValueError, match=r"prompts are missing: give prompts\.json"):
        questions(files)
    assert len(questions(replace(files, judge_prompts=elsewhere))) == 1
    elsewhere.write_text('{"adjust": "<edit_prompt>"}', "utf-8")
    with pytest.raises(ValueError, match="no text 'style'"):
        questions(replace(files, judge_prompts=elsewhere))
    elsewhere.write_text('{"style": "rate it"}', "utf-8")
    with pytest.raises(ValueError, match="no <edit_prompt>"):
        questions(replace(files, judge_prompts=elsewhere))


def test_answers_are_recorded_as_the_official_script_does(files):
    drawn(files, "673", "7")
    file = record(files, {"673": Answer(said(3, 3, 3)), "7": Answer(None, "content policy")})
    assert file == files.out / "result.json"
    assert json.loads(file.read_text("utf-8")) == {
        "1082": {"error": "there is no picture"},
        "673": said(3, 3, 3),
        "7": {"error": "content policy"},
    }
    scores = score(files)
    assert (scores.missing, scores.refused) == (1, 1)
    assert scores.overall["mean of types"].value == pytest.approx(5 / 3)
