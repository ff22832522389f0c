"""The page of a conversation: all text escaped, all pictures inside, nothing loaded or run."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from io import BytesIO

from PIL import Image

from lightbagel_core.conversation.entries import Answered, Drawn, Shown
from lightbagel_core.conversation.page import page

HOSTILE = """<script>alert(1)</script> "quoted" 'single' & </div></style><img src=x onerror=y> \x00 \ud800"""
RED, BLUE = (Image.new("RGB", (4, 3), colour) for colour in ("red", "blue"))
ENTRIES = [
    Shown(RED),
    Drawn(HOSTILE, HOSTILE, BLUE, True, 1, {"seed": 3, HOSTILE: HOSTILE}),
    Answered(HOSTILE, HOSTILE, True),
]


class Read(HTMLParser):
    """Every tag with its attributes, and the text outside the style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_text_stays_text():
    read = Read(page(HOSTILE, ENTRIES))
    known = {"html", "head", "meta", "title", "style", "body", "main", "header", "h1", "p", "section", "div"}
    known |= {"figure", "img", "figcaption", "details", "summary", "table", "tr", "th", "td"}
    assert {tag for tag, _ in read.tags} <= known
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on") or name == "style"]
    assert read.text.count("<script>alert(1)</script>") == 2 + 2 + 2 + 2  # title, edit and not, a setting, an answer
    (drawn,) = (attributes for tag, attributes in read.tags if attributes.get("alt") == HOSTILE)
    assert drawn["src"].startswith("data:image/png;base64,")


def test_nothing_is_loaded_from_elsewhere():
    read = Read(page("nano", ENTRIES))
    for tag, attributes in read.tags:
        assert "href" not in attributes
        assert "src" not in attributes or (tag == "img" and attributes["src"].startswith("data:image/png;base64,"))
    (policy,) = (a["content"] for _, a in read.tags if a.get("http-equiv") == "Content-Security-Policy")
    said = dict(one.strip().split(" ", 1) for one in policy.split(";"))
    (style,) = re.findall(r"<style>(.*?)</style>", page("nano", ENTRIES), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert said == {
        "default-src": "'none'", "img-src": "data:", "style-src": f"'sha256-{digest}'", "base-uri": "'none'",
        "form-action": "'none'",
    }  # fmt: skip
    assert "url(" not in style
    assert "@import" not in style


def test_pictures_are_inside_in_order():
    sources = [attributes["src"] for tag, attributes in Read(page("nano", ENTRIES)).tags if tag == "img"]
    pictures = [Image.open(BytesIO(base64.b64decode(source.partition(",")[2]))) for source in sources]
    assert [picture.tobytes() for picture in pictures] == [RED.tobytes(), BLUE.tobytes()]


def test_it_says_what_was_asked_and_cut():
    text = Read(page("nano", [Drawn("a star", "blue", RED, False, 0, {"seed": 3}), Answered("?", "red", True)])).text
    for words in ("A conversation with nano", "a star", "draw, not: blue", "seed", "3", "?", "red", "was cut"):
        assert words in text
    assert "Nothing has been said yet." in page("nano", [])
    assert "was cut" not in page("nano", [Answered("?", "red")])
