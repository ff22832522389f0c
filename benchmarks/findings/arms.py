"""The arms: each a small TOML file that says in what it differs from `common.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lightbagel_core.training.config_file import build, merge
from lightbagel_core.training.stages import Stage

HERE = Path(__file__).parent
COMMON = HERE / "common.toml"
BASE = "both"  # what every other arm is compared with
ORDER = (
    "",
    "source tokens",
    "timestep shift",
    "fusion depth",
    "fused blocks",
    "start of the output",
    "the VLM",
    "thoughts",
)  # of the questions, as docs/findings.md asks them


@dataclass(frozen=True)
class Drawing:
    """How an arm's edits are drawn. thoughts: whether the VLM's caption of what is wanted comes behind the instruction,
    as a text segment of its own or in the same one.
    """

    source_tokens: tuple[str, ...] = ("vae", "vit")
    thoughts: Literal["none", "apart", "joined"] = "none"


@dataclass(frozen=True)
class Arm:
    """
    question: which of docs/findings.md it belongs to; the base belongs to all. about: in words. seeds: of its runs.
    stage: what of the training differs. fusion: what of the fusion's config.
    random_output: whether the fusion's output projections begin random.
    """

    name: str
    question: str
    about: str
    seeds: tuple[int, ...]
    stage: Mapping[str, Any] = field(default_factory=dict)
    fusion: Mapping[str, Any] = field(default_factory=dict)
    drawing: Drawing = field(default_factory=Drawing)
    random_output: bool = False

    def trained_by(self, seed: int, model: Mapping[str, Any], steps: int | None = None) -> Stage:
        """The training of one run. model: what `common.toml` does not say of the model. steps: instead of its own."""
        common = tomllib.loads(COMMON.read_text("utf-8"))
        asked = merge(merge(common, self.stage), {"seed": seed, "model": model})
        stage: Stage = build(Stage, asked if steps is None else asked | {"steps": steps})
        return stage


def read(file: Path) -> Arm:
    """An arm from its file, whose name is the arm's.

    Raises:
        ValueError: a key or the question is unknown, or a value of the wrong kind.
    """
    said = tomllib.loads(file.read_text("utf-8"))
    known = {"question", "about", "seeds", "stage", "fusion", "drawing", "random_output"}
    if strange := sorted(said.keys() - known):
        raise ValueError(f"{file} says {strange[0]}, which an arm does not have; it has {', '.join(sorted(known))}")
    if said["question"] not in ORDER:
        raise ValueError(
            f"{file} belongs to the question {said['question']!r}, which is none of {', '.join(ORDER[1:])}"
        )
    drawing = build(Drawing, said.pop("drawing", {}))
    return Arm(file.stem, said.pop("question"), said.pop("about"), tuple(said.pop("seeds")), drawing=drawing, **said)


def arms() -> dict[str, Arm]:
    """All arms by name, the base first and those of one question together."""
    found = map(read, (HERE / "arms").glob("*.toml"))
    return {arm.name: arm for arm in sorted(found, key=lambda arm: (ORDER.index(arm.question), arm.name))}
