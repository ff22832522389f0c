"""Runs every workflow on ComfyUI's page and takes its pictures: workflows/<name>.jpg, what it makes, for ComfyUI's list
of templates, and docs/<name>.jpg, how it looks on the canvas.

    COMFYUI_PATH=… python docs/workflows.py        (with ComfyUI's Python, playwright and Debian's chromium)
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import textwrap
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

PACK = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PACK / "tests" / "comfy"))

from browsing import area, browse, drop, fit, run  # noqa: E402
from serving import Server, serve  # noqa: E402

SIDE, GAP, INK, PAPER = 384, 12, "#e8e8e8", "#262626"


def images(server: Server, outputs: dict[str, Any]) -> list[Image.Image]:
    """The pictures of a run, first the shown, then the saved ones."""
    found = [
        (image["type"] == "output", int(node), image)
        for node, output in outputs.items()
        for image in output.get("images", ())
    ]
    found.sort(key=lambda entry: entry[:2])
    return [
        Image.open(io.BytesIO(urllib.request.urlopen(f"{server.url}/view?{urllib.parse.urlencode(image)}").read()))
        for *_, image in found
    ]


def card(pictures: list[Image.Image], texts: list[str]) -> Image.Image:
    """Pictures side by side, with what was said below them."""
    font = ImageFont.load_default(22)
    lines = [line for text in texts for line in textwrap.wrap(f"“{text}”", SIDE * len(pictures) // 12)]
    width = len(pictures) * (SIDE + GAP) + GAP
    made = Image.new("RGB", (width, SIDE + 2 * GAP + 30 * len(lines)), PAPER)
    for i, picture in enumerate(pictures):
        made.paste(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS), (GAP + i * (SIDE + GAP), GAP))
    for i, line in enumerate(lines):
        ImageDraw.Draw(made).text((GAP, SIDE + 2 * GAP + 30 * i), line, INK, font)
    return made


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as base,
        serve(Path(os.environ["COMFYUI_PATH"]), Path(base) / "comfyui") as server,
        browse(server, (2000, 1300)) as page,
    ):
        for workflow in sorted((PACK / "workflows").glob("*.json")):
            drop(page, workflow)
            entry = run(page, server)
            outputs = entry["outputs"]
            texts = dict.fromkeys(text for output in outputs.values() for text in output.get("text", ()))
            card(images(server, outputs), list(texts)).save(workflow.with_suffix(".jpg"), quality=90)
            page.wait_for_timeout(2000)  # the last previews arrive
            fit(page)
            page.wait_for_timeout(500)
            page.screenshot(path=PACK / "docs" / f"{workflow.stem}.jpg", clip=area(page), type="jpeg", quality=85)


if __name__ == "__main__":
    main()
