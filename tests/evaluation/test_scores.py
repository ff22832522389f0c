"""The file that holds a bench's figures: written and read again, damaged, incomplete."""

from __future__ import annotations

import json

import pytest

from lightbagel_core.evaluation.scores import FILE, Score, Scores, Worst, read_scores

SCORES = Scores(
    bench="geneval",
    unit="share",
    overall={"overall": Score(0.5, 0.4, 0.6, 100)},
    groups={"counting": Score(0.25, 0.1, 0.4, 60), "colors": Score(0.75, 0.6, 0.9, 40)},
    missing=3,
    refused=2,
    notes=("一个注释",),
    worst=(Worst("00007", "a photo of four 红 stars", 0.0, ("00007/samples/0000.png", "b.png"), "three stars"),),
)


def write(folder, data):
    (folder / FILE).write_text(data if isinstance(data, str) else json.dumps(data), "utf-8")


def test_scores_come_back_as_they_were(tmp_path):
    write(tmp_path, SCORES.to_dict())
    again = read_scores(tmp_path)
    assert again == SCORES == Scores.from_dict(SCORES.to_dict())
    assert again.overall["overall"] == Score(0.5, 0.4, 0.6, 100)
    assert list(again.groups) == ["counting", "colors"]
    assert again.worst[0] == SCORES.worst[0]


def test_a_folder_without_scores_says_what_to_run(tmp_path):
    with pytest.raises(ValueError, match=r"has no scores\.json; run `lightbagel bench score`"):
        read_scores(tmp_path)
    with pytest.raises(ValueError, match=r"has no scores\.json"):
        read_scores(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{", '{"bench": "gen'])
def test_half_a_file_is_called_damaged(tmp_path, text):
    write(tmp_path, text)
    with pytest.raises(ValueError, match=r"scores\.json is damaged"):
        read_scores(tmp_path)


def test_bytes_that_are_no_text_are_called_damaged(tmp_path):
    (tmp_path / FILE).write_bytes(b'{"bench": "\xff\xfe"}')
    with pytest.raises(ValueError, match=r"scores\.json is damaged"):
        read_scores(tmp_path)


def test_a_folder_in_the_files_place_is_called_damaged(tmp_path):
    (tmp_path / FILE).mkdir()
    with pytest.raises(ValueError, match=r"scores\.json is damaged"):
        read_scores(tmp_path)


def changed(**fields):
    return {**json.loads(json.dumps(SCORES.to_dict())), **fields}


def without(name):
    return {key: value for key, value in changed().items() if key != name}


@pytest.mark.parametrize(
    "data",
    [
        [],
        None,
        3,
        '"words"',
        without("bench"),
        without("unit"),
        without("overall"),
        without("groups"),
        changed(surprise=1),
        changed(overall=None),
        changed(overall=[0.5]),
        changed(groups={"a": 0.5}),
        changed(groups={"a": {"value": 0.5}}),
        changed(groups={"a": {"value": 0.5, "low": 0, "high": 1, "n": 3, "more": 1}}),
        changed(groups=0.5),
        changed(overall={}),
        changed(missing=-1),
        changed(refused=True),
        *(changed(bench=name) for name in ("", "../up", "a/b", "a\\b", "a\nb", "nul")),
        *(
            changed(groups={"a": {"value": 0.5, "low": 0, "high": 1, "n": 3} | wrong})
            for wrong in (
                {"n": -1},
                {"value": 1.1},
                {"value": -0.1},
                {"low": 0.7, "high": 0.3},
                {"value": float("inf"), "high": float("inf")},
                {"high": 1e7},
                {"high": 10**400},
                {"low": -(10**400)},
                {"value": True},
            )
        ),
        changed(worst=[{"id": "a", "prompt": "b", "score": -1e7, "pictures": []}]),
        changed(groups={"a": {"value": "high", "low": 0, "high": 1, "n": 3}}),
        changed(groups={"a": {"value": 0.5, "low": 0, "high": 1, "n": None}}),
        changed(groups={"a": {"value": float("nan"), "low": 0, "high": 1, "n": 3}}),
        changed(unit="furlongs"),
        changed(bench=7),
        changed(missing="three"),
        changed(notes="one sentence"),
        changed(worst=7),
        changed(worst=[{"id": "a"}]),
        changed(worst=["a"]),
        changed(worst=[{"id": "a", "prompt": "b", "score": "low", "pictures": []}]),
        changed(worst=[{"id": "a", "prompt": "b", "score": 0, "pictures": [3]}]),
    ],
)
def test_what_is_no_scores_is_refused_by_its_file(tmp_path, data):
    write(tmp_path, data)
    with pytest.raises(ValueError, match="no scores of a bench") as caught:
        read_scores(tmp_path)
    said = str(caught.value)
    assert f"{FILE} is damaged" in said, "the message must say which file"
    assert not any(word in said for word in ("argument", "__init__", "object is not", "has no attribute")), said
    assert len(said) < 500


def test_a_figure_may_lie_outside_its_interval_by_rounding():
    figure = {"value": 0.7000000001, "low": 0.6, "high": 0.7, "n": 3}
    assert Scores.from_dict(changed(groups={"a": figure})).groups["a"].value == 0.7000000001


def test_endless_nesting_is_called_damaged(tmp_path):
    write(tmp_path, '{"bench":' * 100_000)
    with pytest.raises(ValueError, match=r"scores\.json is damaged"):
        read_scores(tmp_path)


def test_what_may_be_left_out(tmp_path):
    data = changed()
    for name in ("missing", "refused", "notes", "worst"):
        del data[name]
    write(tmp_path, data)
    scores = read_scores(tmp_path)
    assert (scores.missing, scores.refused, list(scores.notes), list(scores.worst)) == (0, 0, [], [])
