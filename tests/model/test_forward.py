"""The core against the oracle, the stock libraries, and the claims the design makes about itself."""

from __future__ import annotations

from functools import cache

import oracle
import pytest
import torch
from scenes import noise_picture
from tiny import make_tiny, whole

from lightbagel_core.model.forward import pack_samples, und_states

WIDTH, HEIGHT = 96, 64


def latents(seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 48, HEIGHT // 16, WIDTH // 16, generator=torch.Generator().manual_seed(seed))


NAMES = (
    "text to image",
    "negative",
    "dropped text",
    "edit",
    "edit, negative",
    "edit, no image",
    "edit, vae only",
    "edit, vit only",
    "three sources",
    "three sources, negative",
)


def samples(model) -> dict[str, list]:
    words = model.text("a red circle")
    one = [model.clean(noise_picture(1)), model.vit(noise_picture(1)), model.text("make the circle blue")]
    three = []
    for i, size in ((1, (96, 96)), (2, (128, 64)), (3, (64, 96))):
        three += [model.clean(noise_picture(i, *size)), model.vit(noise_picture(i, *size))]
    found = (
        [words],
        [model.text("")],
        [],
        one,
        [*one[:2], model.text("")],
        [one[2]],
        [one[0], one[2]],
        [one[1], one[2]],
        [*three, model.text("replace the square with a star")],
        [*three, model.text("")],
    )
    return dict(zip(NAMES, found, strict=True))


# What follows is held to 1e-5 of the largest value. Two ways to add the same numbers up differ by 6e-7; a time of 0.701
# instead of 0.7 by 0.05.


@pytest.fixture(scope="module")
def every(tiny) -> dict[str, list]:
    return samples(tiny)


@pytest.fixture(scope="module")
def truth(tiny, every):
    """The oracle's velocity of a sample for latents of a seed; slow, so each once."""
    return cache(lambda name, seed, t: oracle.velocity(tiny, every[name], latents(seed), t))


@pytest.mark.parametrize("name", NAMES)
def test_velocity_matches_the_oracle(tiny, every, truth, threads, name):
    ours = tiny.velocity(latents(), 0.7, tiny.encode([every[name]], WIDTH, HEIGHT))
    assert oracle.relative(ours, truth(name, 0, 0.7)) < 1e-5


def test_a_batch_of_unequal_samples_matches_the_oracle(tiny, every, truth, threads):
    x = torch.cat([latents(i) for i in range(len(NAMES))])
    ours = tiny.velocity(x, 0.7, tiny.encode([every[name] for name in NAMES], WIDTH, HEIGHT))
    for i, name in enumerate(NAMES):
        assert oracle.relative(ours[i : i + 1], truth(name, i, 0.7)) < 1e-5


def test_rows_of_a_context_are_its_samples(tiny, every, truth, threads):
    context = tiny.encode([every["edit"], every["negative"]], WIDTH, HEIGHT)
    x = torch.cat([latents(0), latents(1), latents(2)])
    ours = tiny.velocity(x, 0.7, context.rows([1, 0, 1]))
    for i, name in enumerate(("negative", "edit", "negative")):
        assert oracle.relative(ours[i : i + 1], truth(name, i, 0.7)) < 1e-5


def test_fusion_depth_reads_later_und_layers(tiny):
    deep = make_tiny(depth=1.0)
    assert [deep.fusion.config.und_layer(i) for i in range(3)] == [1, 1, 1]
    assert [tiny.fusion.config.und_layer(i) for i in range(3)] == [0, 1, 1]
    parts = [tiny.text("a red circle")]
    a, b = (m.velocity(latents(), 0.7, m.encode([parts], WIDTH, HEIGHT)) for m in (tiny, deep))
    assert oracle.relative(a, b) > 1e-3


def test_zero_output_projection_is_the_plain_wan_transformer(threads):
    """To rounding: the learned context's keys are made once for all samples here, and for each there."""
    model = make_tiny()
    for layer in model.fusion.layers:
        torch.nn.init.zeros_(layer.gen_out.weight)
    x = latents()
    ours = model.velocity(x, 0.6, model.encode([samples(model)["edit"]], WIDTH, HEIGHT))
    plain = model.gen.dit(x[:, :, None], torch.tensor([0.6]) * 1000, model.fusion.context[None]).sample[:, :, 0]
    assert oracle.relative(ours, plain) < 1e-5


def test_und_states_are_the_stock_models_on_text_and_ignore_the_gen_stream(tiny):
    ids = tiny.text("a red circle left of a blue square")
    states = und_states(tiny.und, pack_samples([[ids]], 2, (2, 3)))
    stock = tiny.und.vlm.model.language_model
    seen: list[torch.Tensor] = []
    hooks = [layer.register_forward_hook(lambda m, a, out: seen.append(out)) for layer in stock.layers]
    stock(input_ids=torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    for ours, theirs in zip(states, seen, strict=True):
        theirs = theirs[0] if isinstance(theirs, tuple) else theirs
        torch.testing.assert_close(ours[: len(ids)], theirs[0], rtol=1e-5, atol=1e-5)


def test_the_und_stream_never_depends_on_the_gen_stream(tiny):
    """Another DiT, another fusion and other source latents leave every VLM state of a whole run as it was."""

    def seen(model) -> list[torch.Tensor]:
        states: list[torch.Tensor] = []
        layers = model.und.vlm.model.language_model.layers
        hooks = [
            m.register_forward_hook(lambda m, a, out: states.append(out[0] if isinstance(out, tuple) else out))
            for m in layers
        ]
        parts = samples(model)["edit"]
        parts[0].latents.mul_(1.0 if model is tiny else -3.0)
        model.velocity(latents(), 0.7, model.encode([parts], WIDTH, HEIGHT))
        for hook in hooks:
            hook.remove()
        return states

    other = make_tiny()
    for module in (other.gen, other.fusion):
        for parameter in module.parameters():
            parameter.add_(0.1)
    before, after = seen(tiny), seen(other)
    assert len(before) == tiny.und.depth
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def rounded(tiny, tmp_path_factory):
    """The tiny model with its weights rounded to bfloat16, once computing in float32 and once in bfloat16."""
    folder = tmp_path_factory.mktemp("rounded") / "tiny"
    tiny.save_pretrained(folder, torch.bfloat16)
    return [whole(type(tiny).from_pretrained(folder, "cpu", dtype)) for dtype in (torch.float32, torch.bfloat16)]


@pytest.mark.parametrize("name", ["text to image", "edit", "edit, vae only", "edit, vit only", "three sources"])
def test_half_precision_stays_near_the_oracle(rounded, name):
    exact, half = rounded
    ours = half.velocity(latents(), 0.7, half.encode([samples(half)[name]], WIDTH, HEIGHT))
    assert ours.dtype == torch.float32
    truth = oracle.velocity(exact, samples(exact)[name], latents(), 0.7)
    assert (ours - truth).norm() / truth.norm() < 2e-2


def test_source_latents_reach_the_velocity(tiny):
    a, b = samples(tiny)["edit"], samples(tiny)["edit"]
    b[0].latents.add_(0.1)
    one, two = (tiny.velocity(latents(), 0.7, tiny.encode([p], WIDTH, HEIGHT)) for p in (a, b))
    assert oracle.relative(one, two) > 1e-4
