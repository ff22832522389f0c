"""How often each part of the model works in a run: nothing constant is computed twice."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from PIL import Image
from scenes import assert_alike
from tiny import make_tiny

from lightbagel_core.model import vae
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.sampling.guidance import Guidance

STEPS = 5
SIZE = {"width": 96, "height": 64}
TOKENS = 6  # of the target
RUN = {"steps": STEPS, "progress": False, **SIZE}


def picture(colour: str) -> Image.Image:
    return Image.new("RGB", (96, 96), colour)  # 9 clean tokens, 3 x 3, and 9 ViT tokens, of 84 x 84 pixels


@pytest.fixture
def model() -> LightBagel:
    return make_tiny()


@pytest.fixture
def work(model, monkeypatch) -> Counter:
    """How often each part was called, and under "... size" with how many rows or tokens in all."""
    counted: Counter = Counter()

    def count(name: str, module: torch.nn.Module, size) -> None:
        def hook(module, args, kwargs, output) -> None:
            counted[name] += 1
            counted[f"{name} size"] += size(args[0] if args else next(iter(kwargs.values())))

        module.register_forward_hook(hook, with_kwargs=True)

    def tokens(x: torch.Tensor) -> int:
        return x.shape[0] * x.shape[1]

    language = model.und.vlm.model.language_model
    count("VLM", language.layers[0], tokens)
    count("VLM end", language.layers[-1], tokens)
    count("ViT", model.und.vlm.model.visual, len)
    count("DiT", model.gen.blocks[0], len)
    count("DiT end", model.gen.blocks[-1], len)
    for end, layer in (("", model.fusion[0]), (" end", model.fusion[-1])):
        count(f"fusion hears{end}", layer.und_k, tokens)
        count(f"fusion listens{end}", layer.gen_q, tokens)
        count(f"fusion answers{end}", layer.gen_out, tokens)
    embedder = model.gen.dit.condition_embedder
    count("learned context", embedder.text_embedder, len)
    count("learned keys", model.gen.blocks[-1].attn2.to_k, len)
    count("time", embedder.time_embedder, len)
    count("rotary", model.gen.dit.rope, len)
    count("head", model.gen.dit.proj_out, len)
    encode = vae.encode
    monkeypatch.setattr(vae, "encode", lambda *args: counted.update(["VAE"]) or encode(*args))
    return counted


def expected(
    und: int, clean: tuple[int, int] = (0, 0), rows: int = 2, steps: int = STEPS, first: bool = True, **others: int
) -> dict[str, int]:
    """und: tokens of the VLM; clean: (images, tokens of all), all of one size; rows of a step."""
    images, tokens = clean
    passes = int(images > 0)
    found = {
        "VLM": 1,
        "VLM size": und,
        "VLM end": 1,
        "VLM end size": und,
        "DiT": passes + steps,
        "DiT size": images + rows * steps,
        "DiT end": steps,  # the last block has no fusion layer after it, so no source needs it
        "DiT end size": rows * steps,
        "learned context": int(first),
        "learned context size": int(first),
        "learned keys": int(first),
        "learned keys size": int(first),
        "time": passes + steps,  # the source images' t = 0, then each step's
        "time size": passes + rows * steps,
        "rotary": (1 + passes) * first,  # once for each size of picture, whatever is drawn of it
        "rotary size": (1 + passes) * first,
        "head": steps,
        "head size": rows * steps,
    }
    for end in ("", " end"):
        found |= {f"fusion hears{end}": 1, f"fusion hears{end} size": und}
        found |= {f"fusion listens{end}": passes + steps, f"fusion listens{end} size": tokens + rows * steps * TOKENS}
    found |= {"fusion answers": passes + steps, "fusion answers size": tokens + rows * steps * TOKENS}
    found |= {"fusion answers end": steps, "fusion answers end size": rows * steps * TOKENS}
    return {name: number for name, number in (found | others).items() if number}


def lengths(model: LightBagel, *texts: str) -> list[int]:
    return [len(model.text(text)) for text in texts]


def test_text_to_image(model, work):
    words, negative = lengths(model, "a red circle", "a green star")
    model.generate("a red circle", "a green star", **RUN)
    assert dict(work) == expected(words + 2 + negative + 2)


def test_a_second_run_reads_the_learned_context_no_more(model, work):
    words, negative = lengths(model, "a red circle", "")
    model.generate("a red circle", **RUN)
    work.clear()
    model.generate("a red circle", seed=1, **RUN)
    assert dict(work) == expected(words + 2 + negative + 2, first=False)


def test_without_guidance(model, work):
    (words,) = lengths(model, "a red circle")
    model.generate("a red circle", text_guidance=1, **RUN)
    assert dict(work) == expected(words + 2, rows=1)


def test_several_pictures_of_one_prompt(model, work):
    words, negative = lengths(model, "a red circle", "")
    model.generate("a red circle", num_images=3, **RUN)
    assert dict(work) == expected(words + 2 + negative + 2, rows=6)


def test_several_prompts(model, work):
    texts = "a red circle", "a small green star on the left"
    one, two, negative = lengths(model, *texts, "")
    branches = {"full": [[model.text(t)] for t in texts], "negative": [[model.text("")]] * 2}
    model.draw(branches, model.noise(4, 96, 64, 0), Guidance(3.0), steps=STEPS, progress=False)
    assert dict(work) == expected(one + 2 + two + 2 + negative + 2, rows=8)


def test_outside_the_guidance_interval_one_branch_runs(model, work):
    model.generate("a red circle", guidance_interval=(0.9, 1.0), **RUN)
    guided = sum(t > 0.9 for t in (0.99975, 0.9409, 0.8566, 0.7269, 0.4998))
    assert guided == 2
    assert work["DiT"] == STEPS
    assert work["DiT size"] == 2 * guided + (STEPS - guided)


def test_an_edit_with_both_guidances(model, work):
    words, negative = lengths(model, "make the circle blue", "")
    model.edit(picture("red"), "make the circle blue", image_guidance=2, **RUN)
    seen = 2 + 9 + 2  # markers around the clean image, then the ViT's tokens between theirs
    und = seen + words + 2 + negative + 2 + words + 2
    assert dict(work) == expected(und, (1, 9), rows=3, **{"ViT": 1, "ViT size": 36, "VAE": 1})


def test_an_edit_without_guidance(model, work):
    (words,) = lengths(model, "make the circle blue")
    model.edit(picture("red"), "make the circle blue", text_guidance=1, **RUN)
    assert dict(work) == expected(2 + 9 + 2 + words + 2, (1, 9), rows=1, **{"ViT": 1, "ViT size": 36, "VAE": 1})


def test_an_edit_of_two_pictures_in_two_versions(model, work):
    """The second source sees more than the first, so the two do not share a pass, yet each has only one."""
    words, negative = lengths(model, "make the circle blue", "")
    model.edit([picture("red"), picture("blue")], "make the circle blue", num_images=2, **RUN)
    twice = {"ViT": 2, "ViT size": 72, "VAE": 2}
    wanted = expected(2 * (2 + 9 + 2) + words + 2 + negative + 2, (2, 18), rows=4, **twice)
    for name in ("DiT", "fusion listens", "fusion listens end", "fusion answers"):
        wanted[name] += 1
    assert dict(work) == wanted


def test_changed_weights_of_the_learned_context_are_seen(model):
    """It is kept from run to run, but not beyond the weights it was made of."""

    def velocity() -> torch.Tensor:
        context = model.encode([[model.text("a red circle")]], 96, 64)
        return model.velocity(model.noise(1, 96, 64, 0), 0.5, context)

    before = velocity()
    assert torch.equal(velocity(), before)
    model.fusion.context.mul_(2)
    changed = velocity()
    assert not torch.allclose(changed, before)
    model.gen.blocks[0].attn2.to_v.weight = torch.nn.Parameter(-model.gen.blocks[0].attn2.to_v.weight, False)
    assert not torch.allclose(velocity(), changed)


def test_changes_that_leave_no_trace_can_be_said(model):
    def velocity() -> torch.Tensor:
        context = model.encode([[model.text("a red circle")]], 96, 64)
        return model.velocity(model.noise(1, 96, 64, 0), 0.5, context)

    before = velocity()
    model.gen.blocks[0].attn2.to_v.weight.data.mul_(-1)  # as a LoRA is fused
    model.weights_changed()
    assert not torch.allclose(velocity(), before)


def test_streamed_weights_are_read_for_the_learned_context_once(tmp_path, monkeypatch):
    make_tiny().save_pretrained(tmp_path / "tiny")
    streamed = LightBagel.from_pretrained(tmp_path / "tiny", "cpu", offload="layers")
    made, whole = [], streamed.gen.learned_context
    monkeypatch.setattr(streamed.gen, "learned_context", lambda context: made.append(1) or whole(context))
    pictures = [streamed.generate("a red circle", **RUN)[0] for _ in range(2)]
    assert len(made) == 1
    for picture in pictures:
        assert_alike(picture, make_tiny().generate("a red circle", **RUN)[0])
    streamed.release("generation")
    streamed.generate("a red circle", **RUN)
    assert len(made) == 2


def test_a_model_made_in_inference_mode_works():
    """Its weights have no versions to look at."""
    with torch.inference_mode():
        inside = make_tiny()
        pictures = [inside.generate("a red circle", **RUN)[0] for _ in range(2)]
    for picture in pictures:
        assert_alike(picture, make_tiny().generate("a red circle", **RUN)[0])


def test_adapters_on_the_learned_context_are_heard(model):
    """A LoRA's strength changes no weight; nothing computed at another strength may be kept."""

    class Adapted(torch.nn.Module):
        def __init__(self, base: torch.nn.Module) -> None:
            super().__init__()
            self.base, self.strength = base, 1.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.base(x) * self.strength

    def velocity() -> torch.Tensor:
        context = model.encode([[model.text("a red circle")]], 96, 64)
        return model.velocity(model.noise(1, 96, 64, 0), 0.5, context)

    plain = velocity()
    attn = model.gen.blocks[0].attn2
    attn.to_v = Adapted(attn.to_v)
    model.gen.dit.peft_config = {"a": "LoRA"}  # what diffusers sets when an adapter is loaded
    assert torch.equal(velocity(), plain)
    attn.to_v.strength = -1.0
    assert not torch.allclose(velocity(), plain)


def test_the_plain_transformer_stays_the_stock_one(model):
    """Called itself it takes encoder states, as diffusers' own does."""
    stock = WanTransformer3DModel(**model.config.generation).eval()
    stock.load_state_dict(model.gen.dit.state_dict())
    x = torch.randn(2, 48, 1, 4, 6, generator=torch.Generator().manual_seed(0))
    states = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(1))
    ours, theirs = (dit(x, torch.tensor([500.0, 20.0]), states).sample for dit in (model.gen.dit, stock))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
