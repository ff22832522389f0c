"""Words in ComfyUI's log about what a person's graph asks for and LightBagel does not do."""

from __future__ import annotations

import logging
from functools import lru_cache


def warn(sentence: str) -> None:
    """Warns in the log, each time: of what happened to one result, not of what a graph asks for again and again."""
    logging.warning("LightBagel: %s", sentence)


@lru_cache(256)
def once(sentence: str) -> None:
    """Warns in the log, once for each sentence."""
    warn(sentence)
