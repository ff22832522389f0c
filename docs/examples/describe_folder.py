"""Describes every picture of a folder, several in one batch.

    python docs/examples/describe_folder.py FOLDER
    python docs/examples/describe_folder.py FOLDER "what colour is the circle?"

Prints a line for each picture and writes FOLDER/descriptions.csv, whose columns are file and answer. A file that cannot
be opened is named and left out. The built-in nano knows the pictures it draws itself: run generate.py first and give
the folder it wrote into.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from lightbagel_core import LightBagel
from lightbagel_core.images import open_image

KINDS = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
BATCH = 8  # pictures answered for at once


def main() -> None:
    parser = argparse.ArgumentParser(description="Describes every picture of a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("question", nargs="?", default="Describe the image")
    args = parser.parse_args()

    files, pictures = [], []
    for file in sorted(file for file in args.folder.iterdir() if file.suffix.lower() in KINDS):
        try:
            pictures.append(open_image(file))
            files.append(file.name)
        except ValueError as error:
            print(f"left out: {error}")

    model = LightBagel.from_pretrained("nano")
    answers: list[str] = []
    for first in range(0, len(pictures), BATCH):
        answers += model.describe_each(pictures[first : first + BATCH], args.question)

    with (args.folder / "descriptions.csv").open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out)
        table.writerow(["file", "answer"])
        for name, answer in zip(files, answers, strict=True):
            table.writerow([name, answer])
            print(f"{name}: {answer}")


if __name__ == "__main__":
    main()
