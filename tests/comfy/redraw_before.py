"""Has the pack of before draw `workflows_before/` again, with the weights of today's nano: for a new checkpoint of it.

    COMFYUI_PATH=… python tests/comfy/redraw_before.py        (with ComfyUI's Python, playwright and Debian's chromium)

Says how near each picture is to the one that lay there. What they show is for a person to look at.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from browsing import browse, drop, run
from conftest import comfyui
from helpers import psnr
from PIL import Image
from serving import PACK, Server, serve
from test_workflows_before import BEFORE, WORKFLOWS, decoded_and_drawn_over, reference, shown

THEN = "69448e1"  # the last commit whose MODEL was a video model to ComfyUI
LATENT = "text-to-image-ksampler"


def old_pack(folder: Path) -> None:
    """The tree of then, with the nano of today."""
    archive = subprocess.run(["git", "archive", THEN], cwd=PACK, check=True, stdout=subprocess.PIPE).stdout
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-x"], cwd=folder, check=True, input=archive)
    nano = Path("lightbagel_core", "nano")
    shutil.copytree(PACK / nano, folder / nano, dirs_exist_ok=True)


def keep(name: str, pixels: np.ndarray) -> None:
    before = reference(name)
    near = f"{psnr(pixels, before):.0f} dB" if before.shape == pixels.shape else "of another size"
    Image.fromarray(pixels).save(BEFORE / f"{name}.png")
    print(f"{name}: {near}", flush=True)


def keep_latent(server: Server, prompt: dict[str, Any]) -> None:
    """Saves the latent of a workflow in API format, as ComfyUI writes it."""
    (sampler,) = (name for name, node in prompt.items() if node["class_type"] == "KSampler")
    inputs = {"samples": [sampler, 0], "filename_prefix": "latent"}
    server.run(prompt | {"saved": {"class_type": "SaveLatent", "inputs": inputs}})
    (file,) = (server.base / "output").glob("latent*.latent")
    shutil.copy(file, BEFORE / f"{LATENT}.latent")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        old_pack(base / "custom_nodes" / "lightbagel")
        with serve(comfyui(), base, "--cache-none", with_pack=False) as server, browse(server) as page:
            for workflow in WORKFLOWS:
                drop(page, workflow)
                if workflow.stem == LATENT:
                    keep_latent(server, page.evaluate("app.graphToPrompt()")["output"])
                keep(workflow.stem, shown(server, workflow, run(page, server)))
            keep("from-a-saved-latent", decoded_and_drawn_over(server)["drawn"])


if __name__ == "__main__":
    main()
