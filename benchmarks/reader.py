"""How often the reader of the nano's pictures errs: python -m benchmarks.reader [read|differ|strange] [--count 2000]

It judges the nano's suites, so their figures are worth what it is. Three tables, each share with Wilson's interval:

read: scenes of 0 to 4 things, drawn and disturbed. `misread`: it reads a scene, and an attribute, the number of things
or a centre (by more than two pixels) is wrong. `unread`: it says that it sees no clear scene. The suites count both as
a wrong picture.

differ: scenes that differ in one thing from what was asked; `accepted` are those that it takes for what was asked.

strange: a figure that is none of the world's shapes; `accepted` are those that it takes for one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lightbagel_core.evaluation.scores import Score
from lightbagel_core.evaluation.statistics import wilson
from lightbagel_core.world.arrangements import gap, scene_of
from lightbagel_core.world.reader import read_scene, same_spot
from lightbagel_core.world.scenes import BACKGROUNDS, COLOURS, PLACES, RADIUS, SHAPES, Scene, Thing, pick

from .disturb import (
    Change,
    Rng,
    as_bytes,
    blur,
    brightness,
    contrast,
    disturbed,
    jpeg,
    moved,
    noise,
    resized,
    shades,
    strange,
)
from .measure import options, parsed, report


@dataclass(frozen=True)
class Row:
    """One way of disturbing: shades, half a pixel, the whole picture moved, and then changes of pixels."""

    changes: tuple[Change, ...] = ()
    shade: int = 0
    half: bool = False
    move: bool = False

    def picture(self, scene: Scene, rng: Rng) -> np.ndarray:
        return disturbed(scene, rng, self.changes, self.shade, self.half)


ORDINARY = "blur 1, noise 8, shade 20"
ROWS = {
    "as drawn": Row(),
    "things half a pixel off": Row(half=True),
    "picture moved by 1 to 3 pixels": Row(move=True),
    **{f"blur {s:g}": Row((blur(s),)) for s in (0.5, 1, 1.5)},
    **{f"noise {s}": Row((noise(s),)) for s in (4, 8, 16)},
    **{f"shade {s}": Row(shade=s) for s in (20, 30, 40)},
    "brightness by up to 20": Row((brightness(20),)),
    "contrast by up to 15 %": Row((contrast(0.15),)),
    "JPEG 75": Row((jpeg(75),)),
    "JPEG 50": Row((jpeg(50),)),
    "half the size and back": Row((resized(64),)),
    "blur 0.5, noise 4, shade 20": Row((blur(0.5), noise(4)), 20),
    ORDINARY: Row((blur(1), noise(8)), 20),
    "moved, half a pixel, blur 1, noise 8, shade 20, JPEG 75": Row((blur(1), noise(8), jpeg(75)), 20, True, True),
    "blur 1.5, noise 8, shade 30": Row((blur(1.5), noise(8)), 30),
    "blur 1.5, noise 16, shade 40": Row((blur(1.5), noise(16)), 40),
}


def other(rng: Rng, options: Sequence[str], value: str) -> str:
    return pick(rng, [o for o in options if o != value])


def changed(rng: Rng, scene: Scene, kind: str) -> Scene | None:
    """A scene that differs from another in one thing, or None where this one cannot differ so."""
    if kind == "background":
        free = [b for b in BACKGROUNDS if b not in {scene.background, *(t.colour for t in scene.things)}]
        return replace(scene, background=pick(rng, free)) if free else None
    if kind == "one more":
        open_places = [p for p in PLACES if p not in {t.place for t in scene.things}]
        colours = [c for c in COLOURS if c != scene.background]
        if len(scene.things) == 4:
            return None
        thing = Thing(pick(rng, SHAPES), pick(rng, colours), "small", pick(rng, open_places))
        return replace(scene, things=(*scene.things, thing)).ordered()
    if not scene.things:
        return None
    old = pick(rng, scene.things)
    kept = tuple(t for t in scene.things if t is not old)
    if kind == "one fewer":
        return replace(scene, things=kept)
    if kind == "shape":
        new = replace(old, shape=other(rng, SHAPES, old.shape))
    elif kind == "colour":
        new = replace(old, colour=other(rng, [c for c in COLOURS if c != scene.background], old.colour))
    elif kind == "size":
        new = replace(old, size=other(rng, tuple(RADIUS), old.size))
    elif kind == "place":
        new = replace(old, place=pick(rng, [p for p in PLACES if p not in {t.place for t in scene.things}]))
    else:
        dx, dy = [(4, 0), (-4, 0), (0, 4), (0, -4)][int(rng.integers(4))]
        new = replace(old, dx=old.dx + dx, dy=old.dy + dy)
    if any(gap(new, t) < 3 for t in kept):
        return None
    return replace(scene, things=(*kept, new)).ordered()


TABLES = ("read", "differ", "strange")
KINDS = ("shape", "colour", "size", "place", "moved by 4 pixels", "one more", "one fewer", "background")


def read(row: Row, count: int, rng: Rng) -> dict[str, Any]:
    """Errors over scenes of 0, 1, 2, 3, 4 things in turns."""
    misread = unread = 0
    seconds = 0.0
    for index in range(count):
        scene = scene_of(rng, index % 5)
        scene = moved(scene, rng) if row.move else scene
        picture = row.picture(scene, rng)
        began = time.process_time()  # its own, whatever else the machine does
        seen = read_scene(picture)
        seconds += time.process_time() - began
        unread += seen is None
        misread += seen is not None and not same_spot(scene, seen)
    return {"misread": wilson(misread, count), "unread": wilson(unread, count), "ms": 1000 * seconds / count}


def differ(kind: str, row: Row, count: int, rng: Rng) -> dict[str, Any]:
    """How many pictures of another scene are taken for the scene asked for."""
    accepted = n = 0
    while n < count:
        asked = scene_of(rng, int(rng.integers(5)))
        given = changed(rng, asked, kind)
        if given is not None:
            seen = read_scene(row.picture(given, rng))
            accepted += seen is not None and same_spot(asked, seen)
            n += 1
    return {"accepted": wilson(accepted, count)}


def odd(name: str, row: Row, count: int, rng: Rng) -> dict[str, Any]:
    """How many pictures of a strange figure are read as a scene with a thing in it."""
    masks = [strange(radius)[name] for radius in RADIUS.values()]
    accepted = 0
    for index in range(count):
        palette = shades(rng, row.shade)
        background = pick(rng, BACKGROUNDS)
        colour = np.array(palette[other(rng, COLOURS, background)], np.float32)
        picture = np.full((128, 128, 3), palette[background], np.float32)
        move = rng.integers(-2, 3, 2)
        picture += np.roll(masks[index % 2], move, (0, 1))[..., None] * (colour - picture)
        for change in row.changes:
            picture = change(picture, rng)
        seen = read_scene(as_bytes(picture))
        accepted += seen is not None and len(seen.things) > 0
    return {"accepted": wilson(accepted, count)}


def shown(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    """A row of a table: shares in per cent with the ends of their intervals."""
    row: dict[str, Any] = {"scenes": name}
    for key, value in figures.items():
        if isinstance(value, Score):
            low, middle, high = (f"{100 * v:.2f}" for v in (value.low, value.value, value.high))
            row[f"{key} %"] = f"{middle} ({low} to {high})"
        else:
            row[key] = value
    return row


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("what", nargs="?", choices=TABLES, help="one table; default: all")
    parser.add_argument("--count", type=int, default=2000, help="pictures a row")
    parser.add_argument("--seed", type=int, default=14)
    args = parsed(parser)
    if args.json and not args.what:
        parser.error("a file of --json holds one table: say which")

    def rng(index: int) -> Rng:
        return np.random.default_rng([args.seed, index])

    for what in [args.what] if args.what else TABLES:
        if what == "read":
            rows = [shown(name, read(row, args.count, rng(i))) for i, (name, row) in enumerate(ROWS.items())]
        else:
            call, names = (differ, KINDS) if what == "differ" else (odd, tuple(strange(12)))
            rows = [
                shown(
                    name,
                    {
                        f"{key}, {how}": value
                        for how in ("as drawn", ORDINARY)
                        for key, value in call(name, ROWS[how], args.count, rng(100 + i)).items()
                    },
                )
                for i, name in enumerate(names)
            ]
        report(args, f"{what}: {args.count} pictures a row", rows)


if __name__ == "__main__":
    main()
