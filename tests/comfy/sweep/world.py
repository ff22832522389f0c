"""Places a node: fills its inputs from one model's parts, and puts its outputs where a person would connect them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import helpers
import torch
from helpers import CELLS, PROMPT, SEED, SIDE, source, tensor

PACK = Path(__file__).resolve().parents[3]
STEPS = 2
OTHER = "a large green star on the right on a black background"
SIZES = {"width", "height", "target_width", "target_height"}


class Missing(Exception):
    """The node needs something that no socket of the model's gives: a file, another model, a recording."""


class World:
    """One model and its parts behind ComfyUI's sockets.

    parts: makers of MODEL, CLIP, VAE, CONDITIONING (positive), NEGATIVE and LATENT; a maker may be absent.
    """

    def __init__(self, host: Any, name: str, parts: dict[str, Callable[[World], Any]]) -> None:
        self.host, self.name = host, name
        self.makers = {**COMMON, **parts}
        self.made: dict[str, Any] = {}
        self.drawn: dict[Any, torch.Tensor] = {}
        self.inputs: dict[str, Any] = {}

    def part(self, kind: str) -> Any:
        """What the model gives for a kind of socket, made once."""
        if kind not in self.makers:
            raise Missing(f"needs {kind}")
        if kind not in self.made:
            with torch.inference_mode():
                self.made[kind] = self.makers[kind](self)
        return self.made[kind]

    # A node's inputs

    def call(self, node: str, **given: Any) -> tuple[Any, ...]:
        """The outputs of a node, with what is not given filled in; `inputs` afterwards holds what it was given."""
        kind = self.host.mappings[node]
        inputs = self.inputs = self.filled(kind, given)
        listed = getattr(kind, "INPUT_IS_LIST", False)
        if listed:
            inputs = {name: value if isinstance(value, list) else [value] for name, value in inputs.items()}
        with torch.inference_mode():
            outputs = run(kind, inputs)
        return outputs

    def filled(self, kind: Any, given: dict[str, Any]) -> dict[str, Any]:
        schema = kind.INPUT_TYPES()
        inputs = {}
        for group in ("required", "optional"):
            for name, spec in (schema.get(group) or {}).items():
                if name in given or group == "required":
                    value = given.get(name, NotImplemented)
                    value = value(self) if inspect.isfunction(value) else value
                    inputs[name] = self.default(name, spec) if value is NotImplemented else value
                    if "*FLOAT" in given and spec[0] == "FLOAT":
                        inputs[name] = given["*FLOAT"]
        unknown = given.keys() - inputs.keys() - {"*FLOAT"}
        if unknown:
            raise TypeError(f"{kind} has no input {sorted(unknown)}")
        return inputs

    def default(self, name: str, spec: Any) -> Any:
        kind, options = spec[0], spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {}
        choices = kind if isinstance(kind, list) else options.get("options") if kind == "COMBO" else None
        if choices is not None:
            if not choices:
                raise Missing(f"needs a file for its input {name}")
            return options.get("default", choices[0])
        if name in SIZES and kind == "INT":
            return SIDE
        if kind == "INT" and name in ("length", "video_frames", "frames_number"):
            return 1
        if kind == "INT" and name == "steps":
            return STEPS
        if kind == "STRING" and "default" not in options:
            return "" if "negative" in name else PROMPT
        if "default" in options and kind in ("INT", "FLOAT", "STRING", "BOOLEAN"):
            return options["default"]
        if kind == "BOOLEAN":
            return False
        for one in str(kind).split(","):
            if one == "CONDITIONING" and "negative" in name:
                one = "NEGATIVE"
            if one in self.makers:
                return self.part(one)
        raise Missing(f"needs {kind}")

    # Its outputs

    def finish(self, node: str, outputs: tuple[Any, ...], **more: Any) -> torch.Tensor:
        """The latents drawn with a node's outputs in their places."""
        places: dict[str, Any] = {}
        for kind, value in zip(self.host.mappings[node].RETURN_TYPES, outputs, strict=False):
            if kind == "CONDITIONING":
                places.setdefault("negative" if "positive" in places else "positive", value)
            elif kind == "CLIP":
                places["positive"] = self.call("CLIPTextEncode", clip=value, text=PROMPT)[0]
                places["negative"] = self.call("CLIPTextEncode", clip=value, text="")[0]
            elif kind in ("MODEL", "LATENT", "GUIDER", "SAMPLER", "SIGMAS", "NOISE"):
                places.setdefault(kind.lower(), value)
        return self.draw(**{**places, **more})

    def draw(self, **parts: Any) -> torch.Tensor:
        """Latents of a sampler: KSampler, or SamplerCustomAdvanced where a part of it is given."""
        if {"guider", "sampler", "sigmas", "noise"} & parts.keys():
            return self.custom(**parts)
        latent = parts.get("latent") or self.part("EMPTY")
        empty = not latent["samples"].is_nested and torch.count_nonzero(latent["samples"]) == 0
        inputs = {
            "model": parts.get("model") or self.part("MODEL"),
            "seed": SEED,
            "steps": parts.get("steps", STEPS),
            "cfg": parts.get("cfg", 2.0),
            "sampler_name": parts.get("sampler_name", "euler"),
            "scheduler": parts.get("scheduler", "simple"),
            "positive": parts.get("positive") or self.part("CONDITIONING"),
            "negative": parts.get("negative") or self.part("NEGATIVE"),
            "latent_image": latent,
            "denoise": parts.get("denoise", 1.0 if empty else 0.6),
        }
        with torch.inference_mode():
            return run(self.host.mappings["KSampler"], inputs)[0]["samples"]

    def custom(self, **parts: Any) -> torch.Tensor:
        model = parts.get("model") or self.part("MODEL")
        guider = parts.get("guider") or self.run(
            "CFGGuider",
            model=model,
            positive=parts.get("positive") or self.part("CONDITIONING"),
            negative=parts.get("negative") or self.part("NEGATIVE"),
            cfg=parts.get("cfg", 2.0),
        )
        sigmas = parts.get("sigmas")
        if sigmas is None:
            sigmas = self.run(
                "BasicScheduler", model=model, scheduler="simple", steps=parts.get("steps", STEPS), denoise=1.0
            )
        return self.run(
            "SamplerCustomAdvanced",
            noise=parts.get("noise") or self.part("NOISE"),
            guider=guider,
            sampler=parts.get("sampler") or self.part("SAMPLER"),
            sigmas=sigmas,
            latent_image=parts.get("latent") or self.part("EMPTY"),
        )["samples"]

    def run(self, node: str, **inputs: Any) -> Any:
        """The first output of a node whose inputs are all given."""
        with torch.inference_mode():
            return run(self.host.mappings[node], inputs)[0]

    def plain(self, **settings: Any) -> torch.Tensor:
        """What is drawn without the node, with the same settings."""
        key = (
            tuple(sorted(settings.items(), key=lambda item: item[0])) if all(map(hashable, settings.values())) else None
        )
        if key is None or key not in self.drawn:
            drawn = self.draw(**settings)
            if key is None:
                return drawn
            self.drawn[key] = drawn
        return self.drawn[key]

    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        """Pictures [..., H, W, 3]."""
        return self.run("VAEDecode", vae=self.part("VAE"), samples={"samples": samples})

    @cached_property
    def fixed_noise(self) -> torch.Tensor:
        return torch.randn(1, 48, CELLS, CELLS, generator=torch.Generator().manual_seed(SEED))


def hashable(value: Any) -> bool:
    return isinstance(value, (int, float, str))


def run(kind: Any, inputs: dict[str, Any]) -> tuple[Any, ...]:
    """The outputs of a node class, called as ComfyUI's executor calls it."""
    if hasattr(kind, "define_schema"):
        function = kind.PREPARE_CLASS_CLONE(None).execute
        result = function(**inputs)
    else:
        result = getattr(kind(), kind.FUNCTION)(**inputs)
    if inspect.isawaitable(result):
        result = asyncio.get_event_loop().run_until_complete(result)
    if isinstance(result, dict):
        result = result.get("result", ())
    result = getattr(result, "result", result)
    return tuple(result or ())


def gradient(world: World) -> torch.Tensor:
    return torch.linspace(0, 1, SIDE).expand(1, SIDE, SIDE).contiguous()


def half(world: World) -> torch.Tensor:
    """A MASK of the left half."""
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, :, : SIDE // 2] = 1
    return mask


COMMON: dict[str, Callable[[World], Any]] = {
    "IMAGE": lambda world: tensor(source()),
    "MASK": half,
    "NOISE": lambda world: world.run("RandomNoise", noise_seed=SEED),
    "SAMPLER": lambda world: world.run("KSamplerSelect", sampler_name="euler"),
    "SIGMAS": lambda world: world.run(
        "BasicScheduler", model=world.part("MODEL"), scheduler="simple", steps=STEPS, denoise=1.0
    ),
    "GUIDER": lambda world: world.run(
        "CFGGuider",
        model=world.part("MODEL"),
        positive=world.part("CONDITIONING"),
        negative=world.part("NEGATIVE"),
        cfg=2.0,
    ),
}


def ours(host: Any) -> World:
    """The nano behind Load LightBagel."""
    loaded = host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype="float32")

    def prompt(text: str) -> Any:
        return lambda world: world.run("CLIPTextEncode", clip=loaded[1], text=text)

    def encoded(world: World, colour: str = "red") -> Any:
        return world.run("VAEEncode", pixels=tensor(source(colour)), vae=loaded[2])

    return World(
        host,
        "LightBagel",
        {
            "MODEL": lambda world: loaded[0],
            "CLIP": lambda world: loaded[1],
            "VAE": lambda world: loaded[2],
            "CONDITIONING": prompt(PROMPT),
            "NEGATIVE": prompt(""),
            "OTHER": prompt(OTHER),
            "LATENT": encoded,
            "LATENT2": lambda world: encoded(world, "green"),
            "EMPTY": lambda world: {"samples": torch.zeros_like(encoded(world)["samples"])},
        },
    )


def native(host: Any, vae: Any) -> World:
    """The same Wan weights as ComfyUI alone would load them: a video model's MODEL and VAE, and noise for words."""
    bare, films = helpers.native(host, vae)
    text = bare.model.diffusion_model.text_dim

    def words(seed: int) -> Any:
        return lambda world: [[torch.randn(1, 32, text, generator=torch.Generator().manual_seed(seed)), {}]]

    def latent(seed: int) -> Any:
        shape = (1, 48, 1, CELLS, CELLS)
        return lambda world: {"samples": torch.randn(shape, generator=torch.Generator().manual_seed(seed))}

    return World(
        host,
        "Wan",
        {
            "MODEL": lambda world: bare,
            "VAE": lambda world: films,
            "CONDITIONING": words(1),
            "NEGATIVE": words(2),
            "OTHER": words(3),
            "LATENT": latent(4),
            "LATENT2": latent(5),
            "EMPTY": lambda world: {"samples": torch.zeros(1, 48, 1, CELLS, CELLS)},
        },
    )


def flux(host: Any) -> World:
    """An image model of ComfyUI's own, Flux, of two blocks and random weights, with TAESD's VAE of 16 channels."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.sd
    import comfy.supported_models
    import comfy.taesd.taesd

    config = {
        "image_model": "flux", "guidance_embed": True, "in_channels": 16, "out_channels": 16, "patch_size": 2,
        "vec_in_dim": 64, "context_in_dim": 64, "hidden_size": 128, "mlp_ratio": 2.0, "num_heads": 1, "depth": 2,
        "depth_single_blocks": 2, "axes_dim": [16, 56, 56], "theta": 10000, "qkv_bias": True,
        "txt_ids_dims": [],
    }  # fmt: skip

    def model(world: World) -> Any:
        described = comfy.supported_models.Flux(config)
        described.set_inference_dtype(torch.float32, None)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made = comfy.model_base.Flux(described, device="cpu")
            state = {name: torch.randn(value.shape) * 0.05 for name, value in made.diffusion_model.state_dict().items()}
        made.diffusion_model.load_state_dict(state, assign=True)
        made.diffusion_model.requires_grad_(False)
        return comfy.model_patcher.ModelPatcher(
            made, load_device=torch.device("cpu"), offload_device=torch.device("cpu")
        )

    def vae(world: World) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            state = comfy.taesd.taesd.TAESD(latent_channels=16).state_dict()
        return comfy.sd.VAE(sd=state)

    def words(seed: int) -> Any:
        def make(world: World) -> Any:
            generator = torch.Generator().manual_seed(seed)
            pooled = torch.randn(1, 64, generator=generator)
            return [[torch.randn(1, 8, 64, generator=generator), {"pooled_output": pooled, "guidance": 3.0}]]

        return make

    def latent(seed: int) -> Any:
        shape = (1, 16, SIDE // 8, SIDE // 8)
        return lambda world: {"samples": torch.randn(shape, generator=torch.Generator().manual_seed(seed))}

    return World(
        host,
        "Flux",
        {
            "MODEL": model,
            "VAE": vae,
            "CONDITIONING": words(1),
            "NEGATIVE": words(2),
            "OTHER": words(3),
            "LATENT": latent(4),
            "LATENT2": latent(5),
            "EMPTY": lambda world: {"samples": torch.zeros(1, 16, SIDE // 8, SIDE // 8)},
        },
    )
