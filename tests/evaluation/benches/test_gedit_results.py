"""What a judge of GEdit-Bench answers, and the CSVs of the official script."""

from __future__ import annotations

import pytest

from lightbagel_core.evaluation.bench import Files
from lightbagel_core.evaluation.benches.gedit_results import lowest_of, read_results

HEAD = "source_image,edited_image,instruction,sementics_score,quality_score,intersection_exist,instruction_language\n"
ROW = "s,/r/fullset/ps_human/en/{}.png,do it,{},{},True,en\n"


@pytest.mark.parametrize(
    ("answer", "lowest"),
    [
        ('{"score": [8, 6], "reasoning": "a\nb"}', 6),
        ('{\n"score" : [4.5],\n"reasoning" : "…"}', 4.5),
        ('{"score": 7, "reasoning": ""}', 7),
        ('```json\n{"score": ["3", 9]}\n```', 3),
        ('Here: ||V^=^V||\n{"score": [0, 10], "reasoning": ""}\n||V^=^V|| done', 0),
        ('{"score": [5, 2], "reasoning": "a "quoted" word"}', 2),
        ("[6, 0]", 0),
        ("The scores are [6, 4].", 4),
        (" 9 ", 9),
        ('{"score": []}', None),
        ('{"score": [11, 3]}', None),
        ('{"score": [-1, 3]}', None),
        ('{"score": [NaN, 3]}', None),
        ('{"score": [1e999, 3]}', None),
        ('{"score": [true, 3]}', None),
        ('{"score": [null, 3]}', None),
        ('{"score": [[3], 3]}', None),
        ('{"score": "high"}', None),
        ('{"reasoning": "none"}', None),
        ('{"score": [5, 2', None),
        ("{" * 20_000 + "}" * 20_000, None),
        ("11", None),
        ("", None),
        ("I'm sorry, I can't help with 2 of these.", None),
    ],
)
def test_the_lowest_score_of_an_answer(answer, lowest):
    assert lowest_of(answer) == lowest


@pytest.fixture
def write(tmp_path):
    def written(content, name="eval_results_new/m_ps_human_gpt_score.csv"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return Files(tmp_path, tmp_path)

    return written


def test_rows_that_cannot_be_used_are_named(write):
    files = write(
        HEAD
        + ROW.format("a", 1, 2)
        + "s,e.png,i,1,2,True,en\n"
        + "short\n"
        + ROW.format("b", "", 3.5)
        + ROW.format("a", 9, 9)
        + ROW.replace("/", "\\").format("c", 4, 5)
    )
    judged, unused = read_results(files)
    assert judged == {"ps_human/en/a": (1, 2), "ps_human/en/b": (None, 3.5), "ps_human/en/c": (4, 5)}
    assert len(unused) == 3
    assert "row 2: no picture of the layout" in unused[0]
    assert "row 3: no edited_image" in unused[1]
    assert "a second time" in unused[2]


def test_the_combined_file_says_nothing_new(write):
    write(HEAD + ROW.format("a", 1, 2), "gpt4o/eval_results_new/m_combined_gpt_score.csv")
    with pytest.raises(ValueError, match="has no"):
        read_results(write("", "x"))
    files = write(HEAD + ROW.format("a", 3, 4), "gpt4o/eval_results_new/m_ps_human_gpt_score.csv")
    assert read_results(files) == ({"ps_human/en/a": (3, 4)}, [])
    combined = files.out / "gpt4o" / "eval_results_new" / "m_combined_gpt_score.csv"
    assert read_results(Files(files.prompts, files.out, results=combined))[0] == {"ps_human/en/a": (1, 2)}


def test_results_of_several_judges_or_models_are_not_mixed(write):
    write(HEAD + ROW.format("a", 1, 2))
    files = write(HEAD + ROW.format("a", 1, 2), "eval_results_new/other_color_alter_gpt_score.csv")
    with pytest.raises(ValueError, match="results of 2 models, m, other"):
        read_results(files)
    write(HEAD, "gpt4o/eval_results_new/m_ps_human_gpt_score.csv")
    with pytest.raises(ValueError, match="of 2 judges"):
        read_results(files)
    one = files.out / "eval_results_new" / "m_ps_human_gpt_score.csv"
    assert read_results(Files(files.prompts, files.out, results=one)) == ({"ps_human/en/a": (1, 2)}, [])


@pytest.mark.parametrize("content", ["", HEAD, "a,b\n1,2\n", b"\xff\xfe\x00", '"' + "x" * 200_000])
def test_files_that_hold_nothing(write, content):
    with pytest.raises(ValueError, match="no judgement that can be read"):
        read_results(write(content))
