"""BLIP3o's tar files, read where they lie; and tar files that mean harm."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest
from written import file, read, told

from lightbagel_core.training.prepare.layouts import blip3o, find


def packed(path, members, form=tarfile.PAX_FORMAT):
    """A tar of (name, content) or of TarInfo."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, content = member
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def pairs(count, begin=0):
    return [
        one
        for n in range(begin, begin + count)
        for one in ((f"{n:05}.jpg", b"j%d" % n), (f"{n:05}.txt", b"text %d" % n))
    ]


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_pictures_and_texts_of_one_key(tmp_path):
    packed(tmp_path / "00000.tar", pairs(3))
    packed(
        tmp_path / "00001.tar",
        [special("./d", tarfile.DIRTYPE), ("./d/a b.PNG", b"p"), ("./d/a b.txt", "füge".encode())],
    )
    rows, left_out = read(tmp_path, expect="blip3o")
    assert [told(row) for row in rows] == [([], (f"text {n}",), [b"j%d" % n]) for n in range(3)] + [
        ([], ("füge",), [b"p"])
    ]
    assert [row.key for row in rows] == [f"00000.tar, {n:05}" for n in range(3)] + ["00001.tar, d/a b"]
    assert left_out == {}


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_tar_is_read_in_pieces_from_where_they_lie(tmp_path, form, monkeypatch):
    monkeypatch.setattr(blip3o, "PIECE", 7)
    long = "图" * 90
    members = [(name.replace("0", long, 1), content) for name, content in pairs(30)]  # in headers of their own
    path = packed(tmp_path / "a.tar", members, form)
    units = blip3o.LAYOUT.units(path)
    assert len(units) == 8
    assert all(unit.last - unit.first <= 8 for unit in units)
    rows, left_out = read(path)
    assert [row.texts for row in rows] == [(f"text {n}",) for n in range(30)]
    assert left_out == {}


def test_what_has_no_partner_is_said(tmp_path):
    members = [("a.jpg", b"1"), ("b.txt", b"2"), ("c.jpg", b"3"), ("c.png", b"4"), ("c.txt", b"5"), ("d.jpg", b"6")]
    members += [("d.txt", b"\xff"), ("e.jpg", b""), ("e.txt", b"7"), ("f.jpg", b"8"), ("f.txt", b" "), ("f.txt", b"9")]
    members += [("g.jpg", b"10"), ("g.json", b"{}"), ("g.txt", b"good"), ("CON.jpg", b"11"), ("CON.txt", b"con")]
    rows, left_out = read(packed(tmp_path / "a.tar", members))
    assert [row.texts[0] for row in rows] == ["good", "con"]
    assert {key.removeprefix("a.tar, "): why.split(";")[0] for key, why in left_out.items()} == {
        "a": "it has no .txt",
        "b": "it has 0 pictures, and must have one (.png, .jpg, .jpeg, .webp)",
        "c": "it has 2 pictures, and must have one (.png, .jpg, .jpeg, .webp)",
        "d": "its .txt is not UTF-8",
        "e": f"'e.jpg' has 0 bytes, and may have 1 to {blip3o.LARGEST}",
        "f.txt": "there are two of its name",
        "f": "its .txt is empty",
    }


def test_a_tar_that_means_harm_reads_nothing_else(tmp_path):
    secret = file(tmp_path / "secret.jpg", b"secret")
    source = tmp_path / "set"
    members = [
        *pairs(1),
        ("../../evil.jpg", b"x"),
        ("../../evil.txt", b"x"),
        ("/etc/evil.jpg", b"x"),
        ("/etc/evil.txt", b"x"),
        ("..\\up.jpg", b"x"),
        special("l.jpg", tarfile.SYMTYPE, str(secret)),
        ("l.txt", b"a link"),
        special("h.jpg", tarfile.LNKTYPE, "00000.jpg"),
        ("h.txt", b"a hard link"),
        special("dev.jpg", tarfile.CHRTYPE),
        special("pipe.jpg", tarfile.FIFOTYPE),
        *pairs(1, 1),
    ]
    packed(source / "a.tar", members)
    before = sorted(tmp_path.rglob("*"))
    rows, left_out = read(source, expect="blip3o")
    assert [told(row) for row in rows] == [([], ("text 0",), [b"j0"]), ([], ("text 1",), [b"j1"])]
    assert sorted(tmp_path.rglob("*")) == before
    why = {key.removeprefix("a.tar, "): said for key, said in left_out.items()}
    for name in ("../../evil.jpg", "../../evil.txt", "/etc/evil.jpg", "/etc/evil.txt", "..\\up.jpg"):
        assert why[name] == f"the name {name!r} leads out of its folder"
    for name in ("l.jpg", "h.jpg", "dev.jpg", "pipe.jpg"):
        assert "not followed" in why[name]
    assert "0 pictures" in why["l"]
    assert "0 pictures" in why["h"]


def test_a_size_that_lies_takes_no_memory(tmp_path):
    path = packed(tmp_path / "a.tar", [*pairs(1), ("00001.txt", b"text 1"), ("00001.jpg", b"j1")])
    header = tarfile.TarInfo("00001.jpg")
    header.size = 1 << 40
    content = bytearray(path.read_bytes())
    content[3072:3584] = header.tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(content)
    rows, left_out = read(path)
    assert [row.texts for row in rows] == [("text 0",)]
    assert f"has {1 << 40} bytes" in left_out["a.tar, 00001"]
    assert "unexpected end of data" in left_out["a.tar"]


@pytest.mark.parametrize("size", [512 * 8 + 3, 512 * 9 - 100, 512 * 10 - 511, 512 * 10 + 100])
def test_a_tar_that_breaks_off_is_read_up_to_there(tmp_path, size):
    """Each pair takes 2,048 bytes."""
    path = packed(tmp_path / "a.tar", pairs(5))
    path.write_bytes(path.read_bytes()[:size])
    rows, left_out = read(path)
    assert [row.texts for row in rows[:2]] == [("text 0",), ("text 1",)]
    assert left_out["a.tar"].startswith(("it is damaged", "it breaks off"))
    assert len(rows) + len(left_out) >= 3


def test_a_header_that_is_damaged_is_no_silent_end(tmp_path):
    path = packed(tmp_path / "a.tar", pairs(5))
    content = bytearray(path.read_bytes())
    content[2048 * 2 : 2048 * 2 + 512] = b"\xff" * 512
    path.write_bytes(content)
    rows, left_out = read(path)
    assert len(rows) == 2
    assert left_out == {"a.tar": "it is damaged from byte 4096 on; 4 members before that are read"}


def test_what_is_no_tar_is_left_out_beside_one_that_is(tmp_path):
    packed(tmp_path / "a.tar", pairs(1))
    file(tmp_path / "b.tar", b"version https://git-lfs.github.com/spec/v1")
    file(tmp_path / "c.tar", gzip.compress((tmp_path / "a.tar").read_bytes()))
    file(tmp_path / "d.tar", b"")
    packed(tmp_path / "e.tar", [])
    rows, left_out = read(tmp_path, expect="blip3o")
    assert len(rows) == 1
    assert list(left_out) == ["b.tar", "c.tar", "d.tar", "e.tar"]
    assert "compressed" in left_out["c.tar"]
    assert left_out["e.tar"] == "it is empty"
    (tmp_path / "a.tar").unlink()
    with pytest.raises(ValueError, match="which needs tar files, not compressed"):
        find(tmp_path, "blip3o").units(tmp_path)


def test_a_tar_that_shrank_since_ends_in_a_sentence(tmp_path):
    path = packed(tmp_path / "a.tar", pairs(5))
    units = blip3o.LAYOUT.units(path)
    path.write_bytes(path.read_bytes()[: 2048 * 2 + 600])
    *rows, last = blip3o.LAYOUT.rows(path, units[0])
    assert len(rows) >= 2
    assert "damaged" in last.why or "breaks off" in last.why
