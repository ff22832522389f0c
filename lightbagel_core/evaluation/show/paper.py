"""The paper's own figures, to stand beside a run's: arXiv 2510.22946, as printed there, without intervals.

The names are those of `Scores.overall` and `Scores.groups`, in the order in which a table has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..scores import Unit

SOURCE = "arXiv 2510.22946"


@dataclass(frozen=True)
class Paper:
    """What the paper reports for a bench.

    title: of the bench. unit, overall, groups: as in `Scores`.
    computed: names of figures that are not printed in the paper but follow from what is.
    aliases: what the paper calls a group, where the bench calls it otherwise.
    note: how the paper measured, as far as one must know it to compare; a sentence, or nothing.
    """

    title: str
    unit: Unit
    overall: Mapping[str, float]
    groups: Mapping[str, float] = field(default_factory=dict)
    computed: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def get(self, name: str) -> float | None:
        """The figure of that name among the headline figures, then the groups; None where the paper has none."""
        return self.overall.get(name, self.groups.get(name))


GENEVAL = Paper(
    title="GenEval",
    unit="share",
    overall={"mean of tasks": 0.91},
    groups={
        "single_object": 1.00,
        "two_object": 0.97,
        "counting": 0.93,
        "colors": 0.94,
        "position": 0.79,
        "color_attr": 0.81,
    },
    note="The paper's prompts are the rewritten, long ones.",
)

DPG = Paper(
    title="DPG-Bench",
    unit="0-100",
    overall={"score": 82.16},
    groups={"global": 87.1, "entity": 89.6, "attribute": 87.6, "relation": 90.2, "other": 90.4},
)

GEDIT = Paper(
    title="GEdit-Bench",
    unit="0-10",
    overall={"O": 6.06, "SC": 6.34, "PQ": 7.31},
    note="The paper's instructions are the English ones.",
)

IMGEDIT_TYPES = {
    "add": 4.21,
    "adjust": 3.23,
    "extract": 1.83,
    "replace": 4.55,
    "remove": 3.80,
    "background": 4.15,
    "style": 4.66,
    "compose": 3.93,
    "action": 3.60,
}
# How many of the bench's 737 items are of each type (basic_edit.json).
IMGEDIT_ITEMS = {
    "add": 95,
    "adjust": 94,
    "extract": 117,
    "replace": 92,
    "remove": 86,
    "background": 94,
    "style": 100,
    "compose": 23,
    "action": 36,
}


def by_sample(types: Mapping[str, float], items: Mapping[str, int]) -> float:
    """The mean over all items, from the types' means and how many items each has."""
    return sum(types[name] * items[name] for name in types) / sum(items[name] for name in types)


IMGEDIT = Paper(
    title="ImgEdit Basic",
    unit="1-5",
    overall={"mean of types": 3.77, "mean of samples": by_sample(IMGEDIT_TYPES, IMGEDIT_ITEMS)},
    groups=IMGEDIT_TYPES,
    computed=frozenset({"mean of samples"}),
    aliases={"compose": "hybrid"},
)

PAPER: Mapping[str, Paper] = {
    "geneval": GENEVAL,
    "dpg": DPG,
    "gedit": GEDIT,
    "imgedit": IMGEDIT,
}
