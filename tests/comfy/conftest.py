"""A real ComfyUI in this process, on the CPU, with the pack loaded the way ComfyUI loads it.

Which one: COMFYUI_PATH, else the ComfyUI whose custom_nodes the pack lies in, else what .ci/comfy has fetched. Without
one these tests fail, not skip; .ci/comfy installs all they need, so that none is left out there.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from helpers import PROMPT

PACK = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lightbagel-tests"
NEEDS = {
    "test_page.py": "playwright",
    "test_rewrite_page.py": "playwright",
    "test_server.py": "comfy_cli",
    "test_package.py": "comfy_cli",
    "test_gguf.py": "gguf",
    "test_workflows_before.py": "playwright",
    "test_hard_to_break.py": "comfy_cli",
}
collect_ignore = [test for test, package in NEEDS.items() if find_spec(package) is None]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for test in collect_ignore:
        terminalreporter.write_line(f"NOT RUN: {test}, for want of {NEEDS[test]}", red=True, bold=True)


def comfyui() -> Path:
    for path in (os.environ.get("COMFYUI_PATH"), PACK.parents[1], CACHE / "comfyui-0.30.0"):
        if path and (Path(path) / "comfy" / "sd.py").is_file():
            return Path(path).resolve()
    raise pytest.UsageError("these tests need a ComfyUI: set COMFYUI_PATH to its folder, or let .ci/comfy fetch one")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the contracts first: where ComfyUI has changed, they say what, before all else that fails for it."""
    items.sort(key=lambda item: item.path.name != "test_comfyui_contracts.py")


@cache
def use_comfyui() -> None:
    """Makes ComfyUI's modules importable, for the CPU."""
    root = comfyui()
    os.chdir(root)
    sys.path.insert(0, str(root))
    from comfy.cli_args import args

    args.cpu, args.base_directory, args.disable_api_nodes = True, tempfile.mkdtemp(), True
    import_module("utils.extra_config")  # first, as in main.py: importing nodes puts comfy/ and its utils.py in front


def start() -> Any:
    """ComfyUI's module of nodes, with its own nodes and the pack's registered."""
    use_comfyui()
    import server

    import nodes

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    server.PromptServer(loop)
    loop.run_until_complete(nodes.init_builtin_extra_nodes())
    assert loop.run_until_complete(nodes.load_custom_node(str(PACK))), "ComfyUI did not load the pack"
    return nodes


class Host:
    """Runs ComfyUI's nodes by id, as its executor would."""

    def __init__(self) -> None:
        self.nodes = start()
        self.mappings = self.nodes.NODE_CLASS_MAPPINGS

    def __call__(self, node_id: str, *args: Any, **inputs: Any) -> Any:
        """The outputs of a node; one alone if it has one."""
        import torch

        node = self.mappings[node_id]
        with torch.inference_mode():
            if hasattr(node, "define_schema"):
                outputs = node.execute(*args, **inputs).result or ()  # none of a node that only saves
            else:
                outputs = getattr(node(), node.FUNCTION)(*args, **inputs)
        return outputs[0] if len(outputs) == 1 else outputs


@pytest.fixture(scope="session")
def host() -> Host:
    made = Host()
    gc.collect()
    gc.freeze()  # tests and ComfyUI collect garbage, which takes half a second with all in it that ComfyUI imports
    return made


@pytest.fixture(scope="session")
def loaded(host: Host) -> Any:
    """(MODEL, CLIP, VAE) of the nano."""
    return host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype="float32")


@pytest.fixture(scope="session")
def core() -> Any:
    """The nano on the command line's side."""
    sys.path.insert(0, str(PACK))
    from lightbagel_core import LightBagel

    model = LightBagel.from_pretrained("nano", "cpu")
    model.need("understanding", "generation", "fusion", "vae")
    return model


def save_scripted(folder: Path, text: str) -> None:
    """A checkpoint folder of a model whose VLM, of an open vocabulary, answers with a text; see tests/scripted.py."""
    sys.path += [path for path in (str(PACK), str(PACK / "tests")) if path not in sys.path]
    import_module("scripted").save_scripted(folder, text)


@pytest.fixture(scope="session")
def scripted(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Gives the name of a checkpoint whose VLM answers with a text, as Load LightBagel lists it."""
    import folder_paths

    folder = tmp_path_factory.mktemp("scripted")
    folder_paths.add_model_folder_path("lightbagel", str(folder))
    made: dict[str, str] = {}

    def name_of(text: str) -> str:
        if text not in made:
            made[text] = f"scripted {len(made)}"
            save_scripted(folder / made[text], text)
        return made[text]

    return name_of


@pytest.fixture(scope="session")
def prompts(host: Host, loaded: Any) -> tuple[Any, Any]:
    """(positive, negative) CONDITIONING."""
    clip = loaded[1]
    return host("CLIPTextEncode", clip, PROMPT), host("CLIPTextEncode", clip, "")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said in the log, as if none of it had been said before."""
    said: list[str] = []
    monkeypatch.setattr(
        logging, "warning", lambda message, *args, **_: said.append(message % args if args else message)
    )
    once = next(m.once for name, m in sys.modules.items() if name.endswith("nodes.host.say"))
    once.cache_clear()
    return said


@pytest.fixture
def clip_lora(loaded: Any, tmp_path: Path) -> str:
    """The name of a LoRA that changes a layer of the text encoder and one of its ViT."""
    import torch
    from folder_paths import add_model_folder_path
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    keys, tensors = loaded[1].cond_stage_model.state_dict().keys(), {}
    for layer, side in (("language_model.layers.0.self_attn.o_proj", 256), ("visual.blocks.0.attn.proj", 128)):
        for part, shape in (("down", (4, side)), ("up", (side, 4))):
            (name,) = (key for key in keys if key.endswith(f".{layer}.weight"))
            name = f"text_encoders.{name.removesuffix('.weight')}.lora_{part}.weight"
            tensors[name] = torch.randn(shape, generator=generator) * 0.2
    file = tmp_path / f"clip{tmp_path.name}.safetensors"
    save_file(tensors, file)
    add_model_folder_path("loras", str(tmp_path))
    return file.name
