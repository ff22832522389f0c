"""Files under a running server: a full disk, one that may only be read, checkpoints that are exchanged while they are
in use, and two servers on one folder of models.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import comfyui
from disks import fill, read_only, small_disk
from fuzz import picture_of, sound
from helpers import psnr
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from serving import PACK, Server, serve

NANO = PACK / "lightbagel_core" / "nano"
SAME = 70  # dB: a few values that round to the next level; other weights are below 40
SAVED = {
    "SaveImage": {"images": ["2", 0]},
    "SaveLatent": {"samples": ["2", 1]},
    "ModelSave": {"model": ["1", 0]},
    "CLIPSave": {"clip": ["1", 1]},
    "VAESave": {"vae": ["1", 2]},
    "CheckpointSave": {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2]},
}


def checkpoint(folder: Path) -> Path:
    """The nano in float32: on a CPU its weights then lie where the file is mapped, and are not copied."""
    shutil.copytree(NANO, folder)
    for file in folder.glob("*.safetensors"):
        save_file({name: weight.float() for name, weight in load_file(file).items()}, file)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    base = tmp_path_factory.mktemp("comfyui") / "base"
    checkpoint(base / "models" / "lightbagel" / "mine")
    with serve(comfyui(), base, "--cache-classic") as running:
        yield running


def graph(name: str = "nano (built in)", seed: int = 3, steps: int = 2) -> dict[str, Any]:
    """The small graph of everything that LightBagel does, with another checkpoint, seed or number of steps."""
    nodes = sound()
    nodes["1"]["inputs"]["checkpoint"] = name
    for node in ("2", "3"):
        nodes[node]["inputs"] |= {"seed": seed, "steps": steps}
    return nodes


def drawn(server: Server, **changed: Any) -> np.ndarray:
    picture, _ = picture_of(server, server.run(graph(**changed)))
    return picture


def said(entry: dict[str, Any]) -> str:
    kind, body = entry["status"]["messages"][-1]
    return f"{body['node_type']}: {body['exception_message']}" if kind == "execution_error" else kind


def saving(kind: str, name: str) -> dict[str, Any]:
    """A graph that draws and saves."""
    nodes = {name: graph()[name] for name in ("1", "2")}
    inputs = {**SAVED[kind], "filename_prefix": f"saved/{name}"}
    return {**nodes, "6": {"class_type": kind, "inputs": inputs}}


def opens(file: Path) -> bool:
    """Whether a file opens as a whole picture, or as whole tensors."""
    try:
        if file.suffix == ".png":
            Image.open(file).load()
        else:
            with safe_open(file, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118
                    tensors.get_tensor(name)
    except (OSError, SyntaxError, SafetensorError):
        return False
    return True


@pytest.mark.parametrize("kind", SAVED)
def test_a_full_disk(server: Server, kind: str):
    """The node that saves says so, nothing half-written opens as good, and where there is room again it saves."""
    output = server.base / "output"
    with small_disk(output, 64 << 20):
        stuffing = fill(output)
        told = said(server.run(saving(kind, "full")))
        assert told.startswith(f"{kind}: "), told
        assert "No space left on device" in told
        left = [file for file in output.rglob("*") if file.is_file() and file != stuffing]
        assert not any(map(opens, left)), left
        stuffing.unlink()
        assert said(server.run(saving(kind, "room"))) == "execution_success"
        (whole,) = output.rglob("room*")
        assert opens(whole)


@pytest.mark.parametrize("kind", SAVED)
def test_a_folder_that_may_only_be_read(server: Server, kind: str):
    """The node that saves says so; models in a folder that may only be read are used as ever."""
    for folder in (server.base / "output", server.base / "models"):
        folder.mkdir(exist_ok=True)
    with read_only(server.base / "output"), read_only(server.base / "models"):
        told = said(server.run(saving(kind, "locked")))
        assert told.startswith(f"{kind}: "), told
        assert "Read-only file system" in told
    assert not list((server.base / "output").rglob("locked*"))


def test_models_that_may_only_be_read(server: Server):
    with read_only(server.base / "models"):
        assert psnr(drawn(server, name="mine"), drawn(server)) > SAME


def test_two_servers_on_one_folder_of_models(server: Server, tmp_path: Path):
    """Both draw at the same time what one alone draws, and neither changes the folder."""
    models = server.base / "models" / "lightbagel"
    paths = tmp_path / "extra_model_paths.yaml"
    paths.write_text(f"mine:\n  base_path: {models.parent}\n  lightbagel: lightbagel\n", "utf-8")
    before = {file: file.stat().st_mtime_ns for file in [models, *models.rglob("*")]}
    expected = [drawn(server, seed=seed) for seed in range(2)]
    with serve(comfyui(), tmp_path / "base", "--cache-classic", "--extra-model-paths-config", str(paths)) as second:
        found: dict[tuple[int, int], np.ndarray] = {}

        def work(number: int, each: Server) -> None:
            for seed in range(2):
                found[number, seed] = drawn(each, name="mine", seed=seed)

        workers = [threading.Thread(target=work, args=pair) for pair in enumerate((server, second))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert len(found) == 4
    for (_, seed), picture in found.items():
        assert psnr(picture, expected[seed]) > SAME
    assert {file: file.stat().st_mtime_ns for file in [models, *models.rglob("*")]} == before


def other_weights(file: Path, place: Path) -> Path:
    """The same tensors with other numbers, in a file of the same size."""
    save_file({name: weight * 1.5 for name, weight in load_file(file).items()}, place)
    return place


@pytest.mark.parametrize("while_it_runs", [False, True], ids=["between runs", "while a run goes"])
def test_a_checkpoint_replaced_by_another_file(server: Server, tmp_path: Path, while_it_runs: bool):
    """As programs that download replace one: the weights that are loaded go on, and those of the new file come with the
    next loading.
    """
    name = "replaced running" if while_it_runs else "replaced"
    folder = checkpoint(server.base / "models" / "lightbagel" / name)
    new = {file: other_weights(file, tmp_path / file.name) for file in folder.glob("*.safetensors")}
    assert len(new) == 4
    already = len(server.log_text())
    prompt_id = server.request("/prompt", {"prompt": graph(name=name, seed=2, steps=20)})["prompt_id"]
    if not while_it_runs:
        server.ended(prompt_id)
    while server.log_text()[already:].count("Requested to load") < 2:  # the CLIP, then the MODEL, which begins to draw
        time.sleep(0.02)
    for file, other in new.items():
        shutil.move(other, file.with_suffix(".part"))
        os.replace(file.with_suffix(".part"), file)
    picture, _ = picture_of(server, server.ended(prompt_id))
    assert psnr(picture, drawn(server, seed=2, steps=20)) > SAME
    assert psnr(drawn(server, name=name, seed=4), drawn(server, seed=4)) < 40, "the new weights"


def overwrite(file: Path) -> None:
    """Puts other numbers into a file in place, as `cp` and an editor do."""
    size = file.stat().st_size
    with open(file, "r+b") as place:
        place.seek(size // 2)
        place.write(bytes(size - size // 2))


def cut_off(file: Path) -> None:
    """Leaves the first part of a file, as a copy has it that is under way."""
    with open(file, "r+b") as place:
        place.truncate(100_000)


@pytest.mark.parametrize("spoil", [overwrite, cut_off])
def test_a_checkpoint_changed_in_place_between_runs(server: Server, spoil: Any):
    """It is loaded again: weights that lie in the file are not used any more."""
    folder = checkpoint(server.base / "models" / "lightbagel" / spoil.__name__)
    assert psnr(drawn(server, name=folder.name), drawn(server)) > SAME
    drawn(server, name=folder.name)
    spoil(folder / "generation.safetensors")
    told = said(server.run(graph(name=folder.name, seed=5)))
    if spoil is cut_off:
        assert "LightBagelLoader" in told
        assert "generation.safetensors is damaged" in told
    else:
        assert told == "execution_success"
    for name in ("understanding", "generation", "fusion", "vae"):
        shutil.copy(NANO / f"{name}.safetensors", folder)
    assert psnr(drawn(server, name=folder.name, seed=6), drawn(server, seed=6)) > SAME


def test_weights_in_memory_outlive_their_file(host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """With ComfyUI's --disable-mmap."""
    import comfy.utils
    import folder_paths

    folder = checkpoint(tmp_path / "lightbagel" / "in memory")
    folder_paths.add_model_folder_path("lightbagel", str(folder.parent))
    monkeypatch.setattr(comfy.utils, "DISABLE_MMAP", True)
    model, clip, vae = host("LightBagelLoader", checkpoint=folder.name, weight_dtype="float32")
    modules = (model.model.diffusion_model, clip.cond_stage_model, vae.first_stage_model)  # the fusion stack in Wan
    before = [{name: weight.clone() for name, weight in each.state_dict().items()} for each in modules]
    for file in folder.glob("*.safetensors"):
        overwrite(file)
    for each, old in zip(modules, before, strict=True):
        for name, weight in each.state_dict().items():
            assert weight.equal(old[name]), name
