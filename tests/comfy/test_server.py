"""A real server: what a person meets between starting ComfyUI and the result, and what the pack says when it cannot."""

from __future__ import annotations

import io
import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfy_cli.workflow_to_api import convert_ui_to_api
from conftest import comfyui, save_scripted
from helpers import SIDE
from PIL import Image
from serving import BEYOND_THE_NANO, PACK, SCRIPTS, Refused, Server, checkpoints, serve

WORKFLOWS = sorted((PACK / "workflows").glob("*.json"))

SEEDS = {
    "text-to-image": ("LightBagelGenerate", "seed"),
    "text-to-image-ksampler": ("KSampler", "seed"),
    "edit": ("LightBagelEdit", "seed"),
    "edit-dual-guidance": ("RandomNoise", "noise_seed"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With a second place for checkpoints, as extra_model_paths.yaml names it."""
    folder = tmp_path_factory.mktemp("comfyui")
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "my checkpoint").symlink_to(PACK / "lightbagel_core" / "nano")
    paths = folder / "extra_model_paths.yaml"
    for name, text in SCRIPTS.items():
        save_scripted(checkpoints(folder / "base") / name, text)
    paths.write_text(f"mine:\n  base_path: {folder}\n  lightbagel: elsewhere\n", "utf-8")
    with serve(comfyui(), folder / "base", "--extra-model-paths-config", str(paths)) as running:
        yield running


@pytest.fixture(scope="module")
def prompt(server: Server) -> Any:
    """A workflow file as a prompt in API format, with changed inputs by node class."""
    info = server.request("/object_info")

    def convert(name: str, **changed: dict[str, Any]) -> dict[str, Any]:
        nodes = convert_ui_to_api(json.loads((PACK / "workflows" / f"{name}.json").read_text("utf-8")), info)
        for node in nodes.values():
            node["inputs"] |= changed.get(node["class_type"], {})
        return nodes

    return convert


def pictures(server: Server, entry: dict[str, Any]) -> list[np.ndarray]:
    """All pictures a run shows or saves."""
    found = [image for output in entry["outputs"].values() for image in output.get("images", [])]
    addresses = [f"{server.url}/view?{urllib.parse.urlencode(image)}" for image in found]
    return [np.asarray(Image.open(io.BytesIO(urllib.request.urlopen(address).read()))) for address in addresses]


def message(entry: dict[str, Any]) -> str:
    """What a person is told of a run that failed: the node and its words."""
    (error,) = (body for kind, body in entry["status"]["messages"] if kind == "execution_error")
    return f"{error['node_type']}: {error['exception_message']}"


def test_there_are_workflows_with_pictures_and_notes():
    assert len(WORKFLOWS) == 17
    for workflow in WORKFLOWS:
        assert min(Image.open(workflow.with_suffix(".jpg")).size) >= 300
        kinds = [node["type"] for node in json.loads(workflow.read_text("utf-8"))["nodes"]]
        assert "MarkdownNote" in kinds


def test_every_template_and_its_picture_are_served(server: Server):
    """As ComfyUI's page lists and fetches them. ComfyUI serves one folder of templates a pack, the first of
    `example_workflows`, `example`, `examples`, `workflow` and `workflows` that is there: another one would hide ours.
    """
    assert sorted(server.request("/workflow_templates")["lightbagel"]) == sorted(path.stem for path in WORKFLOWS)
    for path in (file for workflow in WORKFLOWS for file in (workflow, workflow.with_suffix(".jpg"))):
        address = f"{server.url}/api/workflow_templates/lightbagel/{urllib.parse.quote(path.name)}"
        with urllib.request.urlopen(address) as response:
            assert response.read() == path.read_bytes(), path.name


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_through_post_prompt(server: Server, prompt: Any, workflow: Path):
    open_vocabulary = BEYOND_THE_NANO.get(workflow.stem)
    other = {"LightBagelLoader": {"checkpoint": open_vocabulary}} if open_vocabulary else {}
    entry = server.run(prompt(workflow.stem, **other))
    assert entry["status"]["status_str"] == "success", message(entry)
    assert entry["outputs"]
    assert all(picture.std() > 10 for picture in pictures(server, entry))


def test_a_cell_of_the_grid(server: Server, prompt: Any):
    """It is what one sampler draws with its row's guidance and its column's seed."""
    size = {"cell_width": SIDE, "cell_height": SIDE, "padding": 0}
    (grid,) = pictures(server, server.run(prompt("guidance-grid", ImageGrid=size, KSampler={"steps": 8})))
    cells = grid.reshape(3, SIDE, 4, SIDE, 3).swapaxes(1, 2).astype(float)
    for row, column, guidance, seed in ((0, 3, 1.0, 4), (1, 0, 2.0, 1), (2, 2, 8.0, 3)):
        alone = prompt("guidance-grid", KSampler={"steps": 8, "cfg": guidance, "seed": seed})
        found = {node["class_type"]: key for key, node in alone.items()}
        alone[found["VAEDecode"]]["inputs"]["samples"] = [found["KSampler"], 0]
        alone[found["SaveImage"]]["inputs"]["images"] = [found["VAEDecode"], 0]
        (picture,) = pictures(server, server.run(alone))
        distance = np.abs(cells - picture).mean((2, 3, 4))
        assert distance[row, column] < 0.1
        assert (distance < 0.1).sum() == 1


def test_a_checkpoint_from_extra_model_paths(server: Server, prompt: Any):
    entry = server.run(prompt("text-to-image", LightBagelLoader={"checkpoint": "my checkpoint"}))
    assert entry["status"]["status_str"] == "success", message(entry)


def test_cancel_ends_a_run_and_the_next_one_works(server: Server, prompt: Any):
    long = prompt("text-to-image", LightBagelGenerate={"steps": 1000, "seed": 5})
    prompt_id = server.request("/prompt", {"prompt": long})["prompt_id"]
    while not server.request(f"/history/{prompt_id}"):  # a run that only begins forgets what was asked before
        server.request("/interrupt", {})
    kinds = [kind for kind, _ in server.ended(prompt_id)["status"]["messages"]]
    assert kinds[-1] == "execution_interrupted"
    assert server.run(prompt("text-to-image"))["status"]["status_str"] == "success"


@pytest.mark.parametrize("workflow", SEEDS)
def test_another_seed_loads_and_encodes_nothing_again(server: Server, prompt: Any, workflow: str):
    """Only what depends on the seed runs; no model is loaded. (What a one-box run encodes: see test_nodes.)"""

    kind, name = SEEDS[workflow]

    def run(seed: int) -> tuple[np.ndarray, str, set[str]]:
        nodes, already = prompt(workflow, **{kind: {name: seed}}), len(server.log_text())
        entry = server.run(nodes)
        (cached,) = (body["nodes"] for what, body in entry["status"]["messages"] if what == "execution_cached")
        ran = {nodes[node]["class_type"] for node in nodes if node not in cached}
        return pictures(server, entry)[-1], server.log_text()[already:], ran

    first, _, _ = run(1001)
    second, said, ran = run(1002)
    assert "Requested to load" not in said
    assert kind in ran
    assert ran <= {kind, "SamplerCustomAdvanced", "VAEDecode", "SaveImage"}
    assert not np.array_equal(first, second)


def test_other_words_in_turn_two_run_turns_two_and_three_only(server: Server, prompt: Any):
    """A prompt in turn 3 runs turn 3 only. Of each the two prompts, the sampler and what follows it run."""
    info = server.request("/object_info")
    workflow = json.loads((PACK / "workflows" / "three-turns.json").read_text("utf-8"))
    titles = {node.get("title"): str(node["id"]) for node in workflow["nodes"]}

    def run(**words: str) -> tuple[dict[int, np.ndarray], list[str]]:
        nodes = convert_ui_to_api(workflow, info)
        for node in nodes.values():
            node["inputs"] |= {"steps": 8} if node["class_type"] == "KSampler" else {}
        for name, text in words.items():
            nodes[titles[name.replace("_", " ")]]["inputs"]["prompt"] = text
        entry = server.run(nodes)
        assert entry["status"]["status_str"] == "success", message(entry)
        (cached,) = (body["nodes"] for what, body in entry["status"]["messages"] if what == "execution_cached")
        outputs = entry["outputs"]  # an older ComfyUI leaves out what was shown before
        shown = {n: outputs[titles[f"Picture {n}"]] for n in (1, 2, 3) if titles[f"Picture {n}"] in outputs}
        drawn = dict(zip(shown, pictures(server, {"outputs": shown}), strict=True))
        return drawn, sorted(nodes[node]["class_type"] for node in nodes if node not in cached)

    def turn(shows: str) -> list[str]:
        return ["KSampler", "LightBagelTextEncode", "VAEDecode", shows]

    first, _ = run()
    second, ran = run(Turn_2="make the circle yellow")
    # The negative of turn 2 has the same picture and words as before; that of turn 3 stands after new ones.
    assert ran == sorted([*turn("PreviewImage"), *turn("SaveImage"), "LightBagelTextEncode"])
    assert not any(np.array_equal(first[n], second[n]) for n in (2, 3))
    third, ran = run(Turn_2="make the circle yellow", Turn_3="add a large red star on the right")
    assert ran == sorted(turn("SaveImage"))
    assert not np.array_equal(second[3], third[3])


@pytest.mark.parametrize(
    ("workflow", "changed", "told"),
    [
        ("text-to-image", {"LightBagelLoader": {"checkpoint": "gone"}}, "checkpoint: 'gone' not in"),
        ("text-to-image", {"LightBagelGenerate": {"width": 8}}, "8.*smaller than min of 32"),
        ("text-to-image", {"LightBagelGenerate": {"steps": 0}}, "smaller than min of 1"),
        ("edit", {"LightBagelEdit": {"renorm": "wild"}}, "renorm: 'wild' not in"),
    ],
)
def test_what_the_server_refuses(server: Server, prompt: Any, workflow: str, changed: Any, told: str):
    with pytest.raises(Refused, match=told) as refusal:
        server.run(prompt(workflow, **changed))
    errors = json.loads(str(refusal.value))["node_errors"]
    assert [error["class_type"] for error in errors.values()] == list(changed)


def test_an_edit_without_an_image(server: Server, prompt: Any):
    nodes = prompt("with-other-nodes")
    for node in nodes.values():
        node["inputs"].pop("images.image0", None)
    with pytest.raises(Refused, match=r"Required input is missing.*images\.image0.*LightBagelEdit"):
        server.run(nodes)


@pytest.mark.parametrize(
    ("workflow", "changed", "told"),
    [
        ("text-to-image", {"LightBagelGenerate": {"prompt": " "}}, "LightBagelGenerate: the prompt is empty"),
        ("text-to-image", {"LightBagelGenerate": {"prompt": "cat " * 5000}}, "LightBagelGenerate: .*not know: cat"),
        ("text-to-image", {"LightBagelGenerate": {"prompt": "red " * 5000}}, "LightBagelGenerate: .*the VLM has 512"),
        ("describe", {"LightBagelDescribe": {"question": ""}}, "LightBagelDescribe: the question is empty"),
        ("rewrite", {}, r"LightBagelRewritePrompt: the nano cannot rewrite a prompt.*Qwen2\.5-VL-7B-Instruct"),
        ("with-other-nodes", {"EmptyImage": {"width": 16384, "height": 1}}, "LightBagelEdit: .*too narrow"),
    ],
)  # fmt: skip
def test_what_a_run_says_and_the_next_one_works(server: Server, prompt: Any, workflow: str, changed: Any, told: str):
    entry = server.run(prompt(workflow, **changed))
    assert entry["status"]["status_str"] == "error"
    assert re.match(told, message(entry)), message(entry)
    assert server.run(prompt("text-to-image"))["status"]["status_str"] == "success"


@pytest.mark.parametrize(
    ("changed", "count"),
    [({"batch_size": 64, "steps": 2}, 64), ({"prompt": "a large red circle " * 120, "steps": 2}, 1)],
    ids=["a batch of 64", "480 words, nearly all that the VLM has positions for"],
)
def test_what_is_much_simply_works(server: Server, prompt: Any, changed: Any, count: int):
    entry = server.run(prompt("text-to-image", LightBagelGenerate=changed))
    assert entry["status"]["status_str"] == "success", message(entry)
    assert len(pictures(server, entry)) == count
