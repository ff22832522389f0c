"""DPG-Bench's folder of prompts, grid, and figures; the figures worked out by hand from two prompts of two pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from lightbagel_core.evaluation.bench import Files
from lightbagel_core.evaluation.benches.dpg import BENCH, read, score

CSV = """\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
zero,"A.",,1,0,entity,whole,entity - whole (tree),Is there a tree?
a,"A car.",,1,0,entity,whole,entity - whole (car),Is there a car?
a,"A car.",,2,1,attribute,color,"attribute - color (car, red)","Is the car red, or pink?"
a,"A car.",,3,2,other,text,"other - text (car, 7)",Does the red say 7?
a,"A car.",,4,0,entity,whole,entity - whole (dog),Is there a dog?
b,"A cat.",,1,0,entity,whole,entity - whole (cat),Is there a cat?
b,"A cat.",,2,0,global,,global - (photo),Is it a photo?
"""
QUESTIONS = {
    "a": ("Is there a car?", "Is the car red, or pink?", "Does the red say 7?", "Is there a dog?"),
    "b": ("Is there a cat?", "Is it a photo?"),
}
LEFT, RIGHT = "(0, 0, 8, 8)", "(8, 0, 16, 8)"


def made(tmp_path, answers, prompts=("a", "b"), table=CSV) -> Files:
    """answers: {(prompt, crop): "yny..."}"""
    (tmp_path / "prompts").mkdir()
    for name in prompts:
        (tmp_path / "prompts" / f"{name}.txt").write_text(f"The prompt {name}.\n", "utf-8")
    (tmp_path / "dpg_bench.csv").write_text(table, "utf-8")
    (tmp_path / "out" / "images").mkdir(parents=True)
    lines = [
        f"out/images/{name}.png, {crop}, {question}, {'yes' if answer == 'y' else 'no'}\n"
        for (name, crop), given in answers.items()
        for question, answer in zip(QUESTIONS[name], given, strict=False)
    ]
    (tmp_path / "out" / "images" / "dpg-bench_1_results_detail.txt").write_text("".join(lines), "utf-8")
    return Files(tmp_path / "prompts", tmp_path / "out")


# a, left: the car is a no, so its colour and text count 0: 1 of 4. a, right: 3 of 4. b: 1 and 1/2.
ALL = {("a", LEFT): "nyyy", ("a", RIGHT): "yyyn", ("b", LEFT): "yy", ("b", RIGHT): "yn"}


def test_the_layout_is_one_grid_for_each_prompt(tmp_path):
    reading = read(made(tmp_path, ALL), 4)
    item = reading.items[0]
    assert (item.id, item.group, item.turns, item.grid) == ("a", "", ("The prompt a.",), True)
    assert item.files == ((PurePosixPath("images/a.png"),),)
    assert reading.unusable == ()
    assert (BENCH.samples, BENCH.batch, BENCH.editing) == (4, 4, False)


def test_prompts_that_cannot_be_used_are_said(tmp_path):
    files = made(tmp_path, ALL)
    folder = files.prompts
    (folder / "empty.txt").write_text(" \n", "utf-8")
    (folder / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    (folder / "two.dots.txt").write_text("A prompt.", "utf-8")
    (folder / "space .txt").write_text("A prompt.", "utf-8")
    (folder / "folder.txt").mkdir()
    (folder / "notes.md").write_text("No prompt.", "utf-8")
    reading = read(files, 4)
    assert [item.id for item in reading.items] == ["a", "b"]
    assert [sentence.partition(".txt")[0] for sentence in reading.unusable] == [
        f"prompts/{name}" for name in ("bytes", "empty", "folder", "space ", "two.dots")
    ]


def test_what_is_no_folder_of_prompts(tmp_path):
    files = made(tmp_path, ALL)
    with pytest.raises(ValueError, match="is no folder"):
        read(Files(tmp_path / "dpg_bench.csv", tmp_path), 4)
    with pytest.raises(ValueError, match="no row that DPG-Bench can use"):
        read(Files(tmp_path / "out", tmp_path), 4)
    with pytest.raises(ValueError, match="1 to 4 pictures"):
        read(files, 5)


def test_figures_of_the_hand_made_answers(tmp_path):
    scores = score(made(tmp_path, ALL))
    assert scores.unit == "0-100"
    assert scores.overall["score"].value == pytest.approx(100 * ((1 / 4 + 3 / 4) / 2 + (1 + 1 / 2) / 2) / 2, abs=1e-9)
    assert scores.overall["score"].n == 4
    # As given, before parents count: the last picture's answers, and all pictures' answers.
    assert {name: figure.value for name, figure in scores.groups.items()} == pytest.approx(
        {
            "attribute": 100.0,
            "entity": 100 * 2 / 3,
            "global": 0.0,
            "other": 100.0,
            "attribute (all pictures)": 100.0,
            "entity (all pictures)": 100 * 4 / 6,
            "global (all pictures)": 50.0,
            "other (all pictures)": 100.0,
        },
        abs=1e-9,
    )
    assert [figure.n for figure in scores.groups.values()] == [1, 3, 1, 1, 2, 6, 2, 2]
    assert (scores.missing, scores.refused) == (0, 0)
    assert [(row.id, row.score, row.pictures) for row in scores.worst] == [
        ("a", pytest.approx(50.0), ("images/a.png",)),
        ("b", pytest.approx(75.0), ("images/b.png",)),
    ]
    assert scores.worst[0].reason == "no: Is there a car? Is there a dog?"


def test_pictures_and_answers_that_are_missing_count_as_no(tmp_path):
    scores = score(made(tmp_path, {("a", LEFT): "nyyy", ("a", RIGHT): "yyy", ("b", LEFT): "yy"}))
    assert (scores.missing, scores.refused) == (1, 1)
    assert scores.overall["score"].value == pytest.approx(100 * ((1 / 4 + 3 / 4) / 2 + (1 + 0) / 2) / 2, abs=1e-9)
    assert scores.groups["entity"].value == pytest.approx(100 / 3, abs=1e-9)


def test_a_grid_that_is_there_and_has_no_answers_is_not_missing(tmp_path):
    files = made(tmp_path, {("a", LEFT): "nyyy", ("a", RIGHT): "yyy"})
    (files.out / "images" / "b.png").write_bytes(b"")
    scores = score(files)
    assert (scores.missing, scores.refused) == (0, 1 + 2 * 2)
    assert scores.overall["score"].value == pytest.approx(100 * 0.5 / 2, abs=1e-9)


def test_a_prompt_without_any_picture_counts_as_nothing(tmp_path):
    scores = score(made(tmp_path, {key: given for key, given in ALL.items() if key[0] == "a"}))
    assert scores.missing == 2
    assert scores.overall["score"].value == pytest.approx(100 * 0.5 / 2, abs=1e-9)
    assert (scores.worst[0].id, scores.worst[0].reason) == ("b", "no answers")


def test_the_number_of_samples_asked_for_is_heeded(tmp_path):
    files = made(tmp_path, ALL)
    scores = score(Files(files.prompts, files.out, samples=4))
    assert scores.missing == 4
    assert scores.overall["score"].value == pytest.approx(100 * (0.5 + 0.75) / 2 / 2, abs=1e-9)


WITHOUT_FIRST = CSV.replace(CSV.splitlines()[1] + "\n", "")


def test_the_prompt_that_the_official_script_breaks_off_at_is_left_out(tmp_path):
    answers = {("a", LEFT): "yyyy", ("b", LEFT): "yy", ("b", RIGHT): "yn"}
    files = made(tmp_path, answers, table=WITHOUT_FIRST)
    detail = tmp_path / "out" / "images" / "dpg-bench_1_results_detail.txt"
    lines = detail.read_text("utf-8").splitlines(keepends=True)
    detail.write_text("".join(lines[1:]), "utf-8")
    scores = score(files)
    assert scores.overall["score"].value == pytest.approx(75.0, abs=1e-9)
    assert scores.missing == 0
    assert "breaks off at a: left out" in scores.notes[0]


def test_a_first_question_on_which_none_builds_is_left_out_alone(tmp_path):
    lines = CSV.splitlines(keepends=True)
    files = made(tmp_path, {("b", LEFT): "yy", ("b", RIGHT): "yn"}, ("b",), lines[0] + "".join(lines[-2:]))
    detail = tmp_path / "out" / "images" / "dpg-bench_1_results_detail.txt"
    answers = [line for line in detail.read_text("utf-8").splitlines(keepends=True) if "cat?" not in line]
    detail.write_text("".join(answers), "utf-8")
    scores = score(files)
    assert scores.overall["score"].value == pytest.approx(50.0, abs=1e-9)
    assert scores.refused == 0
    assert "this question is left out" in scores.notes[0]


def test_answers_of_other_prompts_are_refused(tmp_path):
    with pytest.raises(ValueError, match="has answers for b"):
        score(made(tmp_path, ALL, prompts=("a",)))


def test_a_folder_or_an_empty_file_where_a_file_is_wanted(tmp_path):
    files = made(tmp_path, ALL)
    (tmp_path / "empty").write_text("", "utf-8")
    for name in ("results", "judge_prompts"):
        with pytest.raises(ValueError, match="is a folder; name the"):
            score(replace(files, **{name: tmp_path}))
        with pytest.raises(ValueError, match="empty is empty"):
            score(replace(files, **{name: tmp_path / "empty"}))
    with pytest.raises(ValueError, match=r"can use: it has no <id>\.txt"):
        read(Files(tmp_path, tmp_path), 4)


def test_which_file_of_answers_is_meant_must_be_clear(tmp_path):
    files = made(tmp_path, ALL)
    (tmp_path / "out" / "other_detail.txt").write_text("", "utf-8")
    with pytest.raises(ValueError, match=r"other_detail\.txt"):
        score(files)
    chosen = tmp_path / "out" / "images" / "dpg-bench_1_results_detail.txt"
    assert score(Files(files.prompts, files.out, results=chosen)).overall["score"].value == pytest.approx(62.5)
    with pytest.raises(ValueError, match="no file"):
        score(Files(files.prompts, tmp_path / "prompts"))


def test_the_csv_may_lie_elsewhere_and_prompts_without_questions_are_said(tmp_path):
    files = made(tmp_path, ALL, prompts=("a", "b", "c"))
    (tmp_path / "dpg_bench.csv").rename(tmp_path / "questions.csv")
    with pytest.raises(ValueError, match="as the file of the judge"):
        score(files)
    scores = score(Files(files.prompts, files.out, judge_prompts=tmp_path / "questions.csv"))
    assert scores.overall["score"].value == pytest.approx(62.5)
    assert "1 prompts have no questions in the csv and are left out: c" in scores.notes
