"""What is expected of nodes that make and change conditionings."""

from __future__ import annotations

from typing import Any

import torch
from helpers import PROMPT, SEED, SIDE

from .expect import acts, flat, foreign, holds, idle, like, needs, neutral, refused, row, same
from .world import OTHER, World

HALF = SIDE // 2
WIDE = 64  # pixels of two thirds, and the least that ConditioningSetArea takes


def other(world: World) -> Any:
    return world.part("OTHER")


def positive(world: World) -> Any:
    return world.part("CONDITIONING")


class Noise:
    """A NOISE of given numbers."""

    seed = SEED

    def __init__(self, numbers: torch.Tensor) -> None:
        self.numbers = numbers

    def generate_noise(self, latent: Any) -> torch.Tensor:
        return self.numbers.reshape(latent["samples"].shape)


def one_step(world: World, cond: Any, numbers: torch.Tensor) -> torch.Tensor:
    """Latents after one step without guidance, from given noise."""
    empty = torch.zeros(numbers.shape if world.part("EMPTY")["samples"].ndim == 4 else numbers.unsqueeze(2).shape)
    return flat(world.draw(noise=Noise(numbers), positive=cond, steps=1, cfg=1.0, latent={"samples": empty}))


def left_alone(world: World, inputs: Any, outputs: Any) -> bool | str:
    """The left part is a narrow picture of its own: drawn alone, from the left part of the noise."""
    noise = world.fixed_noise
    got = one_step(world, outputs[0], noise)[..., : WIDE // 16]
    right = one_step(world, positive(world), noise[..., : WIDE // 16].contiguous())
    if torch.allclose(got, right, rtol=1e-3, atol=1e-2):
        return True
    return f"differs by {float((got - right).abs().max()):.3g} from a picture of {WIDE} x {SIDE}"


def half_masked(world: World, inputs: Any, outputs: Any) -> bool | str:
    """Where the mask is 1, the one prompt's velocity; elsewhere, the other's."""
    noise, keep = world.fixed_noise, HALF // 16
    whole = 1 - world.part("MASK")
    rest = world.run(
        "ConditioningSetMask", conditioning=other(world), mask=whole, strength=1.0, set_cond_area="default"
    )
    both = world.run("ConditioningCombine", conditioning_1=outputs[0], conditioning_2=rest)
    got = one_step(world, both, noise)
    one, two = one_step(world, positive(world), noise), one_step(world, other(world), noise)
    if not torch.allclose(got[..., :keep], one[..., :keep], rtol=1e-3, atol=1e-2):
        return "inside the mask it is not the masked prompt's"
    return torch.allclose(got[..., keep:], two[..., keep:], rtol=1e-3, atol=1e-2) or "outside it is not the other's"


def averaged(world: World) -> torch.Tensor:
    """The mean of the two prompts' velocities: the mean of two runs of one step."""
    noise = world.fixed_noise
    return (one_step(world, positive(world), noise) + one_step(world, other(world), noise)) / 2


def combined(world: World, inputs: Any, outputs: Any) -> bool | str:
    return torch.allclose(one_step(world, outputs[0], world.fixed_noise), averaged(world), atol=1e-2) or "not the mean"


def default_outside(world: World, inputs: Any, outputs: Any) -> bool | str:
    """Outside the masked half the default prompt is drawn."""
    noise, keep = world.fixed_noise, HALF // 16
    got, two = one_step(world, outputs[0], noise), one_step(world, other(world), noise)
    one = one_step(world, positive(world), noise)
    if not torch.allclose(got[..., :keep], one[..., :keep], rtol=1e-3, atol=1e-2):
        return "inside the mask it is not the masked prompt's"
    return torch.allclose(got[..., keep:], two[..., keep:], rtol=1e-3, atol=1e-2) or "outside it is not the default's"


def left(world: World) -> Any:
    """The positive prompt on the left half."""
    return world.run(
        "ConditioningSetMask", conditioning=positive(world), mask=world.part("MASK"), strength=1.0,
        set_cond_area="default",
    )  # fmt: skip


def two_stages(world: World, inputs: Any, outputs: Any) -> bool | str:
    """The prompt for the first three of six steps, whose noise is above that at 0.45; then another."""
    rest = world.run("ConditioningSetTimestepRange", conditioning=other(world), start=0.45, end=1.0)
    both = world.run("ConditioningCombine", conditioning_1=outputs[0], conditioning_2=rest)
    got = world.draw(positive=both, steps=6)
    common = {"model": world.part("MODEL"), "noise_seed": SEED, "steps": 6, "cfg": 2.0, "sampler_name": "euler",
              "scheduler": "simple", "negative": world.part("NEGATIVE")}  # fmt: skip
    begun = world.run(
        "KSamplerAdvanced", add_noise="enable", positive=positive(world), latent_image=world.part("EMPTY"),
        start_at_step=0, end_at_step=3, return_with_leftover_noise="enable", **common,
    )  # fmt: skip
    ended = world.run(
        "KSamplerAdvanced", add_noise="disable", positive=other(world), latent_image=begun, start_at_step=3,
        end_at_step=10000, return_with_leftover_noise="disable", **common,
    )  # fmt: skip
    return same(got, ended, atol=1e-2) or "not the two stages' picture"


def question(world: World) -> str:
    return world.host.mappings["LightBagelDescribe"].INPUT_TYPES()["required"]["question"][1]["default"]


def words_said(world: World, inputs: Any, outputs: Any) -> bool | str:
    return (isinstance(outputs[0], str) and len(outputs[0].split()) > 2) or f"said {outputs[0]!r}"


def with_vision(world: World) -> Any:
    return {"image_0": world.part("IMAGE")}


AREA = "the left two thirds are drawn as a picture of their own size"
OURS = ("LightBagel",)
PAIR = {"positive_NEW": positive, "negative_NEW": lambda w: w.part("NEGATIVE")}

ROWS = [
    # Text
    row("CLIPTextEncode", neutral("it is how the plain picture's prompt is encoded"), text=PROMPT),
    row("CLIPTextEncode", like("the prompt without brackets' or refused", lambda w: w.draw(
        positive=w.run("CLIPTextEncode", clip=w.part("CLIP"), text=OTHER))), label="another prompt", text=OTHER),
    row("CLIPSetLastLayer", acts({"stop_at_clip_layer": -1}, "or said in the log"), stop_at_clip_layer=-2),
    row("T5TokenizerOptions", idle("T5's padding")),
    row("CLIPTextEncodeSDXL", refused(*OURS)),
    row("CLIPTextEncodeSDXLRefiner", foreign("SDXL's sizes and scores")),
    row("CLIPTextEncodeSD3", refused(*OURS), empty_padding="none"),
    row("CLIPTextEncodeFlux", refused(*OURS)),
    row("CLIPTextEncodeHiDream", refused(*OURS)),
    row("CLIPTextEncodeHunyuanDiT", refused(*OURS)),
    row("CLIPTextEncodeKandinsky5", refused(*OURS)),
    row("CLIPTextEncodePixArtAlpha", foreign("PixArt's sizes")),
    row("CLIPTextEncodeLumina2", refused("does not know")),
    row("CLIPTextEncodeControlnet", neutral("its prompt is for a ControlNet, which is not there")),
    row("TextEncodeAceStepAudio", foreign("an audio model")),
    row("TextEncodeAceStepAudio1.5", foreign("an audio model")),
    row("TextEncodeQwenImageEdit", refused(*OURS), image=lambda w: w.part("IMAGE"), vae=lambda w: w.part("VAE")),
    row("TextEncodeQwenImageEditPlus", refused(*OURS), image1=lambda w: w.part("IMAGE"), vae=lambda w: w.part("VAE")),
    row("TextEncodeZImageOmni", refused(*OURS), image1=lambda w: w.part("IMAGE"), vae=lambda w: w.part("VAE")),
    row("TextEncodeJoyImageEdit", refused(*OURS), images=with_vision, vae=lambda w: w.part("VAE")),
    row("TextEncodeBooguEdit", refused(*OURS), images=with_vision),
    row("TextEncodeMageFlowEdit", refused(*OURS), images=with_vision, vae=lambda w: w.part("VAE")),
    row("MiniMaxH3ImageToVideo", refused(*OURS), first_frame=lambda w: w.part("IMAGE")),
    row("MiniMaxH3ReferenceToVideo", foreign("MiniMax H3"), ref_images=with_vision),
    row("TextGenerate", holds("says something", words_said), prompt=question, max_length=24,
        image=lambda w: w.part("IMAGE"), sampling_mode={"sampling_mode": "off"}),
    row("TextGenerateLTX2Prompt", refused("does not know"), prompt=PROMPT, max_length=24,
        sampling_mode={"sampling_mode": "off"}),
    row("PhotoMakerEncode", needs("PhotoMaker")),
    row("GLIGENTextBoxApply", needs("GLIGEN")),
    row("TextEncodeHunyuanVideo_ImageToVideo", needs("a CLIP vision output")),
    # Changing and combining
    row("ConditioningCombine", holds("the mean of the two prompts' velocities", combined), conditioning_2=other),
    row("ConditioningAverage", acts({"conditioning_to_strength": 1.0}), conditioning_from=other,
        conditioning_to_strength=0.5),
    row("ConditioningConcat", refused("ConditioningConcat", "ConditioningCombine"), conditioning_from=other),
    row("ConditioningMultiply", acts({"multiplier": 1.0}, "or said in the log"), multiplier=2.0),
    row("ConditioningZeroOut", acts()),
    row("ConditioningSetArea", holds(AREA, left_alone), width=WIDE, height=SIDE),
    row("ConditioningSetArea", neutral("the area is the whole picture"), label="whole", width=SIDE, height=SIDE),
    row("ConditioningSetAreaPercentage", holds(AREA, left_alone), width=0.67),
    row("ConditioningSetAreaPercentage", neutral("the area is the whole picture"), label="whole"),
    row("ConditioningSetAreaPercentageVideo", holds(AREA, left_alone), width=0.67),
    row("ConditioningSetAreaStrength", neutral("one prompt's strength is divided out"), strength=0.5),
    row("ConditioningSetMask", holds("inside the mask the one prompt's velocity, outside the other's", half_masked)),
    row("ConditioningSetMask", holds("the same: bounds are at least 8 cells, here all of the picture", half_masked),
        label="mask bounds", set_cond_area="mask bounds"),
    row("ConditioningSetTimestepRange", neutral("it is all of the run")),
    row("ConditioningSetTimestepRange", holds(
        "the one prompt's steps, then the other's, as two samplers draw them", two_stages), label="half", end=0.45),
    row("ConditioningSetDefaultCombine", holds("the default prompt outside the mask", default_outside), cond=left,
        cond_DEFAULT=other),
    row("ConditioningSetProperties", holds("inside the mask the one prompt's velocity, outside the other's",
        half_masked), mask=lambda w: w.part("MASK")),
    row("ConditioningSetPropertiesAndCombine", holds("the mean of the two prompts' velocities", combined), cond=other),
    row("PairConditioningCombine", holds("the mean of the two prompts' velocities", combined), positive_B=other),
    row("PairConditioningSetProperties", holds("inside the mask the one prompt's velocity, outside the other's",
        half_masked), mask=lambda w: w.part("MASK"), **PAIR),
    row("PairConditioningSetPropertiesAndCombine", holds("the mean of the two prompts' velocities", combined),
        positive=other, **PAIR),
    row("PairConditioningSetDefaultCombine", holds("the default prompt outside the mask", default_outside),
        positive=left, positive_DEFAULT=other),
    row("ReferenceLatent", refused("ReferenceLatent", "LightBagel Text Encode"), latent=lambda w: w.part("LATENT")),
    # Of other families
    row("FluxGuidance", idle("Flux's guidance embedding")),
    row("FluxDisableGuidance", idle("Flux's guidance embedding")),
    row("FluxKontextMultiReferenceLatentMethod", idle("Flux Kontext's references")),
    row("LTXVConditioning", idle("LTX's frame rate")),
    row("ConditioningStableAudio", idle("Stable Audio's seconds")),
    row("PiDConditioning", foreign("PiD")),
    row("ReferenceTimbreAudio", foreign("an audio model"), latent=lambda w: w.part("LATENT")),
    row("SeedVR2Conditioning", foreign("SeedVR2")),
    row("HiDreamO1ReferenceImages", foreign("HiDream O1"), images=with_vision),
    row("StableCascade_StageB_Conditioning", foreign("Stable Cascade")),
    row("SD_4XUpscale_Conditioning", foreign("the 4x upscaler"), scale_ratio=1.0),
    row("InstructPixToPixConditioning", foreign("InstructPix2Pix")),
    row("LTXVAddGuide", foreign("LTX")),
    row("LTXVCropGuides", foreign("LTX")),
    row("LTXVImgToVideo", foreign("LTX")),
    row("LTXVReferenceAudio", needs("a recording")),
    row("GetICLoRAParameters", foreign("LTX")),
    row("HunyuanImageToVideo", foreign("HunyuanVideo"), start_image=lambda w: w.part("IMAGE")),
    row("HunyuanRefinerLatent", foreign("HunyuanImage's refiner")),
    row("HunyuanVideo15ImageToVideo", foreign("HunyuanVideo 1.5"), start_image=lambda w: w.part("IMAGE")),
    row("HunyuanVideo15SuperResolution", foreign("HunyuanVideo 1.5")),
    row("Kandinsky5ImageToVideo", foreign("Kandinsky 5"), start_image=lambda w: w.part("IMAGE")),
    row("BerniniConditioning", foreign("Bernini")),
    row("VOIDInpaintConditioning", foreign("VOID")),
    row("WanImageToVideo", foreign("Wan 2.1 image to video"), start_image=lambda w: w.part("IMAGE")),
    row("WanFirstLastFrameToVideo", foreign("Wan 2.1"), start_image=lambda w: w.part("IMAGE")),
    row("WanFunControlToVideo", foreign("Wan Fun"), start_image=lambda w: w.part("IMAGE")),
    row("Wan22FunControlToVideo", foreign("Wan Fun"), ref_image=lambda w: w.part("IMAGE")),
    row("WanFunInpaintToVideo", foreign("Wan Fun"), start_image=lambda w: w.part("IMAGE")),
    row("WanCameraImageToVideo", foreign("Wan Camera"), start_image=lambda w: w.part("IMAGE")),
    row("WanPhantomSubjectToVideo", foreign("Wan Phantom"), images=lambda w: w.part("IMAGE")),
    row("WanVaceToVideo", foreign("Wan VACE"), reference_image=lambda w: w.part("IMAGE")),
    row("WanAnimateToVideo", foreign("Wan Animate"), reference_image=lambda w: w.part("IMAGE")),
    row("WanHuMoImageToVideo", foreign("Wan HuMo"), ref_image=lambda w: w.part("IMAGE")),
    row("WanSoundImageToVideo", foreign("Wan S2V"), ref_image=lambda w: w.part("IMAGE")),
    row("WanSoundImageToVideoExtend", foreign("Wan S2V")),
    row("WanDancerVideo", foreign("Wan Dancer"), start_image=lambda w: w.part("IMAGE")),
    row("WanSCAILToVideo", foreign("Wan SCAIL"), reference_image=lambda w: w.part("IMAGE")),
    row("WanMoveTrackToVideo", foreign("Wan Move")),
    row("WanTrackToVideo", foreign("Wan ATI")),
    row("LotusConditioning", refused(*OURS)),
    row("StyleModelApply", needs("a style model")),
    row("unCLIPConditioning", needs("a CLIP vision output")),
    row("ControlNetApply", needs("a ControlNet")),
    row("ControlNetApplyAdvanced", needs("a ControlNet")),
    row("ControlNetApplySD3", needs("a ControlNet")),
    row("ControlNetInpaintingAliMamaApply", needs("a ControlNet")),
]  # fmt: skip
