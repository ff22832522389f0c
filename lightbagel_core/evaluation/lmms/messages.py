"""What lmms-eval asks of a model, read into what `describe` answers: conversations and generation settings.

lmms-eval finds us by the entry point that names `manifest`; its model class is in `model.py`, which it alone imports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ...images import open_image, to_rgb
from ...model.chat import Talk

FILLER = "\n\n"  # what lmms-eval puts into `until` where a task names none; its own Qwen2.5-VL passes over it too
USED = {"max_new_tokens", "until", "do_sample", "temperature", "num_beams"}
WITHOUT_EFFECT = {"top_p", "top_k", "use_cache"}  # on the words of a greedy answer


def manifest() -> Any:
    """The registration that lmms-eval's entry points ask for: `--model lightbagel`."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest("lightbagel", chat_class_path="lightbagel_core.evaluation.lmms.model.LightBagel")


@dataclass(frozen=True)
class Wanted:
    """How an answer is to be made.

    max_new_tokens: its greatest length. until: it ends before the first of these. unused: settings that have no effect.
    """

    max_new_tokens: int
    until: tuple[str, ...]
    unused: tuple[str, ...]

    @classmethod
    def of(cls, generation: Mapping[str, Any] | None) -> Wanted:
        """The settings of a task's `generation_kwargs`; 128 new tokens unless it says how many.

        Raises:
            ValueError: they ask for something else than the one greedy answer, or for no token at all.
        """
        asked = {name: value for name, value in (generation or {}).items() if value is not None}
        temperature, beams = asked.get("temperature", 0), asked.get("num_beams", 1)
        if asked.get("do_sample", temperature > 0):
            raise ValueError(
                f"this asks for sampled answers (temperature {temperature}) and describe answers greedily; add "
                "--gen_kwargs temperature=0,do_sample=False"
            )
        if beams != 1:
            raise ValueError(f"this asks for {beams} beams and describe answers greedily; add --gen_kwargs num_beams=1")
        length = asked.get("max_new_tokens", 128)
        if isinstance(length, bool) or not isinstance(length, int) or length < 1:
            raise ValueError(f"max_new_tokens must be a whole number of at least 1, not {length!r}")
        until = asked.get("until", ())
        ends = tuple(end for end in ([until] if isinstance(until, str) else until) if end and end != FILLER)
        return cls(length, ends, tuple(sorted(set(asked) - USED - WITHOUT_EFFECT)))

    def cut(self, answer: str) -> str:
        """The answer without what follows the first of `until`."""
        ends = [at for at in map(answer.find, self.until) if at >= 0]
        return answer[: min(ends, default=None)].strip()


def read_talk(messages: Sequence[Mapping[str, Any]]) -> Talk:
    """The conversation in a task's messages, which are in lmms-eval's chat format: texts and pictures in their order.

    Raises:
        ValueError: a picture cannot be read or is too narrow, or there is nothing to answer.
        NotImplementedError: there is something other than texts and pictures, such as a video.
    """
    talk = Talk([(str(message["role"]), [_part(each) for each in _parts(message)]) for message in messages])
    if not any(parts for _, parts in talk.messages):
        raise ValueError("there is neither a question nor a picture")
    return talk


def _parts(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _part(content: Mapping[str, Any]) -> Image.Image | str:
    kind = content.get("type")
    if kind == "text":
        return str(content["text"])
    if kind != "image":
        raise NotImplementedError(f"there is a part of type {kind!r} and describe reads texts and pictures alone")
    picture = content["url"]
    if isinstance(picture, Image.Image):
        return to_rgb(picture)
    if isinstance(picture, str | Path):
        return open_image(picture)
    raise ValueError(f"a picture must be a PIL image or the path of a file, not {type(picture).__name__}")
