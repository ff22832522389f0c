"""What is expected of nodes that make, change, encode and decode latents."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from helpers import CELLS, SIDE, source, tensor

from .expect import acts, empties, flat, foreign, garbled, gives, holds, needs, neutral, row, same
from .world import World

UNIT = "; the host counts 8 pixels a cell, whatever the model"
HALF = SIDE // 2


def second(world: World) -> Any:
    return world.part("LATENT2")


def s(latent: Any) -> torch.Tensor:
    return latent["samples"]


def small(world: World) -> Any:
    """A latent of half the size."""
    return world.run("VAEEncode", pixels=tensor(source("green", (HALF, HALF))), vae=world.part("VAE"))


def two(world: World) -> Any:
    """A batch of two latents."""
    return {"samples": torch.cat([s(world.part("LATENT")), s(second(world))])}


def scaled(size: tuple[int, int], mode: str) -> Any:
    def formula(world: World, inputs: Any) -> torch.Tensor:
        corners = {} if mode in ("nearest-exact", "area") else {"align_corners": False}
        return F.interpolate(flat(inputs["samples"]), size, mode=mode, **corners)

    return formula


def interpolated(world: World, inputs: Any) -> torch.Tensor:
    """Of unit vectors along the channels, at lengths between."""
    one, other, ratio = s(inputs["samples1"]), s(inputs["samples2"]), inputs["ratio"]
    lengths = [torch.linalg.vector_norm(x, dim=1, keepdim=True) for x in (one, other)]
    mixed = one / lengths[0] * ratio + other / lengths[1] * (1 - ratio)
    return (
        mixed / torch.linalg.vector_norm(mixed, dim=1, keepdim=True) * (lengths[0] * ratio + lengths[1] * (1 - ratio))
    )


def pasted(world: World, inputs: Any) -> torch.Tensor:
    """The second latent, of half the size, in the first, from the cell (2, 2) on."""
    to = flat(inputs.get("samples_to") or inputs["destination"]).clone()
    what = flat(inputs.get("samples_from") or inputs["source"])
    to[:, :, 2:5, 2:5] = what
    return to


def masked(world: World, inputs: Any) -> torch.Tensor:
    """The left half of the second latent over the first."""
    to = flat(inputs["destination"]).clone()
    to[..., : CELLS // 2] = flat(inputs["source"])[..., : CELLS // 2]
    return to


def sharpened(world: World, inputs: Any) -> torch.Tensor:
    """By hand: unit vectors along the channels, less a Gaussian of themselves."""
    x = flat(inputs["samples"])
    radius, sigma, alpha = 2, 1.0, 0.5
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    line = torch.linspace(-1, 1, 2 * radius + 1)
    kernel = torch.exp(-(line[:, None] ** 2 + line[None] ** 2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    unit = F.pad(x / (length + 1e-6), (radius,) * 4, mode="reflect")
    soft = torch.stack(
        [(F.unfold(c[:, None], 2 * radius + 1) * kernel.reshape(1, -1, 1)).sum(1) for c in unit.unbind(1)], 1
    )
    soft = soft.reshape(x.shape)
    unit = x / (length + 1e-6)
    return (unit + 10 * alpha * (unit - soft)) * length


def drawn_alike(world: World, inputs: Any, outputs: Any) -> bool | str:
    """Of a batch with one seed for all, both pictures are the same."""
    drawn = flat({"samples": world.draw(latent=outputs[0])})
    return torch.allclose(drawn[0], drawn[1], atol=1e-3) or "the pictures differ"


def kept(world: World, inputs: Any, outputs: Any) -> bool | str:
    """The right half stays, the left half is drawn."""
    latent = outputs[-1]
    drawn, before = flat({"samples": world.draw(latent={**latent}, denoise=1.0)}), flat(latent)
    if not torch.allclose(drawn[..., CELLS // 2 + 1 :], before[..., CELLS // 2 + 1 :], atol=1e-3):
        return "the kept half changed"
    if bad := garbled(drawn, world.plain()):
        return bad
    return not torch.allclose(drawn[..., :3], before[..., :3], atol=1e-2) or "the masked half was not drawn"


def listed(world: World, inputs: Any, outputs: Any) -> bool | str:
    """Two latents of one picture each."""
    parts = outputs[0]
    whole = s(two(world))
    if len(parts) != 2:
        return f"{len(parts)} latents"
    return all(torch.equal(s(part), whole[i : i + 1]) for i, part in enumerate(parts)) or "other pictures"


def comes_back(world: World, picture: torch.Tensor, image: torch.Tensor) -> bool | str:
    if image.shape != picture.shape:
        return f"{list(image.shape)} where {list(picture.shape)} is right"
    error = float(((image - picture) ** 2).mean())
    return error < 0.01 or f"mean squared error {error:.3g}"


def encoded(world: World, inputs: Any, outputs: Any) -> bool | str:
    """[1, 48, 6, 6], and the picture comes back to 20 dB."""
    if list(s(outputs[0]).shape) != [1, 48, CELLS, CELLS]:
        return f"{list(s(outputs[0]).shape)} where {[1, 48, CELLS, CELLS]} is right"
    return comes_back(world, inputs["pixels"], world.decode(s(outputs[0])))


def decoded(world: World, inputs: Any, outputs: Any) -> bool | str:
    return comes_back(world, tensor(source()), outputs[0])


def saved_again(world: World, inputs: Any, outputs: Any) -> bool | str:
    """Load Latent reads the file back."""
    import shutil
    from pathlib import Path

    import folder_paths

    found = sorted(Path(folder_paths.get_output_directory()).rglob("sweep_*.latent"))
    if not found:
        return "no file"
    shutil.copy(found[-1], folder_paths.get_input_directory())
    again = world.run("LoadLatent", latent=found[-1].name)
    return same(again, inputs["samples"]) or "another latent"


def concatenated(dim: int) -> Any:
    return lambda world, inputs: torch.cat([s(inputs["samples1"]), s(inputs["samples2"])], dim)


OPERATION = {"operation": lambda world: world.run("LatentOperationSharpen", sharpen_radius=2, sigma=1.0, alpha=0.5)}
AUDIO = "an audio model"

ROWS = [
    # Changing
    row("LatentCrop", gives(
        "the cells 2 to 10 down and 4 to 12 across" + UNIT, lambda w, i: flat(i["samples"])[..., 2:10, 4:12]
    ), width=64, height=64, x=32, y=16, samples=lambda w: w.run(
        "VAEEncode", pixels=tensor(source("red", (256, 256))), vae=w.part("VAE"))),
    row("LatentFlip", gives("the latent upside down", lambda w, i: s(i["samples"]).flip(-2))),
    row("LatentFlip", gives("the latent mirrored", lambda w, i: s(i["samples"]).flip(-1)), label="horizontally",
        flip_method="y-axis: horizontally"),
    row("LatentRotate", gives(
        "a quarter turn clockwise", lambda w, i: s(i["samples"]).transpose(-1, -2).flip(-1)
    ), rotation="90 degrees"),
    row("LatentRotate", gives("half a turn", lambda w, i: s(i["samples"]).flip(-1, -2)), label="180",
        rotation="180 degrees"),
    row("LatentRotate", gives(
        "a quarter turn anticlockwise", lambda w, i: s(i["samples"]).transpose(-1, -2).flip(-2)
    ), label="270", rotation="270 degrees"),
    row("LatentComposite", gives("the second latent from cell (2, 2)" + UNIT, pasted), x=16, y=16, samples_from=small),
    row("LatentComposite", gives("the latent itself, where both are one, feathered", lambda w, i: i["samples_to"]),
        label="feathered", x=0, y=0, feather=16, samples_from=lambda w: w.part("LATENT")),
    row("LatentCompositeMasked", gives("the second latent inside the mask", masked), source=second,
        mask=lambda w: w.part("MASK")),
    row("LatentCompositeMasked", gives("the second latent from cell (2, 2)" + UNIT, pasted), label="without a mask",
        source=small, x=16, y=16),
    row("LatentBlend", gives("0.3 of the one and 0.7 of the other", lambda w, i: (
        0.3 * s(i["samples1"]) + 0.7 * s(i["samples2"])
    )), samples2=second, blend_factor=0.3),
    row("LatentBlend", gives(
        "the half of one, and of another of half the size, made larger", lambda w, i: 0.5 * flat(i["samples1"]) + 0.5
        * F.interpolate(flat(i["samples2"]), (CELLS, CELLS), mode="bicubic")
    ), label="of another size", samples2=small),
    row("LatentAdd", gives("the sum", lambda w, i: s(i["samples1"]) + s(i["samples2"])), samples2=second),
    row("LatentSubtract", gives("the difference", lambda w, i: s(i["samples1"]) - s(i["samples2"]), drawn=False),
        samples2=second),
    row("LatentMultiply", gives("the product", lambda w, i: 0.7 * s(i["samples"])), multiplier=0.7),
    row("LatentInterpolate", gives("directions and lengths between", interpolated), samples2=second, ratio=0.3),
    row("LatentConcat", gives("both side by side", concatenated(-1)), samples2=second, dim="x"),
    row("LatentConcat", gives("both one below the other", concatenated(-2)), label="y", samples2=second, dim="y"),
    row("LatentCut", gives("the cells 2 and 3", lambda w, i: s(i["samples"])[..., 2:4]), dim="x", index=2, amount=2),
    row("LatentCutToBatch", gives("three pictures, from left to right", lambda w, i: torch.cat(
        flat(i["samples"]).chunk(3, -1)
    )), dim="x", slice_size=2),
    row("LatentBatch", gives("a batch of both", lambda w, i: torch.cat([s(i["samples1"]), s(i["samples2"])])),
        samples2=second),
    row("BatchLatentsNode", gives("a batch of both", lambda w, i: s(two(w))), latents=lambda w: {
        "latent_0": w.part("LATENT"), "latent_1": w.part("LATENT2")}),
    row("LatentFromBatch", gives("the second of a batch", lambda w, i: s(i["samples"])[1:2]), samples=two,
        batch_index=1),
    row("RebatchLatents", holds("two latents of one picture each", listed), latents=lambda w: [two(w)], batch_size=1),
    row("RepeatLatentBatch", gives("the latent twice", lambda w, i: torch.cat([s(i["samples"])] * 2)), amount=2),
    row("LatentBatchSeedBehavior", holds("both pictures of a batch are the same", drawn_alike), samples=lambda w: {
        "samples": torch.zeros_like(s(two(w)))}, seed_behavior="fixed"),
    row("LatentUpscale", gives("the latent at twice the cells" + UNIT, scaled((12, 12), "bilinear")),
        upscale_method="bilinear"),
    row("LatentUpscaleBy", gives("the latent at 1.5 times the cells", scaled((9, 9), "nearest-exact")), scale_by=1.5),
    row("LatentUpscaleBy", gives("the latent at 1.5 times the cells", scaled((9, 9), "area")), label="area",
        upscale_method="area", scale_by=1.5),
    row("LatentApplyOperation", gives("the latent sharpened", sharpened, atol=1e-2), **OPERATION),
    row("LatentApplyOperationCFG", acts(), **OPERATION),
    row("SetLatentNoiseMask", holds("the right half stays, the left is drawn", kept)),
    row("SaveLatent", holds("Load Latent reads the file back", saved_again), filename_prefix="sweep"),
    row("TrimVideoLatent", neutral("no frame is cut"), trim_amount=0, samples=lambda w: w.part("EMPTY")),
    row("NormalizeVideoLatentStart", foreign("video models")),
    row("ReplaceVideoLatentFrames", foreign("video models"), source=second),
    row("SeedVR2TemporalChunk", foreign("SeedVR2"), chunking_mode={"chunking_mode": "auto"}),
    row("SeedVR2TemporalMerge", foreign("SeedVR2")),
    row("LTXVConcatAVLatent", foreign("LTX"), audio_latent=second),
    row("LTXVSeparateAVLatent", foreign("LTX")),
    row("LTXVImgToVideoInplace", foreign("LTX")),
    # Empty ones
    row("EmptyLatentImage", empties()),
    row("EmptySD3LatentImage", empties()),
    row("EmptyFlux2LatentImage", empties()),
    row("EmptyHunyuanImageLatent", empties()),
    row("EmptyQwenImageLayeredLatentImage", empties(", of one layer"), layers=0),
    row("EmptyChromaRadianceLatentImage", empties()),
    row("EmptyHiDreamO1LatentImage", foreign("HiDream O1, in pixels")),
    row("StableCascade_EmptyLatentImage", foreign("Stable Cascade, at 1/42"), width=256, height=256),
    row("Wan22ImageToVideoLatent", empties(), length=1),
    row("EmptyHunyuanLatentVideo", empties(), length=1),
    row("EmptyHunyuanVideo15Latent", empties(), length=1),
    row("EmptyARVideoLatent", empties(), length=1),
    row("EmptyLTXVLatentVideo", empties(), length=1),
    row("EmptyMochiLatentVideo", empties(), length=1),
    row("EmptyCosmosLatentVideo", empties(), length=1),
    row("CosmosImageToVideoLatent", empties(), length=1),
    row("CosmosPredict2ImageToVideoLatent", empties(), length=1),
    row("EmptyMiniMaxH3LatentAV", foreign("MiniMax H3, with sound"), length=1),
    row("EmptyLatentHunyuan3Dv2", foreign("Hunyuan 3D")),
    row("EmptyLatentAudio", foreign(AUDIO), seconds=1.0),
    row("EmptyAceStepLatentAudio", foreign(AUDIO), seconds=1.0),
    row("EmptyAceStep1.5LatentAudio", foreign(AUDIO), seconds=1.0),
    row("LTXVEmptyLatentAudio", foreign(AUDIO)),
    # Encoding and decoding
    row("VAEEncode", holds("48 channels of 16-pixel cells; the picture comes back to 20 dB", encoded)),
    row("VAEEncodeTiled", holds("48 channels of 16-pixel cells; the picture comes back to 20 dB", encoded),
        tile_size=64, overlap=16),
    row("VAEDecode", holds("the encoded picture comes back to 20 dB", decoded)),
    row("VAEDecodeTiled", holds("the encoded picture comes back to 20 dB", decoded), tile_size=64, overlap=16),
    row("VAEEncodeForInpaint", holds("the unmasked half stays, the other is drawn", kept), grow_mask_by=0),
    row("InpaintModelConditioning", holds("the unmasked half stays, the other is drawn", kept)),
    row("VAEDecodeAudio", foreign(AUDIO)),
    row("VAEDecodeAudioTiled", foreign(AUDIO)),
    row("VAEDecodeHunyuan3D", foreign("Hunyuan 3D"), num_chunks=1000, octree_resolution=16),
    row("VAEDecodeTripoSplat", foreign("TripoSplat"), num_gaussians=1024),
    row("LTXVAudioVAEDecode", foreign(AUDIO)),
    row("StableCascade_StageC_VAEEncode", foreign("Stable Cascade")),
    row("StableCascade_SuperResolutionControlnet", foreign("Stable Cascade")),
    row("LoadLatent", needs("nothing: it is tried with Save Latent")),
]  # fmt: skip
