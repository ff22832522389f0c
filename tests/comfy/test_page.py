"""ComfyUI's page: workflow files as people drop them, the blueprint as they find it, the words under Describe's box."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from browsing import BOXES, MISSING, READY, browse, drop, drop_beside, open_page, run
from conftest import comfyui, save_scripted
from playwright.sync_api import Page, TimeoutError
from serving import BEYOND_THE_NANO, PACK, SCRIPTS, Server, checkpoints, serve

WORKFLOWS = sorted((PACK / "workflows").glob("*.json"))
BLUEPRINT = next((PACK / "subgraphs").glob("*.json"))
OPEN = """(name) => app.graph.nodes.filter((n) => n.type == "LightBagelLoader").forEach((n) => {
  n.widgets.find((w) => w.name == "checkpoint").value = name;
})"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    base = tmp_path_factory.mktemp("comfyui") / "base"
    for name, text in SCRIPTS.items():
        save_scripted(checkpoints(base) / name, text)
    with serve(comfyui(), base) as running:
        yield running


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Page]:
    with browse(server) as opened:
        yield opened


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_dropped_workflow_runs(server: Server, page: Page, workflow: Path):
    """No node is missing, Run succeeds, and nothing overlaps: not as dropped, not with all previews shown."""
    drop(page, workflow)
    assert page.evaluate(MISSING) == []
    assert overlaps(page) == []
    if workflow.stem in BEYOND_THE_NANO:
        page.evaluate(OPEN, BEYOND_THE_NANO[workflow.stem])
    entry = run(page, server)
    assert entry["status"]["status_str"] == "success"
    shown = [node for node, output in entry["outputs"].items() if output.get("images")]
    page.wait_for_function("(ids) => ids.every((id) => app.graph.getNodeById(id)?.imgs?.length)", arg=shown)
    assert overlaps(page) == []
    for node, output in entry["outputs"].items():
        if output.get("text"):
            values = page.evaluate("(id) => app.graph.getNodeById(id).widgets.map((w) => w.value)", node)
            assert output["text"][0] in values


def overlaps(page: Page) -> list[tuple[str, str]]:
    """Pairs of nodes that lie on one another."""
    return [
        (a["name"], b["name"])
        for a, b in combinations(page.evaluate(BOXES), 2)
        if a["left"] < b["right"] and b["left"] < a["right"] and a["top"] < b["bottom"] and b["top"] < a["bottom"]
    ]


def test_the_grid_is_named_by_its_values(server: Server, page: Page):
    """The page puts the nodes' values into the name of the saved picture, also those a person has changed."""
    drop(page, PACK / "workflows" / "guidance-grid.json")
    page.evaluate("""() => {
      const set = (node, name, value) => (node.widgets.find((w) => w.name == name).value = value);
      for (const node of app.graph.nodes) {
        if (node.type == "KSampler") set(node, "steps", 1);
        if (node.title == "Middle row") set(node, "cfg", 2.5);
        if (node.title == "Third column") set(node, "value", 7);
      }
    }""")
    ((image,),) = (output["images"] for output in run(page, server)["outputs"].values())
    assert image["filename"].startswith("LightBagel_guidance_1_2.5_8_seeds_1_2_7_4_")


def test_an_answer_that_never_ended_gives_way_to_the_last_one(page: Page):
    """Where the run is cancelled or fails; the events are those that the page gets from the server."""
    drop(page, PACK / "workflows" / "describe.json")
    seen = page.evaluate("""async () => {
      const { api } = await import("/scripts/api.js");
      const node = app.graph.nodes.find((n) => n.type == "LightBagelDescribe");
      const send = (type, detail) => api.dispatchEvent(new CustomEvent(type, { detail }));
      const seen = [];
      node.onExecuted({ text: ["whole"] });
      for (const end of ["execution_interrupted", "execution_error"]) {
        send("lightbagel.words", { node: String(node.id), text: "ha" });
        send("lightbagel.words", { node: String(node.id), text: "half" });
        seen.push(node.widgets.find((w) => w.name == "answer").value);
        send(end, { prompt_id: "none", node_id: String(node.id), executed: [], traceback: [] });
        seen.push(node.widgets.find((w) => w.name == "answer").value);
      }
      return seen;
    }""")
    assert seen == ["half", "whole", "half", "whole"]


def test_an_answer_is_no_setting(page: Page):
    """What Describe shows is saved neither in the workflow nor in the prompt."""
    drop(page, PACK / "workflows" / "describe.json")
    shown = "app.graph.nodes.filter((n) => n.type == 'LightBagelDescribe')"
    page.evaluate(f"{shown}.forEach((n) => (n.widgets.find((w) => w.name == 'answer').value = 'forty-two'))")
    saved = page.evaluate("JSON.stringify(app.graph.serialize())")
    prompt = page.evaluate("app.graphToPrompt().then((made) => JSON.stringify(made.output))")
    assert "forty-two" not in prompt
    assert "LightBagelDescribe" in prompt
    assert [node["widgets_values"] for node in json.loads(saved)["nodes"] if node["type"] == "LightBagelDescribe"] == [
        node["widgets_values"]
        for node in json.loads((PACK / "workflows" / "describe.json").read_text("utf-8"))["nodes"]
        if node["type"] == "LightBagelDescribe"
    ]


ANSWERS = """(() => {
  const graphs = [app.rootGraph, ...(app.rootGraph.subgraphs?.values() ?? [])];
  const nodes = graphs.flatMap((g) => g.nodes).filter((n) => n.type == "LightBagelDescribe");
  return [...new Set(nodes.map((n) => n.widgets.find((w) => w.name == "answer").value))].sort();
})()"""
INTO_A_SUBGRAPH = """() => {
  const describe = app.graph.nodes.filter((n) => n.type == "LightBagelDescribe");
  // Another picture: ComfyUI 0.16.3 gives what it has kept of a run under the ids of that run.
  const generate = app.graph.nodes.find((n) => n.type == "LightBagelGenerate");
  generate.widgets.find((w) => w.name == "seed").value += 1;
  app.graph.convertToSubgraph(new Set(describe));
}"""


@pytest.mark.parametrize("where", ["root", "subgraph"])
def test_an_answer_is_back_after_a_change_of_tab(server: Server, page: Page, where: str):
    """The page makes the nodes of a tab anew when a person comes back to it; also those inside a subgraph."""
    fresh = open_page(page.context.browser, server)
    drop(fresh, PACK / "workflows" / "describe.json")
    if where == "subgraph":
        fresh.evaluate(INTO_A_SUBGRAPH)
    entry = run(fresh, server)
    said = sorted({output["text"][0] for output in entry["outputs"].values() if output.get("text")})
    assert said  # by Describe; what a stock node shows of it is the same
    shown = f"(said) => String({ANSWERS}) == String(said)"
    fresh.wait_for_function(shown, arg=said)
    drawing = "app.graph.nodes.some((n) => n.type == 'KSampler')"
    drop_beside(fresh, PACK / "workflows" / "text-to-image-ksampler.json", drawing)
    fresh.locator(".workflow-tab", has_text="describe").first.click()
    fresh.wait_for_function(f"!({drawing})")
    fresh.wait_for_function(shown, arg=said)
    fresh.close()


def test_the_page_warns_of_nothing_that_we_use(server: Server, page: Page):
    """The page says in its console when an extension uses its inside; loaded once more, it names none of ours."""
    told: list[str] = []
    page.on("console", lambda message: told.append(f"{message.location.get('url', '')} {message.text}"))
    page.reload()
    page.wait_for_function(READY, timeout=120_000)
    assert [text for text in told if "lightbagel" in text.lower() or "internal module" in text] == []


def search(page: Page) -> None:
    """Opens the node search by a double click; a page that is still busy overlooks the first."""
    for _ in range(10):
        page.mouse.dblclick(900, 600)
        try:
            page.wait_for_function("document.activeElement.tagName == 'INPUT'", timeout=3000)
            return
        except TimeoutError:
            continue
    raise AssertionError("the node search does not open")


def test_the_blueprint_is_found_and_runs(server: Server, page: Page):
    """Found by its name in the node search; wired to a loader and a picture, it edits."""
    page.evaluate("app.graph.clear()")
    search(page)
    page.keyboard.type(BLUEPRINT.stem)
    page.get_by_text(BLUEPRINT.stem).filter(visible=True).first.wait_for()
    page.keyboard.press("Enter")
    page.wait_for_function("app.graph.nodes.length == 1")
    inputs: list[Any] = page.evaluate("app.graph.nodes[0].inputs.map((i) => i.name)")
    assert inputs[:4] == ["model", "clip", "vae", "image"]
    page.evaluate("""() => {
      const edit = app.graph.nodes[0];
      const add = (type, values) => {
        const node = LiteGraph.createNode(type);
        app.graph.add(node);
        for (const [name, value] of Object.entries(values)) node.widgets.find((w) => w.name == name).value = value;
        return node;
      };
      const load = add("LightBagelLoader", {}), shown = add("PreviewImage", {});
      const white = add("EmptyImage", { width: 96, height: 96, color: 0xffffff });
      for (const slot of [0, 1, 2]) load.connect(slot, edit, slot);
      white.connect(0, edit, 3);
      edit.connect(0, shown, 0);
      const set = (name, value) => (edit.widgets.find((w) => w.name == name).value = value);
      set("instruction", "add a large red circle on the left");
      set("steps", 4);
    }""")
    entry = run(page, server)
    assert entry["status"]["status_str"] == "success"
    assert [output["images"] for output in entry["outputs"].values()]
