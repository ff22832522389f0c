"""Runs are read from their folders and told apart by name."""

from __future__ import annotations

import json

import pytest
from invented import geneval, imgedit, run

from lightbagel_core.evaluation.show.paper import IMGEDIT
from lightbagel_core.evaluation.show.runs import by_bench, read_runs, row_names, samples_of


def made(folder, scores, model=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.json").write_text(json.dumps(scores.to_dict()), "utf-8")
    if model is not None:
        record = model if isinstance(model, str) and model[:1] in "{[" else json.dumps({"made_with": {"model": model}})
        (folder / "run.json").write_text(record, "utf-8")
    return folder


def names(*folders):
    return [one.name for one in read_runs(folders)]


def test_a_run_is_called_as_its_model_or_its_folder(tmp_path):
    one = made(tmp_path / "one", geneval(), {"name": "nano"})
    two = made(tmp_path / "two", geneval())
    assert names(one, two) == ["nano", "two"]
    assert [r.folder for r in read_runs([one, two])] == [one, two]
    assert read_runs([one])[0].scores == geneval()


def test_a_run_with_loras_is_called_as_them_too(tmp_path):
    base = made(tmp_path / "base", geneval(), {"name": "nano"})
    with_it = made(tmp_path / "with", geneval(), {"name": "nano", "loras": {"style.safetensors": 0.8}})
    more = made(
        tmp_path / "more", geneval(), {"name": "nano", "loras": {"a/x.safetensors": 1.0, "b/x.safetensors": -1}}
    )
    assert names(base, with_it, more) == ["nano", "nano + style 0.8", "nano + x 1.0 + x -1"]
    assert names(made(tmp_path / "odd", geneval(), {"name": "nano", "loras": ["style"]})) == ["nano"]


@pytest.mark.parametrize("model", ["{", "[]", "null", 3, {}, {"name": None}, {"name": " "}, ["nano"]])
def test_a_run_file_that_names_no_model_leaves_the_folders_name(tmp_path, model):
    assert names(made(tmp_path / "one", geneval(), model)) == ["one"]


def test_one_model_twice_is_told_apart_by_folder(tmp_path):
    one, two = (made(tmp_path / name, geneval(), {"name": "nano"}) for name in ("one", "two"))
    assert names(one, two) == ["nano (one)", "nano (two)"]
    three = made(tmp_path / "deeper" / "one", geneval(), {"name": "nano"})
    assert names(one, three) == [f"nano ({one})", f"nano ({three})"]


def test_folders_of_one_name_are_told_apart_by_their_paths(tmp_path):
    one, two = made(tmp_path / "a" / "run", geneval()), made(tmp_path / "b" / "run", geneval())
    assert names(one, two) == [str(one), str(two)]


def test_one_model_in_several_benches_keeps_its_name(tmp_path):
    assert names(
        made(tmp_path / "a", geneval(), {"name": "nano"}), made(tmp_path / "b", imgedit(), {"name": "nano"})
    ) == ["nano", "nano"]


def test_a_folder_of_runs_gives_all_of_them(tmp_path):
    for bench in ("nano-imgedit", "nano-geneval"):
        made(tmp_path / "first" / bench, geneval(bench))
        made(tmp_path / "second" / bench, geneval(bench))
    (tmp_path / "first" / "other").mkdir()
    found = read_runs([tmp_path / "first", tmp_path / "second"])
    assert [one.name for one in found] == ["first", "first", "second", "second"]
    assert [one.scores.bench for one in found[:2]] == ["nano-geneval", "nano-imgedit"]


def test_what_has_no_scores_or_is_given_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no scores"):
        read_runs([tmp_path])
    one = made(tmp_path / "one", geneval())
    with pytest.raises(ValueError, match="given twice"):
        read_runs([one, one])
    (one / "scores.json").write_text("{", "utf-8")
    with pytest.raises(ValueError, match="damaged"):
        read_runs([one])


def test_runs_are_sorted_by_bench():
    runs = [run("a", geneval()), run("a", imgedit()), run("b", geneval())]
    assert {bench: [one.name for one in of] for bench, of in by_bench(runs).items()} == {
        "geneval": ["a", "b"],
        "imgedit": ["a"],
    }


def test_two_units_in_one_bench_are_refused():
    other = imgedit()
    other = type(other)("geneval", other.unit, other.overall, other.groups)
    with pytest.raises(ValueError, match="1-5 and share"):
        by_bench([run("a", geneval()), run("b", other)])


def test_rows_stand_in_the_papers_order_and_none_is_lost():
    scores = imgedit()
    more = type(scores)("imgedit", "1-5", scores.overall, {"zoom": scores.groups["add"], **scores.groups})
    overall, groups = row_names([run("a", scores), run("b", more)], IMGEDIT)
    assert overall == ["mean of types", "mean of samples"]
    assert groups == [*IMGEDIT.groups, "zoom"]
    assert row_names([run("b", more)], None)[1] == ["zoom", "add", "compose"]


def test_how_many_samples_a_run_drew(tmp_path):
    assert samples_of(tmp_path) is None
    for said, samples in (({"samples": 4}, 4), ({"samples": 0}, None), ({}, None), ([], None)):
        (tmp_path / "run.json").write_text(json.dumps({"made_with": {"settings": said}}), "utf-8")
        assert samples_of(tmp_path) == samples
