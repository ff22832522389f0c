"""EXPERIMENTAL. Answers of words and pictures: the VLM plans their steps, and looks at each picture that was made.

`plan_talk` and `verdict_talk` make the questions, `read_plan` and `read_verdict` read the answers, whoever runs the
model; `plan` runs it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from PIL import Image

from ..model.chat import Answer, Talk, answer
from ..model.understanding import Understanding
from .system_prompts import language_of
from .vocabulary import check_writes

Kind = Literal["words", "draw", "edit"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MOST_STEPS = 8
PLAN_LENGTH, VERDICT_LENGTH = 1024, 256  # tokens of an answer

PLANNER = {
    "en": """\
You plan an answer made of words and pictures. You write the words; another model makes the pictures. That model knows \
nothing of the user's request and of the other steps: it sees the text of its step, and for an edit the picture before.

Answer with JSON alone, in this form:
{"steps": [{"kind": "words", "text": "…"}, {"kind": "draw", "text": "…"}, {"kind": "edit", "text": "…"}]}

Rules:
1. "words" is a paragraph for the user. "draw" is a full description of a new picture, of what can be seen alone. \
"edit" is one clear instruction that changes the picture before, and says what stays as it is.
2. Use "edit" where the same scene goes on, and "draw" where a new one begins. The first "edit" needs a picture before \
it: one of the user's, or one that was drawn.
3. At most %d steps, and as few as will do. No text is empty.
4. Write in the language of the user's request.""",
    "zh": """\
你规划一个由文字和图片组成的回答。文字由你来写，图片由另一个模型来画。那个模型不知道用户的要求，也不知道其他步骤：\
它只看到自己这一步的文本；编辑时还看到前一张图片。

只回答JSON，格式如下：
{"steps": [{"kind": "words", "text": "…"}, {"kind": "draw", "text": "…"}, {"kind": "edit", "text": "…"}]}

规则：
1. "words"是写给用户的一段话。"draw"是对一张新图片的完整描述，只写看得见的内容。"edit"是一条明确的指令，\
修改前一张图片，并说明什么保持不变。
2. 同一场景继续时用"edit"，新的场景开始时用"draw"。第一个"edit"之前必须有图片：用户给出的，或者已经画好的。
3. 最多%d步，够用即可。文本不得为空。
4. 使用用户要求所用的语言。""",
}
CRITIC = {
    "en": """\
You look at a picture that a model made of a text, and say whether it shows what the text asks for. Judge what can be \
seen: the subjects, their number, colours and places. Small flaws of beauty do not matter.

Answer with JSON alone, in this form:
{"good": true, "why": "…", "prompt": "…"}
"why" is one sentence. Where "good" is false, "prompt" is the text written anew, so that the next try is likely to \
succeed: it asks for the same picture and must stand on its own. Where "good" is true, "prompt" is empty.""",
    "zh": """\
你查看一个模型根据文本制作的图片，判断它是否画出了文本要求的内容。只看看得见的：主体、数量、颜色和位置。美观上的小瑕疵不重要。

只回答JSON，格式如下：
{"good": true, "why": "…", "prompt": "…"}
"why"是一句话。当"good"为false时，"prompt"是重新写出的文本，使下一次更可能成功：它要求同一张图片，并且必须独立成文。\
当"good"为true时，"prompt"为空。""",
}
AGAIN = {
    "en": "That cannot be used: {error}. Answer again, with the JSON alone.",
    "zh": "这个回答无法使用：{error}。请重新回答，只回答JSON。",
}
MADE_OF = {"en": "The text: {text}", "zh": "文本：{text}"}


@dataclass(frozen=True)
class Step:
    """A step of a plan: words for the user, what to draw, or how to edit the picture before."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Verdict:
    """What the critic says of a picture. prompt: for another try, where it is not good; may be empty."""

    good: bool
    why: str = ""
    prompt: str = ""


def plan_talk(request: str, images: Sequence[Image.Image] = ()) -> Talk:
    """The conversation that asks the VLM for a plan.

    Raises:
        ValueError: an empty request.
    """
    if not request.strip():
        raise ValueError("there is nothing to plan: the request is empty")
    return Talk([("system", [PLANNER[language_of(request)] % MOST_STEPS]), ("user", [*images, request])])


def read_plan(said: Answer, pictures: int = 0) -> list[Step]:
    """The plan in an answer.

    Args:
        pictures: how many the user has given.

    Raises:
        ValueError: it is no JSON, or no plan; what is wrong of it is said so that the VLM can mend it.
    """
    data = _json(said)
    steps = data.get("steps") if set(data) == {"steps"} else None
    if not isinstance(steps, list) or not steps:
        raise ValueError('it must have the key "steps" alone, with a list of steps')
    if len(steps) > MOST_STEPS:
        raise ValueError(f"it has {len(steps)} steps, more than {MOST_STEPS}")
    found: list[Step] = []
    for number, step in enumerate(steps, 1):
        if not isinstance(step, dict) or set(step) != {"kind", "text"}:
            raise ValueError(f'step {number} must have the keys "kind" and "text", and no other')
        kind, text = step["kind"], step["text"]
        if kind not in KINDS:
            raise ValueError(f"the kind of step {number} must be one of {', '.join(KINDS)}")
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"the text of step {number} must be words")
        if kind == "edit" and not pictures and all(before.kind == "words" for before in found):
            raise ValueError(f"step {number} is an edit, and there is no picture before it")
        found.append(Step(kind, text.strip()))
    return found


def plan(und: Understanding, request: str, images: Sequence[Image.Image] = (), **options: Any) -> list[Step]:
    """A plan for a request, by a VLM whose weights are there. An answer that is none is asked for once more.

    Args:
        images: RGB. options: as `chat.answer` takes them.

    Raises:
        ValueError: an empty request; a VLM that cannot write freely (the nano's); no plan in either answer, whose words
            are in the message.
    """
    check_writes(und, "plan an answer of words and pictures")
    talk = plan_talk(request, images)
    said = answer(und, talk, PLAN_LENGTH, **options)
    try:
        return _checked(und, read_plan(said, len(images)))
    except ValueError as error:
        again = AGAIN[language_of(request)].format(error=error)
    answered = [("assistant", [said.text])] if said.text and _readable(und, said.text) else []
    said = answer(und, Talk([*talk.messages, *answered, ("user", [again])]), PLAN_LENGTH, **options)
    try:
        return _checked(und, read_plan(said, len(images)))
    except ValueError as error:
        raise ValueError(
            f"the VLM made no plan, also when asked again: {error}. Word the request otherwise. It said: {said.text}"
        ) from None


def verdict_talk(picture: Image.Image, text: str) -> Talk:
    """The conversation that asks the VLM whether a picture shows what a text asks for."""
    language = language_of(text)
    return Talk([("system", [CRITIC[language]]), ("user", [picture, MADE_OF[language].format(text=text)])])


def read_verdict(said: Answer) -> Verdict:
    """The critic's verdict in an answer.

    Raises:
        ValueError: it is no JSON, or no verdict.
    """
    data = _json(said)
    good, why, prompt = data.get("good"), data.get("why", ""), data.get("prompt", "")
    if not isinstance(good, bool) or not isinstance(why, str) or not isinstance(prompt, str):
        raise ValueError('it must have "good", true or false, and the texts "why" and "prompt"')
    return Verdict(good, why.strip(), prompt.strip())


def _checked(und: Understanding, steps: list[Step]) -> list[Step]:
    """The steps. Raises ValueError where the VLM cannot read the text of one of them."""
    for number, step in enumerate(steps, 1):
        if not _readable(und, step.text):
            raise ValueError(f"the text of step {number} holds a marker of the model's own")
    return steps


def _readable(und: Understanding, text: str) -> bool:
    try:
        und.words_to_ids(text)
    except ValueError:
        return False
    return True


def _json(said: Answer) -> dict[str, Any]:
    """The JSON object in an answer, which may stand in a code block or between words."""
    found = re.search(r"\{.*\}", said.text, re.DOTALL)
    try:
        data = json.loads(found[0]) if found else None
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise ValueError("it is no JSON" + (", since its end is cut off: be shorter" if said.cut else ""))
    return data
