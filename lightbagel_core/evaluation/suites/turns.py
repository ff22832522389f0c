"""nano-multiturn: edits in two turns, each of the picture that the turn before drew, in ImgEdit's multi-turn layout.

memory: turn 2 edits something else, and what turn 1 did must still be so. reference: turn 2 says "it" and means what
turn 1 named. the other: it says "the other one". backtracking: it says "undo that". Turn 2 is drawn after turn 1, its
picture and its words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...world.edits import SINGLE, Change, Impossible, random_edit
from ...world.reader import same_spot
from ...world.scenes import Scene, pick
from ...world.stories import following
from ..bench import Bench, Files
from ..items import Item, Reading, Source, inside, safe_name
from ..prompt_file import collect, one_sample, read_json, text
from ..scores import Score, Scores
from .checks import TOLERANCE, UNREADABLE, judge, not_done
from .editing import truth_about
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

NAME = "nano-multiturn"
FOLLOWS = {"memory": "edit", "reference": "reference", "the other": "other", "backtracking": "undo"}
KINDS = tuple(FOLLOWS)  # each has a prompt file of its name
FIGURES = ("both turns", "turn 1", "turn 2 after a right turn 1")


@dataclass(frozen=True)
class Chain:
    """Two turns. first, second: what they ask for; nothing where the second undoes the first."""

    source: Scene
    words: tuple[str, str]
    first: Change
    second: tuple[Change, ...]


def random_chain(rng: np.random.Generator, kind: str) -> Chain:
    """A chain of a kind; no picture of it has more than two things."""
    while True:
        edit = random_edit(rng, pick(rng, SINGLE), crowded=False)
        try:
            turn = following(rng, edit, FOLLOWS[kind])
        except Impossible:
            continue
        named = {change.place for change in edit.changes}
        if kind == "memory" and named & {change.place for change in turn.changes}:
            continue
        if len(turn.target.things) <= 2:
            return Chain(edit.source, (edit.words, turn.words), edit.changes[0], turn.changes)


def write_prompts(folder: Path, count: int, seeds: Sequence[int]) -> None:
    """Writes a prompt file for each kind, {key: {id, turn1, turn2}}, the sources and `truth.json`: `count` chains for
    each seed, the kinds in turn.

    Raises:
        ValueError: a file could not be written.
    """
    prompts: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    truth: dict[str, Any] = {}
    for seed in seeds:
        rng = fresh(NAME, seed)
        for index in range(count):
            kind, key = KINDS[index % len(KINDS)], f"{seed}-{index:04}"
            chain = random_chain(rng, kind)
            name = f"{kind}/{key}.png"
            prompts[kind][key] = {"id": name, "turn1": chain.words[0], "turn2": chain.words[1]}
            truth[key] = truth_about(chain.source, [chain.first, *chain.second]) | {"class": kind}
            if not chain.second:
                truth[key]["after"] = truth[key]["before"]
            write_picture(folder, name, chain.source)
    write(folder, FILE, truth)
    for kind, rows in prompts.items():
        write(folder, f"{kind}.json", rows)


def read(files: Files, samples: int) -> Reading:
    """The chains of a folder with the prompt files of `KINDS`, or of one such file: {key: {id, turn1, turn2}}.

    Raises:
        ValueError: a file is lacking or damaged, or more than one sample is asked for.
    """
    one_sample(NAME, samples)
    folder = files.prompts
    found = [folder / f"{kind}.json" for kind in KINDS] if folder.is_dir() else [folder]
    if lacking := [file.name for file in found if folder.is_dir() and not file.is_file()]:
        raise ValueError(f"{folder} has no {lacking[0]}, the {NAME} chains of that kind: write the prompts anew")
    rows: list[tuple[str, Any]] = []
    unusable: list[str] = []
    for file in found:
        data, left_out = read_json(file)
        unusable += left_out
        if not isinstance(data, dict):
            raise ValueError(f"{file} is no file of {NAME}: it holds no object of {{key: turns}}")
        rows += [(f"{file.name}, key {key!r}", (file.stem, key, row)) for key, row in data.items()]
    root = files.images or (folder if folder.is_dir() else folder.parent)
    return collect(NAME, folder, rows, partial(_item, root), unusable)


def _item(root: Path, keyed: tuple[str, str, Any], where: str) -> Item:
    group, key, row = keyed
    turns, name = (text(row, "turn1", where), text(row, "turn2", where)), safe_name(key, where)
    source = Source.of_file(inside(root, row.get("id"), where))
    pictures = tuple((PurePosixPath(f"{name}_turn{turn}.png"),) for turn in (1, 2))
    return Item(name, group, turns, pictures, (source,))


def rows_of(files: Files) -> list[Row]:
    """What became of each turn.

    Turn 1 is right when it was done and all else kept. Turn 2 is judged against the picture it was given, as that is
    read: done, all else kept, and in the memory chains what turn 1 asked for still so. An undoing is right when the
    picture shows the source's scene again, centres to two pixels. A chain of the truth whose row in the prompts is
    lacking or cannot be used is wrong in both turns; of one prompt file, only the chains of its kind are asked for.

    Raises:
        ValueError: the prompts or the truth beside them cannot be read.
    """
    folder = files.prompts if files.prompts.is_dir() else files.prompts.parent
    truth, items, rows = read_truth(folder), read(files, 1).items, []
    for item in items:
        before, changes, _ = truth_of(truth, item)
        drawn = [files.out / file for (file,) in item.files]
        lacking = sum(not file.is_file() for file in drawn)
        scenes = [seen_in(file) if file.is_file() else (None, why_missing(item, files.out)) for file in drawn]
        seen = [scene for scene, _ in scenes]
        reasons = _wrong(before, changes, *seen)
        said = [problem or reason for (_, problem), reason in zip(scenes, reasons, strict=True)]
        right = [not reason for reason in said]
        row: Row = {"id": item.id, "group": item.group, "prompt": "; then ".join(item.turns)}
        row |= {"right": all(right), "turn 1": right[0], "turn 2": right[1], "missing": lacking}
        reason = "; ".join(f"turn {turn}: {text}" for turn, text in enumerate(said, 1) if text)
        pictures = shown(files.out, (files.images or folder) / item.group / f"{item.id}.png", *drawn)
        rows.append(row | {"reason": reason, "pictures": pictures})
    for key in sorted(set(truth) - {item.id for item in items}):
        if files.prompts.is_dir() or _says(truth[key], files.prompts.stem):
            row = {"id": key, "group": class_of(truth[key], key, KINDS), "prompt": "", "right": False}
            row |= {"turn 1": False, "turn 2": False, "missing": 2, "reason": UNASKED, "pictures": []}
            rows.append(row)
    return rows


def _says(known: Any, kind: str) -> bool:
    return isinstance(known, dict) and known.get("class") == kind


def _wrong(source: Scene, changes: Sequence[Change], one: Scene | None, two: Scene | None) -> tuple[str, str]:
    """What is wrong after each turn; "" where nothing is. The second of the changes is lacking where it undoes."""
    first, *rest = changes
    turn1 = judge([first], source, one).reason
    if two is None:
        return turn1, UNREADABLE
    if not rest:
        return turn1, "" if same_spot(source, two, TOLERANCE) else "this is not the picture before turn 1"
    if one is None:
        return turn1, "the picture that it edits shows no clear scene"
    turn2 = judge(rest, one, two).reason
    if not turn2 and first.place not in {change.place for change in rest}:
        added = [change.place for change in rest if change.kind == "add"]
        turn2 = "; ".join(f"of turn 1 was lost: {line}" for line in not_done(first, source, two, added))
    return turn1, turn2


def _figures(rows: Sequence[Row]) -> Mapping[str, Score]:
    """Both turns, the first, and the second among the rows of which the first is right."""
    after = [row for row in rows if row["turn 1"]]
    return dict(zip(FIGURES, (share(rows), share(rows, "turn 1"), share(after, "turn 2")), strict=True))


def scores_of(rows: Sequence[Row]) -> Scores:
    """The figures of what became of the turns, by kind."""
    kinds = grouped(rows, KINDS)
    overall = {"both turns, mean of kinds": mean_share(kinds), **_figures(rows)}
    groups = {
        kind if figure == FIGURES[0] else f"{kind}: {figure}": value
        for kind, some in kinds.items()
        for figure, value in _figures(some).items()
        if value.n
    }
    missing = sum(row["missing"] for row in rows)
    return Scores(
        NAME, "share", overall, groups, missing, notes=notes_on(rows), worst=worst_of(rows, "turn 1", "turn 2")
    )


def score(files: Files) -> Scores:
    """Reads the pictures, writes `results.jsonl` into the output folder and gives the figures.

    Raises:
        ValueError: the prompts or the truth beside them cannot be read, or the results cannot be written.
    """
    rows = rows_of(files)
    write(files.out, RESULTS, rows)
    return scores_of(rows)


BENCH = Bench(NAME, "nano-multiturn", editing=True, samples=1, batch=16, read=read, score=score, history=1)
