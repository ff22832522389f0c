"""What lies on the device, and when: parts are read when needed, given up, streamed; in every dtype."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from format_files import lora
from PIL import Image
from scenes import assert_alike
from tiny import make_tiny

from lightbagel_core.files.components import COMPONENTS
from lightbagel_core.files.formats import open_model
from lightbagel_core.memory import offload as residency
from lightbagel_core.pipeline import LightBagel

PICTURE = Image.new("RGB", (96, 64), "red")
RUN = {"steps": 2, "progress": False, "seed": 3}


def modules(model: LightBagel) -> dict[str, torch.nn.Module]:
    return {"understanding": model.und.vlm, "generation": model.gen.dit, "fusion": model.fusion, "vae": model.vae}


def present(model: LightBagel) -> set[str]:
    """Parts that have any weights."""
    return {name for name, module in modules(model).items() if not all(p.is_meta for p in module.parameters())}


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The parts that were read from files, in order."""
    names: list[str] = []
    fill = residency.fill
    monkeypatch.setattr(residency, "fill", lambda part, *rest: (names.append(part), fill(part, *rest)))
    return names


def test_a_part_is_read_when_it_is_first_needed_and_once(saved, read):
    model = LightBagel.from_pretrained(saved, "cpu")
    assert read == []
    model.text("a red circle")
    assert read == []
    model.describe(PICTURE, max_new_tokens=2)
    assert read == ["understanding"]
    model.generate("a red circle", **RUN)
    assert read == ["understanding", "generation", "fusion", "vae"]
    model.edit(PICTURE, "make the circle blue", **RUN)
    assert len(read) == 4


def test_the_vlm_can_be_given_up_before_denoising(saved, read):
    model = LightBagel.from_pretrained(saved, "cpu")
    context = model.encode([[model.text("a red circle")]], 96, 64)
    assert present(model) == {"understanding", "generation", "fusion"}
    model.release("understanding")
    assert present(model) == {"generation", "fusion"}
    assert not any(
        "understanding.safetensors" in line for line in Path("/proc/self/maps").read_text("utf-8").splitlines()
    )
    velocity = model.velocity(model.noise(1, 96, 64, 0), 0.5, context)
    assert torch.isfinite(velocity).all()
    model.describe(PICTURE, max_new_tokens=2)  # comes back by itself
    assert read.count("understanding") == 2


def test_without_conversion_a_weight_is_its_place_in_the_file(saved):
    """No second copy: on the CPU nothing but what is computed in another dtype is the process's own memory."""
    model = LightBagel.from_pretrained(saved, "cpu")
    model.need(*COMPONENTS)
    lines = [line.split() for line in Path("/proc/self/maps").read_text("utf-8").splitlines() if str(saved) in line]
    spans = [[int(end, 16) for end in line[0].split("-")] for line in lines]
    for name, module in modules(model).items():
        for key, weight in module.named_parameters():
            assert any(low <= weight.data_ptr() < high for low, high in spans), (name, key)


def test_of_a_lora_only_its_own_matrices_are_copied(saved, tmp_path):
    components = {"fusion": open_model(saved).components["fusion"]}
    model = LightBagel.from_pretrained(saved, "cpu", loras={lora(components, tmp_path / "style.safetensors"): 1.0})
    model.need(*COMPONENTS)
    lines = [line.split() for line in Path("/proc/self/maps").read_text("utf-8").splitlines() if str(saved) in line]
    spans = [[int(end, 16) for end in line[0].split("-")] for line in lines]
    copied = {
        f"{name}.{key}"
        for name, module in modules(model).items()
        for key, weight in module.named_parameters()
        if not any(low <= weight.data_ptr() < high for low, high in spans)
    }
    matrices = {name for name, stored in components["fusion"].items() if len(stored.shape) == 2} - {"context"}
    assert copied == {f"fusion.{name}" for name in matrices}


@pytest.mark.parametrize("offload", ["parts", "layers"])
@pytest.mark.parametrize("dtype", [None, torch.float8_e4m3fn])
def test_offloaded_runs_with_a_lora_are_the_same(saved, tmp_path, offload, dtype):
    loras = {lora(open_model(saved).components, tmp_path / "style.safetensors"): 1.0}
    kept, saving = (LightBagel.from_pretrained(saved, "cpu", dtype, offload=o, loras=loras) for o in (None, offload))
    base = LightBagel.from_pretrained(saved, "cpu", dtype).generate("a red circle", **RUN)[0]
    for _ in range(2):  # what was given up is read again, with the LoRA
        assert_alike(*(m.generate("a red circle", **RUN)[0] for m in (kept, saving)), dtype or torch.float32)
        saving.release(*COMPONENTS)
    with pytest.raises(AssertionError):
        assert_alike(base, kept.generate("a red circle", **RUN)[0], dtype or torch.float32)


@pytest.mark.parametrize("offload", ["parts", "layers"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float8_e4m3fn])
def test_offloaded_runs_are_the_same(saved, offload, dtype):
    guided = {**RUN, "image_guidance": 1.5}
    kept, saving = (LightBagel.from_pretrained(saved, "cpu", dtype, offload=o) for o in (None, offload))
    assert_alike(
        *(m.edit(PICTURE, "make the circle blue", **guided)[0] for m in (kept, saving)), dtype or torch.float32
    )
    assert_alike(*(m.generate("a red circle", **RUN)[0] for m in (kept, saving)), dtype or torch.float32)
    words = {m.describe(PICTURE, max_new_tokens=4) for m in (kept, saving)}
    assert len(words) == 1 or dtype is not None  # in half precision a rounding may turn random weights' answer


def test_parts_are_there_only_while_they_are_needed(saved, monkeypatch):
    model = LightBagel.from_pretrained(saved, "cpu", offload="parts")
    seen = []
    fill = residency.fill
    monkeypatch.setattr(residency, "fill", lambda part, *rest: (fill(part, *rest), seen.append(present(model))))
    model.edit(PICTURE, "make the circle blue", **RUN)
    both = {"generation", "fusion"}
    assert seen == [{"vae"}, {"understanding"}, {"generation"}, both, {"vae"}]
    assert present(model) == {"vae"}


def test_of_several_sources_each_part_is_read_once(saved, read):
    model = LightBagel.from_pretrained(saved, "cpu", offload="parts")
    model.edit([PICTURE, PICTURE, PICTURE], "make the circle blue", **RUN)
    assert read == ["vae", "understanding", "generation", "fusion", "vae"]


def test_files_that_changed_since_they_were_opened_are_not_read(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "tiny")
    model = LightBagel.from_pretrained(tmp_path / "tiny", "cpu", offload="parts")
    model.need("vae")
    make_tiny().save_pretrained(tmp_path / "tiny", torch.bfloat16)
    with pytest.raises(ValueError, match=r"generation\.safetensors .*replaced or changed after it was opened"):
        model.need("generation")


def test_layers_are_there_only_while_they_compute(saved):
    """The weights on the device at any time are those of one layer: Accelerate puts back what it brought."""
    model = LightBagel.from_pretrained(saved, "cpu", offload="layers")
    model.need(*COMPONENTS)
    most = 0

    def watch(*_):
        nonlocal most
        here = sum(p.numel() for m in modules(model).values() for p in m.parameters() if not p.is_meta)
        most = max(most, here)

    for module in modules(model).values():
        for inner in module.modules():
            if isinstance(inner, torch.nn.Linear):
                inner.register_forward_hook(watch)
    model.edit(PICTURE, "make the circle blue", **RUN)
    everything = sum(p.numel() for m in modules(model).values() for p in m.parameters())
    assert 0 < most < everything / 5
    model.release(*COMPONENTS)
    assert present(model) == set()
    assert model.generate("a red circle", **RUN)[0].size == (96, 64)


def test_streaming_says_what_it_needs(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ValueError, match="needs Accelerate: pip install accelerate"):
        LightBagel.from_pretrained(saved, "cpu", offload="layers")


# --- precision -----------------------------------------------------------------------------------------------------
