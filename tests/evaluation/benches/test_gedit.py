"""GEdit-Bench: its items in both languages, the judge's questions, the figures."""

from __future__ import annotations

import csv
from dataclasses import replace
from io import BytesIO
from pathlib import PurePosixPath

import numpy as np
import pytest
from gedit_files import picture, row, write_parquet
from PIL import Image

from lightbagel_core.evaluation import statistics
from lightbagel_core.evaluation.bench import Answer, Files
from lightbagel_core.evaluation.benches.gedit import questions, read, record, score

ROWS = [
    row("color_alter", "a1", words='make it "red", now', content=picture(1, (8, 6))),
    row("color_alter", "a2", common=False, content=picture(2, (4, 6))),
    row("ps_human", "b1", content=picture(3)),
    row("color_alter", "a1", "cn", "变成红色", content=picture(1, (8, 6))),
]
IDS = ["color_alter/en/a1", "color_alter/en/a2", "ps_human/en/b1", "color_alter/cn/a1"]
COLUMNS = ["source_image", "edited_image", "instruction", "sementics_score", "quality_score"]
COLUMNS += ["intersection_exist", "instruction_language"]
PROMPTS = """
_context_no_delimit = "CONTEXT"
_prompts_0shot_two_image_edit_rule = "RULES"
_prompts_0shot_tie_rule_SC = "SC of <instruction>"
_prompts_0shot_rule_PQ = "PQ"
"""


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(statistics, "DRAWS", 50)


@pytest.fixture
def files(tmp_path):
    write_parquet(tmp_path / "set", ROWS)
    (tmp_path / "out").mkdir()
    (tmp_path / "vie_prompts.py").write_text(PROMPTS, "utf-8")
    return Files(tmp_path / "set", tmp_path / "out", judge_prompts=tmp_path / "vie_prompts.py")


def draw(files, *ids):
    for name in ids:
        file = files.out / "fullset" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (200, 0, 0)).save(file)


def results(files, *rows, task="color_alter", folder="gpt4o/eval_results_new", model="ours"):
    """A CSV as the official script writes it, of (id, SC, PQ)."""
    file = files.out / folder / f"{model}_{task}_gpt_score.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(COLUMNS)
        for name, sc, pq in rows:
            place = f"/results/ours//fullset/{name}"
            writer.writerow([f"{place}_SRCIMG.png", f"{place}.png", "do,\nit", sc, pq, True, name.split("/")[1]])
    return file


def test_items_in_both_languages_in_the_official_layout(files):
    reading = read(files, 1)
    assert reading.unusable == ()
    assert [item.id for item in reading.items] == IDS
    first, *_, chinese = reading.items
    assert (first.group, first.turns) == ("color_alter", ('make it "red", now',))
    assert first.files == ((PurePosixPath("fullset/color_alter/en/a1.png"),),)
    assert chinese.turns == ("变成红色",)
    ((file, make),) = chinese.beside.items()
    assert file == PurePosixPath("fullset/color_alter/cn/a1_SRCIMG.png")
    wanted = np.asarray(Image.open(BytesIO(ROWS[0]["input_image"]["bytes"])))
    assert (np.asarray(Image.open(BytesIO(make()))) == wanted).all()
    assert (np.asarray(first.sources[0].open()) == wanted).all()
    with pytest.raises(ValueError, match="one picture"):
        read(files, 2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"key": "../x"}, "cannot become the name"),
        ({"key": None}, "neither text nor a whole number"),
        ({"key": "A1"}, "stands there already"),
        ({"task_type": "other"}, "none of GEdit-Bench's tasks"),
        ({"task_type": None}, "'task_type' is no text"),
        ({"instruction_language": ".."}, "none of GEdit-Bench's tasks"),
        ({"instruction": " "}, "'instruction' is no text"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_the_rest_goes_on(files, changes, says):
    write_parquet(files.prompts, [*ROWS, {**row("color_alter", "z"), **changes}])
    reading = read(files, 1)
    assert [item.id for item in reading.items] == IDS
    assert len(reading.unusable) == 1
    assert says in reading.unusable[0]
    assert "row 4" in reading.unusable[0]


def test_another_data_set_is_refused(files):
    write_parquet(files.prompts, [row("segmentation", "a")])
    with pytest.raises(ValueError, match="no row that GEdit-Bench can use"):
        read(files, 1)


def test_the_figures_of_results_made_by_hand(files):
    """O is the mean of the edits' roots: sqrt(9 x 4) = 6, sqrt(2 x 8) = 4; task 1 has 5, task 2 0."""
    draw(files, *IDS[:2])
    results(files, (IDS[0], 9, 4), (IDS[1], 2.0, 8), (IDS[3], 5, 5))
    results(files, task="ps_human")
    scores = score(files)
    values = {name: figure.value for name, figure in scores.overall.items()}
    english = {"O": 2.5, "SC": 2.75, "PQ": 3, "O, intersection": 3, "SC, intersection": 4.5, "PQ, intersection": 2}
    chinese = {f"{name}{more} (Chinese)": 5 for more in ("", ", intersection") for name in ("O", "SC", "PQ")}
    assert values == pytest.approx(english | chinese, abs=1e-9)
    assert list(values)[:3] == ["O", "SC", "PQ"]
    assert {name: figure.value for name, figure in scores.groups.items()} == {
        "color_alter": 5,
        "ps_human": 0,
        "color_alter (Chinese)": 5,
    }
    assert (scores.missing, scores.refused) == (1, 0)
    assert (scores.overall["O"].n, scores.overall["O, intersection"].n) == (3, 2)
    assert [(row.id, row.score, row.reason) for row in scores.worst] == [
        (IDS[2], 0, "the picture is missing"),
        (IDS[1], 4, "SC 2, PQ 8"),
        (IDS[3], 5, "SC 5, PQ 5"),
        (IDS[0], 6, "SC 9, PQ 4"),
    ]
    assert scores.worst[0].pictures == ("fullset/ps_human/en/b1_SRCIMG.png", "fullset/ps_human/en/b1.png")
    assert "These are 2 of the bench's 11 tasks" in scores.notes[1]
    for figure in scores.overall.values():
        assert 0 <= figure.low <= figure.value <= figure.high <= 10


def test_the_papers_figures_are_no_root_of_each_other():
    assert pytest.approx(6.81, abs=5e-3) == (6.34 * 7.31) ** 0.5


@pytest.mark.parametrize("value", ["", "nan", "11", "-1", "no"])
def test_what_was_refused_counts_as_nothing(files, value):
    draw(files, *IDS[:3])
    results(files, (IDS[0], 9, 9), (IDS[1], value, 9))
    scores = score(files)
    assert (scores.missing, scores.refused) == (0, 3)  # one of a2, both of b1
    assert scores.overall["O"].value == (9 + 0) / 2 / 2
    assert scores.overall["PQ"].value == (9 + 9) / 2 / 2
    assert scores.overall["SC"].value == (9 + 0) / 2 / 2
    assert "Nothing was drawn or judged in 'cn'" in scores.notes[1]
    assert not any("Chinese" in name for name in (*scores.overall, *scores.groups))


def test_results_that_are_none(files):
    with pytest.raises(ValueError, match=r"eval_results_new has no \*_gpt_score\.csv"):
        score(files)
    results(files, ("color_alter/en/other", 5, 5))
    with pytest.raises(ValueError, match="no edit in common"):
        score(files)


def test_questions_are_composed_as_viescore_does(files):
    draw(files, IDS[1], IDS[3])
    first, quality, *rest = questions(files)
    assert [question.id for question in (first, quality, *rest)] == [
        f"{name}/{kind}" for name in (IDS[1], IDS[3]) for kind in ("SC", "PQ")
    ]
    assert first.text == "CONTEXT\nRULES\nSC of do it"
    assert quality.text == rest[1].text == "CONTEXT\nPQ"
    assert rest[0].text == "CONTEXT\nRULES\nSC of 变成红色"
    source, edited = (Image.open(BytesIO(make())) for make in first.pictures)
    assert source.size == edited.size == (4, 6)
    assert (np.asarray(source) == np.asarray(Image.open(BytesIO(ROWS[1]["input_image"]["bytes"])))).all()
    assert (np.asarray(edited) == (200, 0, 0)).all()
    assert [make() for make in quality.pictures] == [first.pictures[1]()]
    assert first.readable('{"score": [3, 4], "reasoning": ""}')
    assert not first.readable("I will not.")


def test_a_source_beside_the_picture_is_taken_from_there(files):
    draw(files, IDS[0], f"{IDS[0]}_SRCIMG")
    assert Image.open(BytesIO(questions(files)[0].pictures[0]())).size == (16, 16)


def test_judge_prompts_without_a_place_for_the_instruction(files):
    files.judge_prompts.write_text(PROMPTS.replace("<instruction>", ""), "utf-8")
    with pytest.raises(ValueError, match="no <instruction>"):
        questions(files)
    with pytest.raises(ValueError, match=r"give viescore/vie_prompts\.py"):
        questions(replace(files, judge_prompts=None))


def test_answers_are_recorded_and_read_again(files):
    draw(files, *IDS[:2], IDS[3])
    both = '{"score": [7, 9], "reasoning": "fine"}'
    answers = {f"{IDS[0]}/SC": Answer(both), f"{IDS[0]}/PQ": Answer("8"), f"{IDS[1]}/SC": Answer(None, "policy")}
    folder = record(files, answers | {f"{IDS[1]}/PQ": Answer("[6, 3]"), f"{IDS[3]}/SC": Answer("nothing")})
    assert [file.name for file in folder.iterdir()] == ["out_color_alter_gpt_score.csv"]
    with open(folder / "out_color_alter_gpt_score.csv", encoding="utf-8", newline="") as opened:
        first, second, third = csv.DictReader(opened)
    assert first == {
        "source_image": f"{files.out.as_posix()}/fullset/color_alter/en/a1_SRCIMG.png",
        "edited_image": f"{files.out.as_posix()}/fullset/color_alter/en/a1.png",
        "instruction": 'make it "red", now',
        "sementics_score": "7",
        "quality_score": "8",
        "intersection_exist": "True",
        "instruction_language": "en",
    }
    assert (second["sementics_score"], second["quality_score"], second["intersection_exist"]) == ("", "3", "False")
    assert (third["sementics_score"], third["quality_score"], third["instruction_language"]) == ("", "", "cn")
    scores = score(files)
    assert (scores.missing, scores.refused) == (1, 3)
    assert scores.overall["O"].value == pytest.approx(56**0.5 / 2 / 2, abs=1e-9)
