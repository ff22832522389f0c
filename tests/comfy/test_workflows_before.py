"""Files that people saved while LightBagel was a video model to ComfyUI: they open, run, and draw what they drew.

`workflows_before/` holds the nine workflows as they were, at the 96 pixels of today's nano, with what the pack of then
(commit 69448e1) drew of each with its weights, and a latent of one frame that SaveLatent wrote. A nano of other weights
draws others: `redraw_before.py` has that pack draw them again.
"""

from __future__ import annotations

import io
import json
import shutil
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import MISSING, browse, drop, run
from conftest import comfyui
from helpers import psnr
from PIL import Image
from playwright.sync_api import Page
from serving import Server, serve

BEFORE = Path(__file__).parent / "workflows_before"
WORKFLOWS = sorted(BEFORE.glob("*.json"))
SHOWN = {"describe": "PreviewImage", "with-other-nodes": "PreviewImage"}  # where not by SaveImage: what comes of it
SAID = {
    "describe": {"a large red circle left of a small blue square on a white background", "blue"},
    "describe-edit-describe": {
        "a large red circle left of a small blue square on a white background",
        "a large red circle on the left on a white background",
    },
}
# Pictures of a processor without its vector instructions, and of another ComfyUI, are at 82 dB and more from these;
# those of another seed at 38 dB and less.
SAME = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that keeps no results: of what it has kept, an older ComfyUI's history tells nothing."""
    with serve(comfyui(), tmp_path_factory.mktemp("comfyui") / "base", "--cache-none") as running:
        yield running


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Page]:
    with browse(server) as opened:
        yield opened


def picture(server: Server, output: dict[str, Any]) -> np.ndarray:
    (found,) = output["images"]
    address = f"{server.url}/view?{urllib.parse.urlencode(found)}"
    return np.asarray(Image.open(io.BytesIO(urllib.request.urlopen(address).read())).convert("RGB"))


def shown(server: Server, workflow: Path, entry: dict[str, Any]) -> np.ndarray:
    """What comes of a workflow, of a run's history entry."""
    kind = SHOWN.get(workflow.stem, "SaveImage")
    (node,) = (node["id"] for node in json.loads(workflow.read_text("utf-8"))["nodes"] if node["type"] == kind)
    return picture(server, entry["outputs"][str(node)])


def reference(name: str) -> np.ndarray:
    return np.asarray(Image.open(BEFORE / f"{name}.png"))


def test_they_are_the_nine():
    assert len(WORKFLOWS) == 9


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_from_before(server: Server, page: Page, workflow: Path):
    """Dropped onto the page and run."""
    drop(page, workflow)
    assert page.evaluate(MISSING) == []
    entry = run(page, server)
    assert entry["status"]["status_str"] == "success"
    name = workflow.stem
    assert psnr(shown(server, workflow, entry), reference(name)) > SAME
    assert {text for output in entry["outputs"].values() for text in output.get("text", ())} == SAID.get(name, set())


def decoded_and_drawn_over(server: Server) -> dict[str, np.ndarray]:
    """The saved latent, decoded, and what a KSampler draws over it."""
    saved = BEFORE / "text-to-image-ksampler.latent"
    (server.base / "input").mkdir(exist_ok=True)
    shutil.copy(saved, server.base / "input")
    prompt = "a small green star above a large blue square on a yellow background"
    sampling = {"seed": 3, "steps": 20, "cfg": 2, "sampler_name": "euler", "scheduler": "simple", "denoise": 0.5}
    model, clip, vae = (["load", slot] for slot in range(3))
    conditions = {"positive": ["prompt", 0], "negative": ["empty", 0]}
    nodes = {
        "load": ("LightBagelLoader", {"checkpoint": "nano (built in)", "weight_dtype": "default"}),
        "saved": ("LoadLatent", {"latent": saved.name}),
        "prompt": ("LightBagelTextEncode", {"clip": clip, "prompt": prompt}),
        "empty": ("LightBagelTextEncode", {"clip": clip, "prompt": ""}),
        "drawn": ("KSampler", {"model": model, "latent_image": ["saved", 0], **conditions, **sampling}),
    }
    for name in ("saved", "drawn"):
        nodes[f"{name} decoded"] = ("VAEDecode", {"samples": [name, 0], "vae": vae})
        nodes[f"{name} shown"] = ("PreviewImage", {"images": [f"{name} decoded", 0]})
    entry = server.run({name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()})
    return {name: picture(server, entry["outputs"][f"{name} shown"]) for name in ("saved", "drawn")}


def test_a_latent_from_before(server: Server):
    """One frame is taken for a picture."""
    found = decoded_and_drawn_over(server)
    assert psnr(found["saved"], reference("text-to-image-ksampler")) > SAME
    assert psnr(found["drawn"], reference("from-a-saved-latent")) > SAME
