"""`lightbagel bench`, from the words of a command to the files of a bench."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from format_files import lora
from judge_server import says, serve, status
from PIL import Image
from scenes import PICTURE

from lightbagel_core.cli.commands import main
from lightbagel_core.config import NANO
from lightbagel_core.files.formats import open_model

ROWS = [
    {"tag": "colors", "include": [{"class": "circle", "count": 1, "color": "red"}], "prompt": "a red circle"},
    {"tag": "counting", "include": [{"class": "cat", "count": 2}], "prompt": "two cats"},
]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def prompts(tmp_path) -> Path:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    return file


def generate(prompts: Path, *words: str) -> int:
    out = str(prompts.parent / "out")
    return main(["bench", "generate", "geneval", str(prompts), "--out", out, "--steps", "2", "--quiet", *words])


def test_generate_draws_the_layout_and_lists_what_is_missing(prompts, capsys):
    assert generate(prompts, "--samples", "2") == 2
    out, said = prompts.parent / "out", capsys.readouterr()
    drawn = sorted(file.relative_to(out).as_posix() for file in out.rglob("*.png"))
    assert drawn == ["00000/samples/0000.png", "00000/samples/0001.png"]
    assert json.loads((out / "00000" / "metadata.jsonl").read_text("utf-8")) == ROWS[0]
    assert "2 pictures drawn, 0 there before" in said.out
    assert "evaluate_images.py" in said.out
    assert "1 of 2 not drawn" in said.err
    assert said.err.endswith("  00001: this model does not know: cats\n")


def test_shares_come_from_the_environment_or_from_options(prompts, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert generate(prompts) == 2
    assert "share 1 of 2: 0 pictures drawn" in capsys.readouterr().out
    assert generate(prompts, "--rank", "0", "--world-size", "2") == 0
    assert "share 0 of 2: 4 pictures drawn" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rank", "1"), "--rank and --world-size belong together"),
        (("--rank", "2", "--world-size", "2"), "rank 2 of 2 processes"),
        (("--image-guidance", "2"), "--image-guidance needs source images, and geneval has none"),
        (("--samples", "0"), "samples and batch must be at least 1"),
        (("--steps", "0"), "steps must be at least 1"),
        (("--image-folder", "nowhere"), "--image-folder nowhere is no folder"),
        (("--preset", "authors"), "the negative prompt cannot be used: this model does not know: "),
    ],
)
def test_what_makes_no_sense_is_one_line(prompts, words, message, capsys):
    assert generate(prompts, *words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (prompts.parent / "out").exists()


def test_other_settings_do_not_mix_in_one_folder(prompts, capsys):
    generate(prompts)
    assert generate(prompts, "--seed", "1") == 2
    assert "holds pictures of another run (settings.asked.seed: 0 and 1)" in capsys.readouterr().err


@pytest.mark.slow
def test_benches_are_drawn_with_loras_and_their_tables_say_so(tmp_path, capsys):
    style = lora(open_model(NANO).components, tmp_path / "style.safetensors")
    run = ["bench", "run", "nano", "--out", str(tmp_path / "out"), "--count", "1", "--quiet"]
    assert main([*run, "--lora", f"{style}=0.5"]) == 0
    assert "nano + style 0.5" in capsys.readouterr().out
    for words in (["--lora", f"{style}=0.7"], []):
        assert main([*run, *words]) == 2
        assert "holds pictures of another run" in capsys.readouterr().err


KEY = "sk-a-key-that-nobody-may-see"
JUDGE = ("--judge-url", "http://127.0.0.1:9/v1", "--judge-model", "m")
MARKS = "Brief reasoning: the circle is blue.\nPrompt Compliance: 4\nVisual Naturalness: 3\nDetail Integrity: 2"


@pytest.fixture
def edits(tmp_path) -> Path:
    """A copy of ImgEdit with two edits, drawn."""
    rows = {
        key: {"id": f"animal/{key}.png", "prompt": prompt, "edit_type": kind}
        for key, prompt, kind in (("7", "make the circle blue", "adjust"), ("9", "remove the square", "remove"))
    }
    (tmp_path / "animal").mkdir()
    for key in rows:
        PICTURE.save(tmp_path / "animal" / f"{key}.png")
    (tmp_path / "basic_edit.json").write_text(json.dumps(rows), "utf-8")
    judge = {kind: f"Grade {kind}: <edit_prompt>" for kind in ("adjust", "remove")}
    (tmp_path / "prompts.json").write_text(json.dumps(judge), "utf-8")
    words = ["bench", "generate", "imgedit", str(tmp_path / "basic_edit.json"), "--out", str(tmp_path / "out")]
    assert main([*words, "--steps", "2", "--quiet"]) == 0
    return tmp_path


def score(edits: Path, *words: str) -> int:
    return main(["bench", "score", "imgedit", str(edits / "basic_edit.json"), "--out", str(edits / "out"), *words])


def test_from_pictures_over_a_judge_to_a_table(edits, capsys, monkeypatch):
    monkeypatch.setenv("LIGHTBAGEL_JUDGE_KEY", KEY)
    with serve() as server:
        server.answer = says(MARKS)
        judge = ["--judge-url", server.url, "--judge-model", "judge", "--judge-price", "2,8", "--quiet"]
        assert score(edits, *judge) == 0
        said = capsys.readouterr()
        assert len(server.requests) == 2
        assert sorted(request.text for request in server.requests) == [
            "Grade adjust: make the circle blue",
            "Grade remove: remove the square",
        ]
        assert "judge: 2 requests, 0 answers from the cache" in said.out
        assert "| **mean of types** | 3.77 | **3.00** " in said.out  # the paper's, beside ours
        assert score(edits, *judge) == 0
        assert len(server.requests) == 2
    assert score(edits) == 0  # from what the judge wrote, without asking
    figure, sheet, markdown = (edits / name for name in ("figure.png", "sheet.png", "table.md"))
    options = ["--figure", str(figure), "--sheet", str(sheet), "--markdown", str(markdown)]
    assert main(["bench", "table", str(edits / "out"), *options]) == 0
    said = capsys.readouterr()
    assert "item " not in said.err, "the sheet shows every picture, the sources too, which lie beside the prompts"
    assert markdown.read_text("utf-8") in said.out
    for file in (figure, sheet):
        with Image.open(file) as picture:
            assert min(picture.size) > 200
    written = [file for file in edits.rglob("*") if file.is_file()]
    assert not [file for file in written if KEY.encode() in file.read_bytes()]
    assert KEY not in said.out + said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "result.json"),
        (("--judge-url", "http://127.0.0.1:9/v1"), "--judge-url needs --judge-model"),
        (("--judge-url", "http://example.com/v1", "--judge-model", "m"), "would show the pictures to everybody"),
        ((*JUDGE, "--results", "result.json"), "--judge-url asks a judge and --results reads what another said"),
        ((*JUDGE, "--judge-extra", '{"model": "x"}'), "model cannot stand in what is sent besides"),
        (("--judge-model", "m"), "--judge-model needs --judge-url"),
        (("--judge-prompts", "prompts.json"), "--judge-prompts needs --judge-url"),
        (("--judge-price", "2,8"), "--judge-price needs --judge-url"),
        (("--judge-workers", "8"), "--judge-workers needs --judge-url"),
        (("--judge-max-tokens", "none"), "--judge-max-tokens needs --judge-url"),
    ],
)
def test_a_score_without_results_is_one_line(edits, words, message, capsys):
    assert score(edits, *words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (edits / "out" / "scores.json").exists()


def test_what_a_judge_is_sent_can_be_chosen(edits):
    with serve() as server:
        server.answer = says(MARKS)
        judge = [
            "--judge-url",
            server.url,
            "--judge-model",
            "new",
            "--judge-temperature",
            "none",
            "--judge-workers",
            "1",
        ]
        extra = ["--judge-max-tokens", "none", "--judge-extra", '{"max_completion_tokens": 4000}', "--quiet"]
        assert score(edits, *judge, *extra) == 0
        assert server.requests[0].body.keys() == {"model", "messages", "max_completion_tokens"}


def test_a_run_that_breaks_off_says_what_it_cost_and_writes_no_figures(edits, capsys):
    with serve() as server:
        server.then(says(MARKS), status(401, "the key has expired"))
        judge = ["--judge-url", server.url, "--judge-model", "m", "--judge-workers", "1", "--judge-price", "100000,0"]
        assert score(edits, *judge) == 2
        said = capsys.readouterr()
        assert "judge: 2 requests, 0 answers from the cache, 10 tokens in, 3 out, cost 1.00" in said.out
        assert "the key has expired" in said.err.splitlines()[-1]
        server.answer = says("I would rather not.")
        (edits / "out" / "judge-answers.jsonl").unlink()
        assert score(edits, *judge, "--quiet") == 2
        said = capsys.readouterr()
        assert "judge: 6 requests" in said.out
        assert "answers none of 2 questions; of the last: asked 3 times, no answer could be read" in said.err
    assert not (edits / "out" / "result.json").exists()
    assert not (edits / "out" / "scores.json").exists()


def test_without_the_library_no_bar_is_shown(edits, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    assert score(edits, *JUDGE) == 2
    said = capsys.readouterr()
    assert said.err == "lightbagel: a judge needs the library openai; pip install openai\n"
    assert said.out == ""


def test_the_official_results_outlive_a_judge(edits, capsys):
    official = edits / "out" / "result.json"
    official.write_text(json.dumps({"7": MARKS, "9": MARKS}), "utf-8")
    before = official.read_bytes()
    assert score(edits, *JUDGE, "--quiet") == 2
    assert "result.json was not written by a judge that was asked from here" in capsys.readouterr().err
    assert official.read_bytes() == before


def test_a_bench_without_such_a_judge_may_have_its_questions_named(edits, capsys):
    words = ["bench", "score", "dpg", str(edits / "p"), "--out", str(edits / "out"), "--judge-prompts", "dpg_bench.csv"]
    assert main(words) == 2
    assert "needs --judge-url" not in capsys.readouterr().err
    assert main([*words, "--judge-model", "m"]) == 2
    assert "--judge-model needs --judge-url" in capsys.readouterr().err


def test_what_has_no_formula_or_no_judge_says_so(edits, capsys):
    (edits / "bare").mkdir()
    for bench, words, message in (
        ("rise", (), "is scored by its own scripts alone"),
        ("geneval", ("--judge-url", "http://127.0.0.1:9/v1", "--judge-model", "m"), "is not scored by a judge"),
    ):
        assert main(["bench", "score", bench, str(edits / "p"), "--out", str(edits / "bare"), *words]) == 2
        assert message in capsys.readouterr().err


def test_pictures_of_another_bench_or_other_prompts_are_not_scored(edits, capsys):
    other = edits / "other.json"
    other.write_text((edits / "basic_edit.json").read_text("utf-8").replace("blue", "green"), "utf-8")
    for bench, prompts, message in (
        ("geneval", "basic_edit.json", "holds the pictures of imgedit, not of geneval"),
        ("imgedit", "other.json", "were drawn from other prompts"),
    ):
        assert main(["bench", "score", bench, str(edits / prompts), "--out", str(edits / "out")]) == 2
        assert message in capsys.readouterr().err
    assert main(["bench", "score", "imgedit", str(other), "--out", str(edits / "nowhere")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert main(["bench", "run", "nano", "--out", str(edits / "out"), "--quiet"]) == 2
    assert "holds the pictures of one bench" in capsys.readouterr().err


def test_a_folder_without_scores_is_one_line(tmp_path, capsys):
    assert main(["bench", "table", str(tmp_path)]) == 2
    assert "has no scores.json; run `lightbagel bench score` on it first" in capsys.readouterr().err


@pytest.fixture
def scored(tmp_path) -> Path:
    """The folder of a run that was scored, with a picture of its own."""
    run = tmp_path / "run"
    run.mkdir()
    figure = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    data = {"bench": "own", "unit": "share", "overall": {"right": figure}, "groups": {}}
    (run / "scores.json").write_text(json.dumps(data), "utf-8")
    PICTURE.save(run / "7.png")
    (run / "notes.txt").write_text("mine", "utf-8")
    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--figure", "run/scores.json"), "does not end in .png"),
        (("--figure", "a.jpg"), "does not end in .png"),
        (("--sheet", "a"), "does not end in .png"),
        (("--markdown", "a.png"), "does not end in .md or .txt"),
        (("--figure", "a.png", "--sheet", "run/../a.png"), "named twice"),
        (("--figure", "run/7.png"), "is a file of the run itself"),
        (("--sheet", "run/7.png"), "is a file of the run itself"),
        (("--markdown", "run/notes.txt"), "is a file of the run itself"),
        (("--figure", "none/a.png"), "there is no folder"),
        (("--markdown", "a.md", "--sheet", "none/a.png"), "there is no folder"),
    ],
)
def test_all_targets_are_looked_at_before_anything_is_written(scored, words, message, capsys, monkeypatch):
    monkeypatch.chdir(scored.parent)
    before = {file: file.read_bytes() for file in scored.parent.rglob("*") if file.is_file()}
    assert main(["bench", "table", "run", *words]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert {file: file.read_bytes() for file in scored.parent.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("option", ["--figure", "--sheet"])
def test_a_library_that_lacks_is_said_before_the_table(scored, option, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    words = ["--markdown", str(scored.parent / "a.md"), option, str(scored.parent / "a.png")]
    assert main(["bench", "table", str(scored), *words]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.splitlines()) == (
        "",
        ["lightbagel: figures and sheets need matplotlib: pip install matplotlib"],
    )
    assert not (scored.parent / "a.md").exists()


def test_what_was_written_into_a_run_may_be_written_again(scored, capsys):
    names = {"--figure": "figure.png", "--sheet": "sheet.png", "--markdown": "table.md"}
    words = [word for option, name in names.items() for word in (option, str(scored / name))]
    assert main(["bench", "table", str(scored), *words]) == 0
    first = {name: (scored / name).read_bytes() for name in names.values()}
    assert main(["bench", "table", str(scored), *words]) == 0
    assert {name: (scored / name).read_bytes() for name in names.values()} == first


def test_a_library_that_only_benches_need_is_named(tmp_path, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("lightbagel_core.world.reader") or "scipy" in name]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("lightbagel_core.evaluation.suites")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scipy", None)
    assert main(["bench", "run", "nano", "--out", str(tmp_path), "--count", "1", "--quiet"]) == 2
    assert capsys.readouterr().err == "lightbagel: this needs scipy: pip install scipy\n"
