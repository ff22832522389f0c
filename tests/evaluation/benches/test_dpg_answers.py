from __future__ import annotations

import csv

import pytest

from lightbagel_core.evaluation.benches.dpg_answers import Question, read_answers, read_questions, without_orphans

HEAD = (
    "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language"
)


def table(tmp_path, *rows, head=HEAD):
    """A csv of (item_id, proposition_id, dependency, tuple, question)."""
    file = tmp_path / "dpg_bench.csv"
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(head.split(","))
        writer.writerows([row[0], "A prompt, long.", "", row[1], row[2], "", "", row[3], row[4]] for row in rows)
    return file


def test_questions_with_their_parents_and_categories(tmp_path):
    questions = read_questions(
        table(
            tmp_path,
            ("0", 1, "0", "entity - whole (car-park)", 'Is there a "car park", or so?'),
            ("0", 2, "1, 3", "global - (photo)", "Is it a photo?"),
            ("0", 3, "0", "other - count (cars, ==2)", "Are there two?"),
        )
    )
    assert list(questions.of) == ["0"]
    assert questions.of["0"] == {
        1: Question('Is there a "car park", or so?', "entity", ()),
        2: Question("Is it a photo?", "global", (1, 3)),
        3: Question("Are there two?", "other", ()),
    }
    assert (questions.first, questions.unusable) == (("0", 1), [])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (("a", "x", "0", "entity", "q"), "no number"),
        (("a", 2, "one", "entity", "q"), "no number"),
        (("a", 2, "0", "entity", ""), "'question_natural_language' is empty"),
        (("", 2, "0", "entity", "q"), "'item_id' is empty"),
        (("a", 1, "0", "entity", "again"), "already"),
        (("a", 2, "7", "entity", "q"), "builds on no 7"),
    ],
)
def test_a_damaged_row_is_said_and_the_rest_goes_on(tmp_path, row, says):
    questions = read_questions(table(tmp_path, ("a", 1, "0", "entity", "first"), row, ("b", 1, "0", "entity", "last")))
    assert questions.of["a"][1].text == "first"
    assert questions.of["b"][1].text == "last"
    (sentence,) = questions.unusable
    assert says in sentence


def test_a_csv_that_is_none(tmp_path):
    with pytest.raises(ValueError, match=r"there is no .*dpg_bench\.csv"):
        read_questions(tmp_path / "none_dpg_bench.csv")
    with pytest.raises(ValueError, match="has no column 'dependency'"):
        read_questions(table(tmp_path, head=HEAD.replace("dependency", "depends")))
    with pytest.raises(ValueError, match="no question that can be used: it is empty"):
        read_questions(table(tmp_path))
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="cannot be read as a csv"):
        read_questions(tmp_path / "bad.csv")


def test_answers_are_found_behind_questions_with_commas(tmp_path):
    questions = read_questions(
        table(
            tmp_path,
            ("a", 1, "0", "entity", "Is there a cat"),
            ("a", 2, "0", "entity", "Is there a cat, (1, 2, 3, 4), yes"),
            ("a", 3, "0", "entity", "Is it red?"),
            ("a", 4, "0", "entity", "Is it red?"),
        )
    )
    file = tmp_path / "r_detail.txt"
    file.write_text(
        "/o, (x)/a.png, (0, 0, 8, 8), Is there a cat, yes\n"
        "/o, (x)/a.png, (0, 0, 8, 8), Is there a cat, (1, 2, 3, 4), yes, no, not at all\n"
        "C:\\o\\a.b.png, (8, 0, 16, 8), Is it red?, no\n"
        "C:\\o\\a.b.png, (8, 0, 16, 8), Is it red?, yes\n"  # the last answer stands
        "a.png, (0, 8, 8, 16), Is it red?, Yes\n"
        "a.png, (8, 8, 16, 16), Is there a cat, \n"
        "b.png, (0, 0, 8, 8), Is it red?, yes\n"
        "a.png, (0, 0, 8, 8), Is it blue?, yes\n"
        "\n"
        "half a li",
        "utf-8",
    )
    answers, unreadable = read_answers(file, questions)
    assert answers == {"a": {0: {1: 1.0, 2: 0.0}, 1: {3: 1.0, 4: 1.0}, 2: {3: 0.0, 4: 0.0}, 3: {1: 0.0}}}
    assert [sentence.split(" answers")[0] for sentence in unreadable] == [
        f"r_detail.txt, line {number}" for number in (7, 8, 9, 10)
    ]


def test_a_file_without_answers(tmp_path):
    questions = read_questions(table(tmp_path, ("a", 1, "0", "entity", "q?")))
    (tmp_path / "empty.txt").write_text("", "utf-8")
    with pytest.raises(ValueError, match=r"empty\.txt is empty"):
        read_answers(tmp_path / "empty.txt", questions)
    with pytest.raises(ValueError, match="there is no file"):
        read_answers(tmp_path / "none.txt", questions)


def test_a_child_of_a_no_counts_nothing_and_neither_do_its_children():
    asked = {key: Question(str(key), "entity", parents) for key, parents in {1: (), 2: (1,), 3: (2,), 4: (9,)}.items()}
    assert without_orphans({1: 0.0, 2: 1.0, 3: 1.0, 4: 1.0}, asked) == {1: 0.0, 2: 0.0, 3: 0.0, 4: 1.0}
    assert without_orphans({1: 1.0, 2: 0.0, 3: 1.0, 4: 1.0}, asked) == {1: 1.0, 2: 0.0, 3: 0.0, 4: 1.0}


def test_the_official_order_decides_whether_a_no_goes_on():
    asked = {key: Question(str(key), "entity", parents) for key, parents in {3: (2,), 2: (1,), 1: ()}.items()}
    assert without_orphans({1: 0.0, 2: 1.0, 3: 1.0}, asked) == {1: 0.0, 2: 0.0, 3: 1.0}
