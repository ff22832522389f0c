"""ComfyUI's page in a headless Chromium, used as a person uses it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, TimeoutError, sync_playwright
from serving import Server

# The last thing the page does by itself is to open its default workflow.
READY = "!!(window.LiteGraph?.registered_node_types?.KSampler && window.app?.canvas?.graph?.nodes.length)"
DROP = """([name, text]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name, { type: "application/json" }));
  const canvas = document.querySelector("#graph-canvas");
  for (const kind of ["dragenter", "dragover", "drop"])
    canvas.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: data }));
}"""
MISSING = "app.graph.nodes.map((n) => n.type).filter((t) => !(t in LiteGraph.registered_node_types))"
# A node's title stands above its position.
BOXES = """app.graph.nodes.map((n) => ({
  name: n.title, type: n.type, left: n.pos[0], top: n.pos[1] - LiteGraph.NODE_TITLE_HEIGHT,
  right: n.pos[0] + n.size[0], bottom: n.pos[1] + n.size[1] }))"""
BAR, TOAST, MARGIN = 120, 260, 140  # pixels of the page's own things: above and left, on the right, below


@contextmanager
def browse(server: Server, size: tuple[int, int] = (1800, 1100), scale: float = 1) -> Iterator[Page]:
    """The page of a server, ready for use; `scale` gives more pixels to a screenshot.

    Raises:
        FileNotFoundError: there is no Chromium.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise FileNotFoundError("no Chromium found: install Debian's package chromium")
    server.request("/api/settings/Comfy.TutorialCompleted", True)
    server.request("/api/settings/Comfy.Minimap.Visible", False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield open_page(browser, server, size, scale)
        browser.close()


def open_page(browser: Browser, server: Server, size: tuple[int, int] = (1800, 1100), scale: float = 1) -> Page:
    """A page that remembers nothing of others, ready for use."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, device_scale_factor=scale)
    page.goto(server.url)
    page.wait_for_function(READY, timeout=120_000)
    for _ in range(5):  # the loading mask of an older page sometimes stays; a person would reload
        try:
            page.wait_for_function("!document.querySelector('.p-blockui-mask')", timeout=8_000)
            break
        except TimeoutError:
            page.reload()
            page.wait_for_function(READY, timeout=120_000)
    return page


def drop(page: Page, workflow: Path) -> None:
    """Drops a file onto the emptied canvas and waits until its nodes are there."""
    page.evaluate("app.graph.clear()")
    drop_beside(page, workflow, "app.graph.nodes.length > 0")


def drop_beside(page: Page, workflow: Path, ready: str) -> None:
    """Drops a file onto the canvas, which opens a tab of its own, and waits until something holds there."""
    page.evaluate(DROP, [workflow.name, workflow.read_text("utf-8")])
    page.wait_for_function(ready)


def unmask(page: Page) -> None:
    """Takes away a loading mask that stays: on a busy machine the page may miss the end of its animation."""
    try:
        page.wait_for_function("!document.querySelector('.p-blockui-mask')", timeout=8_000)
    except TimeoutError:
        page.evaluate("document.querySelectorAll('.p-overlay-mask-leave').forEach((mask) => mask.remove())")


def bounds(page: Page, types: tuple[str, ...] = ()) -> tuple[float, float, float, float]:
    """(left, top, width, height) of all nodes, or of those of some types, in the graph's units."""
    boxes = [box for box in page.evaluate(BOXES) if not types or box["type"] in types]
    left, top = (min(box[side] for box in boxes) for side in ("left", "top"))
    right, bottom = (max(box[side] for box in boxes) for side in ("right", "bottom"))
    return left, top, right - left, bottom - top


def fit(page: Page) -> None:
    """Moves the view so that the whole graph is in it, beside the page's own bars."""
    left, top, width, height = bounds(page)
    room = page.viewport_size
    scale = min(1, (room["width"] - BAR - TOAST) / width, (room["height"] - BAR - MARGIN) / height)
    view = {"scale": scale, "offset": [BAR / scale - left, BAR / scale - top]}
    page.evaluate("(view) => { Object.assign(app.canvas.ds, view); app.canvas.setDirty(true, true) }", view)


def area(page: Page, types: tuple[str, ...] = ()) -> dict[str, float]:
    """Where on the page the nodes of some types, or all, are, with a little air; x, y, width, height in pixels."""
    left, top, width, height = bounds(page, types)
    scale, (x, y) = page.evaluate("[app.canvas.ds.scale, [...app.canvas.ds.offset]]")
    air = 20
    return {
        "x": (left + x) * scale - air,
        "y": (top + y) * scale - air,
        "width": width * scale + 2 * air,
        "height": height * scale + 2 * air,
    }


def run(page: Page, server: Server) -> dict[str, Any]:
    """Presses Run; the history entry of what it started."""
    before = set(server.request("/history"))
    unmask(page)
    with page.expect_response(lambda response: response.url.endswith("/prompt")) as answer:
        page.locator("[data-testid=queue-button]").click()
    prompt_id = answer.value.json()["prompt_id"]
    assert prompt_id not in before
    return server.ended(prompt_id)
