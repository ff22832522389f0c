"""What a bench is to the rest of this room."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .items import Reading
from .scores import Scores


@dataclass(frozen=True)
class Files:
    """Where a bench's things lie.

    prompts: the bench's prompt file or folder, brought by the user.
    out: the folder that pictures were drawn into.
    images: the folder of source pictures; None: where the bench has them beside its prompt file.
    results: what an official detector or judge wrote; None: where `record` writes it.
    judge_prompts: the file of the user's copy of the bench that holds the judge's prompts or questions; for DPG-Bench
        its csv.
    samples: how many pictures of each prompt were asked for; None: as many as the prompt with the most results has.
    """

    prompts: Path
    out: Path
    images: Path | None = None
    results: Path | None = None
    judge_prompts: Path | None = None
    samples: int | None = None


@dataclass(frozen=True)
class Question:
    """One request to a judge.

    id: names it in the run. text: goes first, then the pictures, each the bytes of a PNG that are made when needed.
    system: a system message. readable: whether an answer can be read; one that cannot is asked for again.
    """

    id: str
    text: str
    pictures: tuple[Callable[[], bytes], ...]
    readable: Callable[[str], bool]
    system: str = ""


@dataclass(frozen=True)
class Answer:
    """What a judge said. text: None where it refused, or gave nothing readable; then `reason` says so."""

    text: str | None
    reason: str = ""


@dataclass(frozen=True)
class Judged:
    """How a judge is asked. questions: raises ValueError where the judge's prompts cannot be read. record: writes what
    was answered in the form the official judge writes, into the file or folder below `files.out` that it returns.
    found: the files of results that lie below `files.out`, of whatever judge, wherever they are looked for.
    """

    questions: Callable[[Files], Sequence[Question]]
    record: Callable[[Files, Mapping[str, Answer]], Path]
    found: Callable[[Files], Sequence[Path]]


@dataclass(frozen=True)
class Bench:
    """A bench.

    name: on the command line. title: in tables.
    editing: its items have source pictures.
    samples: pictures of each prompt, unless asked otherwise.
    batch: pictures drawn at once, unless asked otherwise; fixed, so that a split over processes changes no batch.
    history: how many earlier turns of a chain a later one is drawn after, their pictures and words.
    read: the items of `files.prompts`, with so many samples each. Raises ValueError when the file as a whole is none of
        this bench's.
    score: the figures of `files.results`; None where this project has no formula for it.
    judged: how a judge is asked; None where the official scorer is no judge behind an endpoint.
    official: what to call on the output folder to have it scored, for the closing line; `{out}` is the folder.
    """

    name: str
    title: str
    editing: bool
    samples: int
    batch: int
    read: Callable[[Files, int], Reading]
    score: Callable[[Files], Scores] | None
    judged: Judged | None = None
    official: str = ""
    history: int = 0
