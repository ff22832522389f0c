"""The one switch for all that is kept beyond the step or the run that made it."""

from __future__ import annotations

import os

SWITCH = "LIGHTBAGEL_KEEP"


def keeps() -> bool:
    """Whether anything is kept: not where LIGHTBAGEL_KEEP=0 stands in the environment.

    Pictures are the same either way. Without it every step computes again what is constant over a run.

    Raises:
        ValueError: another value than 0 or 1.
    """
    chosen = os.environ.get(SWITCH, "1")
    if chosen not in ("0", "1"):
        raise ValueError(
            f"the environment variable {SWITCH} is {chosen!r}: 0 keeps nothing between steps and runs, 1 (as without "
            "it) keeps what stays the same"
        )
    return chosen == "1"
