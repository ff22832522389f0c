"""The layouts of other people's data sets, a file for each family, and which of them a source has.

A new one: a file with its `LAYOUT`, a line in `LAYOUTS`, a test beside the others. Most are a list of columns and a
function from a record to a row (`records.py`).
"""

from __future__ import annotations

from pathlib import Path

from ..rows import Layout
from . import (
    ai_toolkit,
    blip3o,
    folder,
    gpt_image_edit,
    img_edit,
    instruct_pix2pix,
    musubi_tuner,
    nano_consistent,
    omniedit,
    sharegpt_4o,
    uniworld,
)

# In the order in which they are tried: what names its columns first, plain folders last.
LAYOUTS = {
    module.LAYOUT.name: module.LAYOUT
    for module in (
        musubi_tuner,
        omniedit,
        instruct_pix2pix,
        uniworld,
        img_edit,
        nano_consistent,
        sharegpt_4o,
        gpt_image_edit,
        blip3o,
        ai_toolkit,
        folder,
    )
}


def find(source: Path, name: str | None = None) -> Layout:
    """The layout of a source: the one of a name, or the first that fits.

    Raises:
        ValueError: there is no such source, no such name, or none fits; the message lists them all with what they need.
    """
    if not source.exists():
        raise ValueError(f"there is no file or folder {source}")
    if name is not None and name not in LAYOUTS:
        raise ValueError(f"there is no layout {name!r}. {_listed()}")
    found = LAYOUTS.get(name) if name is not None else next((one for one in LAYOUTS.values() if one.fits(source)), None)
    if found is None:
        raise ValueError(f"{source} is laid out as nothing that is known here. {_listed()}")
    return found


def _listed() -> str:
    return "The layouts:\n" + "\n".join(f"  {one.name}: {one.needs}" for one in LAYOUTS.values())
