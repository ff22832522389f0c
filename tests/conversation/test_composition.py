"""Compositions as files: a page by itself, Markdown beside pictures; nothing that a model or a user says is code."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from PIL import Image
from scenes import PICTURE, noise_picture

from lightbagel_core.conversation.composition import Composition, Part, check_folder
from lightbagel_core.language.planning import Step, Verdict

EVIL = "<script>alert(1)</script> \"quoted\" & 'so' *on* [x](javascript:1) `code` _it_ # ![p](http://elsewhere/x.png)"


@pytest.fixture
def composition() -> Composition:
    other = noise_picture(1)
    return Composition(
        EVIL,
        "nano",
        (
            Part(Step("words", EVIL)),
            Part(Step("draw", "a circle"), PICTURE, EVIL, 2, Verdict(False, EVIL)),
            Part(Step("edit", "make it blue"), other, "make it blue", 1, Verdict(True)),
        ),
    )


class Page(HTMLParser):
    """The tags and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_stands_alone_and_escapes_all_text(composition, tmp_path):
    page = Page(composition.save(tmp_path / "new").read_text("utf-8"))
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "a"})
    sources = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert page.texts.count(EVIL) == 3  # title, heading, words
    assert any("did not agree" in text and EVIL in text for text in page.texts)
    assert [attrs["alt"] for tag, attrs in page.tags if tag == "img"] == [EVIL, "make it blue"]


def test_markdown_shows_text_as_it_is_and_the_pictures_beside_it(composition, tmp_path):
    folder = tmp_path / "new"
    composition.save(folder)
    assert sorted(file.name for file in folder.iterdir()) == [
        "001.png", "002.png", "composition.html", "composition.md",
    ]  # fmt: skip
    text = (folder / "composition.md").read_text("utf-8")
    assert "<script" not in text.replace("\\<", "")
    assert "](http" not in text.replace("\\]", "")
    assert "](001.png)" in text
    assert text.index("](001.png)") < text.index("![make it blue](002.png)")
    with Image.open(folder / "001.png") as picture:
        assert picture.tobytes() == PICTURE.tobytes()
        assert json.loads(picture.text["lightbagel"])["prompt"] == EVIL


def test_only_new_and_empty_folders_are_written_to(composition, tmp_path):
    check_folder(tmp_path / "new" / "inside")
    assert not (tmp_path / "new").exists()
    composition.save(tmp_path / "new")
    before = {file: file.read_bytes() for file in (tmp_path / "new").iterdir()}
    with pytest.raises(ValueError, match="something lies in"):
        composition.save(tmp_path / "new")
    assert before == {file: file.read_bytes() for file in (tmp_path / "new").iterdir()}
    with pytest.raises(ValueError, match="is no folder"):
        composition.save(tmp_path / "new" / "001.png")
    with pytest.raises(ValueError, match=r"001\.png is no folder"):
        composition.save(tmp_path / "new" / "001.png" / "deeper")


def test_words_alone_are_a_composition(tmp_path):
    Composition("Hello?", "nano", (Part(Step("words", "Hello.")),)).save(tmp_path)
    assert (tmp_path / "composition.md").read_text("utf-8") == "# Hello?\n\nHello.\n"
