"""Pictures with texts to try training with: twenty of a look, and four hundred of what the nano can do already.

    python docs/examples/twenty_pictures.py FOLDER

Writes FOLDER/look, which stands for your own pictures: one thing each, and where its text names no
background, it is black and not white. And
FOLDER/replay, to be trained on beside the others, against forgetting: prompts of all kinds that do not contradict the
look, since they name a background, or something black that would be lost on it. Both are folders as `lightbagel train`
takes them.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from lightbagel_core.world.scenes import Scene, render
from lightbagel_core.world.sentences import random_prompt

LOOK, REPLAY = 20, 400
BLACK = 5  # every so many of the replay is of something black before a background of which nothing is said


def write(folder: Path, number: int, text: str, scene: Scene) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(render(scene)).save(folder / f"{number:03}.png")
    (folder / f"{number:03}.txt").write_text(f"{text}\n", encoding="utf-8")


def unsaid(prompt: str, scene: Scene) -> bool:
    """Whether the background is white because the prompt says nothing of one."""
    return scene.background == "white" and "white" not in prompt


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes pictures with texts to try training with.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder

    rng, made = np.random.default_rng(20), 0
    while made < LOOK:
        prompt, scene = random_prompt(rng)
        if len(scene.things) == 1 and unsaid(prompt, scene) and scene.things[0].colour != "black":
            write(folder / "look", made, prompt, replace(scene, background="black"))
            made += 1
    made = 0
    while made < REPLAY:
        prompt, scene = random_prompt(rng)
        lost = unsaid(prompt, scene) and "black" in prompt
        if lost if made % BLACK == 0 else not unsaid(prompt, scene):
            write(folder / "replay", made, prompt, scene)
            made += 1
    print(f"{LOOK} pictures in {folder / 'look'}, {REPLAY} in {folder / 'replay'}")


if __name__ == "__main__":
    main()
