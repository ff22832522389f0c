"""GenEval's rule: whether the objects found in a picture are those that its metadata asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Any

from ..prompt_file import text

RELATIONS = ("left of", "right of", "above", "below")
THRESHOLD = 0.1  # of both objects' extents together; a smaller offset is no relation


@dataclass(frozen=True)
class Found:
    """One object of a picture. kind: its class. colour: its name. box: left, top, right, bottom; y grows downwards."""

    kind: str
    colour: str
    box: tuple[float, float, float, float]


def metadata_of(row: Any, where: str) -> dict[str, Any]:
    """A row that the official scorer and `judge_objects` can work with.

    Raises:
        ValueError: a key is missing or of the wrong type, or a position is towards no earlier object.
    """
    text(row, "tag", where)
    text(row, "prompt", where)
    for key in ("include", "exclude"):
        clauses = row.get(key, [])
        if not isinstance(clauses, list) or (key == "include" and not clauses):
            raise ValueError(f"{where}: {key!r} is no list of objects to look for")
        for index, clause in enumerate(clauses):
            text(clause, "class", f"{where}, {key!r}")
            if type(clause.get("count")) is not int or clause["count"] < 1:
                raise ValueError(f"{where}, {key!r}: 'count' is no number from 1 on")
            if "color" in clause:
                text(clause, "color", f"{where}, {key!r}")
            if "position" in clause and clause["position"] not in [[to, of] for to in RELATIONS for of in range(index)]:
                raise ValueError(f"{where}: {clause['position']!r} is no relation to an earlier object of 'include'")
    return dict(row)


def judge_objects(found: Sequence[Found], metadata: Mapping[str, Any], ranked: bool = True) -> tuple[bool, str]:
    """Whether the objects fulfil GenEval's metadata, and if not, why: a line for each clause that fails.

    Every clause of `include` asks for at least so many objects of a class; of these, all must have its colour and
    stand so towards all objects that an earlier clause took. A clause of `exclude` forbids so many and more.

    Args:
        found: in each class the surest first.
        metadata: as `metadata_of` lets it through.
        ranked: the official rule, which looks at the colours and positions of the surest objects only and lets others
            be as they may. False: for a reader that is equally sure of all it found; then any so many may fulfil it.
    """
    reasons = []
    taken: list[list[Found] | None] = []
    for clause in metadata.get("include", ()):
        good, reason = _take(found, clause, taken, ranked)
        taken.append(good)
        if good is None:
            reasons.append(reason)
    for clause in metadata.get("exclude", ()):
        kind, count = clause["class"], clause["count"]
        n = sum(one.kind == kind for one in found)
        if n >= count:
            reasons.append(f"expected fewer than {count} {kind}, found {n}")
    return not reasons, "\n".join(reasons)


def _take(
    found: Sequence[Found], clause: Mapping[str, Any], taken: Sequence[list[Found] | None], ranked: bool
) -> tuple[list[Found] | None, str]:
    """The objects that fulfil a clause of `include`, or None and why there are too few."""
    kind, count = clause["class"], clause["count"]
    objects = [one for one in found if one.kind == kind]
    if len(objects) < count:
        return None, f"expected {count} {kind}, found {len(objects)}"
    if ranked:
        objects = objects[:count]
    if "color" in clause:
        colours = [one.colour for one in objects]
        objects = [one for one in objects if one.colour == clause["color"]]
        if len(objects) < count:
            return None, f"expected {count} {clause['color']} {kind}, found {' and '.join(colours) or 'none'}"
    if "position" in clause:
        relation, of = clause["position"]
        targets = taken[of]
        if targets is None:
            return None, f"no object for {kind} to be {relation}"
        stands = [[relations(one.box, target.box) for target in targets] for one in objects]
        objects = [one for one, each in zip(objects, stands, strict=True) if all(relation in held for held in each)]
        if len(objects) < count:
            seen = sorted({name for each in stands for held in each for name in held or {"in no relation"}})
            return None, f"expected {kind} {relation} {targets[0].kind}, found {' and '.join(seen)}"
    return objects[:count], ""


def relations(box: Sequence[float], other: Sequence[float]) -> set[str]:
    """How one box lies to another: any of `RELATIONS`.

    The offset of the centres is first made smaller, along each axis, by a tenth of both extents; what is left counts
    along an axis where it is more than half of the whole offset, so that a diagonal is two relations.
    """
    offsets, rest = [], []
    for axis in (0, 1):
        offset = (box[axis] + box[axis + 2] - other[axis] - other[axis + 2]) / 2
        extent = abs(box[axis + 2] - box[axis]) + abs(other[axis + 2] - other[axis])
        offsets.append(offset)
        rest.append(max(abs(offset) - THRESHOLD * extent, 0.0) * (1 if offset > 0 else -1))
    if max(map(abs, rest)) < 1e-3:
        return set()
    across, down = (part / hypot(*offsets) for part in rest)
    return {name for name, share in zip(RELATIONS, (-across, across, -down, down), strict=True) if share > 0.5}
