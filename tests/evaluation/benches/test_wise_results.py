"""WISE's editions, answers and files of results."""

from __future__ import annotations

import json

import pytest

from lightbagel_core.evaluation.bench import Files
from lightbagel_core.evaluation.benches.wise_results import EDITIONS, LEGACY, VERIFIED, marks_of, read_results

OLD = {"consistency": 2, "realism": 1, "aesthetic_quality": 0}


@pytest.mark.parametrize(
    ("answer", "marks"),
    [
        ("Consistency: 2\nRealism: 1\nAesthetic Quality: 0", OLD),
        ("**Consistency**: 2\n**Realism:** 1\n* aesthetic quality 0.", OLD),
        ("Consistency：2, Realism：1, Aesthetic Quality：0", OLD),
        ("2\n 1 \n0\n", OLD),
        ("Score: 1", {"score": 1}),
        ("**Score**: 0.", {"score": 0}),
        ("1\n", {"score": 1}),
        ("<think>Score: 0?\nScore: 1!</think>\nScore: 1", {"score": 1}),
        ("Score: 1? Or rather\nScore: 0.</think>\nScore: 0", {"score": 0}),
        ("0</think>Hm.\n2\n2\n2</think>\n2\n1\n0", OLD),
        ("Consistency: 2\nRealism: 1\nAesthetic Quality: 0</think>", None),
        ("Score: 0\nA Score: 1 would need mooncakes.", {"score": 0}),
        ("Realism: 0\nConsistency: 2\nRealism: 1\nAesthetic Quality: 0", OLD),
        ("Consistency: 3\nRealism: 1\nAesthetic Quality: 0", None),
        ("Consistency: 1.5\nRealism: 1\nAesthetic Quality: 0", None),
        ("Consistency: 2\nRealism: 1", None),
        ("Score: 2", None),
        ("Score: 10", None),
        ("2\n1", None),
        ("", None),
        ("I cannot judge this.", None),
    ],
)
def test_marks_of_an_answer(answer, marks):
    assert marks_of(answer) == marks


def test_categories_and_weights():
    for edition in EDITIONS:
        assert sum(weight for _, weight in edition.categories.values()) == pytest.approx(1)
        assert edition.value(dict.fromkeys(edition.marks, edition.highest)) == 1
        assert (edition.category(1), edition.category(1000)) == ("culture", "chemistry")
    ends = {400: "culture", 401: "time", 567: "time", 568: "space", 701: "biology", 801: "physics", 901: "chemistry"}
    assert {number: LEGACY.category(number) for number in ends} == ends
    ends = {400: "culture", 401: "time", 520: "time", 521: "space", 641: "biology", 761: "physics", 881: "chemistry"}
    assert {number: VERIFIED.category(number) for number in ends} == ends
    assert LEGACY.value(OLD) == pytest.approx((0.7 * 2 + 0.2 * 1) / 2)
    assert VERIFIED.value({"score": 1}) == 1
    assert LEGACY.weighted([[1, 0], [1], [0], [0], [0], [1]]) == pytest.approx(0.2 + 0.167 + 0.1)


@pytest.fixture
def write(tmp_path):
    def written(*rows, name="Results/culture_scores.jsonl"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), "utf-8")
        return Files(tmp_path, tmp_path)

    return written


def test_lines_that_cannot_be_used_are_named(write):
    good = {"prompt_id": 1, "Subcategory": "Festival\u2028", **OLD}
    bad = ["{\n", "[]\n", {**good, "prompt_id": "1"}, {**good, "prompt_id": 2, "realism": 9.9}, {"prompt_id": 3}, good]
    files = write(good, "\n", *bad)
    write({**good, "prompt_id": 401}, name="Results/time_scores_results.jsonl")
    edition, judged, unused = read_results(files)
    assert edition is LEGACY
    assert judged == {1: OLD, 401: OLD}
    says = ["line 3: no JSON", "line 4: no prompt_id", "line 5: no prompt_id", "realism is 9.9", "no marks", "already"]
    assert len(unused) == len(says)
    assert all(words in sentence for words, sentence in zip(says, unused, strict=True))


def test_results_that_do_not_belong_together(write):
    files = write({"prompt_id": 1, **OLD}, {"prompt_id": 2, "score": 1.0})
    with pytest.raises(ValueError, match="of the original WISE and of WISE_Verified"):
        read_results(files)
    write({"prompt_id": 1, "score": 0}, name="Results-qwen35/scores.jsonl")
    with pytest.raises(ValueError, match="in Results and Results-qwen35"):
        read_results(files)
    for results in (files.out / "Results-qwen35", files.out / "Results-qwen35" / "scores.jsonl"):
        assert read_results(Files(files.prompts, files.out, results=results)) == (VERIFIED, {1: {"score": 0}}, [])


def test_no_results(write, tmp_path):
    with pytest.raises(ValueError, match=r"has no \*scores\*\.jsonl"):
        read_results(Files(tmp_path, tmp_path))
    with pytest.raises(ValueError, match=r"no judgement that can be read: culture_scores\.jsonl, line 1: no JSON"):
        read_results(write("nothing"))
    (tmp_path / "Results" / "culture_scores.jsonl").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="cannot be read"):
        read_results(Files(tmp_path, tmp_path))
