"""lightbagel describe: answers about pictures, for a person or, as JSON, for a program."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..config import DESCRIBE
from .console import AsMade, shown
from .opening import files_of, how_of

if TYPE_CHECKING:
    from ..model.chat import Answer


def describe(args: argparse.Namespace) -> None:
    """Answers the questions in their order as one conversation about a picture, and one about each of --each's.

    Raises:
        ValueError: a picture cannot be read, a question is empty or not understood, a bound below 1.
    """
    from ..describe import Describer
    from ..images import open_image

    if args.max_new_tokens < 1:
        raise ValueError(f"--max-new-tokens must be at least 1, not {args.max_new_tokens}")
    paths = [args.image, *args.each]
    pictures = [[open_image(path)] for path in paths]
    questions = args.questions or [DESCRIBE]
    opened = files_of(args, ["understanding"])
    describer = Describer.of(opened, **how_of(args, opened))
    live = sys.stdout.isatty() and len(paths) == 1 and not args.json
    if live:
        with _Spoken(questions) as spoken:
            found = describer.each_in_turn(pictures, questions, args.max_new_tokens, spoken)
    else:
        found = describer.each_in_turn(pictures, questions, args.max_new_tokens)
    if args.json:
        print(as_json(opened.config.name, paths, questions, found))
    elif not live:
        _print_lines(paths, found)
    _say_what_was_cut(paths, questions, found, args.max_new_tokens)


def as_json(model: str, paths: Sequence[str], questions: Sequence[str], found: Sequence[Sequence[Answer]]) -> str:
    """What `--json` prints, of the form in `describe.schema.json`; in ASCII, which any console and pipe has."""
    images = [
        {
            "image": path,
            "answers": [
                {"question": question, "answer": answer.text, "cut": answer.cut}
                for question, answer in zip(questions, answers, strict=True)
            ],
        }
        for path, answers in zip(paths, found, strict=True)
    ]
    return json.dumps({"model": model, "images": images})


class _Spoken:
    """Answers on a terminal while they are made; of several, each after its question."""

    def __init__(self, questions: Sequence[str]) -> None:
        self.questions, self.number, self.answer = questions, -1, AsMade(sys.stdout)

    def __enter__(self) -> _Spoken:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None:
            self._come_to(len(self.questions) - 1)
        self.answer.end()

    def __call__(self, number: int, text: str) -> None:
        self._come_to(number)
        self.answer(text)

    def _come_to(self, number: int) -> None:
        """Prints the questions up to one; an answer without a word is told of nowhere else."""
        while self.number < number:
            self.answer.end()
            self.number, self.answer = self.number + 1, AsMade(sys.stdout)
            if len(self.questions) > 1:
                print(f"> {self.questions[self.number]}", flush=True)


def _print_lines(paths: Sequence[str], found: Sequence[Sequence[Answer]]) -> None:
    """An answer as it is; of several each in one line, after its picture's name if there are several pictures."""
    if len(paths) == len(found[0]) == 1:
        print(shown(found[0][0].text))
        return
    for path, answers in zip(paths, found, strict=True):
        for answer in answers:
            begin = f"{path}: " if len(paths) > 1 else ""
            print(begin + shown(" ".join(answer.text.split())))


def _say_what_was_cut(
    paths: Sequence[str], questions: Sequence[str], found: Sequence[Sequence[Answer]], bound: int
) -> None:
    for path, answers in zip(paths, found, strict=True):
        for question, answer in zip(questions, answers, strict=True):
            if answer.cut:
                where = f" for {path}" if len(paths) > 1 else ""
                which = f' to "{question}"' if len(questions) > 1 else ""
                print(
                    f"lightbagel: the answer{which}{where} was cut at {bound} tokens; --max-new-tokens raises that",
                    file=sys.stderr,
                )
