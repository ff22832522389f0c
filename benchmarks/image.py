"""Text to image with guidance, a whole run: python -m benchmarks.image [--size 1024] [--steps 50] [--growth]

See whole.py for what is compared, and what the columns are.
"""

from __future__ import annotations

from .runs import drawing
from .whole import arguments, model_and_size, report

PROMPTS = (1, 4, 8)


def main() -> None:
    args = arguments(__doc__, f"with larger pictures, and with {PROMPTS} prompts at once")
    model, size = model_and_size(args)
    sizes = (512, 1024, 1536, 2048) if args.device.type == "cuda" else (size, 2 * size, 4 * size)
    growth = {f"{side} pixels": drawing(model, side) for side in sizes}
    growth |= {f"{count} prompts": drawing(model, size, count) for count in PROMPTS}
    report(args, model, "text to image, two branches", drawing(model, size), growth if args.growth else {})


if __name__ == "__main__":
    main()
