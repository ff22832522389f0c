"""Samples as a file: what the VLM and the VAE made of some slots, read where it lies.

A safetensors file of two flat tensors, the states of all segments in bfloat16 and the latents of all pictures in
float32, each one after the other. Its metadata says as JSON what stands where:

    segments  [kind, tokens or rows, columns, number of the latents] of each; kind: text, vit, clean, noised
    latents   the shape of each
    slots     per slot its samples: [numbers of the segments, number of the target's latents, edit or not]

Segments and latents that samples share stand there once, and are the same objects when they are read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...files.writer import Entry, write
from ...model.forward import EncodedSegment
from ...model.sequence import ImageSegment, Segment, TextSegment
from .samples import Sample

STATES, LATENTS = torch.bfloat16, torch.float32


def write_part(file: Path, slots: Sequence[Sequence[Sample]], stamp: str) -> None:
    """Writes the samples of some slots; the file appears whole or not at all.

    Args:
        slots: of each its samples, whose contents are `EncodedSegment`s.
        stamp: what `read_stamp` will say.

    Raises:
        OSError: it cannot be written.
    """
    segments: dict[int, tuple[EncodedSegment, Segment]] = {}
    latents: dict[int, Tensor] = {}
    for sample in (sample for samples in slots for sample in samples):
        latents[id(sample.target)] = sample.target
        for content, segment in zip(sample.contents, sample.segments, strict=True):
            segments[id(content)] = content, segment
            if content.latents is not None:
                latents[id(content.latents)] = content.latents
    order, numbers = list(latents.values()), {key: number for number, key in enumerate(latents)}
    places = {key: number for number, key in enumerate(segments)}
    depth, dim = next(iter(segments.values()))[0].states.shape[::2]
    about = {
        "depth": depth,
        "dim": dim,
        "segments": [
            [*_told(segment), -1 if content.latents is None else numbers[id(content.latents)]]
            for content, segment in segments.values()
        ],
        "latents": [list(x.shape) for x in order],
        "slots": [
            [[[places[id(c)] for c in s.contents], numbers[id(s.target)], s.edit] for s in samples] for samples in slots
        ],
    }
    states = [content.states.to(STATES) for content, _ in segments.values()]
    entries = [_entry("states", STATES, states), _entry("latents", LATENTS, [x.to(LATENTS) for x in order])]
    file.parent.mkdir(parents=True, exist_ok=True)
    write(file, entries, {"stamp": stamp, "about": json.dumps(about, separators=(",", ":"))}, lambda _: None)


def read_stamp(file: Path) -> str | None:
    """What a part was written with; None where there is none, or it is damaged."""
    try:
        with safe_open(file, "pt") as part:
            return (part.metadata() or {}).get("stamp")
    except (OSError, SafetensorError):
        return None


def read_part(file: Path) -> list[list[Sample]]:
    """The samples of each slot. Their tensors are the mapped file, as long as they live.

    Raises:
        ValueError: the file is gone or damaged.
    """
    try:
        with safe_open(file, "pt") as part:
            about = json.loads(part.metadata()["about"])
            states, latents = part.get_tensor("states"), part.get_tensor("latents")
        return _samples(about, states, latents)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{file} is gone or damaged ({error}); it is made again at the next start") from None


def _samples(about: dict[str, Any], states: Tensor, latents: Tensor) -> list[list[Sample]]:
    shapes = [tuple(shape) for shape in about["latents"]]
    pictures = [x.view(shape) for x, shape in zip(latents.split([math.prod(s) for s in shapes]), shapes, strict=True)]
    depth, dim = about["depth"], about["dim"]
    segments = [_segment(kind, rows, cols) for kind, rows, cols, _ in about["segments"]]
    sizes = [depth * segment.und_tokens * dim for segment in segments]
    contents = [
        EncodedSegment(x.view(depth, -1, dim), None if number < 0 else pictures[number])
        for x, (*_, number) in zip(states.split(sizes), about["segments"], strict=True)
    ]
    return [
        [
            Sample(tuple(segments[i] for i in held), [contents[i] for i in held], pictures[target], edit)
            for held, target, edit in samples
        ]
        for samples in about["slots"]
    ]


def _entry(name: str, dtype: torch.dtype, tensors: Sequence[Tensor]) -> Entry:
    shape = (sum(x.numel() for x in tensors),)
    return Entry(((name, dtype, shape),), lambda: (x.flatten() for x in tensors))


def _told(segment: Segment) -> tuple[str, int, int]:
    if isinstance(segment, TextSegment):
        return "text", segment.length, 1
    return segment.kind, segment.rows, segment.cols


def _segment(kind: Any, rows: int, cols: int) -> Segment:
    return TextSegment(rows) if kind == "text" else ImageSegment(kind, rows, cols)
