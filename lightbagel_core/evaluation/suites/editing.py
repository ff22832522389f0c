"""nano-imgedit: edits of the nano's world in ImgEdit's layout; done and kept are read off the pixels.

The seven types have pictures of one thing or two, before and after, as this world has most of its scenes. Crowded
ones, with three before or after, are a class of their own: of all types, and in no mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...world.arrangements import lies_between, scene_of
from ...world.scenes import (
    BACKGROUNDS,
    COLOURS,
    PLACES,
    RADIUS,
    SHAPES,
    Scene,
    Thing,
    pick,
    places_beside,
    random_scene,
)
from ...world.sentences import PLACE_PHRASE, noun, reference
from ..bench import Bench, Files
from ..benches import imgedit
from ..items import Item, Reading
from ..scores import Score, Scores
from .checks import CASES, Change, Verdict, at, cases, judge
from .truth import (
    FILE,
    RESULTS,
    UNASKED,
    Row,
    class_of,
    fresh,
    grouped,
    mean_share,
    notes_on,
    read_truth,
    seen_in,
    share,
    shown,
    truth_of,
    why_missing,
    worst_of,
    write,
    write_picture,
)

NAME = "nano-imgedit"
PROMPTS = "basic_edit.json"
KINDS = ("add", "remove", "replace", "recolour", "resize", "background", "compose")
SINGLE = KINDS[:-1]
CROWDED = "crowded"
CLASSES = (*KINDS, CROWDED)
FIGURES = ("right", "done", "kept")
Edit = tuple[Scene, str, tuple[Change, ...]]  # source, instruction, what it asks for


def fits(scene: Scene) -> bool:
    """Whether every thing can be told from the background and none can touch another."""
    large = [t.place for t in scene.things if t.size == "large"]
    return all(t.colour != scene.background for t in scene.things) and ("centre" not in large or len(large) == 1)


def change_of(
    rng: np.random.Generator, kind: str, source: Scene, now: Scene, named: Sequence[str]
) -> tuple[str, Change]:
    """Words for one change of a scene, and the change; of things to remove, one that lies between others comes first.

    Args:
        source: what the words refer to. now: the scene after the changes before this one.
        named: the places that those named.

    Raises:
        ValueError: nothing drawn here can be done; draw again.
    """
    if kind == "background":
        colour = pick(rng, [b for b in BACKGROUNDS if b != source.background])
        words, change = f"change the background to {colour}", Change(kind, "", {"background": colour})
    elif kind == "add":
        near = places_beside(source.things[0].place) if len(source.things) == 1 else PLACES
        free = [p for p in near if at(source, p) is None and at(now, p) is None]
        new = Thing(pick(rng, SHAPES), pick(rng, COLOURS), pick(rng, tuple(RADIUS)), pick(rng, free))
        sized = bool(rng.random() < 0.7)
        wanted = {"shape": new.shape, "colour": new.colour} | ({"size": new.size} if sized else {})
        words, change = f"add {noun(new, sized)} {PLACE_PHRASE[new.place]}", Change(kind, new.place, wanted)
    else:
        things = [t for t in source.things if t.place not in named]
        if not things:
            raise ValueError("every thing is named already")
        between = [t for t in things if kind == "remove" and lies_between(source, t)]
        thing = pick(rng, between or things)
        name = reference(rng, source, thing)
        if kind == "remove":
            words, wanted = f"remove the {name}", {}
        elif kind == "replace":
            wanted = {"shape": pick(rng, [s for s in SHAPES if s != thing.shape])}
            words = f"replace the {name} with a {wanted['shape']}"
        elif kind == "recolour":
            wanted = {"colour": pick(rng, [c for c in COLOURS if c != thing.colour])}
            words = f"make the {name} {wanted['colour']}"
        else:
            wanted = {"size": next(s for s in RADIUS if s != thing.size)}
            words = f"make the {name} {wanted['size']}"
        change = Change(kind, thing.place, wanted)
    if not fits(change.apply(now)):
        raise ValueError("things would touch, or vanish before the background")
    return words, change


def source_of(rng: np.random.Generator, kind: str, crowded: bool) -> Scene:
    """A source of one thing or two, of one where another is to be added; a crowded one has one more than the most of
    these. Where one of three is to be removed, most stand in a row.
    """
    if crowded and kind != "add":
        row = (("left", "centre", "right"), ("top", "centre", "bottom"))
        return scene_of(rng, 3, places=pick(rng, row) if kind == "remove" and rng.random() < 0.8 else None)
    if kind == "add":
        return random_scene(rng, 2 if crowded else 1)
    return random_scene(rng, int(rng.integers(1, 3)))


def random_edit(rng: np.random.Generator, kind: str, crowded: bool = False) -> Edit:
    """An edit of a kind; a "compose" has two changes, of different things or of a thing and the background."""
    while True:
        source = source_of(rng, kind, crowded)
        kinds = [kind]
        if kind == "compose":
            kinds = [pick(rng, SINGLE[:-1]), pick(rng, SINGLE)]
        words: list[str] = []
        changes: list[Change] = []
        now = source
        try:
            for one in kinds:
                said, change = change_of(rng, one, source, now, [c.place for c in changes])
                words.append(said)
                changes.append(change)
                now = change.apply(now)
        except ValueError:
            continue
        if crowded or len(now.things) <= 2:
            return source, " and ".join(words), tuple(changes)


def write_prompts(folder: Path, count: int, seeds: Sequence[int]) -> None:
    """Writes `basic_edit.json`, the sources and `truth.json`: `count` edits for each seed, the classes in turn.

    Raises:
        ValueError: a file could not be written.
    """
    prompts: dict[str, Any] = {}
    truth: dict[str, Any] = {}
    for seed in seeds:
        rng = fresh(NAME, seed)
        for index in range(count):
            name, key = CLASSES[index % len(CLASSES)], f"{seed}-{index:04}"
            kind = KINDS[index // len(CLASSES) % len(KINDS)] if name == CROWDED else name
            source, words, changes = random_edit(rng, kind, name == CROWDED)
            prompts[key] = {"id": f"{kind}/{key}.png", "prompt": words, "edit_type": kind}
            truth[key] = truth_about(source, changes) | {"class": name, "cases": cases(changes, source)}
            write_picture(folder, prompts[key]["id"], source)
    write(folder, FILE, truth)
    write(folder, PROMPTS, prompts)


def truth_about(source: Scene, changes: Sequence[Change]) -> dict[str, Any]:
    """What is true before and after an edit; where the words leave something open, `after` is one of what they mean."""
    after = source
    for change in changes:
        after = change.apply(after)
    return {"before": asdict(source), "after": asdict(after), "changes": [asdict(change) for change in changes]}


def read(files: Files, samples: int) -> Reading:
    """As ImgEdit's is read, from its prompt file or the folder where that lies."""
    return imgedit.read(_with_file(files), samples)


def _with_file(files: Files) -> Files:
    return replace(files, prompts=files.prompts / PROMPTS) if files.prompts.is_dir() else files


def rows_of(files: Files) -> list[Row]:
    """What became of each edit: done, kept, and right, which is both. Without a picture none holds;
    nor of an edit of the truth whose row in the prompts is lacking or cannot be used.

    Raises:
        ValueError: the prompts or the truth beside them cannot be read.
    """
    files = _with_file(files)
    truth, sources = read_truth(files.prompts.parent), files.images or files.prompts.parent
    items, rows = read(files, 1).items, []
    for item in items:
        before, changes, known = truth_of(truth, item)
        file = files.out / item.files[0][0]
        verdict = _verdict(item, before, changes, files.out, file)
        row: Row = {"id": item.id, "prompt": item.turns[0], **_kept_apart(known, item.id)}
        row |= {"right": verdict.right, "done": verdict.done, "kept": verdict.kept, "missing": not file.is_file()}
        pictures = shown(files.out, sources / item.group / f"{item.id}.png", file)
        rows.append(row | {"reason": verdict.reason, "pictures": pictures})
    for key in sorted(set(truth) - {item.id for item in items}):
        row = {"id": key, "prompt": "", **_kept_apart(truth[key], key), **dict.fromkeys(FIGURES, False)}
        rows.append(row | {"missing": True, "reason": UNASKED, "pictures": []})
    return rows


def _kept_apart(known: Any, key: str) -> Row:
    """The class and the hard cases that an edit counts for."""
    group, found = class_of(known, key, CLASSES), known.get("cases")
    if not isinstance(found, list) or not set(map(str, found)) <= set(CASES):
        raise ValueError(f"{FILE}, {key!r}, has no 'cases' of this suite: it is damaged; write it anew")
    return {"group": group, "cases": found}


def _verdict(item: Item, before: Scene, changes: Sequence[Change], out: Path, file: Path) -> Verdict:
    if not file.is_file():
        return Verdict(False, False, why_missing(item, out))
    seen, problem = seen_in(file)
    verdict = judge(changes, before, seen)
    return replace(verdict, reason=problem or verdict.reason)


def scores_of(rows: Sequence[Row]) -> Scores:
    """The figures of what became of the edits: by type, of crowded pictures, which are in no mean, and of the hard
    cases, of which one edit may be several.
    """
    kinds, usual = grouped(rows, KINDS), [row for row in rows if row["group"] != CROWDED]
    hard = grouped(rows, (CROWDED,))
    hard |= {case: found for case in CASES if (found := [row for row in rows if case in row["cases"]])}
    overall: dict[str, Score] = {}
    groups: dict[str, Score] = {}
    for figure in FIGURES:
        overall[f"{figure}, mean of types"] = mean_share(kinds, figure)
        overall[f"{figure}, all edits"] = share(usual, figure)
    for name, some in (kinds | hard).items():
        groups |= {name if figure == "right" else f"{name}: {figure}": share(some, figure) for figure in FIGURES}
    missing = sum(row["missing"] for row in rows)
    return Scores(NAME, "share", overall, groups, missing, notes=notes_on(rows), worst=worst_of(rows, "done", "kept"))


def score(files: Files) -> Scores:
    """Reads the pictures, writes `results.jsonl` into the output folder and gives the figures.

    Raises:
        ValueError: the prompts or the truth beside them cannot be read, or the results cannot be written.
    """
    rows = rows_of(files)
    write(files.out, RESULTS, rows)
    return scores_of(rows)


BENCH = Bench(NAME, "nano-imgedit", editing=True, samples=1, batch=16, read=read, score=score)
