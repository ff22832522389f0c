"""A sampler of one's own: text guidance and Euler's steps as a plain loop over the low level.

    python docs/examples/own_sampler.py

Draws a picture, then edits it, both with `sample` below, and writes drawn.png and edited.png in the current folder.
They are the pictures that `model.generate` and `model.edit` make with `solver="euler"` from the same settings.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from typing import Any

from PIL import Image

from lightbagel_core import LightBagel
from lightbagel_core.sampling.schedule import schedule

PROMPT = "a large red circle on the left on a white background"
INSTRUCTION = "make the circle blue"
SEED = 3
GUIDANCE = {"draw": 2.0, "edit": 2.0}  # what suits the nano


def sample(
    model: LightBagel, sources: list[Any], words: str, guidance: float, steps: int, width: int, height: int
) -> Image.Image:
    """Returns a picture of some words, made from source segments (none: from the words alone)."""
    # Two samples run side by side as one batch: the second has the same sources and says nothing.
    samples = [[*sources, model.text(words)], [*sources, model.text("")]]
    context = model.encode(samples, width, height)  # all that does not change from step to step

    times = schedule(steps, model.config.defaults.shift).tolist()  # from just under 1 (noise) down to 0 (picture)
    latents = model.noise(1, width, height, SEED)
    for now, then in pairwise(times):
        with_words, without = model.velocity(latents.repeat(2, 1, 1, 1), now, context).chunk(2)
        velocity = without + guidance * (with_words - without)
        latents = latents + (then - now) * velocity  # a velocity is noise - picture, and time runs backwards
    return model.decode(latents)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws and edits with a sampler of one's own.")
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()

    model = LightBagel.from_pretrained("nano")
    drawn = sample(model, [], PROMPT, GUIDANCE["draw"], args.steps, 96, 96)
    drawn.save("drawn.png")

    # The source twice: as the DiT sees it (pixels), and as the VLM sees it (meaning).
    sources = [model.clean(drawn), model.vit(drawn)]
    edited = sample(model, sources, INSTRUCTION, GUIDANCE["edit"], args.steps, *drawn.size)
    edited.save("edited.png")
    print(f"drawn.png:  {PROMPT}\nedited.png: {INSTRUCTION}")


if __name__ == "__main__":
    main()
