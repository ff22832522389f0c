"""EXPERIMENTAL. A request answered in words and pictures: a plan carried out step by step, under a critic's eye."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, Unpack

from PIL import Image

from ..config import LightBagelConfig
from ..images import to_rgb
from ..language.planning import VERDICT_LENGTH, Step, Verdict, plan, read_verdict, verdict_talk
from ..model.chat import Looked, answer
from ..model.understanding import Understanding
from ..sampling.denoise import OnStep
from ..sampling.settings import Asked, Settings
from .composition import Composition, Part

OnPart = Callable[[Part], None]
Drawing = tuple[Image.Image, dict[str, Any]]  # a picture, and `Settings.to_dict` of its run
TRIES, MOST_TRIES = 1, 10  # of a step, after the first


class Model(Protocol):
    """What composing needs of a model: what `LightBagel` offers under these names."""

    config: LightBagelConfig
    und: Understanding

    def need(self, *components: str) -> None: ...
    def settings(self, source: Image.Image | None = None, **asked: Unpack[Asked]) -> Settings: ...
    def generate(
        self, prompt: str, *, on_step: OnStep | None = None, progress: bool = True, **asked: Unpack[Asked]
    ) -> list[Image.Image]: ...
    def edit(
        self,
        image: Image.Image,
        instruction: str,
        *,
        on_step: OnStep | None = None,
        progress: bool = True,
        **asked: Unpack[Asked],
    ) -> list[Image.Image]: ...


def compose(
    model: Model,
    request: str,
    images: Sequence[Image.Image] = (),
    tries: int = TRIES,
    *,
    on_part: OnPart | None = None,
    on_step: OnStep | None = None,
    progress: bool = True,
    **asked: Unpack[Asked],
) -> Composition:
    """Answers a request in words and pictures.

    The VLM makes a plan: words, pictures to draw, edits of the picture before (at first of the last of `images`). It
    then looks at each picture, and where it is not what the step asks for, the step is tried again, by another seed and
    by the words that the VLM proposes, at most `tries` times; the last try is kept.

    Args:
        on_part: told of each step that is done.
        on_step, progress, asked: as in `LightBagel.edit`, but for `num_images`; image_guidance is for edits alone. The
            seed is that of first tries; each further one's is one more.

    Raises:
        ValueError: an empty request, no plan, a VLM that cannot plan (the nano's), a setting outside its range.
        Stopped: `on_step` asked to stop.
    """
    if isinstance(tries, bool) or not isinstance(tries, int) or not 0 <= tries <= MOST_TRIES:
        raise ValueError(f"a step is tried again between 0 and {MOST_TRIES} times, not {tries!r}")
    if asked.get("num_images", 1) != 1:
        raise ValueError(f"a step makes one picture, not {asked['num_images']}")
    for_new = asked.copy()
    for_new.pop("image_guidance", None)  # for edits alone
    seed = asked.get("seed", 0)
    given, looked, parts = [to_rgb(image) for image in images], Looked(), list[Part]()
    fresh = model.settings(**for_new)  # refuses before all work, as does the next
    model.settings(given[-1] if given else Image.new("RGB", (fresh.width, fresh.height)), **asked)
    model.need("understanding")
    steps = plan(model.und, request, given, looked=looked)
    before = given[-1] if given else None

    def drawn(words: str, number: int) -> Drawing:
        """A picture of the step by these words: a new one, or the one before edited."""
        own = (asked if step.kind == "edit" else for_new).copy()
        own["seed"] = (seed + number) % 2**64 if isinstance(seed, int) else seed  # torch counts negative ones so, too
        if step.kind == "edit" and before is not None:
            picture = model.edit(before, words, on_step=on_step, progress=progress, **own)[0]
            return picture, model.settings(before, **own).to_dict()
        picture = model.generate(words, on_step=on_step, progress=progress, **own)[0]
        return picture, model.settings(**own).to_dict()

    for step in steps:
        part = Part(step) if step.kind == "words" else _part(model, step, tries, drawn)
        before = part.picture or before
        parts.append(part)
        if on_part is not None:
            on_part(part)
    return Composition(request, model.config.name, tuple(parts))


def _part(model: Model, step: Step, tries: int, drawn: Callable[[str, int], Drawing]) -> Part:
    """A step with its picture: the first that the critic agrees to, or the last."""
    words = step.text
    for number in range(tries + 1):
        picture, settings = drawn(words, number)
        if not tries:
            break
        verdict = _verdict(model, picture, step)
        if verdict.good or number == tries:
            return Part(step, picture, words, number + 1, verdict, settings)
        words = verdict.prompt or words
    return Part(step, picture, words, settings=settings)


def _verdict(model: Model, picture: Image.Image, step: Step) -> Verdict:
    """What the critic says of a picture; an answer that is no verdict agrees, with a warning."""
    model.need("understanding")
    said = answer(model.und, verdict_talk(picture, step.text), VERDICT_LENGTH)
    try:
        verdict = read_verdict(said)
    except ValueError as error:
        warnings.warn(f"the picture is kept, for what the VLM said of it is no verdict: {error}", stacklevel=2)
        return Verdict(good=True)
    try:
        model.und.words_to_ids(verdict.prompt)
    except ValueError:
        return replace(verdict, prompt="")  # it still does not agree; the next try has the words of this one
    return verdict
