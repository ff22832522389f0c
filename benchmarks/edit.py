"""An edit with text and image guidance, a whole run: python -m benchmarks.edit [--size 1024] [--steps 50] [--growth]

See whole.py for what is compared, and what the columns are.
"""

from __future__ import annotations

from .runs import edit
from .whole import arguments, model_and_size, report

SOURCES = (0, 1, 2, 4)


def main() -> None:
    args = arguments(__doc__, f"with {SOURCES} source pictures, three branches in all of them")
    model, size = model_and_size(args)
    growth = {f"{count} sources": edit(model, size, count) for count in SOURCES}
    report(args, model, "an edit, three branches", edit(model, size), growth if args.growth else {})


if __name__ == "__main__":
    main()
