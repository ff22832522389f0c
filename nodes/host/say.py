"""Words in ComfyUI's log about what a person's graph asks for and LightBagel does not do."""

from __future__ import annotations

import logging
from functools import lru_cache


@lru_cache(256)
def once(sentence: str) -> None:
    """Warns in the log, once for each sentence."""
    logging.warning("LightBagel: %s", sentence)
