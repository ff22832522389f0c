"""nano-geneval: prompts about the nano's world in GenEval's six tasks and its layout, judged by its rule.

Each prompt comes in two lengths, as GenEval's do: short as GenEval words it ("a circle left of a star"), and long, as
this world's own prompts are, with colours, sizes, places and a background. The paper's figure, and so the suite's, is
that of the long ones; the short ones are a suite beside it, with the same tasks judged by the same rule.

The objects are read off the pixels instead of found by a detector; whatever is read is equally sure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...world.scenes import BACKGROUNDS, COLOURS, MOST, PLACES, RADIUS, RELATION, SHAPES, Scene, Thing, pick
from ...world.sentences import NUMBERS, prompt_for
from ..bench import Bench, Files
from ..benches import geneval
from ..benches.geneval_rule import RELATIONS, Found, judge_objects
from ..items import Item, Reading
from ..scores import Scores
from .checks import UNREADABLE
from .truth import RESULTS, fresh, grouped, mean_share, notes_on, seen_in, share, why_missing, write

NAME, SHORT = "nano-geneval", "nano-geneval-short"
PROMPTS = {NAME: "evaluation_metadata_long.jsonl", SHORT: "evaluation_metadata.jsonl"}
TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")


def random_metadata(rng: np.random.Generator, tag: str) -> dict[str, Any]:
    """A row of GenEval's metadata, with a prompt like its own in this world's words, without "a photo of"."""
    a, b = (SHAPES[int(i)] for i in rng.permutation(len(SHAPES))[:2])
    colour, other = (COLOURS[int(i)] for i in rng.permutation(len(COLOURS))[:2])
    include: list[dict[str, Any]] = [{"class": a, "count": 1}]
    if tag == "single_object":
        return {"tag": tag, "include": include, "prompt": f"a {a}"}
    if tag == "two_object":
        include.append({"class": b, "count": 1})
        return {"tag": tag, "include": include, "prompt": f"a {a} and a {b}"}
    if tag == "counting":
        count = int(rng.integers(2, MOST + 1))
        include, exclude = [{"class": a, "count": count, "color": colour}], [{"class": a, "count": count + 1}]
        return {"tag": tag, "include": include, "exclude": exclude, "prompt": f"{NUMBERS[count]} {colour} {a}s"}
    include[0]["color"] = colour
    if tag == "colors":
        return {"tag": tag, "include": include, "prompt": f"a {colour} {a}"}
    if tag == "color_attr":
        include.append({"class": b, "count": 1, "color": other})
        return {"tag": tag, "include": include, "prompt": f"a {colour} {a} and a {other} {b}"}
    relation = pick(rng, RELATIONS)
    include = [{"class": b, "count": 1}, {"class": a, "count": 1, "position": [relation, 0]}]
    return {"tag": tag, "include": include, "prompt": f"a {a} {relation} a {b}"}


def written_out(rng: np.random.Generator, metadata: Mapping[str, Any]) -> str:
    """A row's prompt written out: all that it asks for, and in which size, place and before which background."""
    include = metadata["include"]
    background = pick(rng, [b for b in BACKGROUNDS if b not in {clause.get("color") for clause in include}])
    colours = [c for c in COLOURS if c != background]
    if metadata["tag"] == "counting":
        (clause,) = include
        size = pick(rng, ("", *(f"{size} " for size in RADIUS)))
        said = f"{NUMBERS[clause['count']]} {size}{clause['color']} {clause['class']}s"
        return f"{said} on a {background} background"
    places: Sequence[str] = (pick(rng, tuple(PLACES)),)
    if len(include) == 2:
        (_, relation), *_ = [clause["position"][::-1] for clause in include if "position" in clause] or [(0, "")]
        # The clause with the position comes second: it stands in the relation to the first.
        places = pick(rng, [(b, a) for (a, b), word in RELATION.items() if not relation or word == relation])
    things = []
    for clause, place in zip(include, places, strict=True):
        colour = clause.get("color") or pick(rng, colours)
        things.append(Thing(clause["class"], colour, pick(rng, tuple(RADIUS)), place))
    named = {clause["color"] for clause in include if "color" in clause}
    while True:
        prompt, _ = prompt_for(rng, Scene(background, tuple(things)).ordered())
        words = set(prompt.split())
        if "position" in include[-1] and not any(word in prompt for word in (*PLACES, *RELATION.values())):
            continue
        if named <= words:  # a prompt may leave colours out, and then asks for less than the row
            return prompt


def write_prompts(folder: Path, count: int, seeds: Sequence[int]) -> None:
    """Writes both prompt files, the short and the long: `count` prompts for each seed, the tasks in turn.

    Raises:
        ValueError: a file could not be written.
    """
    short, long = [], []
    for seed in seeds:
        rng = fresh(NAME, seed)
        rows = [random_metadata(rng, TAGS[index % len(TAGS)]) for index in range(count)]
        short += rows
        long += [row | {"prompt": written_out(rng, row)} for row in rows]
    write(folder, PROMPTS[SHORT], short)
    write(folder, PROMPTS[NAME], long)


def read(files: Files, samples: int, name: str = NAME) -> Reading:
    """As GenEval's are read, from the prompt file or the folder where that lies."""
    return geneval.read(_with_file(files, name), samples)


def _with_file(files: Files, name: str) -> Files:
    return replace(files, prompts=files.prompts / PROMPTS[name]) if files.prompts.is_dir() else files


def found_in(scene: Scene) -> list[Found]:
    """The things of a scene as a detector would give them."""
    found = []
    for thing in scene.things:
        (x, y), r = thing.centre, RADIUS[thing.size]
        found.append(Found(thing.shape, thing.colour, (x - r, y - r, x + r, y + r)))
    return found


def result_of(item: Item, out: Path, sample: int) -> dict[str, Any]:
    """What GenEval's scorer would write about a picture that is there."""
    name = item.files[0][sample]
    (content,) = (make() for make in item.beside.values())
    metadata = json.loads(content)
    seen, problem = seen_in(out / name)
    found = [] if seen is None else found_in(seen)
    right, reason = judge_objects(found, metadata, ranked=False)
    if seen is None:
        right, reason = False, problem or UNREADABLE
    boxes = {kind: [[*one.box, 1.0] for one in found if one.kind == kind] for kind in {one.kind for one in found}}
    return {
        "filename": str(name),
        "tag": item.group,
        "prompt": item.turns[0],
        "correct": right,
        "reason": reason,
        "metadata": json.dumps(metadata),
        "details": json.dumps(boxes, sort_keys=True),
    }


def score(files: Files, name: str = NAME) -> Scores:
    """Reads the pictures, writes GenEval's `results.jsonl` into the output folder and gives GenEval's figures of it.

    The prompts are all that these tasks can say, several times over, and no sample of more: so for the intervals every
    picture stands for itself, also where two have one prompt.

    Raises:
        ValueError: the prompts or a row of them cannot be used, no picture is there, or the results cannot be written.
    """
    files = replace(_with_file(files, name), results=files.out / RESULTS, samples=files.samples or 1)
    reading = read(files, files.samples or 1)
    if reading.unusable:
        raise ValueError(
            f"{len(reading.unusable)} rows of {files.prompts} cannot be used, and would be in no figure: write the"
            f" prompts anew. The first: {reading.unusable[0]}"
        )
    rows, results = [], []
    for item in reading.items:
        for sample, file in enumerate(item.files[0]):
            row = {"group": item.group, "right": False, "missing": not (files.out / file).is_file(), "reason": ""}
            if row["missing"]:
                row["reason"] = why_missing(item, files.out)
            else:
                results.append(result_of(item, files.out, sample))
                row["right"] = results[-1]["correct"]
            rows.append(row)
    if not results:
        raise ValueError(f"{files.out} holds no picture of {name}: draw them first")
    write(files.out, RESULTS, results)
    scores = geneval.score(files, name)
    overall = dict(zip(scores.overall, (mean_share(grouped(rows, TAGS)), share(rows)), strict=True))
    worst = [one for one in scores.worst if (files.out / one.pictures[0]).is_file()]
    return replace(scores, overall=overall, notes=[*scores.notes, *notes_on(rows)], worst=worst)


BENCH = Bench(NAME, "nano-geneval", editing=False, samples=1, batch=16, read=read, score=score)
SHORT_BENCH = replace(
    BENCH,
    name=SHORT,
    title="nano-geneval, short prompts",
    read=partial(read, name=SHORT),
    score=partial(score, name=SHORT),
)
