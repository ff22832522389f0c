"""The documents are true to the tree: what they name exists, what code cites of them exists, no link leads nowhere."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "lightbagel_core"
MODEL = ROOT / "docs" / "model.md"
DOCS = sorted([ROOT / "README.md", *ROOT.glob("CONTRIBUTING.md"), *(ROOT / "docs").glob("*.md")])
ROOMS = ("lightbagel_core", "nodes", "tests", "benchmarks")
CODE = [file for room in ROOMS for file in sorted(ROOT.glob(f"{room}/**/*.py")) if file.name != Path(__file__).name]
OURS = {place.name for base in (ROOT, CORE) for place in base.iterdir() if place.is_dir()}  # what our paths begin with

README_LINES = 120

PLACE = re.compile(r"`((?:[\w.-]+/)+[\w.*-]*|[\w-]+\.py)(?:: ([\w.]+))?`")  # `room/file.py`, `room/file.py: name`
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MODULE = re.compile(r"python -m ((?:benchmarks|lightbagel_core)[\w.]*)")
SECTION = re.compile(r"(\S+ )?\bsections? (\d+(?:\.\d+)?)(?: and (\d+))?", re.IGNORECASE)  # the word before, numbers


def read(file: Path) -> str:
    return file.read_text("utf-8")


def shown(file: Path) -> str:
    return str(file.relative_to(ROOT))


def found(path: str) -> list[Path]:
    """What a path in a document stands for: from the root on, or from lightbagel_core on; it may hold an asterisk."""
    return [place for base in (ROOT, CORE) for place in base.glob(path.rstrip("/"))]


@cache
def names(file: Path) -> frozenset[str]:
    """What a file defines: functions, classes, constants, and what a class holds as `Class.member`."""

    def defined(body: list[ast.stmt]) -> list[str]:
        made = []
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                made.append(node.name)
            elif isinstance(node, ast.ClassDef):
                made += [node.name, *(f"{node.name}.{name}" for name in defined(node.body))]
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                made += [target.id for target in targets if isinstance(target, ast.Name)]
        return made

    return frozenset(defined(ast.parse(read(file)).body))


def wrong_places(text: str, strict: bool) -> set[str]:
    """The files and names in a document that do not exist.

    A path that begins in no folder of ours is another project's, unless `strict`: such a document names ours alone.
    """
    wrong = set()
    for path, name in PLACE.findall(text):
        if not strict and ("/" not in path or path.partition("/")[0] not in OURS):
            continue
        places = found(path)
        if not places:
            wrong.add(path)
        elif name and not any(name in names(place) for place in places):
            wrong.add(f"{path}: {name}")
    return wrong


def headings(text: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", text, re.MULTILINE)


@cache
def model_sections() -> frozenset[str]:
    return frozenset(heading.partition(".")[0] for heading in headings(read(MODEL)) if heading[0].isdigit())


@cache
def paper_sections() -> frozenset[str]:
    """The paper's sections in the map at the head of docs/model.md."""
    return frozenset(re.findall(r"^\| (\d\.\d)\b", read(MODEL), re.MULTILINE))


def wrong_citations(text: str) -> set[str]:
    """Citations of sections in code that are not of the form `docs/model.md, section 5` or `paper section 3.1`, or of a
    section that is neither a heading of docs/model.md nor in its map of the paper.
    """
    wrong = set()
    for before, first, second in SECTION.findall(" ".join(text.split())):
        known = {"docs/model.md,": model_sections(), "paper": paper_sections()}.get(before.strip(" (`\"'"), set())
        wrong |= {f"{before}section {number}" for number in (first, second) if number and number not in known}
    return wrong


def test_sections_cited_in_code_exist():
    wrong = {shown(file): wrong_citations(read(file)) for file in CODE}
    assert not {file: cited for file, cited in wrong.items() if cited}


def test_the_model_has_its_eleven_sections():
    assert model_sections() == {str(number) for number in range(1, 12)}
    cited = {number for file in DOCS for _, *numbers in SECTION.findall(read(file)) for number in numbers if number}
    assert cited <= model_sections()


def test_a_wrong_citation_is_seen():
    assert not wrong_citations("(docs/model.md, sections 4 and 5; paper\nsection 3.1)")
    for text in (
        "docs/model.md, section 12",
        "docs/model.md, sections 1 and 12",
        "(section 5)",
        "model.md (section 8)",
        "paper section 9.9",
    ):
        assert wrong_citations(text), text


@pytest.mark.parametrize("file", DOCS, ids=shown)
def test_files_and_names_in_documents_exist(file):
    assert wrong_places(read(file), strict=file == MODEL) == set()


def test_a_wrong_name_is_seen():
    text = "`model/fusion.py: FusionStack`, `model/fusion.py: MultimodalSelfAttention`, `workflows/*.json`"
    assert not wrong_places(text, strict=True)
    for text in ("`model/fushion.py`", "`model/fusion.py: FusionStuck`", "`model/fusion.py: FusionStack.attend`"):
        assert wrong_places(text, strict=False), text
    assert wrong_places("`modell/fusion.py`", strict=True)
    assert not wrong_places("`comfy/ldm/wan/model.py`", strict=False)


@pytest.mark.parametrize("file", DOCS, ids=shown)
def test_links_lead_somewhere(file):
    for target in LINK.findall(read(file)):
        path, _, anchor = target.partition("#")
        place = (file.parent / path).resolve() if path else file
        if "://" in target:
            continue
        assert place.exists(), target
        if anchor:
            slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings(read(place))]
            assert anchor in slugs, target


@pytest.mark.parametrize("file", DOCS, ids=shown)
def test_commands_name_modules_that_exist(file):
    for module in MODULE.findall(read(file)):
        path = module.rstrip(".").replace(".", "/")
        known = {f"{path}.py", f"{path}/__main__.py"}
        assert any((ROOT / name).is_file() for name in known), module


def test_the_readme_is_short_and_leads_to_every_document():
    text = read(ROOT / "README.md")
    assert len(text.splitlines()) <= README_LINES
    linked = set(LINK.findall(text))
    assert {shown(file) for file in DOCS if file.name != "README.md"} <= linked


def test_the_readmes_tree_is_the_tree():
    (tree,) = re.findall(r"```text\n(.+?)```", read(ROOT / "README.md"), re.DOTALL)
    folder = ROOT
    rooms = []
    for line in tree.splitlines():
        name = line.split()[0]
        inside = line.startswith(" ")
        folder = folder if inside else ROOT
        assert (folder / name).exists(), name
        folder = folder if inside else ROOT / name
        rooms += [name.strip("/")] if inside else []
    assert {room.name for room in CORE.iterdir() if room.is_dir() and room.name != "__pycache__"} <= set(rooms)
