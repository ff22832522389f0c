"""What is expected of nodes that patch, merge, load and save models."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from helpers import PROMPT
from safetensors.torch import save_file

from .expect import acts, flat, foreign, holds, like, needs, neutral, row, same
from .world import World, gradient

UNET = "a UNet's blocks, which neither Wan nor Flux has"
PATCH = "a model patch file"
TWENTY, TEN = {"steps": 20}, {"steps": 10}
LAYERS = {"start_percent": 0.0, "end_percent": 1.0}


@cache
def lora_file() -> str:
    """A LoRA in Wan's original names, among ComfyUI's own."""
    import folder_paths

    generator = torch.Generator().manual_seed(0)
    down, up = (torch.randn(shape, generator=generator) * 0.3 for shape in ((4, 640), (256, 4)))
    name = "diffusion_model.blocks.2.ffn.2"
    folder = Path(folder_paths.get_folder_paths("loras")[0])
    folder.mkdir(parents=True, exist_ok=True)
    save_file({f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}, folder / "sweep.safetensors")
    return "sweep.safetensors"


def lora_tensors(world: World) -> Any:
    import comfy.utils
    import folder_paths

    return comfy.utils.load_torch_file(folder_paths.get_full_path("loras", lora_file()))


def with_lora(world: World) -> Any:
    """A second MODEL: ours with other weights in one layer."""
    return world.run(
        "LoraLoaderModelOnly", model=world.part("MODEL"), lora_name=lora_file(), strength_model=1.0
    )  # fmt: skip


def of_lora(world: World) -> torch.Tensor:
    return world.draw(model=with_lora(world))


def second_clip(world: World) -> Any:
    """A second CLIP: ours with weaker values in its attention."""
    return world.run("CLIPAttentionMultiply", clip=world.part("CLIP"), q=1.0, k=1.0, v=0.5, out=1.0)


def of_clip(clip: Callable[[World], Any]) -> Callable[[World], torch.Tensor]:
    def graph(world: World) -> torch.Tensor:
        words = [world.run("CLIPTextEncode", clip=clip(world), text=text) for text in (PROMPT, "")]
        return world.draw(positive=words[0], negative=words[1])

    return graph


def model_difference(world: World) -> Any:
    return world.run("ModelMergeSubtract", model1=with_lora(world), model2=world.part("MODEL"), multiplier=1.0)


def clip_difference(world: World) -> Any:
    return world.run("CLIPMergeSubtract", clip1=second_clip(world), clip2=world.part("CLIP"), multiplier=1.0)


def added_model(world: World, inputs: Any, outputs: Any) -> bool | str:
    model = world.run("ModelMergeAdd", model1=world.part("MODEL"), model2=outputs[0])
    return same(world.draw(model=model), of_lora(world)) or "another picture"


def added_clip(world: World, inputs: Any, outputs: Any) -> bool | str:
    clip = world.run("CLIPMergeAdd", clip1=world.part("CLIP"), clip2=outputs[0])
    return same(of_clip(lambda w: clip)(world), of_clip(second_clip)(world)) or "another picture"


def merging(node: str) -> Any:
    """All ratios 0: the second model's picture."""
    expected = like("the second model's, at ratio 0", of_lora)
    return row(node, expected, model2=with_lora, **{"*FLOAT": 0.0})


# Saving


def newest(folder: str, prefix: str) -> Path | None:
    import folder_paths

    found = sorted(Path(folder_paths.get_output_directory(), folder).rglob(f"{prefix}*.safetensors"))
    return found[-1] if found else None


def opens_again(folder: str, into: str, loader: Callable[[World, str], Any]) -> Any:
    """The saved file, put among ComfyUI's own, is opened by Load LightBagel and draws the same picture."""

    def check(world: World, inputs: Any, outputs: Any) -> bool | str:
        import folder_paths

        file = newest(folder, "sweep")
        if file is None:
            return "no file"
        place = Path(folder_paths.get_folder_paths(into)[0])
        place.mkdir(parents=True, exist_ok=True)
        name = f"sweep-{folder}.safetensors"
        shutil.copy(file, place / name)
        folder_paths.filename_list_cache.clear()
        model, clip, vae = loader(world, name)
        if model is None:
            return "not opened"
        words = [world.run("CLIPTextEncode", clip=clip, text=text) for text in (PROMPT, "")]
        drawn = world.draw(model=model, positive=words[0], negative=words[1])
        image = world.run("VAEDecode", vae=vae, samples={"samples": drawn})
        right = world.decode(world.plain())
        return torch.allclose(image, right, atol=0.02) or "another picture"

    return check


def opened(**files: str) -> Callable[[World, str], Any]:
    def loader(world: World, name: str) -> Any:
        given = {"checkpoint": "nano (built in)", "weight_dtype": "float32"}
        return world.call("LightBagelLoader", **{**given, **dict.fromkeys(files, name)})

    return loader


SAVED = "Load LightBagel opens the file, which draws the same picture"


def has_lora(world: World, inputs: Any, outputs: Any) -> bool | str:
    file = newest("loras", "sweep")
    return (file is not None and file.stat().st_size > 1000) or "no file, or an empty one"


def trained(world: World, inputs: Any, outputs: Any) -> bool | str:
    """A LoRA that changes the picture."""
    lora = outputs[0]
    model = world.run("LoraModelLoader", model=world.part("MODEL"), lora=lora, strength_model=1.0, bypass=False)
    return not same(world.draw(model=model), world.plain(), atol=1e-5) or "the LoRA changes nothing"


def soft_mask(world: World) -> dict[str, Any]:
    return world.run("SetLatentNoiseMask", samples=world.part("LATENT"), mask=gradient(world))


def differential(world: World, inputs: Any, outputs: Any) -> bool | str:
    """With a gradient for a mask, the black side stays and the white side is drawn."""
    latent, draw = soft_mask(world), {"steps": 6, "denoise": 1.0}
    plain = flat(world.draw(latent=latent, **draw))
    drawn, before = flat(world.draw(model=outputs[0], latent=latent, **draw)), flat(latent)
    if torch.allclose(drawn, plain, atol=1e-3):
        return "unchanged"
    far, near = (float((drawn - before)[..., column].abs().mean()) for column in (-1, 0))
    return far > near or "the black side changes more than the white one"


def dataset(world: World, inputs: Any, outputs: Any) -> bool | str:
    latents, conds = outputs[0], outputs[1]
    if not same(latents[0], world.part("LATENT"), atol=1e-2):
        return "other latents than VAE Encode's"
    drawn = world.draw(positive=conds[0])
    return same(drawn, world.plain()) or "another picture from its conditioning"


def bucketed(world: World, inputs: Any, outputs: Any) -> bool | str:
    latents = outputs[0]
    return (len(latents) == 1 and same(latents[0], world.part("LATENT"))) or "not one bucket of the one latent"


MERGES = [
    "ModelMergeSimple", "ModelMergeBlocks", "ModelMergeWAN2_1", "ModelMergeQwenImage", "ModelMergeFlux1",
    "ModelMergeSD1", "ModelMergeSD2", "ModelMergeSDXL", "ModelMergeSD3_2B", "ModelMergeSD35_Large",
    "ModelMergeAuraflow", "ModelMergeCosmos7B", "ModelMergeCosmos14B", "ModelMergeCosmosPredict2_2B",
    "ModelMergeCosmosPredict2_14B", "ModelMergeKrea2", "ModelMergeLTXV", "ModelMergeMochiPreview",
]  # fmt: skip


def written(world: World, inputs: Any, outputs: Any) -> bool | str:
    """Whether SaveTrainingDataset wrote anything, into the folder that this ComfyUI has for such."""
    nodes = import_module("comfy_extras.nodes_dataset")
    old = Path(import_module("folder_paths").get_output_directory(), "sweep-data")
    folder = Path(nodes.get_dataset_save_dir("sweep-data")) if hasattr(nodes, "get_dataset_save_dir") else old
    return any(folder.glob("*")) or "no file"


ROWS = [
    # Guidance
    row("RescaleCFG", acts({"multiplier": 0.0}), multiplier=0.7),
    row("RenormCFG", acts(), cfg_trunc=100.0, renorm_cfg=0.5, draw={"cfg": 4.0}),
    row("CFGNorm", acts(), strength=0.7),
    row("CFGZeroStar", acts()),
    row("TCFG", acts()),
    row("Mahiro", acts()),
    row("APG", acts(), eta=0.5, norm_threshold=1.0, draw={"cfg": 4.0}),
    row("FreSca", acts({"scale_high": 1.0}), scale_low=1.0, scale_high=1.5, freq_cutoff=2),
    row("PerpNeg", acts(), empty_conditioning=lambda w: w.part("OTHER")),
    row("NAGuidance", foreign("models that call its patch, which Wan does not")),
    row("CFGOverride", like("one at that CFG", lambda w: w.draw(cfg=5.0)), cfg=5.0),
    row("VideoLinearCFGGuidance", like("one at min_cfg, which the first of a batch gets", lambda w: w.draw(cfg=1.5)),
        min_cfg=1.5),
    row("VideoTriangleCFGGuidance", like("one at min_cfg, which the first of a batch gets", lambda w: w.draw(cfg=1.5)),
        min_cfg=1.5),
    row("SkipLayerGuidanceDiT", acts({"scale": 0.0}), double_layers="1, 2", single_layers="", scale=3.0, **LAYERS),
    row("SkipLayerGuidanceDiTSimple", acts({"double_layers": ""}), double_layers="1, 2", single_layers="", **LAYERS),
    row("SkipLayerGuidanceSD3", acts({"scale": 0.0}), layers="1, 2", scale=3.0, **LAYERS),
    row("PerturbedAttentionGuidance", foreign(UNET)),
    row("SelfAttentionGuidance", foreign(UNET)),
    row("TemporalScoreRescaling", acts({"tsr_k": 1.0}), tsr_k=0.8),
    row("Epsilon Scaling", acts({"scaling_factor": 1.0}), scaling_factor=1.1),
    row("DifferentialDiffusion", holds(
        "changes the picture; with a grey mask the darker side changes less", differential)),
    # Sampling
    row("ModelSamplingSD3", acts({"shift": 4.0}), shift=8.0),
    row("ModelSamplingAuraFlow", foreign("AuraFlow, whose times run to 1"), shift=4.0),
    row("ModelSamplingFlux", foreign("Flux, whose times run to 1")),
    row("ModelSamplingLTXV", foreign("LTX, whose times run to 1")),
    row("MiniMaxH3SigmaShift", foreign("MiniMax H3")),
    row("ModelSamplingDiscrete", foreign("eps and v models")),
    row("ModelSamplingContinuousEDM", foreign("EDM models")),
    row("ModelSamplingContinuousV", foreign("v models")),
    row("ModelSamplingStableCascade", foreign("Stable Cascade")),
    row("ModelNoiseScale", acts({"noise_scale": 1.0}), noise_scale=1.2),
    row("ModelComputeDtype", acts({"dtype": "fp32"}), dtype="bf16"),
    # Skipping, attention, windows
    row("EasyCache", acts({"reuse_threshold": 0.0}), reuse_threshold=0.3, draw=TWENTY),
    row("LazyCache", acts({"reuse_threshold": 0.0}), reuse_threshold=0.3, draw=TWENTY),
    row("ScaleROPE", acts({"scale_x": 1.0}), scale_x=1.5),
    row("FreeU", foreign(UNET)),
    row("FreeU_V2", foreign(UNET)),
    row("HyperTile", foreign(UNET)),
    row("TomePatchModel", foreign(UNET)),
    row("PatchModelAddDownscale", foreign(UNET)),
    row("UNetSelfAttentionMultiply", foreign(UNET), v=0.5),
    row("UNetCrossAttentionMultiply", foreign(UNET), v=0.5),
    row("UNetTemporalAttentionMultiply", foreign(UNET), self_temporal=0.5),
    row("CLIPAttentionMultiply", acts({"v": 1.0}), v=0.5),
    row("ContextWindowsManual", foreign("videos, whose frames it parts"), dim=2),
    row("WanContextWindowsManual", neutral("one frame is one window")),
    row("LTXVContextWindows", foreign("LTX")),
    row("FluxKVCache", foreign("Flux")),
    row("ChromaRadianceOptions", foreign("Chroma Radiance")),
    row("HiDreamO1PatchSeamSmoothing", foreign("HiDream O1")),
    row("TripoSplatSamplingPreview", foreign("TripoSplat")),
    row("wanBlockSwap", neutral("it does nothing any more, says the host")),
    row("TorchCompileModel", needs("a compiler: tests/comfy/test_stock_nodes.py tries it")),
    row("SelectModelDevice", neutral("the device is the one it has"), device="default"),
    row("SelectCLIPDevice", neutral("the device is the one it has"), device="default"),
    row("SelectVAEDevice", holds("the VAE decodes as before", lambda w, i, o: torch.equal(
        w.run("VAEDecode", vae=o[0], samples={"samples": w.plain()}), w.decode(w.plain())))),
    row("MultiGPU_WorkUnits", neutral("there is one device")),
    row("SetClipHooks", neutral("there are no hooks")),
    row("ARVideoI2V", foreign("autoregressive Wan"), length=1),
    row("RTDETR_detect", foreign("RT-DETR")),
    row("SAM3_Detect", foreign("SAM 3")),
    row("SAM3_VideoTrack", foreign("SAM 3")),
    row("SDPoseKeypointExtractor", foreign("SDPose")),
    # LoRA
    row("LoraLoader", acts({"strength_model": 0.0}), lora_name=lambda w: lora_file(), strength_clip=0.0),
    row("LoraLoaderModelOnly", acts({"strength_model": 0.0}), lora_name=lambda w: lora_file()),
    row("LoraLoaderBypass", like("Load LoRA's", of_lora), lora_name=lambda w: lora_file(), strength_clip=0.0),
    row("LoraLoaderBypassModelOnly", like("Load LoRA's", of_lora), lora_name=lambda w: lora_file()),
    row("LoraModelLoader", like("Load LoRA's", of_lora), lora=lora_tensors),
    row("LoraSave", holds("a file", has_lora), model_diff=model_difference, filename_prefix="loras/sweep"),
    row("TrainLoraNode", holds("a LoRA that changes the picture", trained), steps=2,
        latents=lambda w: [w.part("LATENT")],
        positive=lambda w: [w.part("CONDITIONING")], training_dtype="fp32", lora_dtype="fp32", learning_rate=0.01),
    row("MakeTrainingDataset", holds("VAE Encode's latents and CLIP Text Encode's conditionings", dataset),
        images=lambda w: [w.part("IMAGE")], texts=lambda w: [PROMPT]),
    row("ResolutionBucket", holds("one bucket", bucketed), latents=lambda w: [w.part("LATENT")],
        conditioning=lambda w: [w.part("CONDITIONING")]),
    row("SaveTrainingDataset", holds("the files are written", written), folder_name="sweep-data",
        latents=lambda w: [w.part("LATENT")], conditioning=lambda w: [w.part("CONDITIONING")]),
    row("LoadTrainingDataset", needs("a folder of training data")),
    # Merging
    *[merging(node) for node in MERGES],
    row("ModelMergeAdd", like("the second model's: ours and the difference", of_lora), model2=model_difference),
    row("ModelMergeSubtract", holds("with Merge Add, the second model's picture", added_model), model1=with_lora),
    row("CLIPMergeSimple", like("the second CLIP's, at ratio 0", of_clip(second_clip)), clip2=second_clip, ratio=0.0),
    row("CLIPMergeAdd", like("the second CLIP's: ours and the difference", of_clip(second_clip)),
        clip2=clip_difference),
    row("CLIPMergeSubtract", holds("with Merge Add, the second CLIP's picture", added_clip), clip1=second_clip),
    # Saving
    row("ModelSave", holds(SAVED, opens_again("diffusion_models", "lightbagel", opened(checkpoint=""))),
        filename_prefix="diffusion_models/sweep"),
    row("CheckpointSave", holds(SAVED, opens_again("checkpoints", "lightbagel", opened(checkpoint=""))),
        filename_prefix="checkpoints/sweep"),
    row("CLIPSave", holds(SAVED, opens_again("clip", "text_encoders", opened(text_encoder=""))),
        filename_prefix="clip/sweep"),
    row("VAESave", holds(SAVED, opens_again("vae", "vae", opened(vae_file=""))), filename_prefix="vae/sweep"),
    row("ImageOnlyCheckpointSave", needs("a CLIP vision model")),
    # Loading
    *[row(node, needs("a file of another model")) for node in (
        "CheckpointLoader", "CheckpointLoaderSimple", "unCLIPCheckpointLoader", "ImageOnlyCheckpointLoader",
        "DiffusersLoader", "CLIPLoader", "DualCLIPLoader", "TripleCLIPLoader", "QuadrupleCLIPLoader",
        "LTXAVTextEncoderLoader", "LTXVAudioVAELoader", "UNETLoader", "VAELoader", "DiffControlNetLoader",
        "HypernetworkLoader")],
    *[row(node, needs(PATCH)) for node in (
        "USOStyleReference", "QwenImageDiffsynthControlnet", "ZImageFunControlnet", "SUPIRApply",
        "WanUni3CControlnetApply", "AnimaLLLiteApply", "WanInfiniteTalkToVideo", "HunyuanVideo15LatentUpscaleWithModel",
        "LTXVLatentUpsampler")],
    *[row(node, needs("a CLIP vision model")) for node in (
        "SVD_img2vid_Conditioning", "SV3D_Conditioning", "StableZero123_Conditioning",
        "StableZero123_Conditioning_Batched", "TripoSplatConditioning", "Hunyuan3Dv2Conditioning",
        "Hunyuan3Dv2ConditioningMultiView")],
    row("VOIDWarpedNoise", needs("an optical flow model")),
    row("LTXVAudioVAEEncode", needs("a recording")),
    row("VAEEncodeAudio", needs("a recording")),
]  # fmt: skip
