"""The tests mirror the rooms: who looks for a module's tests finds them under its name, in the folder of its room."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parent
CORE = TESTS.parent / "lightbagel_core"
WITHOUT = {"__init__", "__main__"}  # they are run by the tests of what they lead to


def test_every_module_has_a_test_of_its_name():
    modules = [file.relative_to(CORE) for file in CORE.rglob("*.py") if file.stem not in WITHOUT]
    assert len(modules) > 30
    lacking = [str(m) for m in modules if not (TESTS / m.parent / f"test_{m.name}").is_file()]
    assert lacking == []


def test_no_two_files_of_tests_share_a_name():
    """pytest imports them by their names alone; those in comfy/ it runs by themselves."""
    files = [file for file in TESTS.rglob("*.py") if "comfy" not in file.parts and file.name != "conftest.py"]
    names = Counter(file.name for file in files)
    assert [name for name, count in names.items() if count > 1] == []
