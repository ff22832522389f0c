"""GenEval: short or long prompts of six tasks, each picture right or wrong as a detector of objects finds it."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ..bench import Bench, Files
from ..items import Item, Reading
from ..json_lines import lines_of, parsed
from ..prompt_file import collect, text
from ..scores import WORST, Score, Scores, Worst
from ..statistics import bootstrap, mean_of_all, mean_of_means, wilson, wilson_of_clusters
from .geneval_rule import metadata_of

NAME, TITLE = "geneval", "GenEval"
PICTURE = re.compile(r"(?<!\d)(\d{1,9})[/\\]samples[/\\](\d{1,9})\.png$", re.ASCII)
Judgement = tuple[Any, bool, str]  # metadata, whether the picture is right, why not


def read(files: Files, samples: int) -> Reading:
    """The prompts of `evaluation_metadata.jsonl` or of its long variant, a line each: {tag, include, exclude, prompt}.

    A line's number, from 0, names its folder, so that a line that cannot be used moves no other.

    Raises:
        ValueError: the file is none of GenEval's.
    """
    rows = lines_of(files.prompts)
    return collect(TITLE, files.prompts, rows, partial(_item, samples))


def _item(samples: int, numbered: tuple[int, str], where: str) -> Item:
    number, line = numbered
    metadata = metadata_of(parsed(line, where), where)
    folder = PurePosixPath(f"{number:05d}")
    pictures = tuple(folder / "samples" / f"{sample:04d}.png" for sample in range(samples))
    beside = {folder / "metadata.jsonl": partial(_content, metadata)}
    return Item(folder.name, metadata["tag"], (metadata["prompt"],), (pictures,), beside=beside)


def _content(metadata: dict[str, Any]) -> bytes:
    return json.dumps(metadata).encode("ascii")  # the scorer reads it in whatever encoding its system has


def score(files: Files, bench: str = NAME) -> Scores:
    """The figures of what the official `evaluate_images.py` wrote, by default `results.jsonl` in the output folder.

    A task's figure is the share of its pictures that are right. The first headline is the mean of the task's figures,
    as the official summary has it, the second the share of all pictures. A picture without a result counts as wrong,
    as missing or, where it lies there, as refused; a result of a sample that was not asked for does not count.
    The pictures of one prompt are one cluster in every interval; where each prompt has one picture, each stands for
    itself in a task's.

    Args:
        bench: the name that the scores get.

    Raises:
        ValueError: there are no results, or they are of other prompts.
    """
    file = files.results or files.out / "results.jsonl"
    results, unreadable = _results(file)
    strange = _not_asked_for(results, files.samples)
    samples = files.samples or max(map(len, results.values()))
    reading = read(files, samples)
    tasks: dict[str, dict[bytes, list[float]]] = {}
    missing, refused, rows = 0, 0, []
    for item in reading.items:
        (content,) = (make() for make in item.beside.values())
        pictures = results.pop(item.id, {})
        for metadata, _, _ in pictures.values():
            if metadata != json.loads(content):
                raise ValueError(f"{file} judges {item.id} by other metadata than {files.prompts}: they do not belong")
        right = [float(correct) for _, correct, _ in pictures.values()]
        lacking = max(0, samples - len(right))
        absent = [sample for sample in range(samples) if sample not in pictures][:lacking]
        there = sum((files.out / item.files[0][sample]).is_file() for sample in absent)
        missing, refused = missing + lacking - there, refused + there
        values = right + [0.0] * lacking
        tasks.setdefault(item.group, defaultdict(list))[content] += values
        reason = next((said for _, correct, said in pictures.values() if not correct), "no result" if lacking else "")
        held = {number: correct for number, (_, correct, _) in pictures.items()}
        shown = tuple(str(file) for number, file in enumerate(item.files[0]) if not held.get(number))
        rows.append(Worst(item.id, item.turns[0], sum(values) / len(values), shown, reason))
    if results:
        raise ValueError(f"{file} has results for {min(results)}, which {files.prompts} does not ask for")
    clusters = {tag: list(prompts.values()) for tag, prompts in tasks.items()}
    notes = [f"{len(unreadable)} lines of {file.name} are not used: {unreadable[0]}"] if unreadable else []
    if strange:
        notes.append(f"{len(strange)} results of {file.name} are of samples not asked for, and not used: {strange[0]}")
    if reading.unusable:
        notes.append(f"{len(reading.unusable)} lines of {files.prompts.name} are not used: {reading.unusable[0]}")
    return Scores(
        bench,
        "share",
        {"mean of tasks": bootstrap(clusters, mean_of_means), "all pictures": bootstrap(clusters, mean_of_all)},
        {tag: _share(prompts, samples) for tag, prompts in clusters.items()},
        missing=missing,
        refused=refused,
        notes=notes,
        worst=sorted((row for row in rows if row.score < 1), key=lambda row: row.score)[:WORST],
    )


def _not_asked_for(results: dict[str, dict[int, Judgement]], samples: int | None) -> list[str]:
    """Takes out the results of samples from a number on, and says which they were; none where it is not known."""
    found = [(name, sample) for name in results for sample in results[name] if samples and sample >= samples]
    for name, sample in found:
        del results[name][sample]
    return [f"{name}, sample {sample}" for name, sample in found]


def _share(prompts: list[list[float]], samples: int) -> Score:
    if samples > 1:
        return wilson_of_clusters(prompts)
    return wilson(int(sum(map(sum, prompts))), sum(map(len, prompts)))


def _results(file: Path) -> tuple[dict[str, dict[int, Judgement]], list[str]]:
    """(for each folder the judgement of each sample, a sentence for each line that could not be read)."""
    if not file.exists():
        raise ValueError(f"there is no {file}; let GenEval's evaluate_images.py write it, or say where it lies")
    results: dict[str, dict[int, Judgement]] = defaultdict(dict)
    unreadable = []
    for where, (_, line) in lines_of(file):
        try:
            row = parsed(line, where)
            place = PICTURE.search(text(row, "filename", where))
            if place is None:
                raise ValueError(f"{where}: {row['filename'][-80:]!r} is no picture of GenEval's layout")
            name, sample = f"{int(place[1]):05d}", int(place[2])
            metadata = parsed(text(row, "metadata", where), where)
            if not isinstance(row.get("correct"), bool):
                raise ValueError(f"{where}: 'correct' is neither true nor false")
            if sample in results[name]:
                raise ValueError(f"{where}: {place[0]} has a result already; the first is used")
            results[name][sample] = (metadata, row["correct"], str(row.get("reason") or ""))
        except ValueError as error:
            unreadable.append(str(error))
    if not any(results.values()):
        raise ValueError(f"{file} has no result that can be read: {unreadable[0]}")
    return results, unreadable


BENCH = Bench(
    NAME,
    TITLE,
    editing=False,
    samples=4,
    batch=4,
    read=read,
    score=score,
    official="python evaluation/evaluate_images.py {out} --outfile {out}/results.jsonl --model-path DETECTOR_FOLDER",
)
