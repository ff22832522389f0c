"""A conversation as one page of HTML for people: all text escaped, all pictures inside, nothing loaded or run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from PIL import Image

from ..files.png import png_bytes
from .entries import Answered, Entry, Shown

STYLE = """
:root { color-scheme: light dark; --page: #f4f5f7; --card: #fff; --ink: #1c2024; --pale: #667079; --line: #dde1e6;
  --mine: #2f5fd0; --on-mine: #fff; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1f2429; --ink: #e8ebee; --pale: #98a2ab;
  --line: #333a41; --mine: #3f66c4; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; }
main { max-width: 46rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.4rem; margin: 0; }
header { border-bottom: 1px solid var(--line); padding-bottom: 1rem; margin-bottom: 1.5rem; }
header p, .how, summary, td, th { color: var(--pale); font-size: .85rem; margin: 0; }
section { display: flex; flex-direction: column; gap: .5rem; margin-bottom: 1.25rem; }
.mine, .theirs { max-width: 85%; border-radius: 1rem; padding: .6rem .9rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.mine { align-self: flex-end; background: var(--mine); color: var(--on-mine); border-bottom-right-radius: .25rem; }
.theirs { align-self: flex-start; background: var(--card); border: 1px solid var(--line);
  border-bottom-left-radius: .25rem; }
.asked { align-self: flex-end; }
figure { margin: 0; align-self: flex-start; min-width: min(16rem, 85%); max-width: 85%;
  background: var(--card); border: 1px solid var(--line); border-radius: 1rem; border-bottom-left-radius: .25rem;
  padding: .5rem; }
figure.shown { align-self: flex-end; border-radius: 1rem; border-bottom-right-radius: .25rem; }
img { display: block; min-width: 100%; max-width: 100%; height: auto; border-radius: .6rem; }
figcaption, details { padding: .4rem .25rem 0; color: var(--pale); font-size: .85rem; }
th { text-align: left; font-weight: normal; padding-right: 1rem; vertical-align: top; }
td { overflow-wrap: anywhere; }
"""
# Nothing may be loaded, run or sent; the one style is named by its hash.
POLICY = "; ".join([
    "default-src 'none'",
    "img-src data:",
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'",
    "base-uri 'none'",
    "form-action 'none'",
])  # fmt: skip


def page(model: str, entries: Sequence[Entry]) -> str:
    """The page of a conversation with a model of that name."""
    turns = "\n".join(f"<section>\n{_section(entry)}\n</section>" for entry in entries)
    note = "Made with LightBagel. Pictures and answers are a model's."
    return document(f"A conversation with {model}", note, turns or '<p class="how">Nothing has been said yet.</p>')


def document(title: str, note: str, body: str) -> str:
    """A whole page. title, note: plain text. body: HTML, all of whose texts are escaped, as `words` does."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<h1 dir="auto">{escape(title)}</h1>
<p>{escape(note)}</p>
</header>
{body}
</main>
</body>
</html>
"""


def _section(entry: Entry) -> str:
    if isinstance(entry, Answered):
        cut = '\n<p class="how">The answer was cut at its longest length.</p>' if entry.cut else ""
        return f"{words('mine', entry.question)}\n{words('theirs', entry.answer)}{cut}"
    if isinstance(entry, Shown):
        caption = f"<figcaption>shown, {entry.picture.width}×{entry.picture.height}</figcaption>"
        return f'<figure class="shown">{embedded(entry.picture, "a picture that was shown")}{caption}</figure>'
    what = "edit" if entry.edited else "draw"
    negative = f", not: {escape(entry.negative_prompt)}" if entry.negative_prompt else ""
    said = f'{words("mine", entry.text)}\n<p class="how asked">{what}{negative}</p>'
    return f"{said}\n<figure>{embedded(entry.picture, entry.text)}{_settings(entry.settings)}</figure>"


def words(who: str, text: str) -> str:
    """A text as HTML. who: "mine", the user's, or "theirs", the model's."""
    return f'<div class="{who}" dir="auto">{escape(text)}</div>'


def embedded(picture: Image.Image, text: str) -> str:
    """A picture as HTML, all of it inside; `text` stands for it where it is not seen."""
    data = base64.b64encode(png_bytes(picture, {})).decode()
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<img src="data:image/png;base64,{data}" alt="{escape(text)}" {size}>'


def _settings(settings: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(str(v))}</td></tr>" for k, v in settings.items())
    return f"<details><summary>settings</summary><table>{rows}</table></details>"
