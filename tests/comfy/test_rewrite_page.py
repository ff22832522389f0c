"""Rewriting as a person does it on ComfyUI's page: the words come, are cancelled, changed and drawn; and what runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import browse, drop, run, unmask
from conftest import comfyui, save_scripted
from playwright.sync_api import Page
from serving import PACK, SCRIPT, Server, checkpoints, serve

# Notes how many tokens the VLM's first decoder layer is given at each call, by whoever reads or writes.
COUNTING = """
from functools import wraps
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as stock
NODE_CLASS_MAPPINGS = {{}}
forward = stock.Qwen2_5_VLDecoderLayer.forward

@wraps(forward)
def noted(self, hidden_states, *args, **kwargs):
    if self.self_attn.layer_idx == 0:
        with open({file!r}, "a") as file:
            print(hidden_states.shape[1], file=file)
    return forward(self, hidden_states, *args, **kwargs)

stock.Qwen2_5_VLDecoderLayer.forward = noted
"""
TAGS = "A wall with <img src=x onerror=document.title='hurt'> painted on it."
NODE = "app.graph.nodes.find((n) => n.type == 'LightBagelRewritePrompt')"
# What ComfyUI's page shows under the settings of a node that is sent a text.
WORDS = f"({NODE}.widgets.find((w) => w.name == '$$node-text-preview')?.value ?? '')"
SET = """([type, title, name, value]) => {
  const node = app.graph.nodes.find((n) => n.type == type && (!title || n.title == title));
  node.widgets.find((w) => w.name == name).value = value;
}"""


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("counting") / "calls"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, calls: Path) -> Iterator[Server]:
    """With a checkpoint that can rewrite, and a pack that counts the calls of VLMs."""
    base = tmp_path_factory.mktemp("comfyui") / "base"
    save_scripted(checkpoints(base) / "scripted", SCRIPT)
    save_scripted(checkpoints(base) / "with tags", TAGS)
    pack = base / "custom_nodes" / "counting"
    pack.mkdir(parents=True)
    (pack / "__init__.py").write_text(COUNTING.format(file=str(calls)), "utf-8")
    with serve(comfyui(), base) as running:
        yield running


@pytest.fixture(scope="module")
def browser(server: Server) -> Iterator[Page]:
    with browse(server) as opened:
        yield opened


@pytest.fixture
def page(browser: Page) -> Page:
    """With the workflow as it comes, but for its checkpoint."""
    drop(browser, PACK / "workflows" / "rewrite.json")
    put(browser, "LightBagelLoader", "checkpoint", "scripted")
    return browser


def put(page: Page, kind: str, name: str, value: Any, title: str = "") -> None:
    page.evaluate(SET, [kind, title, name, value])


def tokens(calls: Path) -> list[int]:
    """Of each call of a VLM so far how many tokens it was given."""
    return [int(line) for line in calls.read_text("utf-8").split()] if calls.exists() else []


def begin(page: Page, words: str = f"{WORDS}.length > 40") -> str:
    """Presses Run, and waits until words are there; the id of the run.

    They are waited for while it goes on: newer pages take them away at its end.
    """
    unmask(page)
    with page.expect_response(lambda response: response.url.endswith("/prompt")) as answer:
        page.locator("[data-testid=queue-button]").click()
    page.wait_for_function(words, polling=20)
    return answer.value.json()["prompt_id"]


def shown(page: Page, entry: dict[str, Any]) -> str:
    """The text that the run's preview shows."""
    assert entry["status"]["status_str"] == "success", entry["status"]
    (text,) = (output["text"][0] for output in entry["outputs"].values() if output.get("text"))
    return text


def picture(entry: dict[str, Any], server: Server) -> bytes:
    (image,) = (image for output in entry["outputs"].values() for image in output.get("images", ()))
    return (server.base / "output" / image["subfolder"] / image["filename"]).read_bytes()


def test_the_words_are_seen_before_the_node_ends(server: Server, page: Page, calls: Path):
    put(page, "LightBagelRewritePrompt", "prompt", "a lighthouse")
    prompt_id = begin(page)
    words = page.evaluate(WORDS)
    assert page.get_by_text(words[:30]).filter(visible=True).count()
    assert not server.request(f"/history/{prompt_id}")
    assert SCRIPT.startswith(words)
    assert len(words) < len(SCRIPT)
    page.wait_for_function(f"(all) => {WORDS} == all", arg=SCRIPT, polling=20)
    assert not server.request(f"/history/{prompt_id}")
    assert shown(page, server.ended(prompt_id)) == SCRIPT
    assert tokens(calls).count(1) > 100


def test_cancelling_ends_it_among_the_words(server: Server, page: Page, calls: Path):
    put(page, "LightBagelRewritePrompt", "prompt", "a lighthouse by day")
    before = tokens(calls)
    prompt_id = begin(page)
    page.get_by_label("Cancel current run").first.click()
    kinds = [kind for kind, _ in server.ended(prompt_id)["status"]["messages"]]
    assert kinds[-1] == "execution_interrupted"
    assert len(page.evaluate(WORDS)) < len(SCRIPT)
    cancelled = tokens(calls)
    assert len(cancelled) - len(before) < len(SCRIPT.split())
    assert shown(page, run(page, server)) == SCRIPT


def test_another_seed_asks_the_vlm_nothing(server: Server, page: Page, calls: Path):
    first = run(page, server)
    before = tokens(calls)
    assert before
    put(page, "KSampler", "seed", 4)
    second = run(page, server)
    assert tokens(calls) == before
    assert picture(first, server) != picture(second, server)


def test_the_words_are_changed_and_drawn(server: Server, page: Page, calls: Path):
    """They are copied from the preview into the text node, changed there, and switched to; nothing is rewritten."""
    first = run(page, server)
    before = tokens(calls)
    mine = shown(page, first).replace("orange", "violet")
    put(page, "PrimitiveStringMultiline", "value", mine)
    put(page, "ComfySwitchNode", "switch", True)
    second = run(page, server)
    (read,) = tokens(calls)[len(before) :]
    assert read > 100  # one call, which reads the new words; none that writes any
    assert picture(first, server) != picture(second, server)
    put(page, "ComfySwitchNode", "switch", False)
    assert shown(page, run(page, server)) == SCRIPT


def test_no_word_is_a_part_of_the_page(server: Server, page: Page):
    put(page, "LightBagelLoader", "checkpoint", "with tags")
    prompt_id = begin(page, f"{WORDS}.endsWith('painted on it.')")
    assert page.get_by_text("onerror=document.title").filter(visible=True).count()
    assert shown(page, server.ended(prompt_id)) == TAGS
    assert page.title() != "hurt"


def test_the_nano_says_that_it_cannot(server: Server, page: Page):
    put(page, "LightBagelLoader", "checkpoint", "nano (built in)")
    status = run(page, server)["status"]
    assert status["status_str"] == "error"
    (error,) = (body for kind, body in status["messages"] if kind == "execution_error")
    assert error["node_type"] == "LightBagelRewritePrompt"
    assert "the nano cannot rewrite a prompt" in error["exception_message"]
    page.keyboard.press("Escape")


def test_a_description_streams_into_its_one_box(server: Server, page: Page):
    drop(page, PACK / "workflows" / "describe.json")
    put(page, "LightBagelLoader", "checkpoint", "scripted")
    boxes = "app.graph.nodes.filter((n) => n.type == 'LightBagelDescribe')"
    said = f"{boxes}.map((n) => n.widgets.find((w) => w.name == 'answer').value)"
    prompt_id = begin(page, f"{said}.some((text) => text.length > 40)")
    assert not server.request(f"/history/{prompt_id}")
    assert any(0 < len(text) < len(SCRIPT) for text in page.evaluate(said))
    server.ended(prompt_id)
    page.wait_for_function(f"(all) => {said}.every((text) => all.startsWith(text) && text)", arg=SCRIPT)
    assert page.evaluate(f"{boxes}.every((n) => !n.widgets.some((w) => w.name.startsWith('$$')))")
