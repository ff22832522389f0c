"""Latents of pictures, kept on disk for good: the VAE is frozen, so a picture has the same ones in every epoch and run.

A file a picture, named after what the latents depend on: the picture's pixels, the rule by which it is sized, the VAE's
weights. It appears whole or not at all, and two processes that write the same write the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

from PIL import Image
from safetensors.torch import save
from torch import Tensor

from ...config import ImageRule
from ...files.tensor_files import read, read_header
from ...files.writing import write_whole


class KeptLatents:
    """
    Args:
        folder: where they lie; made when the first are kept.
        vae: what tells the VAE from others. rule: how its pictures are sized.
        before: folders in which latents are looked for first, and none are kept.
    """

    def __init__(self, folder: Path, vae: str, rule: ImageRule, before: Sequence[Path] = ()) -> None:
        self.folder, self.before = folder, tuple(before)
        self.made_by = f"{vae} {astuple(rule)}"

    def _place(self, picture: Image.Image) -> Path:
        """Where in a folder the latents of a picture lie."""
        key = hashlib.sha256(f"{self.made_by} {picture.mode} {picture.size} ".encode())
        key.update(picture.tobytes())
        name = key.hexdigest()
        return Path(name[:2], f"{name}.safetensors")

    def find(self, picture: Image.Image) -> Tensor | None:
        """The latents of an RGB picture, float32 [C, h, w]; None where they are not kept.

        Raises:
            ValueError: the file is damaged; the message names it.
        """
        place = self._place(picture)
        files = (file for folder in (*self.before, self.folder) if (file := folder / place).is_file())
        return next((read(read_header(file)["latents"]).float() for file in files), None)

    def keep(self, picture: Image.Image, latents: Tensor) -> Tensor:
        """Keeps latents in bfloat16 and returns them as `find` will, so that the first epoch is like all others.

        Raises:
            ValueError: they cannot be written.
        """
        rounded = latents.bfloat16()
        write_whole(self.folder / self._place(picture), save({"latents": rounded.cpu().contiguous()}), self.folder)
        return rounded.float()
