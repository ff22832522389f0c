"""CONTRIBUTING.md and the Makefile name files, functions and commands that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
QUICK = re.search(r"^QUICK = ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)[1].replace("\\", "").split()

WRITTEN = re.findall(r"`([\w.-]+(?:/[\w.-]*)+|\.?[\w-]+\.(?:toml|md))`", GUIDE)
PATHS = sorted({path for path in WRITTEN if "…" not in path})
LINKS = sorted(set(re.findall(r"\]\(([\w./-]+)\)", GUIDE)))
NAMED = sorted(set(re.findall(r"`(\w+)`\s+in\s+`([\w./-]+\.py)`", GUIDE)))


def defined(file: Path) -> set[str]:
    """The functions, classes and constants at the top of a module."""
    names = set()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_there(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("link", LINKS)
def test_a_link_leads_somewhere(link):
    assert (ROOT / link).is_file()


@pytest.mark.parametrize(("name", "file"), NAMED)
def test_a_name_is_defined_in_its_file(name, file):
    assert name in defined(ROOT / file)


def test_the_walks_were_read():
    assert min(len(PATHS), len(NAMED)) >= 20
    assert ("make_solver", "lightbagel_core/sampling/solvers.py") in NAMED


def test_every_command_of_make_is_there_and_explained():
    targets = set(re.findall(r"^(\w+):", MAKEFILE, re.MULTILINE)) - {"help"}
    assert targets == set(re.findall(r"`make (\w+)`", GUIDE))
    assert targets == set(re.findall(r'@echo "make (\w+) ', MAKEFILE))


@pytest.mark.parametrize("test", QUICK)
def test_what_is_quick_is_there(test):
    path, _, name = test.partition("::")
    assert (ROOT / path).exists()
    assert not name or name in defined(ROOT / path)
