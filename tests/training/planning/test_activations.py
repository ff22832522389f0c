"""Activations by arithmetic, against every storage that the real code makes in a training step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import tiny_config
from torch.utils.checkpoint import checkpoint

from benchmarks.memory import PeakBytes
from lightbagel_core.config import LightBagelConfig
from lightbagel_core.files.components import build_components
from lightbagel_core.files.precision import use_float8
from lightbagel_core.memory.plan import tensors_of
from lightbagel_core.model.attention import SDPA
from lightbagel_core.model.forward import EncodedSegment
from lightbagel_core.model.generation import Generation
from lightbagel_core.model.sequence import ImageSegment, TextSegment
from lightbagel_core.training.data.samples import Sample
from lightbagel_core.training.loss import Drawing, Pass, noised
from lightbagel_core.training.planning import activations, needs
from lightbagel_core.training.planning.tokens import Tokens, chained
from lightbagel_core.training.stages import Adapters, Cache, Lora, Optimiser, Stage

EDITS = [(((8, 8),), (8, 8))] * 3  # of each sample the (rows, columns) of its sources and of its target
SEVERAL = [(((6, 8),), (8, 8)), ((), (8, 6)), (((8, 8), (4, 8)), (8, 8))]
VIT, TEXT = (4, 4), 30
CPU = torch.device("cpu")


def sized(heads: int, head: int, ffn: int, und: int, blocks: int = 4) -> LightBagelConfig:
    """The tiny model with a DiT and a fusion stack of another size."""
    tiny = tiny_config(blocks=blocks)
    gen = {"num_attention_heads": heads, "attention_head_dim": head, "ffn_dim": ffn}
    third = head // 2 // 3
    fusion = replace(
        tiny.fusion,
        und_dim=und,
        gen_dim=heads * head,
        heads=heads,
        head_dim=head,
        mrope_section=(head // 2 - 2 * third, third, third),
    )
    text = tiny.understanding["text_config"] | {"hidden_size": und}
    understanding = tiny.understanding | {"text_config": text}
    return replace(tiny, generation=tiny.generation | gen, fusion=fusion, understanding=understanding)


def batch(config: LightBagelConfig, shapes, scale: int = 1) -> tuple[Pass, Tokens]:
    """A pass of random samples, and its tokens."""
    made, tokens = [], Tokens()
    for sources, (rows, cols) in shapes:
        segments, parts = [], []
        for r, c in sources:
            segments += [ImageSegment("clean", scale * r, scale * c), ImageSegment("vit", *VIT)]
            parts += [("clean", scale**2 * r * c), ("vit", VIT[0] * VIT[1])]
        segments += [TextSegment(TEXT), ImageSegment("noised", scale * rows, scale * cols)]
        tokens += chained([([*parts, ("text", TEXT - 2)], scale**2 * rows * cols)])
        contents = [
            EncodedSegment(
                torch.randn(config.fusion.und_layers, segment.und_tokens, config.fusion.und_dim).bfloat16(),
                torch.randn(48, 2 * segment.rows, 2 * segment.cols)
                if isinstance(segment, ImageSegment) and segment.kind == "clean"
                else None,
            )
            for segment in segments
        ]
        target = torch.randn(48, 2 * scale * rows, 2 * scale * cols)
        made.append(Sample(tuple(segments), contents, target, bool(sources)))
    return noised(made, [(1, i) for i in range(len(made))], 4.0), tokens


def is_adapter(weight: needs.Weight) -> bool:
    return ".lora_" in weight.name


class Adapted(torch.nn.Module):
    """A linear layer with a LoRA in float32, as PEFT computes it."""

    def __init__(self, base: torch.nn.Module, rank: int) -> None:
        super().__init__()
        outputs, inputs = base.weight.shape
        self.base, self.a = base, torch.nn.Linear(inputs, rank, bias=False)
        self.b = torch.nn.Linear(rank, outputs, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.b(self.a(x.float()))


def model(stage: Stage, config: LightBagelConfig) -> tuple[Drawing, list[needs.Weight]]:
    """A model as a stage keeps it, and what the plan knows of it."""
    modules = build_components(config, ("generation", "fusion"))
    components = {name: tensors_of(module, name) for name, module in modules.items()}
    known = needs.weights(stage, components)
    for name, module in modules.items():
        module.requires_grad_(False)
        use_float8(module, {w.name: w.dtype for w in known if w.component == name and not is_adapter(w)})
    for weight in known:
        module = modules[weight.component].get_submodule(weight.name.rpartition(".")[0].split(".lora_")[0])
        if is_adapter(weight):
            continue
        kept = torch.randn(weight.shape).mul(0.05).to(weight.dtype)
        setattr(module, weight.name.rpartition(".")[2], torch.nn.Parameter(kept, weight.trained))
        if weight.dtype == torch.float8_e4m3fn:
            module.weight_scale = torch.nn.Parameter(torch.ones(()), requires_grad=False)
    for weight in known:
        if ".lora_A" in weight.name:
            at = weight.name.split(".lora_")[0]
            whole = modules[weight.component]
            whole.set_submodule(at, Adapted(whole.get_submodule(at), weight.shape[0]))
    gen, fusion = Generation(modules["generation"]), modules["fusion"]
    if stage.checkpointing:
        for block in gen.blocks:
            block.forward = again(block.forward)
        for layer in fusion.layers:
            layer.joint = again(layer.joint)
    return Drawing(gen, fusion, SDPA), known


def again(function):
    return lambda *args: checkpoint(function, *args, use_reentrant=False)


def peak(drawing: Drawing, stage: Stage, given: Pass) -> int:
    """The most bytes that live in a pass beside weights, their gradients, and what it is given."""

    def act() -> None:
        enabled = stage.precision == "bfloat16-mixed"
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled, cache_enabled=False):
            errors = drawing(given).sum()
        errors.backward()

    act()  # gradients are there from a step's second pass on
    with PeakBytes(drawing, device=CPU) as counter:
        gradients = [p.grad for p in drawing.parameters() if p.grad is not None]
        counter.known |= {t.untyped_storage()._cdata: None for t in (*gradients, *(s.target for s in given.samples))}
        act()
    return counter.peak


EVERYTHING, FUSION, LAYERS = ("generation", "fusion", "context"), ("fusion", "context"), ("fusion",)
QUICK = [
    (SEVERAL, True, EVERYTHING, "bfloat16-mixed", "bfloat16"),
    (EDITS, False, FUSION, "bfloat16-mixed", "bfloat16"),
    (EDITS, True, FUSION, "bfloat16", "bfloat16"),
]
PRECISIONS = [
    (EVERYTHING, "bfloat16-mixed", "bfloat16"),
    (EVERYTHING, "float32", "float32"),
    (FUSION, "bfloat16-mixed", "bfloat16"),
    (FUSION, "bfloat16", "bfloat16"),
    (LAYERS, "float32", "float32"),
]
CASES = [(shapes, again, *p) for shapes in (EDITS, SEVERAL) for again in (False, True) for p in PRECISIONS]
SLOW = [pytest.param(*case, marks=pytest.mark.slow) for case in CASES if case not in QUICK]


@pytest.mark.parametrize(("shapes", "checkpointing", "train", "precision", "base"), [*QUICK, *SLOW])
@pytest.mark.filterwarnings("ignore:Mismatch dtype")
def test_a_pass_keeps_what_is_planned(shapes, checkpointing, train, precision, base):
    torch.manual_seed(0)
    config = sized(2, 64, 512, 192)
    stage = Stage(
        train=train,
        precision=precision,
        base=base,
        checkpointing=checkpointing,
        cache=Cache("rolling"),
        optimiser=Optimiser("sgd"),
    )
    drawing, known = model(stage, config)
    given, tokens = batch(config, shapes)
    planned = activations.kept(stage, config, known, tokens, shapes is SEVERAL, 1)
    assert planned.all == pytest.approx(peak(drawing, stage, given), rel=0.2)


@pytest.mark.parametrize("checkpointing", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.filterwarnings("ignore:Mismatch dtype")
def test_adapters_over_float8_keep_what_is_planned(checkpointing):
    """Each adapter keeps an input of its own, and each float8 matrix is widened."""
    torch.manual_seed(0)
    config = sized(2, 64, 512, 192)
    lora = Adapters(Lora(8), Lora(8))
    stage = Stage(train=(), lora=lora, base="float8", checkpointing=checkpointing, cache=Cache("rolling"))
    drawing, known = model(stage, config)
    given, tokens = batch(config, SEVERAL)
    planned = activations.kept(stage, config, known, tokens, True, 1)
    assert planned.copies > 2 * 128 * 512 * 2
    assert planned.all == pytest.approx(peak(drawing, stage, given), rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.filterwarnings("ignore:Mismatch dtype")
def test_the_plan_is_right_to_a_tenth_on_a_model_of_more_than_a_gigabyte(checkpointing):
    """Weights, gradients, moments and averages, each alone; and the most that lives beside them."""
    torch.manual_seed(0)
    config = sized(6, 128, 3072, 768, blocks=6)
    stage = Stage(train=("generation", "fusion", "context"), checkpointing=checkpointing, cache=Cache("rolling"))
    drawing, known = model(stage, config)
    held = needs.held(stage, known, 1)
    given, tokens = batch(config, SEVERAL, 2)
    optimiser = torch.optim.AdamW(drawing.parameters())
    most = peak(drawing, stage, given)
    optimiser.step()
    averages = [p.detach().clone() for p in drawing.parameters()]
    states = [t for state in optimiser.state.values() for t in state.values()]
    live = {
        "weights": list(drawing.parameters()),
        "gradients": [p.grad for p in drawing.parameters() if p.grad is not None],
        "optimiser": states,
        "ema": averages,
    }
    bytes = {name: sum(t.nbytes for t in tensors) for name, tensors in live.items()}
    assert sum(bytes.values()) > 1e9
    for name, counted in bytes.items():
        assert getattr(held, name) == pytest.approx(counted, rel=0.01), name
    planned = activations.kept(stage, config, known, tokens, True, 1).all
    print(
        f"{sum(bytes.values()) / 1e9:.2f} GB held, {most / 1e9:.3f} GB at most beside it, planned {planned / 1e9:.3f}"
    )
    assert planned == pytest.approx(most, rel=0.1)
    assert sum(bytes.values()) + most == pytest.approx(sum(vars(held).values()) + planned, rel=0.1)
