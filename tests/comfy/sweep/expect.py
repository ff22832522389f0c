"""What can be expected of a node, in words, and how each expectation is judged."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from helpers import SIDE

from .world import Missing, World

WORKS, REFUSED, NOT_FOR = "works", "refused in words", "not for this model"
UNCHECKED, NOTHING, WRONG, CRASHED = "unchecked", "silently nothing", "silently wrong", "crashed"
RANK = {WORKS: 0, REFUSED: 1, NOT_FOR: 1, UNCHECKED: 2, NOTHING: 3, WRONG: 4, CRASHED: 5}
GOOD = {WORKS, REFUSED, NOT_FOR}
PACK = Path(__file__).resolve().parents[3]

Verdict = tuple[str, str]  # a class and a note


@dataclass(frozen=True)
class Expectation:
    """words: what is expected, for the table. judge: what came of it, on a world, with others to compare."""

    words: str
    judge: Callable[[Row, Worlds], Verdict]


@dataclass(frozen=True)
class Row:
    """A node with its settings, and what is expected of it.

    settings: the node's inputs; a function is called with the world. draw: settings of the sampler behind it.
    full: only in the whole sweep.
    """

    node: str
    expected: Expectation
    settings: dict[str, Any] = field(default_factory=dict)
    draw: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    full: bool = False

    @property
    def name(self) -> str:
        return f"{self.node}: {self.label}" if self.label else self.node

    def differs(self, host: Any) -> bool:
        """Whether this host's node lacks an input that is stated."""
        schema = host.mappings[self.node].INPUT_TYPES()
        known = {name for group in ("required", "optional") for name in schema.get(group) or {}}
        return bool(self.settings.keys() - known - {"*FLOAT"})


@dataclass(frozen=True)
class Worlds:
    """ours: the nano. wan: the same weights without LightBagel. flux: an image model of ComfyUI's own."""

    ours: World
    wan: World
    flux: World


def row(node: str, expected: Expectation, draw: dict[str, Any] | None = None, label: str = "", **settings: Any) -> Row:
    return Row(node, expected, settings, draw or {}, label)


# Comparing


def flat(value: Any) -> torch.Tensor:
    """A tensor of a node's output, without the frame axis of one frame."""
    value = value["samples"] if isinstance(value, dict) else value
    return value[:, :, 0] if value.ndim == 5 and value.shape[2] == 1 else value


def same(a: Any, b: Any, atol: float = 1e-3) -> bool:
    a, b = flat(a).float(), flat(b).float()
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=atol)


def garbled(samples: torch.Tensor, plain: torch.Tensor) -> str:
    """What is wrong with latents that no picture has; empty: nothing."""
    if not samples.isfinite().all():
        return "not finite"
    ratio = float(samples.std() / plain.std())
    return "" if 0.2 < ratio < 4 else f"deviation {ratio:.2g} times the plain one's"


def shapes(a: Any, b: Any) -> str:
    a, b = flat(a), flat(b)
    if a.shape != b.shape:
        return f"{list(a.shape)} where {list(b.shape)} is right"
    return f"differs by {float((a.float() - b.float()).abs().max()):.3g}"


@contextmanager
def warnings_said() -> Iterator[list[str]]:
    """The warnings that are logged inside."""
    said: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    for module in [module for name, module in sys.modules.items() if name.endswith(".host.say")]:
        module.once.cache_clear()  # what is said once is said in every row
    handler = Keep(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield said
    finally:
        logging.getLogger().removeHandler(handler)


def raised(error: Exception) -> Verdict:
    """The class of an error: a sentence that somebody wrote for a person, or a crash."""
    first = " ".join(str(error).split())[:200]
    note = f"{type(error).__name__}: {first}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    written = (frame.line or "").lstrip().startswith("raise ") and Path(frame.filename).suffix == ".py"
    ours = PACK in Path(frame.filename).parents and "tests" not in frame.filename
    hosts = "site-packages" not in frame.filename and type(error) in (ValueError, RuntimeError, Exception)
    if written and (ours or hosts) and len(first.split()) > 4:
        return REFUSED, note
    return CRASHED, f"{note} ({Path(frame.filename).name}:{frame.lineno})"


def outcome(world: World, at: Row) -> tuple[str, str]:
    """How a row ends in another world: "changed", "unchanged", "ran", or a class of `raised`."""
    try:
        outputs = world.call(at.node, **at.settings)
        kinds = set(world.host.mappings[at.node].RETURN_TYPES)
        if not kinds & {"MODEL", "CONDITIONING", "LATENT", "GUIDER", "SAMPLER", "SIGMAS", "NOISE", "CLIP"}:
            return "ran", ""
        samples, plain = world.finish(at.node, outputs, **at.draw), world.plain(**at.draw)
        return ("unchanged" if same(samples, plain) else "changed"), ""
    except Missing as missing:
        return "missing", str(missing)
    except Exception as error:
        return raised(error)


# Expectations


def tried(judge: Callable[[Row, Worlds], Verdict]) -> Callable[[Row, Worlds], Verdict]:
    """A judgement whose errors are classified."""

    def safe(at: Row, worlds: Worlds) -> Verdict:
        try:
            return judge(at, worlds)
        except Missing as missing:
            return NOT_FOR, str(missing)
        except Exception as error:
            return raised(error)

    return safe


def acts(neutral: dict[str, Any] | None = None, also: str = "") -> Expectation:
    """The picture changes and stays one; at the neutral setting it is unchanged."""

    def judge(at: Row, worlds: Worlds) -> Verdict:
        world = worlds.ours
        plain = world.plain(**at.draw)
        with warnings_said() as said:
            samples = world.finish(at.node, world.call(at.node, **at.settings), **at.draw)
        if same(samples, plain):
            if any("LightBagel" in line for line in said):
                return REFUSED, "said in the log: " + next(line for line in said if "LightBagel" in line)[:160]
            return NOTHING, f"Wan: {outcome(worlds.wan, at)[0]}, Flux: {outcome(worlds.flux, at)[0]}"
        if flat(samples).shape == flat(plain).shape and (bad := garbled(samples, plain)):
            return WRONG, bad
        if neutral is not None:
            still = world.finish(at.node, world.call(at.node, **{**at.settings, **neutral}), **at.draw)
            if not same(still, plain):
                return WRONG, "at the neutral setting " + shapes(still, plain)
        return WORKS, ""

    words = "changes the picture"
    if neutral is not None:
        words += "; unchanged at " + ", ".join(f"{k} {said_value(v)}" for k, v in neutral.items())
    return Expectation(words + (f"; {also}" if also else ""), tried(judge))


def said_value(value: Any) -> str:
    return "a neutral one" if callable(value) else str(value)


def idle(why: str) -> Expectation:
    """The picture is unchanged, since the node's subject is another model's."""

    def judge(at: Row, worlds: Worlds) -> Verdict:
        world = worlds.ours
        plain = world.plain(**at.draw)
        samples = world.finish(at.node, world.call(at.node, **at.settings), **at.draw)
        return (NOT_FOR, why) if same(samples, plain) else (WRONG, shapes(samples, plain))

    return Expectation(f"picture unchanged: {why}", tried(judge))


def neutral(words: str) -> Expectation:
    """The picture is unchanged, as it should be."""

    def judge(at: Row, worlds: Worlds) -> Verdict:
        world = worlds.ours
        plain = world.plain(**at.draw)
        samples = world.finish(at.node, world.call(at.node, **at.settings), **at.draw)
        return (WORKS, "") if same(samples, plain) else (WRONG, shapes(samples, plain))

    return Expectation(f"picture unchanged: {words}", tried(judge))


def like(words: str, graph: Callable[[World], torch.Tensor], differs: bool = True) -> Expectation:
    """The picture is that of another graph; and, if it `differs`, not the plain one."""

    def judge(at: Row, worlds: Worlds) -> Verdict:
        world = worlds.ours
        samples = world.finish(at.node, world.call(at.node, **at.settings), **at.draw)
        right = graph(world)
        if not same(samples, right):
            plain = world.plain(**at.draw)
            return (NOTHING, "unchanged") if same(samples, plain) else (WRONG, shapes(samples, right))
        if differs and same(right, world.plain(**at.draw)):
            return UNCHECKED, "the other graph draws the plain picture too"
        return WORKS, ""

    return Expectation(f"same picture as {words}", tried(judge))


def gives(words: str, formula: Callable[..., Any], atol: float = 1e-4, drawn: bool = True) -> Expectation:
    """The first output is `formula(world, inputs)`; a LATENT is also sampled from and decoded."""

    def judge(at: Row, worlds: Worlds) -> Verdict:
        world = worlds.ours
        outputs = world.call(at.node, **at.settings)
        inputs = world.inputs
        with torch.inference_mode():
            right = formula(world, inputs)
        got = outputs[0][0] if isinstance(outputs[0], list) else outputs[0]
        if not same(got, right, atol):
            given = next((v for v in inputs.values() if isinstance(v, dict) and "samples" in v), None)
            still = given is not None and same(got, given)
            return (NOTHING if still else WRONG), shapes(got, right)
        if drawn and world.host.mappings[at.node].RETURN_TYPES[0] == "LATENT":
            return pictures(world, got)
        return WORKS, ""

    return Expectation(f"gives {words}", tried(judge))


def pictures(world: World, latent: dict[str, Any]) -> Verdict:
    """Whether latents can be sampled from and decoded to pictures of their size."""
    samples = world.draw(latent=latent)
    if bad := garbled(samples, world.plain()):
        return WRONG, "drawn from it: " + bad
    image = world.decode(samples)
    size = [side * 16 for side in flat(latent).shape[-2:]]
    if list(image.shape[-3:]) != [*size, 3] or not image.isfinite().all():
        return WRONG, f"decoded: {list(image.shape)} where {size} is right"
    return WORKS, ""


def holds(words: str, check: Callable[..., bool | str]) -> Expectation:
    """`check(world, inputs, outputs)` is true; a string says what is wrong."""

    def judge(at: Row, worlds: Worlds) -> Verdict:
        outputs = worlds.ours.call(at.node, **at.settings)
        inputs = worlds.ours.inputs
        with torch.inference_mode():
            found = check(worlds.ours, inputs, outputs)
        return (WORKS, "") if found is True else (WRONG, str(found or ""))

    return Expectation(words, tried(judge))


def empties(words: str = "") -> Expectation:
    """An empty latent of another model's: the picture has the size that was asked for."""

    def judge(at: Row, worlds: Worlds) -> Verdict:
        world = worlds.ours
        outputs = world.call(at.node, **at.settings)
        samples = world.finish(at.node, outputs)
        plain = world.plain()
        if same(samples, plain):
            return WORKS, ""
        if outputs[0]["samples"].ndim == 4 and 8 * outputs[0]["samples"].shape[-1] == SIDE:
            return WRONG, shapes(samples, plain)
        for other in (worlds.flux, worlds.wan):
            if outcome(other, at)[0] in ("changed", CRASHED):
                return NOT_FOR, f"{shapes(samples, plain)}: cells of another model's, {other.name} takes no others"
        return WRONG, shapes(samples, plain)

    return Expectation("the picture of the plain empty latent of the same size" + words, tried(judge))


def refused(*words: str) -> Expectation:
    """Refused in a sentence that holds these words."""

    def judge(at: Row, worlds: Worlds) -> Verdict:
        world = worlds.ours
        try:
            samples = world.finish(at.node, world.call(at.node, **at.settings), **at.draw)
        except Missing as missing:
            return NOT_FOR, str(missing)
        except Exception as error:
            kind, note = raised(error)
            told = all(re.search(word, str(error), re.I) for word in words)
            return (REFUSED if told else kind, note)
        return (NOTHING if same(samples, world.plain(**at.draw)) else WRONG), "not refused"

    return Expectation("refused in words: " + ", ".join(words), tried(judge))


def foreign(whose: str) -> Expectation:
    """A node of another family's: refused in words, without effect, or as Flux and native Wan take it."""

    def judge(at: Row, worlds: Worlds) -> Verdict:
        how, note = outcome(worlds.ours, at)
        if how == "missing":
            return NOT_FOR, f"for {whose}; {note}"
        if how in (REFUSED,):
            return REFUSED, note
        if how in ("unchanged", "ran"):
            return NOT_FOR, f"for {whose}; picture unchanged" if how == "unchanged" else f"for {whose}"
        for other in (worlds.flux, worlds.wan):
            theirs, said = outcome(other, at)
            if how == "changed" and theirs == "changed":
                return NOT_FOR, f"for {whose}; changes the picture, as it does {other.name}'s"
            if how == CRASHED and theirs == CRASHED:
                return NOT_FOR, f"for {whose}; {note}; {other.name}: {said}"
        return (CRASHED, note) if how == CRASHED else (WRONG, "changes the picture, which neither Flux nor Wan lets it")

    return Expectation(f"refused, without effect, or as Flux or Wan take it: for {whose}", tried(judge))


def needs(what: str) -> Expectation:
    """Cannot be tried: what is missing."""
    return Expectation(f"not tried: needs {what}", lambda at, worlds: (NOT_FOR, f"needs {what}"))


def unchecked(at: Row, worlds: Worlds) -> Verdict:
    how, note = outcome(worlds.ours, at)
    if how == "missing":
        return NOT_FOR, note
    return (how, note) if how in RANK else (UNCHECKED, how)


NO_EXPECTATION = Expectation("nothing stated", tried(unchecked))
