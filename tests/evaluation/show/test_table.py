"""Tables in Markdown."""

from __future__ import annotations

import os
import re

import pytest
from invented import geneval, imgedit, run

from lightbagel_core.evaluation.scores import Score
from lightbagel_core.evaluation.show.paper import IMGEDIT_TYPES
from lightbagel_core.evaluation.show.table import escaped, markdown, write_table

NASTY = "a|b\\ *c* `d` <e> [f](g) _h_\nh | i\x1b[31m"


def cells(text: str) -> list[list[str]]:
    """The cells of every row of every table, split where Markdown splits them: at a bar that no backslash precedes."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_a_run_stands_beside_the_paper():
    rows = cells(markdown([run("nano", geneval())]))
    assert rows[0] == ["share, 0 to 1", "paper", "nano"]
    assert rows[1] == ["---", "---:", "---:"]
    assert rows[2] == ["**mean of tasks**", "0.91", "**0.575** [0.500, 0.650] n = 1,600"]
    assert rows[3] == ["single_object", "1.00", "0.800 [0.711, 0.867] n = 100"]
    assert len(rows) == 9


def test_a_bench_without_a_paper_has_no_column_for_it():
    text = markdown([run("nano", geneval("nano-geneval"))])
    assert cells(text)[0] == ["share, 0 to 1", "nano"]
    assert "arXiv" not in text


def test_runs_stand_beside_each_other_and_what_one_lacks_is_a_dash():
    scores = imgedit()
    more = type(scores)("imgedit", "1-5", scores.overall, {"zoom": scores.groups["add"]})
    rows = {row[0]: row[1:] for row in cells(markdown([run("a", scores), run("b", more)]))}
    assert set(IMGEDIT_TYPES) | {"zoom", "**mean of types**", "**mean of samples**"} < set(rows)
    assert rows["**mean of samples**"][0] == "3.72 (computed)"
    assert rows["zoom"] == ["–", "–", "4.00 [3.80, 4.20] n = 95"]
    assert rows["add"] == ["4.21", "4.00 [3.80, 4.20] n = 95", "–"]
    assert rows["style"] == ["4.66", "–", "–"]


def test_several_benches_are_several_tables():
    text = markdown([run("a", geneval()), run("a", imgedit()), run("b", geneval("own"))], {"own": "My bench"})
    assert re.findall("^### (.*)", text, re.MULTILINE) == ["GenEval", "ImgEdit Basic", "My bench"]


def test_what_was_lost_and_noted_stands_below():
    scores = geneval(missing=3, refused=1, notes=("The detector is old.",))
    lines = markdown([run("nano", scores), run("other", geneval())]).splitlines()
    assert "- nano: 3 pictures missing and 1 judgement refused or unreadable, counted with the lowest score." in lines
    assert "- nano: The detector is old." in lines
    assert not any(line.startswith("- other") for line in lines)
    assert any("95 % intervals: Wilson's or, of means, the bootstrap's over prompts, unless" in line for line in lines)


def test_an_interval_of_no_width_is_none():
    scores = geneval()
    scores.overall["mean of tasks"] = Score(0.5, 0.5, 0.5 + 1e-16, 3)
    text = markdown([run("nano", scores)])
    assert cells(text)[2][2] == "**0.500** [–] n = 3"
    assert "- nano: No interval of mean of tasks: no prompt differed from the others of its group." in text


def test_names_cannot_break_a_table():
    row = cells(markdown([run(NASTY, geneval(notes=(NASTY,))), run("b", geneval())]))[0]
    assert len(row) == 4
    assert row[2] == escaped(NASTY)
    assert escaped(NASTY) == r"a\|b\\ \*c\* \`d\` \<e\> \[f\](g) \_h\_ h \| i \[31m"
    assert escaped("color_attr") == "color_attr"
    assert escaped("红色 nano-1.5") == "红色 nano-1.5"
    assert escaped("see https://a.example") == r"see https\://a.example"


def test_no_run_is_a_sentence():
    with pytest.raises(ValueError, match="no run"):
        markdown([])


def test_the_file_holds_the_table(tmp_path):
    write_table(tmp_path / "table.md", [run("红", geneval())])
    assert (tmp_path / "table.md").read_text("utf-8") == markdown([run("红", geneval())])
    assert os.listdir(tmp_path) == ["table.md"]
    with pytest.raises(ValueError, match="there is no folder"):
        write_table(tmp_path / "none" / "table.md", [run("a", geneval())])
