"""Scenes drawn to a plan: how many things there are, what they share and in what they differ, and where they stand."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from .scenes import BACKGROUNDS, COLOURS, JITTER, MOST, PLACES, RADIUS, RELATION, SHAPES, Scene, Thing, coverage, pick

OPPOSITE = (("left", "right"), ("top", "bottom"))
COUNTS = (0.03, 0.32, 0.37, 0.17, 0.11)  # shares of scenes of 0 to 4 things, where they are not alike by plan


def gap(a: Thing, b: Thing) -> float:
    """How many pixels of background lie between two things; 0 where they touch or overlap.

    Two large things, one in the centre and one at a side, can touch. Any others at two places of a scene keep one pixel
    at least.
    """
    from scipy import ndimage  # only the suites and tests ask, and scipy comes with them

    away = ndimage.distance_transform_edt(coverage(b) == 0)
    return max(0.0, float(away[coverage(a) > 0].min()) - 1)


def lies_between(scene: Scene, thing: Thing) -> bool:
    """Whether a thing of a scene stands in the centre with others at two opposite sides of it."""
    taken = {t.place for t in scene.things}
    return thing.place == "centre" and any(taken.issuperset(pair) for pair in OPPOSITE)


def _values(
    rng: np.random.Generator, options: Sequence[str], count: int, fixed: str | None, same: bool, differ: bool
) -> list[str]:
    """One attribute of each of `count` things."""
    if fixed is not None or same:
        return [fixed or pick(rng, options)] * count
    if differ:
        return [options[int(i)] for i in rng.permutation(len(options))[:count]]
    return [pick(rng, options) for _ in range(count)]


def scene_of(
    rng: np.random.Generator,
    count: int,
    *,
    same: Collection[str] = (),
    differ: Collection[str] = (),
    shape: str | None = None,
    colour: str | None = None,
    size: str | None = None,
    places: Sequence[str] | None = None,
    background: str | None = None,
) -> Scene:
    """Draws a scene of `count` things that never touch; what the plan leaves open is random.

    Args:
        rng: all randomness; the same plan and state give the same scene.
        count: 0 to 4.
        same: attributes all things share, of "shape", "colour", "size".
        differ: attributes in which no two things agree.
        shape, colour, size: what every thing is, where it is fixed.
        places: where the things stand, `count` different ones; drawn among all five if None.
        background: drawn if None, among those that leave enough colours.

    Raises:
        ValueError: no scene is like this, e.g. four things of different shapes, or two large ones of which one stands
            in the centre, since they would touch.
    """
    if not 0 <= count <= MOST:
        raise ValueError(f"a scene holds 0 to {MOST} things, not {count}")
    if unknown := {*same, *differ} - {"shape", "colour", "size"}:
        raise ValueError(f"things have a shape, a colour and a size, not: {', '.join(sorted(unknown))}")
    if places is None:
        free = [p for p in PLACES if p != "centre" or size != "large" or count < 2]
        places = [free[int(i)] for i in rng.permutation(len(free))[:count]]
    if len(places) != count or len({*places}) != count or not {*places} <= set(PLACES):
        raise ValueError(f"{count} things stand at {count} different places of {', '.join(PLACES)}; not {places}")
    need = count if "colour" in differ else 1
    if background is None:
        usable = [b for b in BACKGROUNDS if b != colour and len(COLOURS) - (b in COLOURS) >= need]
        background = pick(rng, usable)
    crowded = count > 1 and "centre" in places  # of two neighbours one is small
    options = {
        "shape": SHAPES,
        "colour": tuple(c for c in COLOURS if c != background),
        "size": ("small",) if crowded and "size" in same else tuple(RADIUS),
    }
    fixed = {"shape": shape, "colour": colour, "size": size}
    for name, value in fixed.items():
        if value is not None and value not in options[name]:
            raise ValueError(f"the {name} of things here is one of {', '.join(options[name])}; not {value!r}")
        if name in differ and count > 1 and (count > len(options[name]) or value is not None or name in same):
            raise ValueError(f"{count} things cannot all differ in {name} here")
    if crowded and size == "large":
        raise ValueError("a large thing in the centre touches a large one at a side: let the size be open or small")
    shapes, colours, sizes = (
        _values(rng, options[name], count, fixed[name], name in same, name in differ) for name in fixed
    )
    if crowded and sizes[list(places).index("centre")] == "large":
        sizes = ["large" if place == "centre" else "small" for place in places]
    moves = rng.integers(-JITTER, JITTER + 1, (count, 2))
    drawn = zip(shapes, colours, sizes, places, moves.tolist(), strict=True)
    return Scene(background, tuple(Thing(s, c, z, place, dx, dy) for s, c, z, place, (dx, dy) in drawn)).ordered()


def random_scene(rng: np.random.Generator, count: int | None = None) -> Scene:
    """A scene of 0 (rare) to four things. What chance hardly ever gives comes by plan: things that are all alike, or
    share a shape or a colour, and two that face each other.
    """
    kind = str(rng.choice(("any", "alike", "shape", "colour"), p=(0.63, 0.22, 0.09, 0.06)))
    if count is None:
        many = kind == "alike"
        count = int(rng.integers(2, MOST + 1)) if many else int(rng.choice(len(COUNTS), p=COUNTS))
    same = {"any": (), "alike": ("shape", "colour"), "shape": ("shape",), "colour": ("colour",)}[kind]
    facing = count == 2 and rng.random() < 0.3
    places = pick(rng, tuple(RELATION)) if facing else None
    return scene_of(rng, count, same=same if count > 1 else (), places=places)


def fits(scene: Scene) -> bool:
    """Whether every thing can be told from the background and none can touch another."""
    large = [t.place for t in scene.things if t.size == "large"]
    return all(t.colour != scene.background for t in scene.things) and ("centre" not in large or len(large) == 1)
