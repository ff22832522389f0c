"""ComfyUI's own training of LoRAs (Train LoRA, Save LoRA, its loaders) on our MODEL, as with a native one."""

from __future__ import annotations

import gc
from inspect import signature
from typing import Any

import pytest
import torch
from helpers import CELLS, INSTRUCTION, PROMPT, SEED, ksampler, pixels, psnr, source, tensor

WORDS = (PROMPT, "a green star")
KINDS = (torch.Tensor, torch.nn.Parameter)
BIAS = "blocks.2.ffn.2"  # a layer of the original Wan
SAME = 1e-3  # of two implementations in float32, and of one in another order


@pytest.fixture(scope="module")
def latents(host, loaded) -> list[dict[str, Any]]:
    """Two pictures that the nano does not draw for the prompts below."""
    return [host("VAEEncode", pixels=tensor(source(colour)), vae=loaded[2]) for colour in ("black", "yellow")]


@pytest.fixture(scope="module")
def conditionings(host, loaded) -> dict[str, list[Any]]:
    """Two of each kind."""
    _, clip, vae = loaded
    images = {"image0": tensor(source())}
    edits = (INSTRUCTION, "make the circle green")
    return {
        "text to image": [host("CLIPTextEncode", clip, words) for words in WORDS],
        "edit": [host("LightBagelTextEncode", clip, words, vae=vae, images=images) for words in edits],
    }


@pytest.fixture
def train(host) -> Any:
    """Runs Train LoRA: (the LoRA, the losses)."""

    def run(model: Any, latents: list[Any], positive: list[Any], **changed: Any) -> tuple[dict[str, Any], list[float]]:
        settings = {
            "batch_size": 1,
            "grad_accumulation_steps": 1,
            "steps": 1,
            "learning_rate": 1.0,
            "rank": 4,
            "optimizer": "SGD",
            "loss_function": "MSE",
            "seed": SEED,
            "training_dtype": "fp32",
            "lora_dtype": "fp32",
            "quantized_backward": False,
            "algorithm": "LoRA",
            "gradient_checkpointing": True,
            "checkpoint_depth": 1,
            "offloading": False,
            "existing_lora": "[None]",
            "bucket_mode": False,
            "bypass_mode": False,
        }
        node = host.mappings["TrainLoraNode"]
        known = signature(getattr(node.execute, "__func__", node.execute)).parameters  # quantized_backward is young
        given = {name: [value] for name, value in {**settings, **changed}.items() if name in known}
        lora, losses, _ = host("TrainLoraNode", model=[model], latents=latents, positive=positive, **given)
        return lora, losses["loss"]

    return run


def core_loss(core: Any, contents: list[Any], latents: torch.Tensor, sigma: list[float]) -> torch.Tensor:
    """The same loss by the core: of the pictures that it predicts, on diffusers' Wan."""
    from comfy.sample import prepare_noise

    from lightbagel_core.model import forward

    mean, std = (torch.tensor(core.config.vae[name])[None, :, None, None] for name in ("latents_mean", "latents_std"))
    pictures = (latents - mean) / std
    noise, t = prepare_noise(pictures, SEED), torch.tensor(sigma)
    x = t[:, None, None, None] * noise + (1 - t[:, None, None, None]) * pictures
    tokens = forward.pack_samples(contents, core.gen.patch, (3, 3))
    states = forward.und_states(core.und, tokens)
    learned, cpu = core.gen.learned_context(core.fusion.context), torch.device("cpu")
    settings = (core.attention, torch.float32, cpu)
    context = forward.encode(core.gen, core.fusion, tokens, states.__getitem__, learned, *settings)
    velocity = forward.velocity(core.gen, core.fusion, x, t, context, core.attention)
    return ((x - t[:, None, None, None] * velocity - pictures) ** 2).mean()


def times(model: Any, count: int) -> list[float]:
    """The times of the first step, which are drawn after its noise."""
    torch.manual_seed(SEED)
    torch.randn(count, 48, CELLS, CELLS)
    sampling = model.get_model_object("model_sampling")
    return [float(sampling.percent_to_sigma(torch.rand(1).item())) for _ in range(count)]


@pytest.mark.parametrize("kind", ["text to image", "edit"])
def test_its_loss_and_gradient_are_the_cores(loaded, core, latents, conditionings, train, kind):
    """A step of SGD at rate 1 leaves the gradient, negative, in what began as zero."""
    lora, losses = train(loaded[0], latents[:1], conditionings[kind][:1])
    contents = [core.text(PROMPT)]
    if kind == "edit":
        contents = [core.clean(source()), core.vit(source()), core.text(INSTRUCTION)]
    bias = core.gen.blocks[2].ffn.net[2].bias.requires_grad_(True)
    try:
        loss = core_loss(core, [contents], latents[0]["samples"], times(loaded[0], 1))
        (gradient,) = torch.autograd.grad(loss, bias)
    finally:
        bias.requires_grad_(False)
    assert losses[0] == pytest.approx(loss.item(), rel=SAME)
    found = -lora[f"diffusion_model.{BIAS}.diff_b"]
    torch.testing.assert_close(found, gradient, rtol=0, atol=SAME * gradient.abs().max().item())


def test_each_picture_of_a_batch_has_its_own_prompt(loaded, core, latents, conditionings, train):
    """In whichever order the node draws them."""
    _, losses = train(loaded[0], latents, conditionings["text to image"], batch_size=2)
    pairs = list(zip([core.text(words) for words in WORDS], (each["samples"] for each in latents), strict=True))
    with torch.no_grad():
        expected = []
        for order in (pairs, pairs[::-1]):
            pictures = torch.cat([picture for _, picture in order])
            expected.append(core_loss(core, [[words] for words, _ in order], pictures, times(loaded[0], 2)).item())
    assert losses[0] in [pytest.approx(loss, rel=SAME) for loss in expected]
    assert expected[0] != pytest.approx(expected[1], rel=SAME)


def test_its_options_train_an_edit(host, loaded, latents, conditionings, train):
    """All to the same losses; the second is after a step. Also where the stack stands beside a Wan."""
    applied = host("LightBagelApplyFusion", model=loaded[0], fusion="nano (built in)")
    given = {"latents": latents[:1], "positive": conditionings["edit"][:1], "steps": 2, "learning_rate": 0.01}
    for dtype, model, changed in (
        ("fp32", loaded[0], {"checkpoint_depth": 3}),
        ("fp32", applied, {}),
        ("bf16", applied, {"bypass_mode": True, "gradient_checkpointing": False}),
    ):
        _, plain = train(loaded[0], **given, training_dtype=dtype)
        _, losses = train(model, **given, training_dtype=dtype, **changed)
        assert losses == pytest.approx(plain, rel=0.05), changed  # LoRAs begin by chance


def test_a_lora_learns_is_saved_and_draws(host, loaded, latents, conditionings, train, tmp_path, monkeypatch):
    """Its picture is nearer to the trained one; without it all is as before: picture, weights, memory."""
    import folder_paths

    model, _, vae = loaded
    positive = conditionings["text to image"]

    def drawn(model: Any) -> Any:
        return pixels(host("VAEDecode", vae, {"samples": ksampler(host, model, (positive[0], positive[0]), cfg=1.0)}))

    def alive() -> int:
        gc.collect()
        return sum(each.untyped_storage().nbytes() for each in gc.get_objects() if type(each) in KINDS)

    before, memory = drawn(model), alive()
    learn: dict[str, Any] = {"steps": 10, "optimizer": "AdamW", "gradient_checkpointing": False}
    given = (model, latents[:1], positive[:1])
    lora, losses = train(*given, **learn, learning_rate=5e-3)
    weak, untrained = train(*given, **learn, learning_rate=1e-7)
    assert losses[0] == untrained[0]
    assert sum(losses[-4:]) < 0.7 * sum(untrained[-4:])

    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    folder_paths.add_model_folder_path("loras", str(tmp_path))
    host("SaveLoRA", lora=lora, prefix="trained")
    file = next(tmp_path.glob("trained*.safetensors")).name
    with_it = drawn(host("LoraLoaderModelOnly", model=model, lora_name=file, strength_model=1.0))
    wanted = pixels(host("VAEDecode", vae, latents[0]))
    assert psnr(with_it, wanted) > psnr(before, wanted) + 1
    assert psnr(with_it, drawn(host("LoraModelLoader", model=model, lora=lora, strength_model=1.0))) > 60

    assert psnr(drawn(model), before) > 60
    del lora, weak
    assert alive() <= memory + 1e6
    for module in model.model.modules():
        assert "org_forward" not in vars(module)
        assert module.forward.__func__ is type(module).forward
        assert not [*getattr(module, "weight_function", ()), *getattr(module, "bias_function", ())]
    assert not any(weight.requires_grad for weight in model.model.parameters())


@pytest.mark.parametrize("bucket_mode", [False, True])
def test_several_sizes_are_refused(host, loaded, latents, conditionings, train, bucket_mode):
    """ComfyUI does not normalise them."""
    other = host("VAEEncode", pixels=tensor(source(size=(96, 64))), vae=loaded[2])
    with pytest.raises(ValueError, match="Train LoRA does not normalise latents of several sizes"):
        train(loaded[0], [latents[0], other], conditionings["text to image"], bucket_mode=bucket_mode)
