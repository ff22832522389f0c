"""What the suites share: their random numbers, the truth beside the prompts, pictures read back, rows and figures."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image

from ...files.writing import write_whole
from ...images import open_image
from ...world.edits import Change
from ...world.reader import read_scene
from ...world.scenes import BACKGROUNDS, COLOURS, PLACES, RADIUS, SHAPES, SIZE, Scene, Thing, render
from ..drawing.draw import note_of
from ..drawing.run_file import SCRATCH
from ..items import Item
from ..scores import WORST, Score, Worst
from ..statistics import wilson

FILE = "truth.json"
RESULTS = "results.jsonl"
SUITES = ("nano-geneval", "nano-imgedit", "nano-multiturn", "nano-describe")  # the order is part of their seeds
UNASKED = "the prompts have no row of it that can be used"
Row = dict[str, Any]  # of an item: id, group, prompt, its figures as truth values, missing, reason, pictures


def fresh(suite: str, seed: int) -> np.random.Generator:
    """The random numbers of a suite's items; no training stage draws these."""
    return np.random.default_rng([seed, 2**31, SUITES.index(suite)])


def picture(scene: Scene) -> Image.Image:
    """The picture of a scene."""
    return Image.fromarray(render(scene))


def read_picture(image: Image.Image) -> Scene | None:
    """The scene in a picture, or None where it shows no clear one; another size is scaled to the world's."""
    if image.size != (SIZE, SIZE):
        larger = min(image.size) >= SIZE  # then every pixel counts; in a smaller picture edges stay soft
        how = Image.Resampling.BOX if larger else Image.Resampling.BICUBIC
        image = image.resize((SIZE, SIZE), how)
    return read_scene(np.asarray(image))


def seen_in(file: Path) -> tuple[Scene | None, str]:
    """(the scene in a picture's file or None, why the file cannot be opened or "")."""
    try:
        return read_picture(open_image(file)), ""
    except ValueError as error:
        return None, str(error).replace(str(file), file.name)


def scene_of_dict(data: Mapping[str, Any]) -> Scene:
    """The scene that `dataclasses.asdict` made a dictionary of."""
    return Scene(data["background"], tuple(Thing(**thing) for thing in data["things"]))


def checked_scene(data: object, where: str) -> Scene:
    """The scene of a file's dictionary. Raises ValueError, with `where`, when it holds no scene of this world."""
    try:
        scene = scene_of_dict(data)  # type: ignore[arg-type]
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{where} is damaged: it holds no scene; write it anew") from None
    known = (SHAPES, COLOURS, tuple(RADIUS), tuple(PLACES))
    named = all(value in names for thing in scene.things for value, names in zip(_names(thing), known, strict=True))
    whole = all(isinstance(way, int) for thing in scene.things for way in (thing.dx, thing.dy))
    if scene.background not in BACKGROUNDS or not named or not whole:
        raise ValueError(f"{where} is damaged: it holds a scene of another world; write it anew")
    return scene


def _names(thing: Thing) -> tuple[str, str, str, str]:
    return thing.shape, thing.colour, thing.size, thing.place


def as_json(data: object) -> str:
    """A value as a file of JSON holds it."""
    return json.dumps(data, indent=1) + "\n"


def write(folder: Path, name: str, data: object) -> None:
    """Writes a file of JSON whole: one value, or for a name in .jsonl a row on each line. The same bytes everywhere."""
    if name.endswith(".jsonl"):
        assert isinstance(data, (list, tuple))
        text = "".join(json.dumps(row) + "\n" for row in data)
    else:
        text = as_json(data)
    write_whole(folder / name, text.encode("ascii"), folder / SCRATCH)


def write_picture(folder: Path, name: str, scene: Scene) -> None:
    """Writes the PNG of a scene whole."""
    content = io.BytesIO()
    picture(scene).save(content, "PNG")
    write_whole(folder / name, content.getvalue(), folder / SCRATCH)


def read_truth(folder: Path) -> dict[str, Any]:
    """What is true of each item, by its id.

    Raises:
        ValueError: the file is not there, or damaged.
    """
    file = folder / FILE
    try:
        truth = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{folder} has no {FILE}, which says what the pictures should show: write it anew") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is damaged: {error}") from None
    if not isinstance(truth, dict):
        raise ValueError(f"{file} is damaged: it holds no object")
    return truth


def truth_of(truth: Mapping[str, Any], item: Item) -> tuple[Scene, list[Change], Mapping[str, Any]]:
    """What is true of one item: (the scene before, the changes, all that is known).

    Raises:
        ValueError: the truth belongs to other prompts, or what it says of this item is damaged.
    """
    if item.id not in truth:
        raise ValueError(f"{FILE} does not say what {item.id} should show: it belongs to other prompts")
    known, where = truth[item.id], f"{FILE}, {item.id!r},"
    if not isinstance(known, dict) or not isinstance(known.get("changes"), list) or not known["changes"]:
        raise ValueError(f"{where} is damaged: it holds no changes; write it anew")
    changes = []
    for change in known["changes"]:
        try:
            made = Change(**change)
        except TypeError:
            made = None
        if made is None or made.place not in ("", *PLACES) or not _is_wanted(made):
            raise ValueError(f"{where} is damaged: {str(change)[:60]} is no change; write it anew")
        changes.append(made)
    return checked_scene(known.get("before"), where), changes, known


def _is_wanted(change: Change) -> bool:
    """Whether a change wants what one of its kind does."""
    thing = {"shape", "colour", "size"}
    most = {"background": {"background"}, "remove": set[str](), "add": thing}
    most |= dict.fromkeys(("replace", "recolour", "resize"), thing)
    least = {"background": {"background"}, "add": {"shape", "colour"}}
    if not isinstance(change.kind, str) or change.kind not in most or not isinstance(change.wanted, dict):
        return False
    return least.get(change.kind, set()) <= set(change.wanted) <= most[change.kind]


def class_of(known: object, key: str, classes: Sequence[str]) -> str:
    """The class that an item of the truth counts for. Raises ValueError where it says none of a suite's classes."""
    name = known.get("class") if isinstance(known, dict) else None
    if name not in classes:
        raise ValueError(f"{FILE}, {key!r}, has no 'class' of this suite: it is damaged, or old; write it anew")
    return str(name)


def why_missing(item: Item, out: Path) -> str:
    """Why an item has no picture: what the drawing noted."""
    try:
        return (out / note_of(item)).read_text("utf-8").strip()
    except OSError:
        return "it was not drawn"


def shown(out: Path, *files: Path) -> list[str]:
    """Those of the pictures that are there, as paths below the run's folder."""
    return [file.relative_to(out).as_posix() for file in files if file.is_file() and file.is_relative_to(out)]


def share(rows: Sequence[Row], figure: str = "right") -> Score:
    """The share of rows for which a figure holds, with its interval."""
    return wilson(sum(bool(row[figure]) for row in rows), len(rows))


def mean_share(groups: Mapping[str, Sequence[Row]], figure: str = "right") -> Score:
    """The mean of the groups' shares, every group counting the same, with its interval.

    The interval is made of the groups' own ones, whose distances from the shares are added as independent errors are
    (the square-and-add method; Zou and Donner, 2008). The bootstrap has no width where all shares are 0 or 1, as the
    nano's are in whole groups.
    """
    shares = [share(rows, figure) for rows in groups.values() if rows]
    if not shares:
        return wilson(0, 0)
    value = fmean(one.value for one in shares)
    below = sqrt(sum((one.value - one.low) ** 2 for one in shares)) / len(shares)
    above = sqrt(sum((one.high - one.value) ** 2 for one in shares)) / len(shares)
    return Score(value, max(0.0, value - below), min(1.0, value + above), sum(one.n for one in shares))


def grouped(rows: Sequence[Row], names: Sequence[str], key: str = "group") -> dict[str, list[Row]]:
    """The rows of each name that has any."""
    return {name: found for name in names if (found := [row for row in rows if row[key] == name])}


def worst_of(rows: Sequence[Row], *figures: str) -> list[Worst]:
    """The rows with the lowest mean of some figures among those that are not right and have pictures."""
    scored = [(sum(bool(row[name]) for name in figures) / len(figures), row) for row in rows if not row["right"]]
    scored = [(score, row) for score, row in scored if row["pictures"] and not row["missing"]]
    scored.sort(key=lambda pair: pair[0])
    return [
        Worst(row["id"], row["prompt"], score, tuple(row["pictures"]), row["reason"]) for score, row in scored[:WORST]
    ]


def notes_on(rows: Sequence[Row]) -> list[str]:
    """Sentences to print below the figures: how the mean's interval came about, how many items have no prompt, and how
    many prompts hold words that the model does not know.
    """
    notes = ["A mean of shares has its interval from those of the shares, not from the bootstrap."]
    if unasked := sum(row["reason"] == UNASKED for row in rows):
        notes.append(f"{unasked} items of {FILE} have no row in the prompts that can be used; they count as wrong.")
    count = sum(bool(row["missing"]) and "does not know" in row["reason"] for row in rows)
    if count:
        notes.append(f"{count} of {len(rows)} prompts hold words that this model does not know; they count as wrong.")
    return notes
