"""Scores a nano on fresh scenes and sentences with the rule checker: python -m lightbagel_core.evaluation.nano

No sample is chosen: scenes, sentences and noise all follow from the seeds given.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..config import DESCRIBE
from ..files.components import COMPONENTS
from ..images import to_pixels
from ..model import vae as vae_module
from ..model.forward import Content
from ..pipeline import LightBagel
from ..sampling.guidance import Guidance
from ..world.reader import read_scene, same_spot
from ..world.scenes import PLACES, RADIUS, SIZE, Scene, random_scene, render
from ..world.sentences import caption, random_edit, random_prompt, random_question

BATCH = 50


def fresh(seed: int) -> np.random.Generator:
    """A generator no training stage uses."""
    return np.random.default_rng([seed, 2**31])


def picture(scene: Scene) -> Image.Image:
    return Image.fromarray(render(scene))


def read(image: Image.Image) -> Scene | None:
    return read_scene(np.asarray(image))


def agrees(prompt: str, wanted: Scene, seen: Scene | None) -> bool:
    """Whether a picture shows what its prompt says; what the prompt leaves open is free.

    A size the prompt does not name may come out either way; a pair without places may stand in any opposite places.
    """
    if seen is None or seen.background != wanted.background or len(seen.things) != len(wanted.things):
        return False
    free_places = len(wanted.things) == 2 and not any(word in prompt for word in (*PLACES, "above", "below"))
    left = list(seen.things)
    for thing in wanted.things:
        sized = f"{thing.size} {thing.colour} {thing.shape}" in prompt
        for other in left:
            same = (other.shape, other.colour) == (thing.shape, thing.colour)
            if same and (not sized or other.size == thing.size) and (free_places or other.place == thing.place):
                left.remove(other)
                break
        else:
            return False
    return True


def edited(words: str, wanted: Scene, seen: Scene | None) -> bool:
    """Whether an edit was done and all else left as it was, centres to two pixels.

    A thing that was added may stand anywhere in its place, and in either size if the words name none.
    """
    if seen is None:
        return False
    if words.startswith("add"):
        place = next(p for p in PLACES if p in words)
        sized = any(size in words for size in RADIUS)
        new = next((t for t in seen.things if t.place == place), None)
        if new is None:
            return False
        free = {"dx": new.dx, "dy": new.dy} if sized else {"dx": new.dx, "dy": new.dy, "size": new.size}
        wanted = replace(wanted, things=tuple(replace(t, **free) if t.place == place else t for t in wanted.things))
    return same_spot(wanted, seen)


def describe_score(model: LightBagel, count: int, seed: int) -> float:
    rng = fresh(seed)
    scenes = [random_scene(rng) for _ in range(count)]
    return float(np.mean([model.describe(picture(s), DESCRIBE) == caption(s) for s in scenes]))


def answer_score(model: LightBagel, count: int, seed: int) -> float:
    """Share of questions answered word for word."""
    rng = fresh(seed)
    right = []
    for _ in range(count):
        scene = random_scene(rng)
        question, answer = random_question(rng, scene)
        right.append(model.describe(picture(scene), question) == answer)
    return float(np.mean(right))


def vae_score(model: LightBagel, count: int, seed: int) -> float:
    rng = fresh(seed)
    scenes = [random_scene(rng) for _ in range(count)]
    right = []
    for start in range(0, count, BATCH):
        part = scenes[start : start + BATCH]
        pixels = torch.stack([to_pixels(picture(s)) for s in part]).to(model.device)
        pictures = model.decode(vae_module.encode(model.vae, pixels))
        right += [(seen := read(p)) is not None and same_spot(s, seen) for s, p in zip(part, pictures, strict=True)]
    return float(np.mean(right))


def _drawn(
    model: LightBagel, full: Sequence[list[Content]], negative: Sequence[list[Content]], seed: int, guidance: Guidance
) -> list[Image.Image]:
    noise = model.noise(len(full), SIZE, SIZE, seed)
    return model.draw({"full": full, "negative": negative}, noise, guidance, progress=False)


def generate_score(model: LightBagel, count: int, seed: int, guidance: Guidance) -> tuple[float, list[Any]]:
    """(share of pictures with everything the prompt says, [(prompt, picture, right)])."""
    rng = fresh(seed)
    drawn = [random_prompt(rng) for _ in range(count)]
    rows = []
    for start in range(0, count, BATCH):
        part = drawn[start : start + BATCH]
        full: list[list[Content]] = [[model.text(prompt)] for prompt, _ in part]
        pictures = _drawn(model, full, [[model.text("")]] * len(part), seed * 1000 + start, guidance)
        rows += [(p, image, agrees(p, s, read(image))) for (p, s), image in zip(part, pictures, strict=True)]
    return float(np.mean([right for *_, right in rows])), rows


def edit_score(
    model: LightBagel, count: int, seed: int, guidance: Guidance, tokens: tuple[str, ...] = ("vae", "vit")
) -> tuple[float, list[Any]]:
    """(share of edits done with all else unchanged, [(instruction, source, picture, right)])."""
    rng = fresh(seed)
    drawn = [random_edit(rng) for _ in range(count)]
    rows = []
    for start in range(0, count, BATCH):
        part = drawn[start : start + BATCH]
        full: list[list[Content]] = []
        negative: list[list[Content]] = []
        for source, words, _ in part:
            image = picture(source)
            parts: list[Content] = [model.clean(image)] if "vae" in tokens else []
            parts += [model.vit(image)] if "vit" in tokens else []
            full.append([*parts, model.text(words)])
            negative.append([*parts, model.text("")])
        pictures = _drawn(model, full, negative, seed * 1000 + start, guidance)
        rows += [
            (words, picture(source), image, edited(words, target, read(image)))
            for (source, words, target), image in zip(part, pictures, strict=True)
        ]
    return float(np.mean([right for *_, right in rows])), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--count", type=int, default=200, help="samples per seed and task")
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12])
    parser.add_argument("--guidance", type=float, default=None)
    parser.add_argument("--sheet", type=Path, help="write a picture of the first results here")
    args = parser.parse_args()
    model = LightBagel.from_pretrained(args.model)
    model.need(*COMPONENTS)
    default = model.config.defaults
    guidance = Guidance(default.text_guidance if args.guidance is None else args.guidance)
    editing = Guidance(default.edit_text_guidance if args.guidance is None else args.guidance)
    scores: dict[str, list[float]] = {}
    for seed in args.seeds:
        generated, drawn = generate_score(model, args.count, seed, guidance)
        both, changed = edit_score(model, args.count, seed, editing)
        row = {
            "describe": describe_score(model, args.count, seed),
            "answer": answer_score(model, args.count, seed),
            "vae": vae_score(model, args.count, seed),
            "generate": generated,
            "edit": both,
            "edit, vae only": edit_score(model, args.count, seed, editing, ("vae",))[0],
            "edit, vit only": edit_score(model, args.count, seed, editing, ("vit",))[0],
        }
        for name, value in row.items():
            scores.setdefault(name, []).append(value)
        kinds = {
            k: [r for w, *_, r in changed if w.startswith(k)] for k in ("make", "replace", "remove", "add", "change")
        }
        print(
            json.dumps({"seed": seed, **row, **{k: round(float(np.mean(v)), 3) for k, v in kinds.items() if v}}),
            flush=True,
        )
        if args.sheet and seed == args.seeds[0]:
            write_sheet(args.sheet, drawn[:32], changed[:16])
    total = args.count * len(args.seeds)
    for name, values in scores.items():
        print(f"{name:<16}{np.mean(values):7.3f}   n = {total}")


def write_sheet(path: Path, drawn: list[Any], changed: list[Any]) -> None:
    """Pictures in rows of eight: generated ones, then source and edit side by side; a red bar marks a wrong one."""
    tiles = [(image, right) for _, image, right in drawn]
    for _, source, image, right in changed:
        tiles += [(source, True), (image, right)]
    sheet = Image.new("RGB", (8 * (SIZE + 4), -(-len(tiles) // 8) * (SIZE + 8)), "white")
    for i, (image, right) in enumerate(tiles):
        x, y = i % 8 * (SIZE + 4), i // 8 * (SIZE + 8)
        sheet.paste(image, (x, y))
        if not right:
            sheet.paste("red", (x, y + SIZE, x + SIZE, y + SIZE + 4))
    sheet.save(path)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
