"""A MODEL as a GGUF loader makes it: weights that lie quantised in memory, which nothing but their own layers can read.

What such loaders do is written out here as a contract, in as few lines as it takes:

- a weight is a tensor of raw bytes that gives its logical size as its `shape`, whatever the bytes' own is;
- layers have no weight before the file brings one, take it whatever its size, and dequantise it in each forward;
- a LoRA is not merged: its patches lie on the tensor and are applied to what was dequantised;
- the patcher says so, and a clone of it is of its kind; a state dict holds no numbers, only sizes for estimates.

The numbers are the `gguf` package's own, both ways.
"""

from __future__ import annotations

from typing import Any

import gguf
import numpy as np
import pytest
import torch
from helpers import INSTRUCTION, PROMPT, SETTINGS, ksampler, pixels, psnr, source, tensor
from safetensors.torch import save_file

ON_TENSOR = ("tensor_type", "tensor_shape", "patches")
KINDS = {"Q8_0": 50.0, "Q5_1": 40.0, "Q4_0": 35.0}  # dB from the picture of unquantised weights, at least


class Quantised(torch.Tensor):
    """Raw bytes of a quantised matrix [rows, bytes of a row], with the matrix's own size as its shape."""

    @staticmethod
    def of(data: torch.Tensor, like: Any) -> Quantised:
        made = torch.Tensor._make_subclass(Quantised, data)
        for name in ON_TENSOR:
            setattr(made, name, getattr(like, name))
        return made

    @property
    def shape(self) -> torch.Size:
        return self.tensor_shape

    @property
    def bytes(self) -> torch.Tensor:
        return self.as_subclass(torch.Tensor)

    def to(self, *args: Any, **kwargs: Any) -> Quantised:
        kept = [each for each in args if not isinstance(each, torch.dtype)]
        return Quantised.of(self.bytes.to(*kept, **{k: v for k, v in kwargs.items() if k != "dtype"}), self)

    def detach(self) -> Quantised:
        return self

    def clone(self, *args: Any, **kwargs: Any) -> Quantised:
        return self


def quantised(weight: torch.Tensor, kind: str) -> Quantised:
    """A matrix as the `gguf` package quantises it."""
    number = gguf.GGMLQuantizationType[kind]
    data = torch.from_numpy(gguf.quants.quantize(weight.float().numpy(), number))
    made = torch.Tensor._make_subclass(Quantised, data)
    made.tensor_type, made.tensor_shape, made.patches = number, weight.shape, []
    return made


def dequantised(weight: Quantised) -> torch.Tensor:
    return torch.from_numpy(gguf.quants.dequantize(weight.bytes.numpy(), weight.tensor_type)).reshape(weight.shape)


def layers() -> Any:
    """Operations for ComfyUI's `custom_operations`, whose linear layers dequantise when they are called."""
    import comfy.lora
    import comfy.ops

    class Layers(comfy.ops.manual_cast):
        class Linear(comfy.ops.manual_cast.Linear):
            def __init__(self, in_features: int, out_features: int, bias: bool = True, **_: Any) -> None:
                torch.nn.Module.__init__(self)
                self.in_features, self.out_features = in_features, out_features
                self.weight = self.bias = None

            def _load_from_state_dict(self, state: Any, prefix: str, *_: Any) -> None:
                for name in ("weight", "bias"):
                    if f"{prefix}{name}" in state:
                        setattr(self, name, torch.nn.Parameter(state[f"{prefix}{name}"], requires_grad=False))

            def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
                for name, weight in self.named_parameters(recurse=False):
                    raw = weight.bytes if isinstance(weight, Quantised) else weight
                    destination[f"{prefix}{name}"] = torch.empty_like(raw, device="meta")

            def forward_comfy_cast_weights(self, x: torch.Tensor) -> torch.Tensor:
                weight, bias = self.weight, self.bias
                if isinstance(weight, Quantised):
                    number = dequantised(weight).to(x)
                    for patches, key in weight.patches:
                        number = comfy.lora.calculate_weight(patches, number, key)
                else:
                    number = weight.to(x)
                return torch.nn.functional.linear(x, number, None if bias is None else bias.to(x))

    return Layers


def patcher(model: Any) -> Any:
    """The MODEL around a Wan of such layers."""
    import comfy.utils
    from comfy.model_patcher import ModelPatcher

    class Patcher(ModelPatcher):
        def patch_weight_to_device(self, key: str, device_to: Any = None, *args: Any, **kwargs: Any) -> Any:
            weight = comfy.utils.get_attr(self.model, key)
            if key not in self.patches or not isinstance(weight, Quantised):
                return super().patch_weight_to_device(key, device_to, *args, **kwargs)
            weight = weight.to(device_to)
            weight.patches = [(self.patches[key], key)]
            comfy.utils.set_attr_param(self.model, key, weight)

        def unpatch_model(self, *args: Any, **kwargs: Any) -> Any:
            for weight in self.model.parameters():
                if isinstance(weight, Quantised):
                    weight.patches = []
            return super().unpatch_model(*args, **kwargs)

        def load(self, *args: Any, **kwargs: Any) -> Any:
            return super().load(*args, **{**kwargs, "force_patch_weights": True})

    return Patcher(model.model, model.load_device, model.offload_device)


@pytest.fixture(scope="module")
def weights(host) -> dict[str, torch.Tensor]:
    """The nano's Wan under ComfyUI's names; of a MODEL of its own, into which no run has merged a LoRA."""
    model = host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype="float32")[0]
    return {name: weight.detach().clone() for name, weight in model.model.diffusion_model.state_dict().items()}


def native(loaded: Any, weights: dict[str, torch.Tensor], read: Any) -> Any:
    """The MODEL of these weights, the blocks' matrices as `read` has them, by ComfyUI's own loading of a file's.

    That knows no statistics of latents but the real VAE's; and the nano's learned context is narrower than it takes for
    granted, which layers that take any weight do not notice.
    """
    import comfy.sd

    state = {
        name: read(weight) if weight.ndim == 2 and name.startswith("blocks.") else weight
        for name, weight in weights.items()
    }
    model = patcher(comfy.sd.load_diffusion_model_state_dict(state, model_options={"custom_operations": layers()}))
    own = loaded[0].model.latent_format
    theirs = model.model.latent_format
    theirs.latents_mean, theirs.latents_std = (x.reshape(1, -1, 1, 1, 1) for x in (own.latents_mean, own.latents_std))
    return model


def in_kind(kind: str) -> Any:
    return lambda weight: quantised(weight, kind)


def applied(host: Any, model: Any) -> Any:
    return host("LightBagelApplyFusion", model=model, fusion="nano (built in)")


def picture(host: Any, loaded: Any, model: Any, prompts: Any) -> np.ndarray:
    return pixels(host("VAEDecode", loaded[2], {"samples": ksampler(host, model, prompts)}))


@pytest.fixture(scope="module")
def plain(host, loaded, prompts) -> np.ndarray:
    """The picture of the unquantised weights."""
    return picture(host, loaded, loaded[0], prompts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_quantised_model_listens(host, loaded, weights, prompts, plain, kind):
    """What it draws is near to what unquantised weights draw, and just what dequantised ones do."""
    model = applied(host, native(loaded, weights, in_kind(kind)))
    drawn = picture(host, loaded, model, prompts)
    wan = model.model.diffusion_model
    weight = wan.blocks[0].ffn[0].weight
    assert isinstance(weight, Quantised)
    assert weight.bytes.nbytes < weight.shape.numel() * 1.1  # nothing has widened it
    wide = native(loaded, weights, lambda weight: dequantised(quantised(weight, kind)))
    assert psnr(drawn, picture(host, loaded, applied(host, wide), prompts)) > 60
    assert psnr(drawn, plain) > KINDS[kind]


def test_a_quantised_model_edits(host, loaded, weights):
    """Source pictures go through the same layers."""
    model = applied(host, native(loaded, weights, in_kind("Q8_0")))
    given = {"images": {"image0": tensor(source())}, "instruction": INSTRUCTION, "image_guidance": 1.5, **SETTINGS}
    edited, expected = (pixels(host("LightBagelEdit", each, *loaded[1:], **given)[0]) for each in (model, loaded[0]))
    assert psnr(edited, expected) > KINDS["Q8_0"]


@pytest.mark.parametrize("order", ["before the fusion", "after the fusion"])
def test_a_lora_acts_on_quantised_weights(host, loaded, weights, prompts, plain, tmp_path, order):
    from folder_paths import add_model_folder_path

    generator = torch.Generator().manual_seed(0)
    down, up = (torch.randn(shape, generator=generator) * 0.6 for shape in ((4, 640), (256, 4)))
    name = "diffusion_model.blocks.2.ffn.2"
    save_file({f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}, tmp_path / "gguf_lora.safetensors")
    add_model_folder_path("loras", str(tmp_path))

    def with_lora(model: Any) -> Any:
        return host("LoraLoaderModelOnly", model=model, lora_name="gguf_lora.safetensors", strength_model=1.0)

    bare = native(loaded, weights, in_kind("Q8_0"))
    model = applied(host, with_lora(bare)) if order == "before the fusion" else with_lora(applied(host, bare))
    drawn = picture(host, loaded, model, prompts)
    assert psnr(drawn, picture(host, loaded, with_lora(loaded[0]), prompts)) > KINDS["Q8_0"]
    assert psnr(drawn, plain) < 35
    assert psnr(picture(host, loaded, applied(host, bare), prompts), plain) > KINDS["Q8_0"]  # and goes again


def test_streamed_quantised_weights_draw_the_same(host, loaded, weights, prompts, monkeypatch):
    """As on a card with no room at all."""
    import comfy.model_management
    from comfy.model_patcher import ModelPatcher

    model = applied(host, native(loaded, weights, in_kind("Q8_0")))
    expected = picture(host, loaded, model, prompts)
    comfy.model_management.unload_all_models()
    whole = ModelPatcher.load

    def nothing(self: Any, device_to: Any = None, *_: Any, force_patch_weights: bool = False, **__: Any) -> None:
        whole(self, device_to, 1, force_patch_weights=force_patch_weights)

    monkeypatch.setattr(ModelPatcher, "load", nothing)
    assert psnr(picture(host, loaded, model, prompts), expected) > 60
    comfy.model_management.unload_all_models()


def test_a_wrong_model_is_refused_by_its_sizes(host, loaded, weights):
    """Sizes are the matrices' own, not the bytes'."""
    short = {name: weight for name, weight in weights.items() if not name.startswith("blocks.5.")}
    with pytest.raises(ValueError, match="Wan model of 6 blocks and width 256, not of 5 and 256"):
        applied(host, native(loaded, short, in_kind("Q8_0")))


def test_the_prompt_still_counts(host, loaded, weights, plain):
    model = applied(host, native(loaded, weights, in_kind("Q4_0")))
    other = PROMPT.replace("red", "green")
    conds = host("CLIPTextEncode", loaded[1], other), host("CLIPTextEncode", loaded[1], "")
    drawn, expected = (picture(host, loaded, each, conds) for each in (model, loaded[0]))
    assert psnr(drawn, expected) > KINDS["Q4_0"]
    assert psnr(drawn, plain) < 25
