"""GenEval's prompt file, layout and figures; the figures worked out by hand from nine results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from lightbagel_core.evaluation.bench import Files
from lightbagel_core.evaluation.benches.geneval import BENCH, read, score
from lightbagel_core.evaluation.statistics import mean_of_means, wilson

CUP = {"tag": "single_object", "include": [{"class": "cup", "count": 1}], "prompt": "a photo of a cup"}
DOG = {"tag": "single_object", "include": [{"class": "dog", "count": 1}], "prompt": "a photo of a d\u00f6g"}
TWO = {
    "tag": "counting",
    "include": [{"class": "cup", "count": 2}],
    "exclude": [{"class": "cup", "count": 3}],
    "prompt": "a photo of two cups",
}
LEFT = {
    "tag": "position",
    "include": [{"class": "dog", "count": 1}, {"class": "cup", "count": 1, "position": ["left of", 0]}],
    "prompt": "a photo of a cup left of a dog",
}


def written(tmp_path, *rows, results=None, samples=None) -> Files:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (tmp_path / "evaluation_metadata.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    if results is not None:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in results]
        (tmp_path / "results.jsonl").write_text("\n".join(lines), "utf-8")
    return Files(tmp_path / "evaluation_metadata.jsonl", tmp_path, samples=samples)


def judged(metadata, folder: int, sample: int, correct: bool) -> dict:
    """A line as the official scorer writes it through pandas."""
    return {
        "filename": f"out/images/{folder:05d}/samples/{sample:04d}.png",
        "tag": metadata["tag"],
        "prompt": metadata["prompt"],
        "correct": correct,
        "reason": "" if correct else f"sample {sample} is wrong",
        "metadata": json.dumps(metadata),
        "details": "{}",
    }


def test_the_layout_is_what_the_official_scorer_opens(tmp_path):
    reading = read(written(tmp_path, CUP, DOG), 2)
    assert reading.unusable == ()
    item = reading.items[1]
    assert (item.id, item.group, item.turns) == ("00001", "single_object", ("a photo of a d\u00f6g",))
    assert [str(file) for file in item.files[0]] == ["00001/samples/0000.png", "00001/samples/0001.png"]
    assert list(item.beside) == [PurePosixPath("00001/metadata.jsonl")]
    (content,) = (make() for make in item.beside.values())
    assert json.loads(content.decode("ascii")) == DOG
    assert (BENCH.samples, BENCH.batch, BENCH.editing) == (4, 4, False)


@pytest.mark.parametrize(
    ("damaged", "says"),
    [
        ("{", "line 2 is no JSON"),
        ("", "line 2 is no JSON"),
        ("[1]", "no object"),
        ({**CUP, "prompt": ""}, "'prompt' is no text"),
        ({key: value for key, value in CUP.items() if key != "prompt"}, "has no 'prompt'"),
        ({**CUP, "tag": 3}, "'tag' is no text"),
        ({**CUP, "include": []}, "'include' is no list"),
        ({**CUP, "include": {"class": "cup"}}, "'include' is no list"),
        ({**CUP, "include": ["cup"]}, "no object"),
        ({**CUP, "include": [{"class": "cup"}]}, "'count' is no number"),
        ({**CUP, "include": [{"class": "cup", "count": True}]}, "'count' is no number"),
        ({**CUP, "include": [{"class": "cup", "count": 1, "color": 3}]}, "'color' is no text"),
        ({**CUP, "exclude": [{"class": "cup", "count": 0}]}, "'count' is no number"),
        ({**LEFT, "include": LEFT["include"][::-1]}, "no relation to an earlier object"),
        ({**LEFT, "include": [CUP["include"][0], {**LEFT["include"][1], "position": ["near", 0]}]}, "no relation"),
        ({**LEFT, "include": [CUP["include"][0], {**LEFT["include"][1], "position": "left"}]}, "no relation"),
    ],
)
def test_a_damaged_line_is_said_and_moves_no_other(tmp_path, damaged, says):
    reading = read(written(tmp_path, CUP, damaged, DOG), 1)
    assert [item.id for item in reading.items] == ["00000", "00002"]
    (sentence,) = reading.unusable
    assert "line 2" in sentence
    assert says in sentence


def test_a_prompt_that_stands_twice_is_drawn_twice(tmp_path):
    assert [item.id for item in read(written(tmp_path, CUP, CUP), 1).items] == ["00000", "00001"]


def test_a_file_that_is_no_prompt_file(tmp_path):
    with pytest.raises(ValueError, match="has no row that GenEval can use"):
        read(written(tmp_path, '{"0": {"prompt": "x"}}'), 1)
    with pytest.raises(ValueError, match="there is no file"):
        read(Files(tmp_path / "none.jsonl", tmp_path), 1)


RESULTS = [
    *(judged(CUP, 0, sample, True) for sample in range(3)),
    *(judged(DOG, 1, sample, sample == 1) for sample in range(3)),
    *(judged(TWO, 2, sample, sample < 2) for sample in range(3)),
]


def test_figures_of_the_hand_made_results(tmp_path):
    scores = score(written(tmp_path, CUP, DOG, TWO, results=RESULTS))
    assert {tag: figure.value for tag, figure in scores.groups.items()} == pytest.approx(
        {"single_object": 4 / 6, "counting": 2 / 3}, abs=1e-9
    )
    assert [figure.n for figure in scores.groups.values()] == [6, 3]
    # Wilson from the closed form: (2pn + z^2 -+ z sqrt(z^2 + 4pn(1 - p))) / 2(n + z^2). Prompts of 3 and of 1 right
    # of 3: mean squares 2/3 between and 1/6 within, correlation (2/3 - 1/6) / (2/3 + 2/6) = 1/2, n = 6 / (1 + 2/2).
    z2 = 1.959963984540054**2
    low, high = ((4 + z2 + sign * (z2 * (z2 + 8 / 3)) ** 0.5) / (2 * (3 + z2)) for sign in (-1, 1))
    figure = scores.groups["single_object"]
    assert (figure.low, figure.high) == pytest.approx((low, high), abs=1e-9)
    assert list(scores.overall) == ["mean of tasks", "all pictures"]
    assert scores.overall["mean of tasks"].value == pytest.approx((4 / 6 + 2 / 3) / 2, abs=1e-9)
    assert scores.overall["all pictures"].value == pytest.approx(6 / 9, abs=1e-9)
    assert (scores.unit, scores.missing, scores.refused, scores.notes) == ("share", 0, 0, [])
    assert [(row.id, row.score, row.reason) for row in scores.worst] == [
        ("00001", pytest.approx(1 / 3), "sample 0 is wrong"),
        ("00002", pytest.approx(2 / 3), "sample 2 is wrong"),
    ]
    right = {(row["filename"], row["correct"]) for row in RESULTS}
    for row in scores.worst:
        assert row.pictures
        assert all((f"out/images/{name}", False) in right for name in row.pictures), "only those that are wrong"


def test_the_mean_of_tasks_gives_each_task_the_same_weight(tmp_path):
    results = [*RESULTS, *(judged(TWO, 3, sample, False) for sample in range(3))]
    scores = score(written(tmp_path, CUP, DOG, TWO, TWO, results=results))
    assert scores.overall["mean of tasks"].value == pytest.approx((4 / 6 + 2 / 6) / 2, abs=1e-9)
    assert scores.overall["all pictures"].value == pytest.approx(6 / 12, abs=1e-9)


def test_a_picture_without_a_result_counts_as_wrong(tmp_path):
    files = written(tmp_path, CUP, DOG, TWO, LEFT, results=RESULTS, samples=4)
    scores = score(files)
    assert scores.missing == 3 + 4
    assert {tag: figure.value for tag, figure in scores.groups.items()} == pytest.approx(
        {"single_object": 4 / 8, "counting": 2 / 4, "position": 0.0}, abs=1e-9
    )
    assert scores.overall["mean of tasks"].value == pytest.approx(1 / 3, abs=1e-9)
    assert scores.worst[0].id == "00003"
    assert scores.worst[0].reason == "no result"
    assert scores.worst[0].pictures
    assert score(written(tmp_path, CUP, DOG, TWO, LEFT, results=RESULTS)).missing == 3


def test_a_picture_that_is_there_and_has_no_result_is_not_missing(tmp_path):
    files = written(tmp_path, CUP, DOG, TWO, LEFT, results=RESULTS, samples=4)
    for name in ("00000/samples/0003.png", "00003/samples/0001.png", "00001/samples/0000.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    scores = score(files)
    assert (scores.missing, scores.refused) == (5, 2)
    assert scores.groups["single_object"].value == pytest.approx(4 / 8)


def test_results_of_samples_that_were_not_asked_for_do_not_count(tmp_path):
    lies = [{**RESULTS[0], "filename": f"out/{name}.png"} for name in ("00000/samples/0009", "00001/samples/0003")]
    names = ("00000/samples/" + "9" * 12, "0" * 5000 + "/samples/1")
    far = [{**RESULTS[0], "filename": f"out/{name}.png"} for name in names]
    plain = score(written(tmp_path, CUP, DOG, TWO, results=RESULTS, samples=3))
    lies[1]["metadata"] = json.dumps(DOG)
    scores = score(written(tmp_path, CUP, DOG, TWO, results=[*lies, *RESULTS, *far], samples=3))
    assert (scores.overall, scores.groups, scores.missing) == (plain.overall, plain.groups, 0)
    assert len(scores.notes) == 2
    assert "2 lines of results.jsonl are not used" in scores.notes[0]
    assert max(map(len, scores.notes)) < 250
    assert "2 results of results.jsonl are of samples not asked for, and not used: 00000, sample 9" in scores.notes


def test_pictures_of_one_prompt_are_one_cluster(tmp_path):
    alike = [judged(CUP, 0, sample, True) for sample in range(4)] + [
        judged(CUP, 1, sample, False) for sample in range(4)
    ]
    one = score(written(tmp_path, CUP, CUP, results=alike)).overall["all pictures"]
    assert one.value == one.low == one.high == 0.5
    other = [{**row, "metadata": json.dumps(DOG)} if "/00001/" in row["filename"] else row for row in alike]
    two = score(written(tmp_path, CUP, DOG, results=other)).overall["all pictures"]
    assert (two.low, two.high) == (0.0, 1.0)


def test_one_picture_of_each_prompt_has_plain_wilson_in_its_task(tmp_path):
    rows = [judged(CUP, number, 0, number < 3) for number in range(4)]
    (figure,) = score(written(tmp_path, *[CUP] * 4, results=rows)).groups.values()
    assert figure == wilson(3, 4)


def test_lines_that_cannot_be_read_are_said_and_their_pictures_missing(tmp_path):
    wrong = [
        "{",
        {**judged(DOG, 1, 2, True), "correct": "yes"},
        judged(CUP, 0, 0, False),  # its second result
        {**judged(CUP, 0, 0, True), "filename": "cup.png"},
    ]
    results = [*RESULTS[:4], *wrong, *RESULTS[6:]]
    scores = score(written(tmp_path, CUP, DOG, TWO, results=results))
    assert scores.missing == 2
    assert scores.groups["single_object"].value == pytest.approx(3 / 6)
    assert scores.notes == [scores.notes[0]]
    assert "4 lines of results.jsonl are not used" in scores.notes[0]


def test_results_of_other_prompts_are_refused(tmp_path):
    with pytest.raises(ValueError, match="other metadata"):
        score(written(tmp_path, CUP, {**DOG, "prompt": "A long story of a dog."}, TWO, results=RESULTS))
    with pytest.raises(ValueError, match="has results for 00002"):
        score(written(tmp_path, CUP, DOG, results=RESULTS))
    with pytest.raises(ValueError, match="no result that can be read"):
        score(written(tmp_path, CUP, results=["{}"]))


def test_without_results_it_is_said_what_makes_them(tmp_path):
    with pytest.raises(ValueError, match=r"evaluate_images\.py"):
        score(written(tmp_path, CUP))


def test_a_folder_where_a_file_is_wanted(tmp_path):
    files = written(tmp_path, CUP, results=RESULTS[:1])
    for given in (replace(files, results=tmp_path), replace(files, prompts=tmp_path)):
        with pytest.raises(ValueError, match="is a folder; name the file"):
            score(given)


def test_a_windows_path_in_the_results_is_understood(tmp_path):
    rows = [{**row, "filename": row["filename"].replace("/", "\\")} for row in RESULTS]
    assert score(written(tmp_path, CUP, DOG, TWO, results=rows)).missing == 0


def test_the_papers_parts_make_its_figure():
    parts = (1.00, 0.97, 0.93, 0.94, 0.79, 0.81)
    assert round(mean_of_means([[part] for part in parts]), 2) == 0.91
