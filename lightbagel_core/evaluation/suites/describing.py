"""nano-describe: what the nano says of pictures, word for word, and whether its VAE gives them back.

Scenes of three and four things are classes of their own beside those of every number; they count in no headline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from ...config import DESCRIBE
from ...files.png import png_bytes
from ...files.writing import write_whole
from ...images import resized, to_pixels
from ...model import chat, vae
from ...pipeline import LightBagel
from ...world.arrangements import random_scene
from ...world.questions import random_question
from ...world.reader import same_spot
from ...world.scenes import pick
from ...world.sentences import caption
from ..drawing.run_file import SCRATCH
from ..items import safe_name
from ..json_lines import lines_of, parsed
from ..scores import Score, Scores
from .checks import TOLERANCE, UNREADABLE
from .truth import (
    Row,
    checked_scene,
    fresh,
    grouped,
    mean_share,
    notes_on,
    picture,
    read_picture,
    scene_of_dict,
    share,
    shown,
    worst_of,
    write,
    write_picture,
)

NAME = "nano-describe"
PROMPTS, ANSWERS = "questions.jsonl", "answers.jsonl"
CAPTIONS, QUESTIONS, RECONSTRUCTIONS = "captions", "questions", "reconstructions"
MORE = " about three and four things"
CLASSES = (CAPTIONS, QUESTIONS, RECONSTRUCTIONS, CAPTIONS + MORE, QUESTIONS + MORE)
KINDS = {  # of questions, by how they begin; the first that fits
    "what colour is the background": "the background",
    "what colour is": "colour",
    "what size is": "size",
    "what is": "what is where",
    "where is": "where",
    "how many": "how many",
    "is there": "is there",
}
ROW = ("id", "group", "kind", "prompt", "answer", "expected", "right", "missing", "pictures", "reason")
BATCH = 16


@dataclass(frozen=True)
class Asked:
    """One picture and what is asked of it: a question with its answer, or where the question is empty, itself."""

    id: str
    group: str
    image: str
    question: str
    answer: str
    scene: dict[str, Any]

    @property
    def kind(self) -> str:
        return next((kind for start, kind in KINDS.items() if self.question.startswith(start)), "")


def random_asked(rng: np.random.Generator, group: str, key: str) -> Asked:
    """An item of a class."""
    scene = random_scene(rng, pick(rng, (3, 4))) if group.endswith(MORE) else random_scene(rng)
    question, answer = "", ""
    if group.startswith(CAPTIONS):
        question, answer = DESCRIBE, caption(scene)
    elif group.startswith(QUESTIONS):
        question, answer = random_question(rng, scene)
    return Asked(key, group, f"images/{key}.png", question, answer, asdict(scene))


def write_prompts(folder: Path, count: int, seeds: Sequence[int]) -> None:
    """Writes `questions.jsonl` and the pictures: `count` items for each seed, the classes in turn.

    Raises:
        ValueError: a file could not be written.
    """
    items = []
    for seed in seeds:
        rng = fresh(NAME, seed)
        items += [random_asked(rng, CLASSES[i % len(CLASSES)], f"{seed}-{i:04}") for i in range(count)]
    for item in items:
        write_picture(folder, item.image, scene_of_dict(item.scene))
    write(folder, PROMPTS, [asdict(item) for item in items])


def read(folder: Path) -> list[Asked]:
    """The items of a folder.

    Raises:
        ValueError: there is no file of them, or it is damaged.
    """
    return [_asked(parsed(line, where), where) for where, (_, line) in lines_of(folder / PROMPTS)]


def _asked(row: Any, where: str) -> Asked:
    """One line of the file. Raises ValueError where it holds no item."""
    names = [field.name for field in fields(Asked)]
    if not isinstance(row, dict) or sorted(row) != sorted(names):
        raise ValueError(f"{where} is damaged: it is no object with {', '.join(names)} alone; write the prompts anew")
    if not all(isinstance(row[name], str) for name in names[:-1]) or row["group"] not in CLASSES:
        raise ValueError(f"{where} is damaged: a field is no text, or the group none of this suite; write it anew")
    safe_name(row["id"], where)
    checked_scene(row["scene"], where)
    return Asked(**row)


def _answer(row: Any, where: str) -> Row:
    """One line of what was answered already. Raises ValueError where it holds no answer."""
    kinds = {"right": bool, "missing": int, "pictures": list}
    lacking = [name for name in ROW if not isinstance(row, dict) or not isinstance(row.get(name), kinds.get(name, str))]
    if lacking:
        raise ValueError(f"{where} is no answer of {NAME}, for lack of {lacking[0]!r}: take the line out to ask again")
    return dict(row)


def answered(model: LightBagel, items: Sequence[Asked]) -> list[Row]:
    """The rows of items that ask something: one batch, whatever they ask."""
    model.need("understanding")
    turns = [([picture(scene_of_dict(item.scene))], item.question) for item in items]
    return [_row(item, said, item.answer) for item, said in zip(items, chat.answers(model.und, turns), strict=True)]


def reconstructed(model: LightBagel, items: Sequence[Asked], out: Path) -> list[Row]:
    """The rows of pictures that went through the VAE and back, in one batch; writes what came out."""
    model.need("vae")
    scenes = [scene_of_dict(item.scene) for item in items]
    sized = [resized(picture(scene), model.config.vae_image) for scene in scenes]  # in the size that it edits
    pixels = torch.stack([to_pixels(image) for image in sized]).to(model.device)
    with torch.no_grad():
        pictures = model.decode(vae.encode(model.vae, pixels))
    rows = []
    for item, scene, image in zip(items, scenes, pictures, strict=True):
        name = f"{RECONSTRUCTIONS}/{item.id}.png"
        write_whole(out / name, png_bytes(image, {"bench": NAME, "item": item.id}), out / SCRATCH)
        seen = read_picture(image)
        right = seen is not None and same_spot(scene, seen, TOLERANCE)
        row = _row(item, UNREADABLE if seen is None else caption(seen), caption(scene)) | {"right": right}
        rows.append(row | {"pictures": [name]})
    return rows


def _row(item: Asked, said: str, expected: str) -> Row:
    row: Row = {"id": item.id, "group": item.group, "kind": item.kind, "prompt": item.question or RECONSTRUCTIONS}
    row |= {"answer": said, "expected": expected, "right": said == expected, "missing": 0, "pictures": []}
    return row | {"reason": "" if said == expected else f"{said!r} instead of {expected!r}"}


def ask(model: LightBagel, folder: Path, out: Path, progress: bool = True) -> list[Row]:
    """Asks a model everything in a folder and writes `answers.jsonl`; what that file has already is not asked again.

    Raises:
        ValueError: the folder's file or the answers cannot be read, or the answers cannot be written.
    """
    items, file = read(folder), out / ANSWERS
    known = [_answer(parsed(line, where), where) for where, (_, line) in lines_of(file)] if file.is_file() else []
    there = {row["id"]: row for row in known}
    with tqdm(total=len(items), disable=not progress, unit=" answers", desc=NAME) as bar:
        for group in CLASSES:
            some = [item for item in items if item.group == group]
            bar.update(sum(item.id in there for item in some))
            some = [item for item in some if item.id not in there]
            for start in range(0, len(some), BATCH):
                batch = some[start : start + BATCH]
                rows = reconstructed(model, batch, out) if group == RECONSTRUCTIONS else answered(model, batch)
                there |= {row["id"]: row for row in rows}
                write(out, ANSWERS, list(there.values()))
                bar.update(len(batch))
    found = [there[item.id] for item in items]
    for item, row in zip(items, found, strict=True):
        row["pictures"] = [*shown(out, folder / item.image), *row["pictures"]]
    return found


def scores_of(rows: Sequence[Row]) -> Scores:
    """The figures of what was said: by class, and of questions by what they ask."""
    classes = grouped(rows, CLASSES)
    words = {name: classes[name] for name in (CAPTIONS, QUESTIONS) if name in classes}
    overall = {"captions and questions, mean of both": mean_share(words)}
    groups: dict[str, Score] = {name: share(some) for name, some in classes.items()}
    kinds = grouped(classes.get(QUESTIONS, ()), tuple(KINDS.values()), "kind")
    groups |= {f"{QUESTIONS}: {kind}": share(some) for kind, some in kinds.items()}
    return Scores(NAME, "share", overall, groups, notes=notes_on(rows), worst=worst_of(rows, "right"))
