"""A conversation with a model: show, draw, edit, ask, go back, in any order."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, Unpack

import torch
from PIL import Image
from torch import Tensor

from ..config import LightBagelConfig, SolverName
from ..images import to_rgb
from ..model import chat
from ..model.chat import Looked, OnText
from ..model.forward import CleanImage, Content
from ..model.reading import Reading
from ..model.understanding import Understanding, VitImage
from ..sampling.branches import Said, branches_of
from ..sampling.denoise import OnStep
from ..sampling.guidance import Guidance
from ..sampling.settings import Asked, Settings
from .entries import Answered, Drawn, Entry, Part, Shown, asking, pictures_of, turns_of
from .transcript import read_transcript, write_transcript


class Model(Protocol):
    """What a conversation needs of a model: what `LightBagel` offers under these names."""

    config: LightBagelConfig
    und: Understanding

    def need(self, *components: str) -> None: ...
    def text(self, prompt: str) -> list[int]: ...
    def vit(self, image: Image.Image) -> VitImage: ...
    def clean(self, image: Image.Image) -> CleanImage: ...
    def settings(self, source: Image.Image | None = None, **asked: Unpack[Asked]) -> Settings: ...
    def noise(self, count: int, width: int, height: int, seed: int | torch.Generator) -> Tensor: ...
    def draw(
        self,
        branches: Mapping[str, Sequence[Sequence[Content]]],
        noise: Tensor,
        guidance: Guidance,
        *,
        steps: int | None = None,
        solver: SolverName | None = None,
        shift: float | None = None,
        on_step: OnStep | None = None,
        progress: bool = True,
        reading: Reading | None = None,
    ) -> list[Image.Image]: ...


class Conversation:
    """Pictures, drawings, edits, questions and answers in order, with one model.

    What fails, is stopped or is interrupted leaves the conversation as it was. The model's weights must stay as they
    are while it lasts: nothing is computed twice. The VAE sees each picture once, the ViT once for drawings and once
    for answers, for which it is sized otherwise; and for a drawing the VLM reads what is new only, where the context
    begins as the last one did. It does while `history` reaches back to the first turn of the chain. With fewer turns
    than that, and so always with 0, what the context begins with falls out in front, all that follows stands at new
    positions, and the VLM reads the whole context, as it does for `LightBagel.edit`.

    entries: what there was, in order; replaced as a whole by each call, never changed.
    folder: where it was last saved, or opened from.
    """

    def __init__(self, model: Model, history: int = 0, entries: Sequence[Entry] = ()) -> None:
        """Begins a conversation.

        Args:
            history: how many earlier turns an edit is drawn after. 0: it stands after its own pictures alone. 1: the
                chain of two turns that the published recipe trains. More is untried by any training, and warns once.
            entries: what there was before; only `open` needs it.

        Raises:
            ValueError: `history` is no whole number from 0 on.
        """
        if isinstance(history, bool) or not isinstance(history, int) or history < 0:
            raise ValueError(f"the history is a number of earlier turns, 0 or more, not {history!r}")
        self.model, self.history = model, history
        self.entries: tuple[Entry, ...] = tuple(entries)
        self.folder: Path | None = None
        self._folders: set[Path] = set()  # all that hold this conversation or an earlier state of it
        self._reading, self._looked = Reading(), Looked()
        # By the id of a picture, the picture itself, which so keeps its id, and what the VAE and the ViT made of it, on
        # the CPU: a conversation may be long, and a card has better uses.
        self._clean: dict[int, tuple[Image.Image, CleanImage]] = {}
        self._vit: dict[int, tuple[Image.Image, VitImage]] = {}
        self._warned = False

    @classmethod
    def open(cls, folder: str | Path, model: Model, history: int | None = None) -> Conversation:
        """The conversation that `save` wrote into a folder, to go on with.

        Args:
            model: it may be another than the one it was had with, which warns.
            history: as in `__init__`; default: what it was saved with.

        Raises:
            ValueError: it is no transcript, or a damaged one, or one that reaches out of its folder.
        """
        found = read_transcript(Path(folder))
        if found.model != model.config.name:
            warnings.warn(
                f"this conversation was had with {found.model!r} and goes on with {model.config.name!r}", stacklevel=2
            )
        made = cls(model, found.history if history is None else history, found.entries)
        made._keep(Path(folder))
        return made

    @property
    def pictures(self) -> list[Image.Image]:
        """All its pictures in order, shown ones and drawn ones."""
        return pictures_of(self.entries)

    @property
    def last(self) -> Image.Image | None:
        """Its last picture, which the next edit changes; None where there is none yet."""
        return next(iter(self.pictures[::-1]), None)

    def show(self, image: Image.Image) -> Image.Image:
        """Brings a picture in, for questions and for the next edit; returns it as the conversation holds it.

        Those shown since the last drawing are the next edit's pictures. One with the same pixels as an earlier one is
        that one.

        Raises:
            ValueError: the picture is too narrow.
        """
        picture = to_rgb(image)
        picture.info = {}  # a transcript is no place for what a camera wrote
        same = (p for p in self.pictures if p.size == picture.size and p.tobytes() == picture.tobytes())
        picture = next(same, picture)
        self._add(Shown(picture))
        return picture

    def draw(
        self,
        prompt: str,
        negative_prompt: str = "",
        *,
        on_step: OnStep | None = None,
        progress: bool = True,
        **asked: Unpack[Asked],
    ) -> Image.Image:
        """Draws a picture of a prompt alone, whatever there was before; later edits go on from it.

        Args:
            on_step, progress, asked: as in `LightBagel.generate`, but for `num_images`: a turn has one picture.

        Raises:
            ValueError: an empty prompt, a setting outside its range, an unknown word (nano), a context that is too
                long. Stopped: `on_step` asked to stop.
        """
        if not prompt.strip():
            raise ValueError("there is nothing to draw in an empty prompt: say what to draw")
        settings = self._settings(None, asked)
        branches = branches_of([], prompt, negative_prompt)
        picture = self._drawn(branches, settings, on_step, progress)
        self._add(Drawn(prompt, negative_prompt, picture, False, 0, settings.to_dict()))
        return picture

    def edit(
        self,
        instruction: str,
        negative_prompt: str = "",
        *,
        on_step: OnStep | None = None,
        progress: bool = True,
        **asked: Unpack[Asked],
    ) -> Image.Image:
        """Edits the pictures shown since the last drawing, or where there are none the last picture.

        It is drawn after `history` earlier turns of the chain, which begins with the last `draw`, or where other
        pictures than the last drawn one were shown. Its size is the first of its pictures' by the VAE rule, as in
        `LightBagel.edit`, unless asked otherwise.

        Args:
            on_step, progress, asked: as in `LightBagel.edit`, but for `num_images`: a turn has one picture.

        Raises:
            ValueError: no picture to edit, and as `draw`. Stopped: `on_step` asked to stop.
        """
        if not instruction.strip():
            raise ValueError("an edit needs an instruction: say what to change")
        turns, own = turns_of(self.entries)
        if not own:
            raise ValueError("there is no picture to edit yet: draw one or show one first")
        before: list[Said[Part]] = turns[-self.history :] if self.history else []
        settings = self._settings(own[0], asked)
        if len(before) > 1 and not self._warned:
            self._warned = True
            warnings.warn(
                f"this edit is drawn after {len(before)} earlier turns; the published recipe trains at most one, so "
                "that more is a try",
                stacklevel=2,
            )
        branches = branches_of(own, instruction, negative_prompt, before)
        picture = self._drawn(branches, settings, on_step, progress)
        self._add(Drawn(instruction, negative_prompt, picture, True, len(before), settings.to_dict()))
        return picture

    def ask(self, question: str, max_new_tokens: int = 128, on_text: OnText | None = None) -> str:
        """The VLM's answer to a question about all pictures so far, after the earlier questions and answers.

        Args:
            on_text: told all the words so far, as they are made; returning False ends the answer there.

        Raises:
            ValueError: an empty question, an unknown word (nano), no answer, or a conversation longer than the VLM has
                positions for.
        """
        if not question.strip():
            raise ValueError("there is nothing to answer in an empty question: say what to look for")
        if max_new_tokens < 1:
            raise ValueError(f"an answer has at least 1 token, not {max_new_tokens}")
        talk = asking(self.entries, question)
        chat.check(self.model.und, talk)
        self.model.need("understanding")
        answer = chat.answer(self.model.und, talk, max_new_tokens, on_text=on_text, looked=self._looked)
        text = chat.without_markers(self.model.und, answer.text)
        if not text:
            raise ValueError("the VLM gave no answer; ask in other words")
        self._add(Answered(question, text, answer.cut))
        return text

    def undo(self) -> Entry:
        """Goes back to before the last entry, and returns that entry.

        Raises:
            ValueError: there is none.
        """
        if not self.entries:
            raise ValueError("there is nothing to undo: the conversation has not begun")
        *kept, last = self.entries
        self.entries = tuple(kept)
        held = set(map(id, self.pictures))
        for known in (self._clean, self._vit, self._looked.features):
            for key in known.keys() - held:
                del known[key]
        return last

    def save(self, folder: str | Path) -> Path:
        """Writes the conversation into a folder, made where there is none: transcript.json and the pictures as PNGs,
        which `open` reads, and conversation.html, one page for people that loads nothing else. Returns the page's path.

        Raises:
            ValueError: it could not be written, or another conversation lies there; the conversation goes on.
        """
        folder = Path(folder)
        page = write_transcript(folder, self.model.config.name, self.history, self.entries, again=self._lies_in(folder))
        self._keep(folder)
        return page

    def _keep(self, folder: Path) -> None:
        self.folder = folder
        self._folders.add(folder.resolve())

    def _lies_in(self, folder: Path) -> bool:
        """Whether this conversation was saved in a folder before, or opened from it."""
        return folder.resolve() in self._folders

    def _add(self, entry: Entry) -> None:
        self.entries = (*self.entries, entry)

    def _settings(self, source: Image.Image | None, asked: Asked) -> Settings:
        settings = self.model.settings(source, **asked)
        if settings.num_images != 1:
            raise ValueError(f"a turn draws one picture, not {settings.num_images}: draw again for another")
        return settings

    def _drawn(
        self, branches: Mapping[str, Sequence[Part]], settings: Settings, on_step: OnStep | None, progress: bool
    ) -> Image.Image:
        """The picture drawn after these parts, in each branch of guidance."""
        used = {name: branches[name] for name in settings.guidance.branches}
        parts = [part for branch in used.values() for part in branch]
        texts = {part: self.model.text(part) for part in parts if isinstance(part, str)}  # refuses before all work
        pictures = {id(part): part for part in parts if not isinstance(part, str)}
        # All of one kind first: where only one component is on the device at a time, each comes once.
        for key, picture in pictures.items():
            if key not in self._clean:
                self._clean[key] = picture, CleanImage(self.model.clean(picture).latents.cpu())
        for key, picture in pictures.items():
            if key not in self._vit:
                seen = self.model.vit(picture)
                self._vit[key] = picture, replace(seen, features=seen.features.cpu())

        def contents(part: Part) -> list[Content]:
            return [texts[part]] if isinstance(part, str) else [self._clean[id(part)][1], self._vit[id(part)][1]]

        samples = {name: [[content for part in branch for content in contents(part)]] for name, branch in used.items()}
        (drawn,) = self.model.draw(
            samples,
            self.model.noise(1, settings.width, settings.height, settings.seed),
            settings.guidance,
            steps=settings.steps,
            solver=settings.solver,
            shift=settings.shift,
            on_step=on_step,
            progress=progress,
            reading=self._reading,
        )
        return drawn
