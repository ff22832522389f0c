"""Latents of pictures, kept on disk for good: the VAE is frozen, so a picture has the same ones in every epoch and run.

A file a picture, named after what the latents depend on: the picture's pixels, the rule by which it is sized, the VAE's
weights. It appears whole or not at all, and two processes that write the same write the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import astuple
from pathlib import Path

from PIL import Image
from safetensors.torch import save
from torch import Tensor

from ...config import ImageRule
from ...evaluation.writing import write_whole
from ...files.tensor_files import read, read_header


class KeptLatents:
    """
    Args:
        folder: where they lie; made when the first are kept.
        vae: what tells the VAE from others. rule: how its pictures are sized.
    """

    def __init__(self, folder: Path, vae: str, rule: ImageRule) -> None:
        self.folder = folder
        self.made_by = f"{vae} {astuple(rule)}"

    def _file(self, picture: Image.Image) -> Path:
        key = hashlib.sha256(f"{self.made_by} {picture.mode} {picture.size} ".encode())
        key.update(picture.tobytes())
        name = key.hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"

    def find(self, picture: Image.Image) -> Tensor | None:
        """The latents of an RGB picture, float32 [C, h, w]; None where they are not kept.

        Raises:
            ValueError: the file is damaged; the message names it.
        """
        file = self._file(picture)
        return read(read_header(file)["latents"]).float() if file.is_file() else None

    def keep(self, picture: Image.Image, latents: Tensor) -> Tensor:
        """Keeps latents in bfloat16 and returns them as `find` will, so that the first epoch is like all others.

        Raises:
            ValueError: they cannot be written.
        """
        rounded = latents.bfloat16()
        write_whole(self._file(picture), save({"latents": rounded.cpu().contiguous()}), self.folder)
        return rounded.float()
