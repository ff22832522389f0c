"""Prompts rewritten by the VLM before they are drawn: an ordinary answer in its chat, whose text replaces the prompt.

`talk_of` makes the question, `read_rewritten` reads the answer, whoever runs the model; `rewrite` runs it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Unpack, get_args

from PIL import Image

from ..model.chat import Answer, OnText, Talk, answer, check
from ..model.understanding import Understanding
from .choosing import Choosing, options_of, seeded
from .system_prompts import PICTURE, Task, language_of, system_prompt_for
from .vocabulary import check_writes

LENGTH = 512  # tokens of an answer, a thought included
# What a person can do. Asked the same again the VLM answers the same: its words are the likeliest ones.
AGAIN = (
    "change the prompt or the system prompt, or have words chosen by chance (a temperature; in ComfyUI "
    "sampling_mode on)"
)
BOUND = "the bound on its length, which can be raised (max_new_tokens; in ComfyUI max_length)"

_THOUGHT = re.compile(r"<think(?:ing)?>(.*?)</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_OPEN = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_CLOSE = re.compile(r"</think(?:ing)?>", re.IGNORECASE)


@dataclass(frozen=True)
class Rewritten:
    """A prompt as the VLM has written it out, and what it thought before; an empty thought where none was asked for."""

    prompt: str
    thinking: str = ""


def talk_of(
    prompt: str,
    images: Sequence[Image.Image] = (),
    task: Task = "generate",
    system_prompt: str | None = None,
    thinking: bool = False,
) -> Talk:
    """The conversation that asks the VLM to rewrite a prompt: a system prompt, then the pictures and the prompt.

    Args:
        images: RGB pictures, those of an edit in its order; several are numbered.
        system_prompt: in place of the built-in one.
        thinking: whether a thought between <thinking> and </thinking> is to come first.

    Raises:
        ValueError: an empty prompt or system prompt, an unknown task, an edit without pictures.
    """
    if task not in get_args(Task):
        raise ValueError(f"a prompt is rewritten for {' or '.join(get_args(Task))}, not for {task!r}")
    if not prompt.strip():
        raise ValueError("there is nothing to rewrite: the prompt is empty")
    if task == "edit" and not images:
        raise ValueError("to rewrite an edit's instruction the VLM looks at its pictures: give at least one")
    system = system_prompt_for(prompt, task, thinking, system_prompt)
    number = PICTURE[language_of(prompt)]
    seen: list[Image.Image | str] = []
    for place, image in enumerate(images, 1):
        seen += [number.format(place), image] if len(images) > 1 else [image]
    return Talk([("system", [system]), ("user", [*seen, prompt])])


def read_rewritten(answer: Answer, thinking: bool = False) -> Rewritten:
    """The prompt in the answer to `talk_of`, and the thought before it, if one was asked for.

    A thought that was not asked for is left out; so nothing of one ever gets into a prompt. Warns where the answer was
    cut by the bound on its length.

    Args:
        thinking: whether a thought was asked for.

    Raises:
        ValueError: no prompt is in the answer; a thought is not closed, or was asked for and is not there.
    """
    thoughts = _THOUGHT.findall(answer.text)
    rest = _THOUGHT.sub(" ", answer.text)
    if _CLOSE.search(rest):  # some models' templates have begun the thought for them
        before, rest = _CLOSE.split(rest, maxsplit=1)
        thoughts.append(before)
    if _OPEN.search(rest):
        why = f"it was cut by {BOUND}" if answer.cut else AGAIN
        raise ValueError(f"the model began a thought and did not end it, so that there is no prompt: {why}")
    if _CLOSE.search(rest):
        raise ValueError(f"the model's answer ends a thought twice, so that it cannot be told from the prompt: {AGAIN}")
    thought = "\n\n".join(found for each in thoughts if (found := each.strip()))
    prompt = rest.strip()
    if thinking and not thoughts:
        begun = f" before its answer was cut by {BOUND}" if answer.cut else ""
        raise ValueError(
            f"the model gave no thought between <thinking> and </thinking>{begun}: {AGAIN}, or ask for none"
        )
    if not prompt:
        why = f"it was cut by {BOUND}" if answer.cut else f"{AGAIN}, or draw from the prompt as it is"
        raise ValueError(f"the model's answer holds no prompt: {why}")
    if answer.cut:
        warnings.warn(
            "the rewritten prompt was cut by the bound on its length (max_new_tokens) and may end within a sentence; "
            "the bound can be raised",
            stacklevel=2,
        )
    return Rewritten(prompt, thought if thinking else "")


def rewrite(
    und: Understanding,
    talk: Talk,
    need: Callable[[], None],
    thinking: bool = False,
    max_new_tokens: int = LENGTH,
    on_text: OnText | None = None,
    **choosing: Unpack[Choosing],
) -> Rewritten:
    """The prompt that a VLM answers `talk_of` with; greedy, so the same each time, unless a temperature is set.

    Args:
        need: has the VLM's weights ready, when all else was checked.
        on_text: told all the words so far, those of a thought too, as they are made; may end the answer.

    Raises:
        ValueError: see `read_rewritten`, `options_of`, `chat.answer_ids`; a VLM that cannot write freely (the nano's).
    """
    if max_new_tokens < 1:
        raise ValueError(f"a prompt is rewritten in at least 1 token, not {max_new_tokens}")
    check_writes(und, "rewrite a prompt")
    check(und, talk)
    options: dict[str, Any] = options_of(choosing)
    need()
    with seeded(und.device, choosing.get("seed")):
        said = answer(und, talk, max_new_tokens, on_text=on_text, **options)
    return read_rewritten(said, thinking)
