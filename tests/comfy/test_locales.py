"""What people read in the interface: English is what the node classes say, every other language says as much."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import PACK

OTHERS = sorted(path.name for path in (PACK / "locales").iterdir() if path.name != "en")


def texts(name: str | None, tooltip: str | None) -> dict[str, str]:
    return {key: text for key, text in (("name", name), ("tooltip", tooltip)) if text}


def english(schema: Any) -> dict[str, Any]:
    """A node's entry of nodeDefs.json, in ComfyUI's form; inputs within inputs are joined by an underscore."""
    inputs = {}
    for given in schema.inputs:
        inputs[given.id] = texts(given.display_name or given.id, given.tooltip)
        for option in getattr(given, "options", None) or ():
            for inner in getattr(option, "inputs", ()):
                inputs[f"{given.id}_{inner.id}"] = texts(inner.display_name or inner.id, inner.tooltip)
    outputs = {str(i): texts(o.display_name or o.io_type, o.tooltip) for i, o in enumerate(schema.outputs)}
    return {
        "display_name": schema.display_name,
        "description": schema.description,
        "inputs": inputs,
        "outputs": outputs,
    }


def read(language: str) -> dict[str, Any]:
    return json.loads((PACK / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))


def shape(entry: Any) -> Any:
    """The same tree with every text replaced by whether it says something."""
    return {key: shape(value) for key, value in entry.items()} if isinstance(entry, dict) else bool(entry.strip())


def test_english_is_what_the_nodes_say(host):
    said = {name: english(host.mappings[name].define_schema()) for name in read("en")}
    assert len(said) == 7
    assert read("en") == said


def test_every_input_has_a_tooltip():
    missing = [
        (node, name)
        for node, entry in read("en").items()
        for name, said in [*entry["inputs"].items(), *entry["outputs"].items()]
        if not said.get("tooltip")
    ]
    assert missing == []


@pytest.mark.parametrize("language", OTHERS)
def test_another_language_says_as_much(language):
    assert shape(read(language)) == shape(read("en"))
