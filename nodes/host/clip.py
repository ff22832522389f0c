"""LightBagel's understanding branch behind ComfyUI's CLIP socket.

The object is ComfyUI's own `CLIP`: its loading, offloading and scheduling. What it wraps is transformers' Qwen2.5-VL.
It serves the stock CLIPTextEncode (text alone), our encode node (text and source images) and descriptions.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import torch
from PIL import Image
from torch import nn
from transformers import StoppingCriteria, StoppingCriteriaList

from ...lightbagel_core import images
from ...lightbagel_core.config import LightBagelConfig
from ...lightbagel_core.model.forward import CleanImage, Content, segment_of
from ...lightbagel_core.model.understanding import Understanding, VitImage
from ...lightbagel_core.model.unsized import und_states_for_any_size
from .conditioning import KEY, Sources, Unread
from .images import pictures as image_pictures
from .recent import Recent
from .weights import move_buffers


class Pictures(tuple[Image.Image, ...]):
    """Source pictures as the VLM is to see them. Prompts that stand after the same ones share what its ViT makes of
    them, from the first that is encoded on.
    """

    vit: list[VitImage] | None = None
    mark: object  # tells these pictures from others that look the same

    def __new__(cls, pictures: Iterable[Image.Image] = ()) -> Pictures:
        made = super().__new__(cls, pictures)
        made.mark = object()
        return made


@dataclass(frozen=True, eq=False)
class Request:
    """What to encode: a text, the source pictures, and their latents [1, C, h, w].

    `latents` is empty, or holds one per picture; pictures then stand in the sequence as VAE and as ViT tokens.
    """

    text: str
    pictures: Pictures
    latents: tuple[torch.Tensor, ...]


class Tokenizer:
    """What `CLIP.tokenize` and `CLIP.decode` call. Words are looked up when encoding: pictures stand between them."""

    def __init__(self, und: Understanding) -> None:
        self.und = und

    def tokenize_with_weights(
        self,
        text: str,
        return_word_ids: bool = False,
        pictures: Sequence[Image.Image] = (),
        latents: Sequence[torch.Tensor] = (),
        image: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Request]:
        """`image`: an IMAGE to ask about, as ComfyUI's own Generate Text gives it.

        Raises:
            ValueError: words the model does not know; pictures or sounds of a kind it does not take here.
        """
        if any(kwargs.get(kind) is not None and len(kwargs[kind]) for kind in ("images", "video", "audio")):
            raise ValueError(
                "LightBagel's CLIP takes no pictures from this node; use LightBagel Text Encode to draw or edit, "
                "LightBagel Describe Image to ask"
            )
        self.und.words_to_ids(text)  # unknown words are refused here, before any weights move
        if image is not None:
            pictures = (*pictures, *image_pictures([image]))
        seen = pictures if isinstance(pictures, Pictures) else Pictures(pictures)
        return {KEY: Request(text, seen, tuple(latents))}

    def decode(self, token_ids: Any, skip_special_tokens: bool = True) -> str:
        return self.und.tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {}


class TextEncoder(nn.Module):
    """The module that ComfyUI loads and frees, with the methods its `CLIP` calls."""

    def __init__(self, und: Understanding, config: LightBagelConfig) -> None:
        super().__init__()
        self.und, self.config = und, config
        self.recent = Recent()

    def reset_clip_options(self) -> None:
        pass

    def set_clip_options(self, options: dict[str, Any]) -> None:
        """ComfyUI says where it has loaded the model; weights that are streamed lie elsewhere."""
        if "execution_device" in options:
            self.und.device = options["execution_device"]
            move_buffers(self.und, self.und.device)

    @torch.no_grad()
    def encode_token_weights(self, tokens: dict[str, Request]) -> tuple[torch.Tensor, None, dict[str, Any]]:
        """Und states for any size of target, [1, 2 * SIDES + U, depth * hidden], and what must travel beside them."""
        request = tokens[KEY]
        patch = self.config.generation["patch_size"][-1]
        pictures = request.pictures
        if pictures.vit is None:
            pictures.vit = self.und.vit_images([images.resized(p, self.config.vit_image) for p in pictures])
        sample: list[Content] = []
        latents: list[torch.Tensor | None] = []
        keys: list[Hashable] = []
        for i, image in enumerate(pictures.vit):
            if request.latents:
                sample.append(CleanImage(request.latents[i][0]))  # only its size counts here
                latents.append(request.latents[i])
                keys.append(request.latents[i])
            sample.append(image)
            latents.append(None)
            keys.append((pictures.mark, i))
        sample.append(self.und.text_ids(request.text))
        latents.append(None)
        keys.append(object())
        states = und_states_for_any_size(self.und, sample, patch)
        kept = torch.cat(states, dim=-1).to(comfy.model_management.intermediate_device())
        segments = tuple(segment_of(content, patch) for content in sample)
        sources = Sources(segments, tuple(latents), tuple(keys), weakref.ref(kept))
        return kept, None, {"model_conds": {KEY: Unread(sources)}}

    def generate(
        self,
        tokens: dict[str, Request],
        do_sample: bool,
        max_length: int,
        temperature: float,
        top_k: int,
        top_p: float,
        min_p: float,
        repetition_penalty: float,
        seed: int | None,
        presence_penalty: float = 0.0,
    ) -> list[int]:
        """Token ids of the answer to a question about the request's pictures, by the stock model's own `generate`."""
        request = tokens[KEY]
        options: dict[str, Any] = {"max_new_tokens": max_length, "do_sample": do_sample}
        if do_sample:
            options |= {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
            options |= {"repetition_penalty": repetition_penalty}
        stop = StoppingCriteriaList([_Interruptible()])
        with torch.random.fork_rng():
            if seed is not None:
                torch.manual_seed(seed)
            return self.und.answer_ids([(request.pictures, request.text)], stopping_criteria=stop, **options)[0]


class _Interruptible(StoppingCriteria):
    """Lets ComfyUI's cancel button end a description between two tokens."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        comfy.model_management.throw_exception_if_processing_interrupted()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def clip(und: Understanding, config: LightBagelConfig, static: bool = False) -> comfy.sd.CLIP:
    """The understanding branch as ComfyUI's CLIP, loaded and freed by its memory management; see `wan.managed`."""
    encoder = TextEncoder(und, config)
    wrapped = comfy.sd.CLIP(no_init=True)
    wrapped.cond_stage_model = encoder
    wrapped.tokenizer = Tokenizer(und)
    kind = comfy.model_patcher.ModelPatcher if static else comfy.model_patcher.CoreModelPatcher
    wrapped.patcher = kind(
        encoder,
        load_device=comfy.model_management.text_encoder_device(),
        offload_device=comfy.model_management.text_encoder_offload_device(),
    )
    wrapped.patcher.is_clip = True
    wrapped.layer_idx = None
    wrapped.use_clip_schedule = False
    wrapped.apply_hooks_to_conds = None
    wrapped.tokenizer_options = {}
    return wrapped
