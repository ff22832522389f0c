"""Makes docs/strip.png with the nano: python docs/strip.py. Nothing is retouched; the README says how often it errs."""

from __future__ import annotations

import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lightbagel_core import LightBagel

PROMPTS = (
    "a large red circle on the left on a white background",
    "a small green star above a large blue square on a yellow background",
    "a red circle left of a blue square",
    "a large yellow star in the centre on a black background",
)
EDITS = (
    "make the circle blue",
    "replace the square with a circle",
    "make the square green",
    "change the background to grey",
)
TILE, GAP, TEXT = 160, 16, 56
FIRST_SEED = 1


def main() -> None:
    model = LightBagel.from_pretrained("nano", "cpu")
    font = ImageFont.load_default(12)
    width = GAP + len(PROMPTS) * (TILE + GAP)
    sheet = Image.new("RGB", (width, 3 * GAP + 2 * (TILE + TEXT) + 60), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (prompt, words) in enumerate(zip(PROMPTS, EDITS, strict=True)):
        x = GAP + column * (TILE + GAP)
        picture = model.generate(prompt, seed=FIRST_SEED + column, progress=False)[0]
        edited = model.edit(picture, words, seed=FIRST_SEED + column, progress=False)[0]
        said = model.describe(edited)
        rows = ((picture, f"generate: {prompt}"), (edited, f"edit: {words}"))
        for row, (image, text) in enumerate(rows):
            y = GAP + row * (TILE + TEXT + GAP)
            sheet.paste(image.resize((TILE, TILE), Image.Resampling.LANCZOS), (x, y))
            draw.rectangle((x, y, x + TILE - 1, y + TILE - 1), outline="#bbb")
            draw.multiline_text((x, y + TILE + 4), textwrap.fill(text, 28), "black", font)
        draw.multiline_text((x, y + TILE + 44), textwrap.fill(f"describe: {said}", 28), "#555", font)
    sheet.save(Path(__file__).with_name("strip.png"), optimize=True)


if __name__ == "__main__":
    main()
