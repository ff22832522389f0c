"""Runs every workflow on ComfyUI's page and takes its pictures: workflows/<name>.jpg, what it makes, for ComfyUI's list
of templates; docs/<name>.jpg, how it looks on the canvas; web/docs/<node>.jpg, parts of that for the help pages.

    COMFYUI_PATH=… python docs/workflows.py        (with ComfyUI's Python, playwright and Debian's chromium)
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import textwrap
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps
from playwright.sync_api import Page

PACK = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PACK / "tests" / "comfy"))

from browsing import area, browse, drop, fit, run  # noqa: E402
from conftest import save_scripted  # noqa: E402
from serving import BEYOND_THE_NANO, SCRIPTS, Server, checkpoints, serve  # noqa: E402

SIDE, GAP, LINE, INK, PAPER = 512, 12, 26, "#e8e8e8", "#262626"
SHOWING = ("PreviewImage", "SaveImage", "MaskPreview")  # other nodes' pictures are only how they look, such as a cut
HELP = {  # for a node's help page: the workflow, and what of it to show
    "LightBagelLoader": ("text-to-image", ("LightBagelLoader", "LightBagelGenerate")),
    "LightBagelTextEncode": ("text-to-image-ksampler", ("LightBagelTextEncode", "KSampler")),
    "LightBagelGenerate": ("text-to-image", ("LightBagelGenerate", "SaveImage")),
    "LightBagelEdit": ("edit", ("LightBagelEdit", "PreviewImage", "SaveImage")),
    "LightBagelDescribe": ("describe", ("LightBagelDescribe", "PreviewImage")),
    "LightBagelRewritePrompt": ("rewrite", ("LightBagelRewritePrompt", "PreviewAny")),
}
# Words of a stand-in for a VLM that can rewrite. What it draws of them means nothing and is not shown.
SCRIPTED = """(name) => {
  const change = (type, name, value) => {
    for (const node of app.graph.nodes.filter((n) => n.type == type))
      node.widgets.find((w) => w.name == name).value = value;
  };
  change("LightBagelLoader", "checkpoint", name);
  for (const node of app.graph.nodes) {
    if (["SaveImage", "PreviewImage"].includes(node.type)) node.mode = LiteGraph.NEVER;
    if (node.type == "LightBagelRewritePrompt") node.setSize([node.size[0], 640]);
  }
}"""
AWAKE = "app.graph.nodes.forEach((n) => (n.mode = LiteGraph.ALWAYS))"
BESIDE_A_LOADER = """() => {
  app.graph.clear();
  const [load, fuse, sample] = ["UNETLoader", "LightBagelApplyFusion", "KSampler"].map((type, i) => {
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    node.pos = [i * 360, 0];
    return node;
  });
  load.connect(0, fuse, 0);
  fuse.connect(0, sample, 0);
}"""


def images(server: Server, outputs: dict[str, Any]) -> list[Image.Image]:
    """The pictures of a run, first the shown, then the saved ones."""
    found = [
        (image["type"] == "output", int(node), image)
        for node, output in outputs.items()
        for image in output.get("images", ())
    ]
    found.sort(key=lambda entry: entry[:2])
    return [
        Image.open(io.BytesIO(urllib.request.urlopen(f"{server.url}/view?{urllib.parse.urlencode(image)}").read()))
        for *_, image in found
    ]


def card(pictures: list[Image.Image], texts: list[str]) -> Image.Image:
    """A square of pictures in a grid, the list of templates shows squares, with what was said below them."""
    made, font = Image.new("RGB", (SIDE, SIDE), PAPER), ImageFont.load_default(20)
    lines = [line for text in texts for line in textwrap.wrap(f"“{text}”", SIDE // 11)]
    most = (SIDE - GAP) // LINE if not pictures else len(lines)
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1]} …”"]
    columns = 1 if len(pictures) == 1 else 2
    rows = max(1, -(-len(pictures) // columns))
    height = SIDE - GAP - len(lines) * LINE
    tile = min((SIDE - GAP) // columns, height // rows) - GAP
    left, top = (SIDE - columns * (tile + GAP) + GAP) // 2, (height - rows * (tile + GAP) + 2 * GAP) // 2
    for i, picture in enumerate(pictures):
        place = left + i % columns * (tile + GAP), top + i // columns * (tile + GAP)
        made.paste(ImageOps.pad(picture.convert("RGB"), (tile, tile), Image.Resampling.LANCZOS, PAPER), place)
    for i, line in enumerate(lines):
        ImageDraw.Draw(made).text((GAP, height + i * LINE), line, INK, font)
    return made


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as base,
        serve(Path(os.environ["COMFYUI_PATH"]), Path(base) / "comfyui") as server,
        browse(server, (2000, 1300)) as page,
    ):
        for name, text in SCRIPTS.items():
            save_scripted(checkpoints(Path(base) / "comfyui") / name, text)
        for workflow in sorted((PACK / "workflows").glob("*.json")):
            drop(page, workflow)
            if workflow.stem in BEYOND_THE_NANO:
                page.evaluate(SCRIPTED, BEYOND_THE_NANO[workflow.stem])
            entry = run(page, server)
            outputs = entry["outputs"]
            kinds = {str(node["id"]): node["type"] for node in json.loads(workflow.read_text("utf-8"))["nodes"]}
            shown = {node: output for node, output in outputs.items() if kinds[node] in SHOWING}
            texts = dict.fromkeys(text for output in outputs.values() for text in output.get("text", ()))
            card(images(server, shown), list(texts)).save(workflow.with_suffix(".jpg"), quality=90)
            page.evaluate(AWAKE)
            page.wait_for_timeout(2000)  # the last previews arrive
            fit(page)
            page.wait_for_timeout(500)
            photograph(page, PACK / "docs" / f"{workflow.stem}.jpg")
            for node, (name, types) in HELP.items():
                if name == workflow.stem:
                    photograph(page, PACK / "web" / "docs" / f"{node}.jpg", types)
        page.evaluate(BESIDE_A_LOADER)
        fit(page)
        page.wait_for_timeout(500)
        photograph(page, PACK / "web" / "docs" / "LightBagelApplyFusion.jpg")


def photograph(page: Page, path: Path, types: tuple[str, ...] = ()) -> None:
    page.screenshot(path=path, clip=area(page, types), type="jpeg", quality=85)


if __name__ == "__main__":
    main()
