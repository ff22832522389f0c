"""nano-imgedit: edits of the nano's world in ImgEdit's layout; done and kept are read off the pixels.

The types have pictures of one thing or two, before and after, as this world has most of its scenes. In no mean are
three classes of their own: two instructions in one, crowded pictures with three things or four, edits of two pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ...world import edits
from ...world.edits import Change, random_edit
from ...world.scenes import Scene
from ...world.stories import random_pair
from ..bench import Bench, Files
from ..benches import imgedit
from ..items import Item, Reading, Source, inside
from ..prompt_file import read_json
from ..scores import Score, Scores
from .checks import CASES, Verdict, cases, judge
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
SECOND = "second"  # the key of a second picture, which ImgEdit's edits do not have
COMPOSE, CROWDED, PAIR = "compose", "crowded", "two pictures"
KINDS = tuple(kind for kind in edits.KINDS if kind != COMPOSE)
APART = (COMPOSE, CROWDED, PAIR)
CLASSES = (*KINDS, *APART)
FIGURES = ("right", "done", "kept")


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
            if name == PAIR:
                story = random_pair(rng)
                (turn,) = story.turns
                kind, words, changes, sources = PAIR, turn.words, turn.changes, story.sources
                base = sources[story.edited]
            else:
                kind = KINDS[index // len(CLASSES) % len(KINDS)] if name == CROWDED else name
                edit = random_edit(rng, kind, crowded=name == CROWDED)
                words, changes, sources, base = edit.words, edit.changes, (edit.source,), edit.source
            names = [f"{kind}/{key}{ending}.png" for ending in ("", "-second")[: len(sources)]]
            prompts[key] = {"id": names[0], "prompt": words, "edit_type": kind}
            if len(sources) > 1:
                prompts[key][SECOND] = names[1]
            truth[key] = truth_about(base, changes) | {"class": name, "cases": cases(changes, base)}
            for file, scene in zip(names, sources, strict=True):
                write_picture(folder, file, scene)
    write(folder, FILE, truth)
    write(folder, PROMPTS, prompts)


def truth_about(source: Scene, changes: Sequence[Change]) -> dict[str, Any]:
    """What is true before and after an edit; where the words leave something open, `after` is one of what they mean."""
    after = source
    for change in changes:
        after = change.apply(after)
    return {"before": asdict(source), "after": asdict(after), "changes": [asdict(change) for change in changes]}


def read(files: Files, samples: int) -> Reading:
    """As ImgEdit's is read, from its prompt file or the folder where that lies; an edit may have a second picture."""
    files = _with_file(files)
    reading = imgedit.read(files, samples)
    rows, _ = read_json(files.prompts)
    root = files.images or files.prompts.parent

    def whole(item: Item) -> Item:
        second = rows[item.id].get(SECOND)
        if second is None:
            return item
        where = f"{files.prompts.name}, key {item.id!r}"
        return replace(item, sources=(*item.sources, Source.of_file(inside(root, second, where))))

    items, unusable = [], list(reading.unusable)
    for item in reading.items:
        try:
            items.append(whole(item))
        except ValueError as error:
            unusable.append(str(error))
    return Reading(tuple(items), tuple(unusable))


def _with_file(files: Files) -> Files:
    return replace(files, prompts=files.prompts / PROMPTS) if files.prompts.is_dir() else files


def rows_of(files: Files) -> list[Row]:
    """What became of each edit: done, kept, and right, which is both. Without a picture none holds;
    nor of an edit of the truth whose row in the prompts is lacking or cannot be used.

    Raises:
        ValueError: the prompts or the truth beside them cannot be read.
    """
    files = _with_file(files)
    truth, items, rows = read_truth(files.prompts.parent), read(files, 1).items, []
    for item in items:
        before, changes, known = truth_of(truth, item)
        file = files.out / item.files[0][0]
        verdict = _verdict(item, before, changes, files.out, file)
        row: Row = {"id": item.id, "prompt": item.turns[0], **_kept_apart(known, item.id)}
        row |= {"right": verdict.right, "done": verdict.done, "kept": verdict.kept, "missing": not file.is_file()}
        pictures = shown(files.out, *(source.file for source in item.sources if source.file), file)
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
    """The figures of what became of the edits: by type, of the classes that are in no mean, and of the hard cases, of
    which one edit may be several.
    """
    kinds, usual = grouped(rows, KINDS), [row for row in rows if row["group"] in KINDS]
    hard = grouped(rows, APART)
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
