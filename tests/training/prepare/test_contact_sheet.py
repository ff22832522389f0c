"""A sheet shows rows of sources and of stores with their texts; what is left out is shown as that."""

from __future__ import annotations

import pytest
from PIL import Image
from prepared_rows import stored, write_store
from small_layout import Lines, write_lines

from lightbagel_core.training.prepare import contact_sheet
from lightbagel_core.training.prepare.contact_sheet import is_store, write_look

pytest.importorskip("matplotlib")


def test_rows_are_taken_from_all_over_a_source(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(
        contact_sheet, "_card", lambda row, letters: shown.append(row.key) or Image.new("RGB", (50, 50))
    )
    file = write_lines(tmp_path / "a.txt", [*range(300), "bad", "lost"])
    assert write_look(tmp_path / "look.png", [(file, Lines())]) == 24
    numbers = [int(key.split()[2]) for key in shown]
    assert numbers[0] == 0
    assert numbers[-1] >= 280
    assert numbers == sorted(numbers)
    write_store(tmp_path / "store", [stored(n) for n in range(100)])
    assert is_store(tmp_path / "store")
    shown.clear()
    assert write_look(tmp_path / "look.png", [(tmp_path / "store", None), (file, Lines())]) == 24
    assert shown[:3] == ["row 0", "row 8", "row 16"]


def test_a_sheet_holds_pictures_and_words_and_what_is_left_out(tmp_path):
    file = write_lines(tmp_path / "a.txt", [2, 3, "bad", "lost"])
    assert write_look(tmp_path / "look.png", [(file, Lines())]) == 4
    sheet = Image.open(tmp_path / "look.png")
    assert sheet.size[0] > 400
    assert '"a.txt, line 0"' in str(sheet.text)
    colours = {colour for _, colour in sheet.convert("RGB").getcolors(1 << 24)}
    assert any(red in range(6) and green == 0 for red, green, _ in colours)
    write_store(tmp_path / "store", [stored(n, sources=n % 9, turns=1 + n % 2) for n in range(30)])
    assert write_look(tmp_path / "look.png", [(tmp_path / "store", None)]) == 24


def test_nothing_to_look_at_is_said(tmp_path):
    file = write_lines(tmp_path / "a.txt", [])
    with pytest.raises(ValueError, match="there are no rows to look at"):
        write_look(tmp_path / "look.png", [(file, Lines())])
