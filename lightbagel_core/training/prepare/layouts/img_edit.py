"""ImgEdit: records with `input_images`, `prompt` and `output_images`; several turns are a list of these, or one record
with as many prompts as output pictures.

Turns become a chain, each made from the picture before it. A turn that begins elsewhere, as one that goes back to the
first picture, cannot be told so, and its row is left out.
"""

from __future__ import annotations

from typing import Any

from ..rows import Picture, Row
from .records import TURNS, Record, Records
from .unusable import Unusable, described, words


def _row(record: Record) -> Row:
    turns = record.value(TURNS)
    if turns is None:
        turns = [{name: record.value(name) for name in ("input_images", "prompt", "output_images")}]
    if not isinstance(turns, list) or not turns:
        raise Unusable(f"{TURNS} is no list of turns")
    sources: tuple[Picture, ...] = ()
    texts: list[str] = []
    targets: list[Picture] = []
    for at, turn in enumerate(turns):
        begin, said, results = _turn(record, turn)
        if at == 0:
            sources = begin
        elif begin and not (len(begin) == 1 and _same(begin[0], targets[-1])):
            raise Unusable(f"turn {at + 1} does not begin with the picture that turn {at} made")
        texts += said
        targets += results
    return Row(record.key, sources, tuple(texts), tuple(targets), record.kind("edit_type", "task", "task_type"))


def _turn(record: Record, turn: Any) -> tuple[tuple[Picture, ...], list[str], tuple[Picture, ...]]:
    if not isinstance(turn, dict):
        raise Unusable(f"a turn is no object but {described(turn)}")
    prompts = turn.get("prompt")
    texts = [words(prompt, "prompt") for prompt in (prompts if isinstance(prompts, list) else [prompts])]
    results = record.each(turn.get("output_images"), "output_images")
    if len(results) != len(texts) or not texts:
        raise Unusable(f"it has {len(results)} output pictures for {len(texts)} prompts")
    return record.each(turn.get("input_images"), "input_images"), texts, results


def _same(one: Picture, other: Picture) -> bool:
    return one.file == other.file and one.content == other.content


LAYOUT = Records(
    "imgedit",
    "Parquet or JSON with input_images, prompt, output_images, or lists of these",
    (("input_images", TURNS), ("prompt", TURNS), ("output_images", TURNS)),
    _row,
    more=("edit_type", "task", "task_type"),
)
