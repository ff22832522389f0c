"""A bench's pictures, asked about and recorded; results of others stay as they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from judge_server import Server, says, serve, status
from PIL import Image

from lightbagel_core.evaluation.bench import Bench, Files
from lightbagel_core.evaluation.judge.ask import Judge
from lightbagel_core.evaluation.judge.judging import judge_bench
from lightbagel_core.evaluation.registry import bench_named

MARKS = "Compliance: 4\nNaturalness: 3\nIntegrity: 2"
EDITS = {key: {"id": "a.png", "prompt": f"edit {key}", "edit_type": "add"} for key in ("1", "2")}
PROMPTS = [{"Prompt": "p", "Explanation": "e", "Category": "time", "Subcategory": "s", "prompt_id": 401}]
BENCH = bench_named("imgedit")


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as server:
        server.answer = says(MARKS)
        yield server


@pytest.fixture
def files(tmp_path) -> Files:
    """ImgEdit with two edits, drawn."""
    (tmp_path / "edits.json").write_text(json.dumps(EDITS), "utf-8")
    (tmp_path / "prompts.json").write_text('{"add": "Grade <edit_prompt>"}', "utf-8")
    (tmp_path / "out").mkdir()
    for file in ("a.png", "out/1.png", "out/2.png"):
        Image.new("RGB", (6, 4)).save(tmp_path / file)
    return Files(tmp_path / "edits.json", tmp_path / "out")


def judged(server: Server, files: Files, model: str = "eye", bench: Bench = BENCH) -> Path:
    return judge_bench(bench, files, Judge(server.url, model, concurrency=1, retries=0))


def test_what_was_written_names_its_judge_and_is_replaced_by_the_next(server: Server, files: Files):
    assert judged(server, files) == files.out / "result.json"
    assert judged(server, files, "other") == files.out / "result.json"
    assert len(server.requests) == 4
    checksum = hashlib.sha256((files.out / "result.json").read_bytes()).hexdigest()
    mark = {"judge": "other", "url": server.url, "files": {"result.json": checksum}}
    assert json.loads((files.out / "judge.json").read_text("utf-8")) == mark


@pytest.mark.parametrize("before", [False, True])
def test_results_that_no_run_of_ours_wrote_are_not_replaced(server: Server, files: Files, before: bool):
    if before:
        judged(server, files)
    count = len(server.requests)
    official = files.out / "result.json"
    official.write_text('{"1": "A: 5"}', "utf-8")
    with pytest.raises(ValueError, match=r"result\.json was not written by a judge that was asked from here"):
        judged(server, files, "other")
    assert official.read_text("utf-8") == '{"1": "A: 5"}'
    assert len(server.requests) == count
    (files.out / "judge.json").write_text("[", "utf-8")
    with pytest.raises(ValueError, match="was not written by a judge"):
        judged(server, files)


@pytest.mark.parametrize(
    ("bench", "file"),
    [
        ("wise", "Results/culture_scores.jsonl"),
        ("wise", "Results/wise_scores.jsonl"),
        ("gedit", "gpt4o/eval_results_new/m_ps_human_gpt_score.csv"),
        ("gedit", "eval_results_new/out_ps_human_gpt_score.csv"),
    ],
)
def test_nor_are_they_mixed_with_others(server: Server, files: Files, bench: str, file: str):
    official = files.out / file
    official.parent.mkdir(parents=True)
    official.write_text("official", "utf-8")
    with pytest.raises(ValueError, match=f"{official.name} was not written by a judge"):
        judged(server, files, bench=bench_named(bench))
    assert official.read_text("utf-8") == "official"


def test_results_that_appear_while_a_judge_is_asked_stay_too(server: Server, files: Files):
    def meanwhile(request):
        (files.out / "result.json").write_text("official", "utf-8")
        return says(MARKS)(request)

    server.answer = meanwhile
    with pytest.raises(ValueError, match=r"result\.json was not written by a judge"):
        judged(server, files)
    assert (files.out / "result.json").read_text("utf-8") == "official"
    assert not (files.out / "judge.json").exists()


def test_results_that_are_named_are_never_written(server: Server, files: Files, tmp_path):
    named = tmp_path / "result.json"
    named.write_text("{}", "utf-8")
    judged(server, replace(files, results=named))
    assert named.read_text("utf-8") == "{}"


def test_in_a_folder_of_a_folder_too(server: Server, files: Files, tmp_path):
    (tmp_path / "wise.json").write_text(json.dumps(PROMPTS), "utf-8")
    (tmp_path / "judge.txt").write_text("{prompt_data['Prompt']} {prompt_data['Explanation']}", "utf-8")
    Image.new("RGB", (6, 4)).save(files.out / "401.png")
    wise = Files(tmp_path / "wise.json", files.out, judge_prompts=tmp_path / "judge.txt")
    server.answer = says("Score: 1")
    for _ in range(2):
        assert judged(server, wise, bench=bench_named("wise")) == files.out / "Results" / "wise_scores.jsonl"
    assert list(json.loads((files.out / "judge.json").read_text("utf-8"))["files"]) == ["Results/wise_scores.jsonl"]


def test_what_an_earlier_run_wrote_under_another_name_goes(server: Server, files: Files):
    """GEdit's CSVs are called as the output folder is, which may be renamed; those of two names could not be scored."""
    result, named = judged(server, files), files.out / "named-scores.jsonl"
    result.rename(named)
    mark = files.out / "judge.json"
    mark.write_text(mark.read_text("utf-8").replace(result.name, named.name), "utf-8")
    assert BENCH.judged is not None
    found = lambda files: sorted({*files.out.glob("*scores.jsonl"), *files.out.glob("result.json")})  # noqa: E731
    judged(server, files, bench=replace(BENCH, judged=replace(BENCH.judged, found=found)))
    assert (result.is_file(), named.exists(), len(server.requests)) == (True, False, 2)


def test_without_a_picture_or_an_answer_nothing_is_written(server: Server, files: Files):
    server.answer = status(400, "filtered")
    with pytest.raises(ValueError, match="answers none of 2 questions"):
        judged(server, files)
    for file in files.out.glob("*.png"):
        file.unlink()
    with pytest.raises(ValueError, match="has no picture of ImgEdit Basic that a judge could be asked about"):
        judged(server, replace(files, judge_prompts=files.prompts.with_name("judge.txt")))
    assert list(files.out.iterdir()) == []


def test_what_was_written_before_a_record_broke_off_may_be_replaced(server: Server, files: Files):
    assert BENCH.judged is not None

    def full(files, answers):
        (files.out / "result.json").write_text("{}", "utf-8")
        raise ValueError("the disk is full")

    broken = replace(BENCH, judged=replace(BENCH.judged, record=full))
    with pytest.raises(ValueError, match="the disk is full"):
        judged(server, files, bench=broken)
    judged(server, files)
    assert len(server.requests) == 2
    assert json.loads((files.out / "result.json").read_text("utf-8")) == {"1": MARKS, "2": MARKS}


def test_a_bench_without_a_judge(server: Server, files: Files):
    with pytest.raises(ValueError, match="is not scored by a judge behind an endpoint"):
        judged(server, files, bench=bench_named("geneval"))
