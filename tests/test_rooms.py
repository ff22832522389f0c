"""The rooms and their arrows: who may import whom, held by reading every import in the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CORE = "lightbagel_core"
BELOW_THE_PIPELINE = {"config", "images", "model", "sampling", "files", "memory"}

# A room, and the rooms it may import; a row names rows above it only, so that arrows point one way.
# "face" is lightbagel_core/__init__.py: the version and the names that people import.
ROOMS = {
    "config": set(),
    "world": set(),
    "images": {"config"},
    "model": {"config"},
    "sampling": {"config", "images"},
    "files": {"config", "model"},
    "memory": {"config", "images", "model", "files"},
    "describe": BELOW_THE_PIPELINE,
    "language": {*BELOW_THE_PIPELINE, "describe"},
    "conversation": {*BELOW_THE_PIPELINE, "describe", "language"},
    "pipeline": {*BELOW_THE_PIPELINE, "describe", "language", "conversation"},
    "face": {"pipeline", "sampling"},
    "evaluation": {*BELOW_THE_PIPELINE, "describe", "pipeline", "face", "world"},
    "training": {*BELOW_THE_PIPELINE, "pipeline", "face", "world", "evaluation"},
    "cli": {*BELOW_THE_PIPELINE, "describe", "language", "conversation", "pipeline", "face", "evaluation", "training"},
    "__main__": {"cli"},
    "nodes/host": {*BELOW_THE_PIPELINE, "language", "pipeline", "face"},
    "nodes": {*BELOW_THE_PIPELINE, "language", "pipeline", "face", "nodes/host"},
}
# The modules that ComfyUI puts on the path. The core knows none of them, nor the pack's own nodes.
COMFYUI = {"comfy", "comfy_api", "comfy_extras", "execution", "folder_paths", "latent_preview", "nodes", "server"}

FILES = sorted(file for top in (CORE, "nodes") for file in (ROOT / top).rglob("*.py"))
NAMES = {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in FILES}


def imports(file: Path, source: str) -> Iterator[tuple[int, str]]:
    """(line, full name) of what a source file imports, wherever in the file; of ours the module, of others the name."""
    package = file.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield node.lineno, inner if inner in NAMES else module


def room(name: str) -> str | None:
    """The room of a module by its full name; None for other people's."""
    top, *rest = name.split(".")
    if top == CORE:
        return rest[0] if rest else "face"
    if top == "nodes":
        return "nodes/host" if rest[:1] == ["host"] else "nodes"
    return None


def wrong(file: Path, source: str) -> list[str]:
    """A line for each import that the table does not allow."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    here, name = file.relative_to(ROOT).as_posix(), ".".join(parts).removesuffix(".__init__")
    ours = room(name)
    if ours not in ROOMS:
        return [f"{here} lies in {ours}, which is no room yet: give it a row in the table"]
    found = []
    for line, imported in imports(file, source):
        theirs = room(imported)
        if parts[0] == CORE and imported.split(".")[0] in COMFYUI:
            found.append(f"{here}:{line} imports {imported}: the core runs without ComfyUI")
        elif theirs is not None and theirs != ours and theirs not in ROOMS[ours]:
            allowed = ", ".join(room for room in ROOMS if room in ROOMS[ours]) or "no other room"
            found.append(f"{here}:{line} imports {imported}: {ours} may import {allowed}")
    return found


def test_every_import_follows_an_arrow():
    found = [line for file in FILES for line in wrong(file, file.read_text("utf-8"))]
    assert not found, "\n".join(found)


def test_arrows_point_one_way():
    """So no two rooms import each other, over however many others."""
    above: set[str] = set()
    for name, allowed in ROOMS.items():
        assert allowed <= above, f"the row of {name} names {sorted(allowed - above)}, which stand no higher"
        above.add(name)


def test_every_room_of_the_table_is_there():
    assert set(ROOMS) == {room(name) for name in NAMES}


def test_no_import_runs_in_a_circle():
    """Not within a room either."""
    graph = {
        name: {imported for _, imported in imports(file, file.read_text("utf-8")) if imported in NAMES} - {name}
        for name, file in NAMES.items()
    }
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise AssertionError(f"these import each other in a circle: {' <- '.join(error.args[1])}") from None


def test_every_module_says_what_it_is():
    silent = [
        str(file.relative_to(ROOT)) for file in FILES if not ast.get_docstring(ast.parse(file.read_text("utf-8")))
    ]
    assert silent == []


def test_a_wrong_import_is_seen_however_it_is_written():
    file = ROOT / CORE / "model" / "fusion.py"
    for source, line in {
        "from ..files.checkpoint import fill": 1,
        "from .. import pipeline": 1,
        "import torch\nimport lightbagel_core.cli.console": 2,
        "if TYPE_CHECKING:\n    from ..pipeline import LightBagel": 2,
        "def late():\n    from lightbagel_core.sampling import schedule": 2,
        "import comfy.model_management": 1,
        "from nodes.host import wan": 1,
    }.items():
        (message,) = wrong(file, source)
        assert message.startswith(f"lightbagel_core/model/fusion.py:{line} imports "), message
    for source in ("import torch", "from ..config import FusionConfig", "from . import sequence", "import nodestone"):
        assert wrong(file, source) == []
    (message,) = wrong(ROOT / CORE / "attic" / "box.py", "import torch")
    assert "give it a row" in message
