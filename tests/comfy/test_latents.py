"""To ComfyUI ours is an image model: LATENTs of pictures, and of one frame where a person's nodes make such."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import helpers
import pytest
import torch
from helpers import (
    CELLS,
    PROMPT,
    SEED,
    SETTINGS,
    SIDE,
    STEPS,
    close,
    empty,
    ksampler,
    part,
    pixels,
    psnr,
    source,
    tensor,
)

NANO = "nano (built in)"
OTHER = "a large green star on the right on a black background"


@pytest.fixture(scope="module")
def native(host, loaded) -> tuple[Any, Any]:
    """(MODEL, VAE): a video model's, with our fusion stack put on it by Apply LightBagel Fusion, and its own VAE."""
    wan, vae = helpers.native(host, loaded[2])
    return host("LightBagelApplyFusion", model=wan, fusion=NANO), vae


EMPTY = {
    "EmptyLatentImage": {"width": SIDE, "height": SIDE, "batch_size": 1},
    "EmptySD3LatentImage": {"width": SIDE, "height": SIDE, "batch_size": 1},
    "Wan22ImageToVideoLatent": {"vae": None, "width": SIDE, "height": SIDE, "length": 1, "batch_size": 1},
}


@pytest.mark.parametrize("empty", EMPTY)
@pytest.mark.parametrize("model", ["ours", "applied"])
@pytest.mark.parametrize("vae", ["ours", "native"])
def test_empty_latents_of_any_model(host, loaded, native, prompts, model, vae, empty):
    """Both loaders' MODELs with both loaders' VAEs draw the same picture; what is empty has no form to keep."""
    chosen = {"ours": loaded[0], "applied": native[0]}[model], {"ours": loaded[2], "native": native[1]}[vae]
    latent = host(empty, **EMPTY[empty])
    drawn = ksampler(host, chosen[0], prompts, latent)
    framed = model == "applied" or latent["samples"].ndim == 5
    assert drawn.shape == ((1, 48, 1, CELLS, CELLS) if framed else (1, 48, CELLS, CELLS))
    if vae == "native" and not framed:  # ComfyUI's own: a video model's VAE takes no latents of pictures
        with pytest.raises(IndexError):
            host("VAEDecode", chosen[1], {"samples": drawn})
        return
    reference = host("VAEDecode", loaded[2], {"samples": ksampler(host, loaded[0], prompts)})
    assert psnr(pixels(host("VAEDecode", chosen[1], {"samples": drawn})), pixels(reference)) > 60


@pytest.mark.parametrize("encoder", ["ours", "native"])
@pytest.mark.parametrize("model", ["ours", "applied"])
def test_latents_of_pictures_keep_their_form(host, loaded, native, prompts, model, encoder):
    """Also through a mask, and in what a custom sampler gives beside its result."""
    chosen = {"ours": loaded[0], "applied": native[0]}[model]
    vae = {"ours": loaded[2], "native": native[1]}[encoder]
    latent = host("VAEEncode", pixels=tensor(source()), vae=vae)
    assert latent["samples"].ndim == {"ours": 4, "native": 5}[encoder]
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, :, 64:] = 1
    reference = ksampler(host, loaded[0], prompts, host("SetLatentNoiseMask", {"samples": as_picture(latent)}, mask))
    drawn = ksampler(host, chosen, prompts, host("SetLatentNoiseMask", latent, mask))
    assert drawn.shape == latent["samples"].shape
    assert close(drawn.reshape(reference.shape), reference)
    again = host("VAEDecode", vae, {"samples": drawn})
    assert psnr(pixels(again), pixels(host("VAEDecode", loaded[2], {"samples": reference}))) > 60


def as_picture(latent: dict[str, torch.Tensor]) -> torch.Tensor:
    return latent["samples"].reshape(1, 48, CELLS, CELLS)


@pytest.mark.parametrize("model", ["ours", "applied"])
def test_edits_of_both_loaders(host, loaded, native, model):
    """The one-box nodes and the text encoder take either MODEL with either VAE."""
    chosen = {"ours": loaded[0], "applied": native[0]}[model]
    settings = {"images": {"image0": tensor(source())}, "instruction": "make the circle blue", "image_guidance": 1.5}
    pictures = [
        host("LightBagelEdit", chosen, loaded[1], vae, **settings, **SETTINGS)[0] for vae in (loaded[2], native[1])
    ]
    reference = host("LightBagelEdit", *loaded, **settings, **SETTINGS)[0]
    for picture in pictures:
        assert psnr(pixels(picture), pixels(reference)) > 60


def test_the_same_picture_as_a_frame(host, loaded, prompts):
    """A latent of one frame, as old workflows have it, is the same run."""
    framed = ksampler(host, loaded[0], prompts, {"samples": torch.zeros(2, 48, 1, 8, 8)})
    assert framed.shape == (2, 48, 1, 8, 8)
    assert torch.equal(framed[:, :, 0], ksampler(host, loaded[0], prompts, {"samples": torch.zeros(2, 48, 8, 8)}))


@pytest.mark.parametrize("model", ["ours", "applied"])
def test_what_a_custom_sampler_gives_beside_its_result(host, loaded, native, prompts, model):
    """The picture foreseen at the last step, which the callback hands on, is the picture; previews are drawn of it."""
    chosen = {"ours": loaded[0], "applied": native[0]}[model]
    for samples in (torch.zeros(1, 48, 8, 8), torch.zeros(1, 48, 1, 8, 8)):
        drawn, foreseen = host(
            "SamplerCustomAdvanced",
            noise=host("RandomNoise", noise_seed=SEED),
            guider=host("CFGGuider", model=chosen, positive=prompts[0], negative=prompts[1], cfg=2.0),
            sampler=host("KSamplerSelect", sampler_name="euler"),
            sigmas=host("BasicScheduler", model=chosen, scheduler="simple", steps=STEPS, denoise=1.0),
            latent_image={"samples": samples},
        )
        assert foreseen["samples"].shape == drawn["samples"].shape
        assert close(foreseen["samples"], drawn["samples"])


def test_others_latents_are_refused(host, loaded, native, prompts):
    """Another model's, a video's, and what is no picture at all; none is guessed at."""
    model, _, vae = loaded
    with pytest.raises(ValueError, match="16 channels: it is another model's"):
        ksampler(host, model, prompts, {"samples": torch.ones(1, 16, 16, 16)})
    referring = host("ReferenceLatent", conditioning=prompts[0], latent={"samples": torch.ones(1, 4, 16, 16)})
    with pytest.raises(ValueError, match="the latent input has 4 channels: it is another model's"):
        ksampler(host, model, (referring, prompts[1]))
    with pytest.raises(ValueError, match="this latent has 13 frames"):
        ksampler(host, model, prompts, host("Wan22ImageToVideoLatent", None, 128, 128, 49, 1))
    with pytest.raises(ValueError, match="this latent has 2 frames"):
        host("VAEDecode", vae, {"samples": torch.zeros(1, 48, 2, 8, 8)})


@pytest.mark.parametrize("tiled", [False, True])
def test_the_vae_is_an_image_models(host, loaded, native, tiled):
    """A batch goes in as pictures and comes out so; through tiles, too, and from latents of one frame."""
    vae = loaded[2]
    batch = torch.cat([tensor(source(colour)) for colour in ("red", "green", "yellow")])
    more = {"tile_size": 64, "overlap": 16, "temporal_size": 64, "temporal_overlap": 8} if tiled else {}
    ending = "Tiled" if tiled else ""
    latent = host(f"VAEEncode{ending}", pixels=batch, vae=vae, **more)
    assert latent["samples"].shape == (3, 48, CELLS, CELLS)
    plain = torch.cat([host("VAEEncode", pixels=each[None], vae=native[1])["samples"] for each in batch])[:, :, 0]
    assert (latent["samples"] - plain).abs().mean() < (0.2 if tiled else 1e-5) * plain.abs().mean()
    for samples in (plain, plain[:, :, None]):
        images = host(f"VAEDecode{ending}", vae=vae, samples={"samples": samples}, **more)
        assert images.shape == (3, SIDE, SIDE, 3)
        assert psnr(images * 255, batch * 255) > 20


def test_memory_is_estimated_for_one_frame(loaded, native):
    """The estimates of the native VAE, which ask for a fifth axis."""
    ours, theirs = loaded[2], native[1]
    for name, picture, frame in (
        ("memory_used_encode", (2, 3, 256, 512), (2, 3, 1, 256, 512)),
        ("memory_used_decode", (2, 48, 16, 32), (2, 48, 1, 16, 32)),
    ):
        assert getattr(ours, name)(picture, torch.float32) == getattr(theirs, name)(frame, torch.float32) > 0


def test_the_small_video_decoder_is_not_asked_for_previews(loaded):
    """It takes the height of a picture for its frames, and would show one row of it."""
    assert loaded[0].model.latent_format.taesd_decoder_name is None


# --- regional prompts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("area", "pixels", "cells"),
    [
        ((8, 16, 0, 4), 16, (4, 8, 0, 2)),
        ((9, 1, 3, 5), 16, (5, 1, 1, 2)),  # what begins or ends between cells is widened to them
        ((8, 16, 0, 4), 8, (8, 16, 0, 4)),
        (("percentage", 0.5, 1.0, 0.5, 0.0), 16, ("percentage", 0.5, 1.0, 0.5, 0.0)),
        (("percentage", 1.0, 0.5, 0.25, 0.0, 0.5, 0.75), 16, ("percentage", 0.5, 0.25, 0.5, 0.75)),
        ((1, 8, 16, 0, 2, 4), 16, (4, 8, 1, 2)),
    ],
)
def test_areas_on_cells(host, area, pixels, cells):
    assert part(host, "latents").in_cells(area, pixels) == cells


def by_hand(core: Any, predict: Any) -> torch.Tensor:
    """Latents of Euler's steps from velocities [1, 48, 8, 8], which `predict` makes of latents and time."""
    x = torch.randn(1, 48, 8, 8, generator=torch.Generator().manual_seed(SEED))
    for here, after in pairwise(SIMPLE):
        x = x + (after - here) * predict(x, here)
    return x


SIMPLE = [1.0, 4 * 2 / 3 / (1 + 3 * 2 / 3), 4 / 3 / (1 + 3 / 3), 0.0]  # three steps at shift 4


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("how", ["pixels", "shares"])
def test_two_areas_side_by_side(host, loaded, prompts, core, how, framed):
    """Each half is what the model makes of that half with its own prompt: by hand, with the core's velocity."""
    model, clip, vae = loaded
    other = host("CLIPTextEncode", clip, OTHER)

    def placed(cond: Any, x: float) -> Any:
        if how == "pixels":
            return host("ConditioningSetArea", cond, 64, 128, int(x * 128), 0, 1.0)
        return host("ConditioningSetAreaPercentage", cond, 0.5, 1.0, x, 0.0, 1.0)

    both = host("ConditioningCombine", placed(prompts[0], 0.0), placed(other, 0.5))
    latent = {"samples": torch.zeros(1, 48, 1, 8, 8) if framed else torch.zeros(1, 48, 8, 8)}
    drawn = ksampler(host, model, (both, prompts[1]), latent, steps=3, cfg=1.0)
    left, right = (core.encode([[core.text(words)]], 64, 128) for words in (PROMPT, OTHER))

    def predict(x: torch.Tensor, t: float) -> torch.Tensor:
        sides = zip(x.chunk(2, dim=-1), (left, right), strict=True)
        return torch.cat([core.velocity(side, t, context) for side, context in sides], dim=-1)

    reference = core.decode(by_hand(core, predict))[0]
    assert psnr(pixels(host("VAEDecode", vae, {"samples": drawn})), reference) > 45


@pytest.mark.parametrize("framed", [False, True])
def test_an_area_outside_the_picture_is_refused(host, loaded, prompts, framed):
    """One that reaches over the edge is cut there, as for every model."""
    latent = {"samples": torch.zeros(1, 48, 1, 4, 8) if framed else torch.zeros(1, 48, 4, 8)}
    for node, outside, over in (
        ("ConditioningSetArea", (64, 64, 0, 64, 1.0), (128, 128, 64, 32, 1.0)),
        ("ConditioningSetAreaPercentage", (0.5, 0.5, 0.0, 1.0, 1.0), (1.0, 1.0, 0.5, 0.5, 1.0)),
    ):
        with pytest.raises(ValueError, match=r"begins at x 0, y 64, outside the picture of 128 x 64 pixels"):
            ksampler(host, loaded[0], (host(node, prompts[0], *outside), prompts[1]), latent, steps=1)
        drawn = ksampler(host, loaded[0], (host(node, prompts[0], *over), prompts[1]), latent, steps=1)
        assert bool(torch.isfinite(drawn).all())


@pytest.mark.parametrize("bounds", ["default", "mask bounds"])
def test_masks_side_by_side(host, loaded, prompts, core, bounds):
    """A mask weighs what the model makes of the whole picture, or of the mask's own bounds.

    ComfyUI lets such bounds be no smaller than 8 cells: for this picture of 128 pixels they are all of it.
    """
    model, clip, vae = loaded
    other = host("CLIPTextEncode", clip, OTHER)
    mask = torch.zeros(1, 128, 128)
    mask[:, :, :64] = 1
    both = host(
        "ConditioningCombine",
        host("ConditioningSetMask", prompts[0], mask, bounds, 1.0),
        host("ConditioningSetMask", other, 1 - mask, bounds, 1.0),
    )
    drawn = ksampler(host, model, (both, prompts[1]), empty(side=128), steps=3, cfg=1.0)
    context = core.encode([[core.text(PROMPT)], [core.text(OTHER)]], 128, 128)
    width = 4 if bounds == "mask bounds" else 8  # of the right one: it cannot reach over the edge
    narrow = core.encode([[core.text(OTHER)]], 16 * width, 128)

    def predict(x: torch.Tensor, t: float) -> torch.Tensor:
        whole = core.velocity(x.repeat(2, 1, 1, 1), t, context)
        right = core.velocity(x[..., -width:], t, narrow)
        return torch.cat([whole[:1, ..., :4], right[..., -4:]], dim=-1)

    reference = core.decode(by_hand(core, predict))[0]
    assert psnr(pixels(host("VAEDecode", vae, {"samples": drawn})), reference) > 45


def test_a_vae_refuses_another_models_latents(host, loaded):
    with pytest.raises(ValueError, match="the samples input has 4 channels: it is another model's"):
        host("VAEDecode", vae=loaded[2], samples={"samples": torch.zeros(1, 4, 8, 8)})
    with pytest.raises(ValueError, match="the samples input has 16 channels"):
        host("VAEDecodeTiled", loaded[2], {"samples": torch.zeros(1, 16, 1, 8, 8)}, tile_size=64)


def test_a_vae_says_what_it_cannot_encode(host, loaded):
    with pytest.raises(ValueError, match="the pixels input has 4 channels"):
        host("VAEEncode", vae=loaded[2], pixels=torch.rand(1, 64, 64, 4))
    with pytest.raises(ValueError, match="the pixels input is 64x8: LightBagel's VAE needs at least 16"):
        host("VAEEncode", vae=loaded[2], pixels=torch.rand(1, 8, 64, 3))
    assert host("VAEEncode", vae=loaded[2], pixels=torch.rand(1, 16, 64, 3))["samples"].shape == (1, 48, 1, 4)
