"""What the registry ships, packed by its own tool and unpacked, works in a ComfyUI."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from comfy_cli.file_utils import zip_files
from conftest import PACK

CODE = """
import sys
from pathlib import Path
import conftest
from helpers import CELLS, empty, ksampler

conftest.PACK = Path(sys.argv[1])
host = conftest.Host()
print("nodes:", *sorted(name for name in host.mappings if name.startswith("LightBagel")))
model, clip, vae = host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype="float32")
prompts = [host("CLIPTextEncode", clip, text) for text in ("a red circle", "")]
assert ksampler(host, model, prompts, empty(), steps=1).shape == (1, 48, CELLS, CELLS)
where = {Path(module.__file__) for name, module in sys.modules.items() if "lightbagel_core." in name}
assert where and all(conftest.PACK in path.parents for path in where), where
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(PACK)
    zip_files(str(tmp_path / "node.zip"))
    with zipfile.ZipFile(tmp_path / "node.zip") as packed:
        packed.extractall(tmp_path / "custom_nodes" / "lightbagel")
    return tmp_path / "custom_nodes" / "lightbagel"


def test_the_package_is_what_the_other_tests_take_it_for(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PACK / "tests"))
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("package_of_core", PACK / "tests" / "test_package.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    names = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert names == module.shipped()


def test_its_nodes_register_and_draw(package: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(PACK / "tests" / "comfy")}
    words = [sys.executable, "-c", CODE, str(package)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("nodes:")]
    assert lines == [
        "nodes: LightBagelApplyFusion LightBagelDescribe LightBagelEdit LightBagelGenerate LightBagelLoader "
        "LightBagelRewritePrompt LightBagelTextEncode"
    ]
