"""What others get: the registry's package (the tracked files less .comfyignore), and what pip installs."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LARGEST = 20e6  # bytes of a file
PRIVATE = re.compile(r"(^|/)\.|(^|/)(tests|benchmarks)/|\.egg-info/|__pycache__|\.(pem|key|pyc|log|part|partial)$")
OURS = re.compile(r"(__init__|nodes/.+|lightbagel_core/.+)\.py")


def git(*words: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", "-z", *words], cwd=ROOT, capture_output=True, check=True).stdout
    return {name for name in listed.decode("utf-8").split("\0") if name}


def shipped() -> set[str]:
    """The files of the registry's package, whose .comfyignore is read as a .gitignore is."""
    return git() - git("--cached", "--ignored", "--exclude-from=.comfyignore")


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """The registry's package, unpacked as a user has it."""
    folder = tmp_path_factory.mktemp("custom_nodes") / "lightbagel"
    for name in shipped():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


def test_nothing_large_or_private_is_shipped(package):
    names = shipped()
    assert not [name for name in names if PRIVATE.search(name)]
    served = ("nodes/", "web/", "locales/", "workflows/", "subgraphs/", "loras/")
    assert {name for name in git() if name.startswith(served)} <= names
    assert not [name for name in names if (ROOT / name).stat().st_size > LARGEST]
    tops = {name.split("/")[0] for name in names}
    assert tops <= {"__init__.py", "nodes", "lightbagel_core", "web", "locales", "workflows", "subgraphs", "loras",
                    "LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "requirements.txt"}  # fmt: skip
    assert {"LICENSE", "README.md", "pyproject.toml", "requirements.txt", "__init__.py"} <= tops


@pytest.mark.slow
def test_every_module_of_the_core_that_is_shipped_can_be_imported(package):
    names = {name for name in shipped() if name.startswith("lightbagel_core/") and OURS.fullmatch(name)}
    names.remove("lightbagel_core/evaluation/lmms/model.py")  # which needs lmms-eval, and is imported by it alone
    if Version(version("torch")) < Version("2.9"):  # which training asks for, and nothing else does
        names = {name for name in names if not name.startswith("lightbagel_core/training/")}
    modules = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in sorted(names)]
    code = "import importlib, sys\nprint([importlib.import_module(name) for name in sys.argv[1:]][0].__file__)"
    environment = os.environ | {"PYTHONPATH": str(package)}
    words = [sys.executable, "-c", code, *modules]
    done = subprocess.run(words, cwd=package.parent, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(package))
    assert len(modules) > 40


def targets(name: str, node: ast.ImportFrom) -> list[str]:
    """The files, one of which must be there, for each name that a relative import brings."""
    folder = Path(name).parents[node.level - 1] / (node.module or "").replace(".", "/")
    inside = [f"{folder}.py", f"{folder}/__init__.py"]
    if node.module is not None:
        return inside
    return [f"{folder / alias.name}{ending}" for alias in node.names for ending in (".py", "/__init__.py")] + inside


def test_no_shipped_module_imports_what_is_left_out(package):
    """Imports inside functions, too, which importing a module does not try."""
    names, seen = shipped(), 0
    for name in sorted(name for name in names if OURS.fullmatch(name)):
        for node in ast.walk(ast.parse((package / name).read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                seen += 1
                assert names.intersection(targets(name, node)), f"{name} imports {node.module} from line {node.lineno}"
            elif isinstance(node, ast.ImportFrom | ast.Import):
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                assert not [m for m in modules if m.split(".")[0] in ("lightbagel_core", "tests", "benchmarks")], name
    assert seen > 100


def test_pip_installs_the_rooms_and_all_that_lies_in_them():
    """Every folder with a module is a package, and a pattern of package-data takes in every other file."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    files = {name for name in git() if name.startswith("lightbagel_core/")}
    folders = {Path(name).parent for name in files if name.endswith(".py")}
    assert all(f"{folder.as_posix()}/__init__.py" in files for folder in folders)
    data = settings["package-data"]
    assert list(data) == ["lightbagel_core"]
    others = {name.removeprefix("lightbagel_core/") for name in files if not name.endswith(".py")}
    assert not {name for name in others if not any(fnmatch(name, pattern) for pattern in data["lightbagel_core"])}
    find = pytest.importorskip("setuptools").find_packages
    include = settings["packages"]["find"]["include"]
    assert set(find(str(ROOT), include=include)) == {".".join(folder.parts) for folder in folders}
