"""Where paths of metadata lead: below the source, and nowhere else."""

from __future__ import annotations

import os

import pytest
from written import file

from lightbagel_core.training.prepare.layouts.places import Places
from lightbagel_core.training.prepare.layouts.unusable import Unusable


@pytest.fixture
def places(tmp_path):
    file(tmp_path / "secret.png")
    root = tmp_path / "set"
    for name in ("a.png", "meta/b.png", "images/with space.png", "images/Ünïcode 图.png", "images/CON.png"):
        file(root / name)
    return Places(root, (root / "meta", root))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("b.png", "meta/b.png"),
        ("a.png", "a.png"),
        ("../a.png", "a.png"),
        ("./images/with space.png", "images/with space.png"),
        ("images\\CON.png", "images/CON.png"),
        ("images/Ünïcode 图.png", "images/Ünïcode 图.png"),
        ("Nano-150k/images/CON.png", "images/CON.png"),
    ],
)
def test_paths_are_relative_to_the_metadata_or_the_source(places, path, name):
    assert places.file(path).resolve() == (places.root / name).resolve()
    assert places.picture(path, "x").name.endswith(name.rsplit("/")[-1])


def test_an_absolute_path_below_the_source_is_read(places):
    assert places.file(str(places.root / "a.png")) == places.root / "a.png"


@pytest.mark.parametrize(
    "path",
    [
        "../../secret.png",
        "..\\..\\secret.png",
        "images/../../../secret.png",
        "/etc/hostname",
        "\\\\server\\a.png",
        "C:\\secret.png",
        "c:/secret.png",
    ],
)
def test_nothing_outside_is_read(places, path, monkeypatch):
    monkeypatch.chdir(places.root)
    with pytest.raises(Unusable, match="leads out of"):
        places.file(path)


def test_an_absolute_path_outside_is_not_read(places):
    with pytest.raises(Unusable, match="leads out of"):
        places.file(str(places.root.parent / "secret.png"))


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="needs links")
def test_a_link_leads_nowhere_else(places):
    (places.root / "link.png").symlink_to(places.root.parent / "secret.png")
    (places.root / "up").symlink_to(places.root.parent)
    (places.root / "loop.png").symlink_to(places.root / "loop.png")
    for path in ("link.png", "up/secret.png"):
        with pytest.raises(Unusable, match="leads out of"):
            places.file(path)
    with pytest.raises(Unusable, match=r"leads out of|there is no file"):
        places.file("loop.png")


@pytest.mark.parametrize(
    "path", ["https://x.org/a.png", "HTTP://x.org/a.png", "s3://b/a.png", "data:image/png;base64,AA", "file:///a.png"]
)
def test_addresses_are_not_fetched(places, path):
    with pytest.raises(Unusable, match="is an address; nothing is fetched"):
        places.file(path)


def test_a_missing_file_is_said(places):
    for path in ("none.png", "images", "x" * 5000, "a:b.png", "a\0.png"):
        with pytest.raises(Unusable, match="there is no file"):
            places.file(path)


def test_pictures_are_bytes_or_paths(places):
    assert places.picture(b"abc", "row 1").read() == b"abc"
    assert places.picture({"bytes": b"abc", "path": "a.png"}, "row 1").read() == b"abc"
    assert places.picture({"bytes": None, "path": "a.png"}, "row 1").read() == b"a.png"
    assert places.picture({"path": "meta/b.png"}, "row 1").name == "meta/b.png"
    for value, why in {
        None: "row 1 holds no picture",
        b"": "row 1 holds no picture",
        "": "row 1 holds no picture",
        7: "row 1 is no picture but a number",
        (("url", "x"),): "row 1 holds neither bytes nor a path but 'url'",
        (("bytes", None), ("path", None)): "row 1 holds no picture",
        (("path", "http://x.org/a.png"),): "is an address",
    }.items():
        with pytest.raises(Unusable, match=why):
            places.picture(dict(value) if isinstance(value, tuple) else value, "row 1")
