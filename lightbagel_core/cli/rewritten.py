"""Prompts that the VLM rewrites or thinks about before they are drawn, on the command line.

What it writes is for the person who waits, so that it goes to stderr: while it is made on a terminal, else in whole
lines. stdout has the names of the files as ever.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from ..evaluation.json_lines import text_of
from .console import AsMade, shown

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..language.system_prompts import Task
    from ..pipeline import LightBagel


def check_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `LightBagel.rewrite` is asked beside the prompt and its pictures.

    Raises:
        ValueError: an option that would change nothing; a system prompt's file that cannot be read, or is empty.
    """
    given = _given(args)
    if given and not (args.rewrite or args.think):
        raise ValueError(f"{' and '.join(given)} change nothing here: add --rewrite, or leave them out")
    asked: dict[str, Any] = {"thinking": args.think}
    if args.max_new_tokens is not None:
        if args.max_new_tokens < 1:
            raise ValueError(f"--max-new-tokens must be at least 1, not {args.max_new_tokens}")
        asked["max_new_tokens"] = args.max_new_tokens
    if args.system_prompt is not None:
        asked["system_prompt"] = text_of(args.system_prompt).strip()
    return asked


def _given(args: argparse.Namespace) -> list[str]:
    """The options that say how a prompt is rewritten."""
    named = {"--system-prompt": args.system_prompt, "--max-new-tokens": args.max_new_tokens}
    return [name for name, value in named.items() if value is not None]


def by_itself(args: argparse.Namespace, model: LightBagel) -> bool:
    """Whether the thought that is asked for is one of weights that were trained to think before they draw.

    Raises:
        ValueError: something is asked for beside it that it has no place for.
    """
    if not args.think or model.config.thinking is None:
        return False
    beside = [*(["--rewrite"] if args.rewrite else []), *_given(args)]
    if beside:
        raise ValueError(
            "these weights were trained to think about the prompt as it is, in a form of their own: leave out "
            f"{' and '.join(beside)}, or --think"
        )
    return True


def rewritten(args: argparse.Namespace, model: LightBagel, prompt: str, sources: Sequence[Image]) -> dict[str, str]:
    """What the VLM made of a prompt, if that is asked for, as a picture's file keeps it: "rewritten_prompt", and
    "thinking" if it thought.
    """
    if not (args.rewrite or args.think):
        return {}
    task: Task = "edit" if sources else "generate"
    with said_if_cut(" with --max-new-tokens"):
        with AsMade(sys.stderr, args.quiet) as told:
            found = model.rewrite(prompt, sources, task, on_text=told, **check_options(args))
        kept = {"rewritten_prompt": found.prompt} | ({"thinking": found.thinking} if found.thinking else {})
        if not told.live:
            say(kept)
    return kept


def say(kept: dict[str, str]) -> None:
    """Prints what a VLM has written in whole lines, the thought first."""
    for name in ("thinking", "rewritten_prompt"):
        if name in kept:
            print(f"{name.replace('_', ' ')}: {shown(' '.join(kept[name].split()))}", file=sys.stderr, flush=True)


class ThoughtThenSteps(AsMade):
    """Shows a thought of weights that think by themselves, and in lines below it the steps of the drawing.

    how: what `generate` and `edit` are told for that. kept: what a picture's file keeps of it.
    """

    def __init__(self, think: bool, quiet: bool) -> None:
        super().__init__(sys.stderr, quiet)
        self.think, self.quiet = think, quiet
        self.bar: Any = None

    @property
    def how(self) -> dict[str, Any]:
        if not self.think:
            return {"progress": not self.quiet}
        return {"think": True, "on_thought": self, "on_step": self.step, "progress": False}

    @property
    def kept(self) -> dict[str, str]:
        return {"thinking": self.text} if self.think else {}

    def step(self, done: int, total: int, latents: Any) -> None:
        if self.bar is None:
            self.end()
            if not self.live:
                say(self.kept)
            self.bar = tqdm(total=total, disable=self.quiet, unit="step")
        self.bar.update()

    def __exit__(self, *error: object) -> None:
        self.end()
        if self.bar is not None:
            self.bar.close()


@contextmanager
def said_if_cut(how: str = "") -> Iterator[None]:
    """Prints the warning of a text that was cut, and `how` what it asks for is done; no other."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", "the .* was cut ", UserWarning)
        yield
    for each in caught:
        if issubclass(each.category, UserWarning):
            print(f"lightbagel: {each.message}{how}", file=sys.stderr)
