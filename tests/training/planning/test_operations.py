"""Operations of a training step, against the counts that the benchmarks have of inference, and torch's own count."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny import tiny_config
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import flops
from lightbagel_core.config import PUBLISHED
from lightbagel_core.files.components import build_components
from lightbagel_core.files.formats import read_config
from lightbagel_core.model.attention import SDPA
from lightbagel_core.model.forward import EncodedSegment
from lightbagel_core.model.generation import Generation
from lightbagel_core.model.sequence import ImageSegment, TextSegment
from lightbagel_core.training.config_file import read
from lightbagel_core.training.data.samples import Sample
from lightbagel_core.training.loss import Drawing, Pass
from lightbagel_core.training.planning.operations import block, fusion_layer, operations, reading
from lightbagel_core.training.planning.portions import Portions, portions
from lightbagel_core.training.planning.tokens import Tokens, chained
from lightbagel_core.training.stages import Adapters, Cache, Lora, Stage

CONFIG = read_config(PUBLISHED)
PARTS, TARGET = [("clean", 1024), ("vit", 361), ("text", 64)], 1024


def test_parts_are_those_of_the_benchmarks():
    one = chained([(PARTS, TARGET)])
    target = Tokens(noised=1024, squares=1024**2, keys=one.keys, pairs=one.noised_pairs)
    length, dim = CONFIG.fusion.context_len, CONFIG.fusion.gen_dim
    learned = 4 * length * dim**2
    assert sum(block(CONFIG, target)) - learned == flops.block(CONFIG, 1024)
    gen, _, among = fusion_layer(CONFIG, target)
    assert gen + among == flops.fusion_layer(CONFIG, 1024, int(one.noised_pairs) // 1024)


def held(tokens: Tokens, samples: float = 1.0) -> Portions:
    return Portions(tokens, tokens, samples, (tokens,), False, ())


def test_reading_is_that_of_the_benchmarks():
    one = chained([(PARTS, TARGET)])
    layers = CONFIG.fusion.und_layers * flops.und_layer(CONFIG, int(one.und))
    tower = 32 * 4 * 361 * (8 * 1280**2 + 6 * 1280 * 3420)
    assert reading(CONFIG, one) == layers + tower


def counted(stage: Stage) -> tuple[float, float]:
    """(what is counted of one step on a small model, what is planned)."""
    config = tiny_config()
    modules = build_components(config, ("generation", "fusion"))
    gen, fusion = Generation(modules["generation"]), modules["fusion"]
    for name, module in {"generation": gen, "fusion": fusion}.items():
        module.requires_grad_(name in stage.train)
    fusion.context.requires_grad_("context" in stage.train)
    parts = [("clean", 64), ("vit", 16), ("text", 20)]
    segments = [ImageSegment("clean", 8, 8), ImageSegment("vit", 4, 4), TextSegment(22), ImageSegment("noised", 8, 8)]
    states = [torch.empty(2, s.und_tokens, 64) for s in segments]
    latents = torch.empty(48, 16, 16)
    contents = [EncodedSegment(s, latents if i == 0 else None) for i, s in enumerate(states)]
    batch = Pass([Sample(tuple(segments), contents, latents, True)], torch.zeros(1), [latents])
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        Drawing(gen, fusion, SDPA)(batch).sum().backward()
    found = operations(stage, config, held(chained([(parts, 64)])), 1)
    return counter.get_total_flops(), found.forward + found.backward


@pytest.mark.parametrize(
    "train", [("generation", "fusion", "context"), ("fusion", "context"), ("generation",), ("fusion",)]
)
def test_a_step_has_the_operations_that_torch_counts(train):
    """Forward and backward over the real code; what is counted beside the plan is the time's embedding."""
    real, planned = counted(Stage(train=train, cache=Cache(states="rolling"), checkpointing=False))
    assert planned == pytest.approx(real, rel=0.02)


def test_what_costs_more():
    stage = Stage(train=("fusion", "context"), checkpointing=False, cache=Cache("live"))
    one = held(chained([(PARTS, TARGET)]))
    found = operations(stage, CONFIG, one, 1)
    assert operations(replace(stage, checkpointing=True), CONFIG, one, 1).again == pytest.approx(
        found.forward, rel=0.03
    )
    everything = replace(stage, train=("generation", "fusion", "context"))
    assert operations(everything, CONFIG, one, 1).backward == pytest.approx(2 * found.forward, rel=0.03)
    adapted = replace(stage, train=(), lora=Adapters(Lora(32), Lora(32)))
    assert operations(adapted, CONFIG, one, 1).forward > found.forward
    rolling = replace(stage, cache=Cache("rolling", samples=10, renew=20))
    assert operations(rolling, CONFIG, one, 1).reading == pytest.approx(found.reading / 2)


def test_the_frozen_vlm_is_a_small_part_of_the_papers_recipe():
    """Where it runs live, in pictures of the largest size: more where there are more edits."""
    for stage in read("paper"):
        found = operations(stage, CONFIG, portions(stage, CONFIG), 32)
        assert 0.01 < found.reading / found.all < 0.1


def test_the_nanos_own_recipes_say_nothing_of_what_is_not_counted():
    vlm, language, *vaes, _ = read("nano")
    config = SimpleNamespace(understanding=CONFIG.understanding)
    one = held(chained([(PARTS, TARGET)]))
    for stage in (vlm, language):
        assert operations(stage, config, one, 1).all == 3 * reading(CONFIG, one.mean)
    assert [operations(vae, config, one, 1).all for vae in vaes] == [0, 0]


def test_each_process_embeds_the_learned_context_anew():
    """The same step on four processes is the same, but for three more passes' context."""
    stage = Stage(cache=Cache("rolling"), checkpointing=False)
    one = held(chained([(PARTS, TARGET)]), 8)
    alone, shared = (operations(stage, CONFIG, one, world) for world in (1, 4))
    assert one.passes(stage, 1) == one.passes(stage, 4) == 1
    fusion, blocks = CONFIG.fusion, CONFIG.generation["num_layers"]
    learned = fusion.context_len * fusion.gen_dim * (2 * (fusion.context_dim + fusion.gen_dim))
    learned += blocks * 4 * fusion.context_len * fusion.gen_dim**2
    assert shared.forward - alone.forward == pytest.approx(3 * learned)
