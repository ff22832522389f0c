"""Bytes of weights, gradients and optimiser at real size, against the arithmetic of the model's parameters."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lightbagel_core.config import COMPONENTS, NANO, PUBLISHED
from lightbagel_core.training.config_file import read
from lightbagel_core.training.loading import Opening
from lightbagel_core.training.parallel import World
from lightbagel_core.training.planning.needs import Weight, gathered, held, moments, on_device, weights
from lightbagel_core.training.planning.stage_plan import shapes
from lightbagel_core.training.stages import Adapters, Cache, Lora, Model, Optimiser, Stage

ROLLING = Stage(cache=Cache("rolling"))
EVERYTHING = replace(ROLLING, train=("generation", "fusion", "context"))
INNER, UND, DIM, FFN = 24 * 128, 3584, 3072, 14336
LAYER = 2 * (UND * INNER + INNER) + 3 * (DIM * INNER + INNER) + INNER * DIM + UND + DIM + 2 * 128
FUSION, CONTEXT = 29 * LAYER, 512 * 4096


@pytest.fixture(scope="module")
def real():
    return shapes(PUBLISHED)


def trained(stage: Stage, real) -> dict[str, int]:
    found: dict[str, int] = {}
    for w in weights(stage, real):
        if w.trained:
            found[w.part] = found.get(w.part, 0) + w.count
    return found


def test_the_live_fusion_has_1_74_b_parameters(real):
    found = trained(ROLLING, real)
    assert found == {"fusion": FUSION, "context": CONTEXT}
    assert sum(found.values()) == pytest.approx(1.74e9, rel=0.005)


def test_a_lora_of_rank_32_has_81_and_35_m_parameters(real):
    found = trained(replace(ROLLING, train=(), lora=Adapters(Lora(32), Lora(32))), real)
    assert found["generation"] == 30 * 32 * (8 * 2 * DIM + 2 * (DIM + FFN))
    assert found["fusion"] == 29 * 32 * (2 * (UND + INNER) + 4 * (DIM + INNER))
    assert (round(found["generation"] / 1e6), round(found["fusion"] / 1e6)) == (81, 35)
    few = trained(replace(ROLLING, train=(), lora=Adapters(Lora(32, targets=("attn1.to_q", "to_k")))), real)
    assert few == {"generation": 30 * 32 * 3 * 2 * DIM}  # to_k of both attentions
    with pytest.raises(ValueError, match=r"lora.fusion.targets: no linear layer's name ends in k; there are gen_k"):
        trained(replace(ROLLING, train=(), lora=Adapters(fusion=Lora(32, targets=("k",)))), real)


def test_everything_in_float32_is_135_gb_and_a_shard_an_eighth(real):
    stage = replace(EVERYTHING, precision="bfloat16-mixed")
    found = held(stage, weights(stage, real), 1)
    both = found.weights + found.gradients + found.optimiser + found.ema
    assert (found.frozen, found.unit) == (0, 0)
    assert both == 20 * (found.weights // 4)
    assert both == pytest.approx(135e9, rel=0.005)
    eighth = held(stage, weights(stage, real), 8)
    assert eighth.weights == found.weights // 8
    assert eighth.optimiser == found.optimiser // 8


def test_bases_in_float8_and_the_fusion_in_bfloat16(real):
    (stage,) = read("single-card-fusion")
    found = held(stage, weights(stage, real), 1)
    assert found.frozen == pytest.approx(5.0e9, rel=0.05)  # 0.2 GB more: time embedding and modulation stay float32
    assert found.weights == pytest.approx(2 * 1.736e9, rel=0.001)
    assert found.gradients == found.weights
    assert found.optimiser == pytest.approx(found.weights, rel=0.02)
    assert found.ema == 0
    assert found.frozen + 3 * found.weights == pytest.approx(15.4e9, rel=0.02)


def test_what_is_on_the_device():
    assert on_device(ROLLING) == ("generation", "fusion")
    assert on_device(Stage()) == ("generation", "fusion", "understanding", "vae")
    understanding, vae, drawing = ("understanding",), ("vae",), ("generation", "fusion")
    assert [on_device(s) for s in read("nano")] == [understanding, understanding, vae, vae, drawing]


def test_what_only_reads_is_not_shared_out(real):
    """VLM and VAE are whole on each process, unless the VLM is trained; what is gathered is none of theirs."""
    live = replace(EVERYTHING, cache=Cache("live"))
    vae, vlm = (sum(w.bytes for w in weights(live, real, [name])) for name in ("vae", "understanding"))
    assert vlm == pytest.approx(16.6e9, rel=0.01)
    assert held(live, weights(live, real), 8).frozen == vae + vlm
    assert held(live, weights(live, real), 8).unit == held(EVERYTHING, weights(EVERYTHING, real), 8).unit
    taught = replace(live, train=(*live.train, "understanding"))
    assert vae < held(taught, weights(taught, real), 8).frozen < vae + vlm / 40  # a head that no drawing reads


def test_units_are_gathered_as_they_are_multiplied(real):
    """Two DiT blocks in bfloat16, and the gradient of one in bfloat16 and float32; with them what is no block."""
    found = weights(EVERYTHING, real)
    block = sum(w.count for w in found if w.name.startswith("blocks.0."))
    rest = sum(w.bytes for w in found if w.unit is None)
    assert rest == pytest.approx(4 * sum(w.count for w in found if w.unit is None))
    assert gathered(EVERYTHING, found) == rest + 2 * 2 * block + (2 + 4) * block


@pytest.mark.parametrize(
    "said",
    [
        {"train": ("generation", "fusion", "context")},
        {"train": ("context",), "base": "float8"},
        {"train": ("fusion",), "precision": "float32", "base": "float32"},
        {"train": ("fusion", "understanding")},
        {"train": (), "lora": Adapters(Lora(4, targets=("attn1.to_q", "proj_out")), Lora(2))},
    ],
    ids=lambda said: " ".join(said["train"]) or "adapters",
)
def test_what_is_counted_is_what_opening_makes(said):
    """Which tensors are trained, and the dtype of each, on the nano."""
    if "lora" in said:
        pytest.importorskip("peft")
    stage = Stage(model=Model(model="nano"), device="cpu", **said)
    opening = Opening.of(stage, World(0, 1, torch.device("cpu"), 1))
    planned = {f"{w.component}.{w.name}": w for w in weights(stage, shapes(NANO / "config.json"), COMPONENTS)}
    assert {name for name, w in planned.items() if w.trained} == opening.trained().keys()
    for component in COMPONENTS:
        for name, dtype in opening.kinds(component).items():
            assert planned[f"{component}.{name}"].dtype == dtype, name


@pytest.mark.parametrize("shape", [(256, 512), (64, 96), (4, 4), (5000,), (3, 5000), (512, 7, 64), ()])
@pytest.mark.parametrize("name", ["adamw", "adamw-8bit", "sgd"])
def test_moments_are_those_of_the_optimiser(shape, name):
    stage = replace(ROLLING, optimiser=Optimiser(name=name))
    found = moments(stage, Weight("fusion", "x", shape, torch.float32, True))
    count = torch.Size(shape).numel()
    if name == "adamw":
        parameter = torch.nn.Parameter(torch.zeros(shape))
        optimiser = torch.optim.AdamW([parameter])
        parameter.grad = torch.zeros(shape)
        optimiser.step()
        state = optimiser.state[parameter]
        assert found == state["exp_avg"].nbytes + state["exp_avg_sq"].nbytes
    elif name == "sgd":
        assert found == 0
    elif shape in ((256, 512), (64, 96), (512, 7, 64)):
        assert 2 * count < found < 2.3 * count
    else:
        assert found == 8 * count
