"""WISE: its prompt files, the judge's question, the figures of both editions."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from pathlib import PurePosixPath

import pytest
from PIL import Image

from lightbagel_core.evaluation import statistics
from lightbagel_core.evaluation.bench import Answer, Files
from lightbagel_core.evaluation.benches.wise import questions, read, record, score

NAMES = ["Cultural knowledge", "time", "Space", "Biology", "Physical Knowledge", "Chemistry"]
LEGACY = dict(zip([1, 401, 568, 701, 801, 901], NAMES, strict=True))
VERIFIED = dict(zip([1, 401, 521, 641, 761, 881], NAMES, strict=True))
JUDGE = '''
def build(prompt_data, image):
    return [
        {"role": "system", "content": [{"type": "text", "text": "Be strict."}]},
        {"role": "user", "content": [{"type": "text", "text": f"""Give Consistency, Realism, Aesthetic Quality.
PROMPT: "{prompt_data['Prompt']}" EXPLANATION: "{prompt_data['Explanation']}".""" }]},
    ]
'''


def rows(numbers):
    return [
        {"Prompt": f"p{n}", "Explanation": f"e{n}", "Category": name, "Subcategory": f"s{n}", "prompt_id": n}
        for n, name in numbers.items()
    ]


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(statistics, "DRAWS", 50)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "gpt_eval.py").write_text(JUDGE, "utf-8")
    (tmp_path / "data.json").write_text(json.dumps(rows(LEGACY)), "utf-8")
    return Files(tmp_path / "data.json", tmp_path / "out", judge_prompts=tmp_path / "gpt_eval.py")


def draw(files, *numbers):
    for number in numbers:
        Image.new("RGB", (6, 4), (200, 0, 0)).save(files.out / f"{number}.png")


def results(files, *lines):
    file = files.out / "Results" / "x_scores.jsonl"
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def old(number, *marks):
    return {"prompt_id": number, **dict(zip(("consistency", "realism", "aesthetic_quality"), marks, strict=True))}


def test_it_reads_a_file_and_a_folder(files, tmp_path):
    items = read(files, 1).items
    assert [(item.id, item.turns) for item in items] == [(str(n), (f"p{n}",)) for n in LEGACY]
    assert [item.files for item in items] == [((PurePosixPath(f"{n}.png"),),) for n in LEGACY]
    assert items[4].group == "Physical Knowledge"
    folder = tmp_path / "data"
    folder.mkdir()
    both = rows(LEGACY)
    for name, part in {"a": both[:2], "b": both[2:], "b_rewrite": rows({7: "time"})}.items():
        (folder / f"{name}.json").write_text(json.dumps(part), "utf-8")
    assert [item.id for item in read(replace(files, prompts=folder), 1).items] == [str(n) for n in LEGACY]
    (folder / "c.json").write_text("{", "utf-8")
    assert "no readable JSON" in read(replace(files, prompts=folder), 1).unusable[0]
    (folder / "merge.json").write_text(json.dumps(both[:1]), "utf-8")
    assert [item.id for item in read(replace(files, prompts=folder), 1).items] == ["1"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prompt_id": "2"}, "no whole number"),
        ({"prompt_id": True}, "no whole number"),
        ({"prompt_id": 1001}, "no whole number"),
        ({"prompt_id": 0}, "no whole number"),
        ({"prompt_id": 401}, "stands there already"),
        ({"Prompt": ""}, "'Prompt' is no text"),
        ({"Explanation": None}, "'Explanation' is no text"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_the_rest_goes_on(files, changes, says):
    bad = {**rows({2: "time"})[0], **changes}
    files.prompts.write_text(json.dumps([*rows(LEGACY), bad]), "utf-8")
    reading = read(files, 1)
    assert [item.id for item in reading.items] == [str(n) for n in LEGACY]
    assert len(reading.unusable) == 1
    assert says in reading.unusable[0]
    assert "entry 6" in reading.unusable[0]


@pytest.mark.parametrize("content", ["{}", "[]", "[3]", '{"1": {"id": "a", "prompt": "p", "edit_type": "add"}}', "{"])
def test_another_file_is_refused(files, content):
    files.prompts.write_text(content, "utf-8")
    with pytest.raises(ValueError, match=r"data\.json"):
        read(files, 1)


def test_the_original(files):
    files.prompts.write_text(json.dumps(rows(LEGACY | {2: NAMES[0], 3: NAMES[0]})), "utf-8")
    draw(files, 3)
    marks = [old(1, 2, 1, 0), old(401, 2, 2, 2), old(568, 0, 0, 1), old(701, 1, 1, 1), old(801, 0, 2, 0)]
    results(files, *marks, old(901, 2, 0, 0), old(3, 9.9, 9.9, 9.9))
    scores = score(files)
    wanted = {"culture": 0.8 / 3, "time": 1, "space": 0.05, "biology": 0.5, "physics": 0.2, "chemistry": 0.7}
    assert {name: figure.value for name, figure in scores.groups.items()} == pytest.approx(wanted, abs=1e-9)
    overall = 0.4 * 0.8 / 3 + 0.167 + 0.133 * 0.05 + 0.1 * (0.5 + 0.2 + 0.7)
    assert scores.overall["overall"].value == pytest.approx(overall, abs=1e-9)
    assert scores.overall["mean of categories"].value == pytest.approx(sum(wanted.values()) / 6, abs=1e-9)
    assert next(iter(scores.overall)) == "overall"
    assert (scores.missing, scores.refused, scores.overall["overall"].n) == (1, 1, 8)
    assert scores.notes[0] == "This is the original WISE."
    assert "consistency is 9.9" in scores.notes[1]
    assert [row.reason for row in scores.worst[:2]] == ["the picture is missing", "there is no judgement"]


def test_wise_verified(files):
    files.prompts.write_text(json.dumps(rows(VERIFIED | {2: NAMES[0]})), "utf-8")
    results(files, *({"prompt_id": n, "score": float(n in (1, 521, 881))} for n in VERIFIED))
    scores = score(files)
    assert scores.overall["overall"].value == pytest.approx(0.4 * 0.5 + 0.12 * 2, abs=1e-9)
    assert scores.overall["mean of categories"].value == pytest.approx(2.5 / 6, abs=1e-9)
    assert scores.groups["culture"] == statistics.wilson(1, 2)
    assert (scores.missing, scores.refused) == (1, 0)
    files.prompts.write_text(json.dumps(rows(LEGACY | {540: "time"})), "utf-8")
    with pytest.raises(ValueError, match=r"prompt 540 under 'time', but .* of WISE_Verified, where it is of space"):
        score(files)


def test_some_categories_alone_give_no_weighted_figure(files):
    files.prompts.write_text(json.dumps(rows({1: NAMES[0], 401: NAMES[1]})), "utf-8")
    results(files, old(1, 2, 2, 2))
    scores = score(files)
    assert {name: figure.value for name, figure in scores.overall.items()} == {"mean of categories": 0.5}
    assert "culture, time alone" in scores.notes[1]
    results(files, old(2, 2, 2, 2))
    with pytest.raises(ValueError, match="no prompt in common"):
        score(files)


def test_the_question_is_that_of_the_users_copy(files):
    draw(files, 401, 701)
    first, second = questions(files)
    assert (first.id, second.id, first.system) == ("401", "701", "Be strict.")
    assert first.text == ('Give Consistency, Realism, Aesthetic Quality.\nPROMPT: "p401" EXPLANATION: "e401".')
    assert Image.open(BytesIO(first.pictures[0]())).getpixel((0, 0)) == (200, 0, 0)
    assert first.readable("Consistency: 2\nRealism: 1\nAesthetic Quality: 0")
    assert not first.readable("Score: 1")
    files.judge_prompts.write_text(JUDGE.replace("Consistency, Realism, Aesthetic Quality", "Score: 0 or 1"), "utf-8")
    assert questions(files)[0].readable("Score: 1")
    assert not questions(files)[0].readable("Consistency: 2\nRealism: 1\nAesthetic Quality: 0")


def test_judge_prompts_that_are_none(files, tmp_path):
    draw(files, 401)
    files.judge_prompts.write_text(JUDGE.replace("{prompt_data['Explanation']}", ""), "utf-8")
    with pytest.raises(ValueError, match="no place for both"):
        questions(files)
    files.judge_prompts.write_text(JUDGE.replace('"system"', '"other"'), "utf-8")
    with pytest.raises(ValueError, match="role 'system'"):
        questions(files)
    plain = tmp_path / "user.txt"
    plain.write_text("{prompt_data['Prompt']} {prompt_data['Explanation']} Score: 0 or 1", "utf-8")
    assert questions(replace(files, judge_prompts=plain))[0].text == "p401 e401 Score: 0 or 1"
    with pytest.raises(ValueError, match=r"give vllm_eval\.py"):
        questions(replace(files, judge_prompts=None))


def test_answers_are_recorded_and_read_again(files):
    draw(files, 1, 401, 568)
    good = "Consistency: 2\nRealism: 2\nAesthetic Quality: 2"
    file = record(files, {"1": Answer(good), "401": Answer(None, "policy"), "568": Answer("no")})
    assert [json.loads(line) for line in file.read_text("utf-8").splitlines()] == [
        {"prompt_id": 1, "Subcategory": "s1", "consistency": 2, "realism": 2, "aesthetic_quality": 2}
    ]
    scores = score(files)
    assert (scores.missing, scores.refused) == (3, 2)
    assert scores.overall["overall"].value == pytest.approx(0.4, abs=1e-9)
