"""`lightbagel prepare` as a person types it."""

from __future__ import annotations

import io
import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from prepared_rows import encoded

from lightbagel_core.__main__ import main
from lightbagel_core.training.data.store import FILE, Store


@pytest.fixture
def folder(tmp_path):
    for n in range(5):
        folder = tmp_path / "cats and dogs" / "3_mine"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"p {n}.png").write_bytes(encoded(level=n) if n else b"no picture")
        (folder / f"p {n}.txt").write_text(f"a cat {n}", "utf-8")
    (tmp_path / "cats and dogs" / "README.md").write_text("---\nlicense: cc0-1.0\n---\n", "utf-8")
    return tmp_path / "cats and dogs"


@pytest.fixture
def edits(tmp_path):
    rows = [{"bytes": encoded(64, 48, level=100 + n), "path": None} for n in range(12)]
    table = pa.table(
        {"original_image": rows[:6], "edit_prompt": [f"do {n}" for n in range(6)], "edited_image": rows[6:]}
    )
    pq.write_table(table, tmp_path / "edits.parquet")
    return tmp_path / "edits.parquet"


def run(capsys, *words) -> tuple[int, str, str]:
    status = main(["prepare", *map(str, words)])
    out, err = capsys.readouterr()
    return status, out, err


def test_sources_become_a_store_and_more_sets_are_added(folder, edits, tmp_path, capsys):
    store = tmp_path / "store"
    status, out, _ = run(capsys, folder, "--out", store, "--quiet", "--workers", 1)
    assert status == 0
    assert "4 rows, 12 with their repeats" in out
    assert "cats and dogs: 4 rows, 0 doubles, 1 left out" in out
    assert "layout folder, source unknown, licence cc0-1.0" in out
    assert "p 0.png" in out
    words = (edits, "--out", store, "--quiet", "--source", "a friend", "--licence", "mit", "--workers", 1)
    status, out, _ = run(capsys, *words)
    assert "edits: 6 rows" in out
    assert "layout instruct-pix2pix, source a friend, licence mit" in out
    assert Store(store).count == 10
    assert run(capsys, *words)[0] == 0
    assert Store(store).row(5).texts == ("do 1",)


def test_sources_with_a_name_are_one_set(edits, tmp_path, capsys):
    other = tmp_path / "b" / "edits.parquet"
    other.parent.mkdir()
    other.write_bytes(edits.read_bytes())
    status, _, err = run(capsys, edits, other, "--out", tmp_path / "store")
    assert status == 2
    assert "several sources are called edits: prepare them one by one, each with a --name" in err
    status, out, _ = run(capsys, edits, other, "--out", tmp_path / "store", "--name", "both", "--quiet", "--workers", 1)
    assert "both: 6 rows, 6 doubles, 0 left out" in out
    (about,) = json.loads((tmp_path / "store" / FILE).read_text("utf-8"))["sets"]
    assert (about["name"], about["licence"]) == ("both", "")
    assert str(tmp_path) not in (tmp_path / "store" / FILE).read_text("utf-8")


def test_a_sheet_is_drawn_of_sources_or_a_store(folder, edits, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    status, out, err = run(capsys, folder, edits, "--look", tmp_path / "look.png")
    assert (status, err) == (0, "")
    assert out.strip().endswith("look.png: 11 rows")
    assert Image.open(io.BytesIO((tmp_path / "look.png").read_bytes())).format == "PNG"
    run(capsys, folder, "--out", tmp_path / "store", "--quiet", "--workers", 1)
    assert run(capsys, tmp_path / "store", "--look", tmp_path / "look.png")[1].strip().endswith("4 rows")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{folder}", "{folder}", "--out", "{out}"], "is named twice"),
        (["{folder}", "--out", "{out}", "--layout", "zip"], "there is no layout 'zip'"),
        (["nowhere", "--out", "{out}"], "there is no file or folder nowhere"),
        (["{folder}", "--out", "{out}", "--workers", "0"], "--workers must be 1 to 64, not 0"),
        (["{folder}", "--out", "{out}", "--longest", "5"], "--longest must be at least 64, not 5"),
        (["{folder}", "--look", "{out}.jpg"], "must end in .png"),
        (["{folder}", "--look", "{out}.png", "--name", "x"], "--name: only --out asks for it"),
    ],
)
def test_what_cannot_be_done_is_said(folder, tmp_path, capsys, words, said):
    status, _, err = run(capsys, *(word.format(folder=folder, out=tmp_path / "out") for word in words))
    assert status == 2
    assert said in err
    assert not (tmp_path / "out").exists()


def test_one_of_a_store_and_a_sheet_is_asked_for(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["prepare", "x"])
    assert ended.value.code == 2
    assert "--out" in capsys.readouterr().err


def test_without_pyarrow(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, _, err = run(capsys, folder, "--out", tmp_path / "store")
    assert status == 2
    assert "pip install 'lightbagel[train]'" in err
