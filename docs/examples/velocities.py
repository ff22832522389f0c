"""Reads velocities along a run: how far text guidance moves them, from noise to picture.

    python docs/examples/velocities.py
    python docs/examples/velocities.py "a red circle left of a blue square" --guidance 4

Prints a table and writes it to velocities.csv in the current folder, a line for each step:

    t       the flow time, 1 is noise and 0 the picture
    length  the root mean square of the velocity that has read the prompt
    moved   how far guidance moves that velocity, as a part of its length
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from torch import Tensor

from lightbagel_core import LightBagel
from lightbagel_core.sampling.schedule import schedule

SIZE = (96, 96)


def main() -> None:
    parser = argparse.ArgumentParser(description="Reads how far text guidance moves the velocity over a run.")
    parser.add_argument("prompt", nargs="?", default="a large red circle on the left on a white background")
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=3)
    args = parser.parse_args()

    model = LightBagel.from_pretrained("nano")
    context = model.encode([[model.text(args.prompt)], [model.text("")]], *SIZE)
    times = schedule(args.steps, model.config.defaults.shift).tolist()
    rows: list[tuple[float, float, float]] = []

    def read(done: int, steps: int, latents: Tensor) -> None:
        """Reads the velocities at the latents that `done` steps have led to."""
        if done == steps:
            return  # the picture is finished: no step starts here
        with_words, without = model.velocity(latents.repeat(2, 1, 1, 1), times[done], context).chunk(2)
        guided = without + args.guidance * (with_words - without)
        length = with_words.square().mean().sqrt()
        moved = (guided - with_words).square().mean().sqrt() / length
        rows.append((times[done], float(length), float(moved)))

    noise = model.noise(1, *SIZE, args.seed)
    read(0, args.steps, noise)
    # An ordinary run; after each of its steps `read` looks at where it stands.
    model.generate(
        args.prompt,
        width=SIZE[0],
        height=SIZE[1],
        seed=args.seed,
        steps=args.steps,
        text_guidance=args.guidance,
        on_step=read,
        progress=False,
    )

    with Path("velocities.csv").open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out)
        table.writerow(["t", "length", "moved"])
        table.writerows([f"{value:.5f}" for value in row] for row in rows)
    print("    t   length  moved")
    for t, length, moved in rows:
        print(f"{t:.3f}  {length:7.3f}  {moved:5.3f}")


if __name__ == "__main__":
    main()
