"""Draws a picture of a prompt.

    python docs/examples/generate.py
    python docs/examples/generate.py "a small green star above a large blue square on a yellow background" --seed 4

Writes generated.png in the current folder. The built-in nano draws circles, squares, stars and triangles; a word that
it does not know ends in a message that lists those it knows.
"""

from __future__ import annotations

import argparse

from lightbagel_core import LightBagel


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws a picture of a prompt.")
    parser.add_argument("prompt", nargs="?", default="a large red circle on the left on a white background")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--steps", type=int, help="default: the model's own number")
    args = parser.parse_args()

    model = LightBagel.from_pretrained("nano")
    picture = model.generate(args.prompt, seed=args.seed, steps=args.steps)[0]
    picture.save("generated.png")
    print(f"generated.png, {picture.width}x{picture.height}: {args.prompt}")


if __name__ == "__main__":
    main()
