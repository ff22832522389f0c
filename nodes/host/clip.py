"""LightBagel's understanding branch behind ComfyUI's CLIP socket.

The object is ComfyUI's own `CLIP`: its loading, offloading and scheduling. What it wraps is transformers' Qwen2.5-VL.
It serves the stock CLIPTextEncode (text alone), our encode node (text and source images) and descriptions.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import comfy.hooks
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import torch
from PIL import Image
from torch import nn
from transformers import StoppingCriteria

from ...lightbagel_core import images
from ...lightbagel_core.config import LightBagelConfig
from ...lightbagel_core.files.embedded import as_tensor
from ...lightbagel_core.files.tokenizer import tokenizer_files
from ...lightbagel_core.model.chat import Talk, answer_ids
from ...lightbagel_core.model.forward import CleanImage, Content, segment_of
from ...lightbagel_core.model.sequence import SIDES, check_positions
from ...lightbagel_core.model.understanding import IM_END, IM_START, Understanding, VitImage
from ...lightbagel_core.model.unsized import filled, newly_read, und_states_for_any_size
from .asking import Asked
from .conditioning import AHEAD, KEY, NOTHING, READ, Read, Sources, Unread, marked, remember
from .foreign import NO_PICTURES_HERE, batches, refuse
from .images import pictures as image_pictures
from .keeping import keeps
from .recent import Recent
from .say import once
from .tokens import Earlier, Pictures, Source, Tokens, read, tokenize
from .weights import move_buffers


class Tokenizer:
    """What `CLIP.tokenize` and `CLIP.decode` call."""

    def __init__(self, und: Understanding) -> None:
        self.und = und

    def tokenize_with_weights(
        self,
        text: str,
        return_word_ids: bool = False,
        pictures: Sequence[Image.Image] = (),
        latents: Sequence[torch.Tensor] = (),
        image: torch.Tensor | None = None,
        images: torch.Tensor | Sequence[torch.Tensor | None] | None = None,
        sources: Sequence[Source | Earlier] = (),
        **kwargs: Any,
    ) -> Tokens:
        """The token lists of a text after pictures; `latents` holds none or one for each.

        `sources`: what stands before these, as tokens already.
        `image`, `images`: IMAGEs to ask about, as ComfyUI's own Generate Text gives them (newer: a list).

        Raises:
            ValueError: words the model does not know; what it cannot follow, see `refuse`.
        """
        refuse(text, kwargs)
        asked_about = image_pictures(batches(image, images))
        if asked_about:
            pictures = (*pictures, *asked_about)
        seen = pictures if isinstance(pictures, Pictures) else Pictures(pictures)
        own = [Source(seen, i, latents[i] if latents else None, bool(asked_about)) for i in range(len(seen))]
        return tokenize(self.und, text, [*sources, *own], return_word_ids)

    def untokenize(self, entries: Sequence[tuple[Any, ...]], **kwargs: Any) -> list[tuple[tuple[Any, ...], str]]:
        """Entries of a token list, each with its text."""
        return [(e, repr(e[0]) if isinstance(e[0], Source | Earlier) else self.decode([e[0]], False)) for e in entries]

    def decode(self, token_ids: Any, skip_special_tokens: bool = True, **kwargs: Any) -> str:
        return self.und.tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens)

    def state_dict(self, **kwargs: Any) -> dict[str, torch.Tensor]:
        """The tokenizer's files as bytes, which ComfyUI saves beside the model's weights."""
        return {name: as_tensor(content) for name, content in tokenizer_files(self.und.tokenizer).items()}


class TextEncoder(nn.Module):
    """The module that ComfyUI loads and frees, with the methods its `CLIP` calls."""

    def __init__(self, und: Understanding, config: LightBagelConfig) -> None:
        super().__init__()
        self.__dict__["und"] = und  # not a second name of the model's weights
        self.transformer = und.vlm  # ComfyUI's name: CLIPSave leaves it out, so that the files have the release's names
        self.config = config
        self.recent, self.images = Recent(), Recent(64)
        self.mark, self.encoded = object(), 0
        self.keeps_read = False

    def reset_clip_options(self, **kwargs: Any) -> None:
        self.encoded = 0

    def set_clip_options(self, options: dict[str, Any], **kwargs: Any) -> None:
        """ComfyUI says where it has loaded the model; weights that are streamed lie elsewhere."""
        if options.get("layer") not in (None, -1):
            once(
                f"CLIP Set Last Layer ({options['layer']}) does not act: LightBagel reads its text encoder's states "
                "after every layer"
            )
        if "execution_device" in options:
            self.und.device = options["execution_device"]
            move_buffers(self.und, self.und.device)

    def _weights(self) -> Hashable:
        """Tells the weights of this encode from others: LoRAs of a CLIP, and those that hooks change between the
        encodes of one schedule.
        """
        self.encoded += 1
        return self.mark, getattr(self, "current_weight_patches_uuid", None), self.encoded

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """While it lasts, keys and values of what is read are kept, as long as the states are, for a later turn."""
        self.keeps_read = keeps()
        try:
            yield
        finally:
            self.keeps_read = False

    @torch.no_grad()
    def encode_token_weights(self, tokens: Any, **kwargs: Any) -> tuple[torch.Tensor, None, dict[str, Any]]:
        """Und states for any size of target after a row that marks them, [1, AHEAD + U, depth * hidden], and
        what must travel beside them.

        Raises:
            ValueError: tokens of another text encoder; pictures that another node gave to draw with; more than the VLM
                has positions for.
        """
        weights, patch = self._weights(), self.config.generation["patch_size"][-1]
        device = comfy.model_management.intermediate_device()
        parts = read(self.und, tokens)
        old, old_states, turns = NOTHING, None, ()
        if (known := self._read_before(parts[0], weights)) is not None:
            old, old_states, turns = parts.pop(0).sources, *known
        said = [pair for part in parts for pair in _keyed(part, weights)]
        new = [content for part, key in said for content in self._contents(part, weights, key)]
        sample = [content for content, *_ in new]
        segments = (*old.segments, *(segment_of(content, patch) for content in sample))
        # Without the target, whose size is known when it is drawn: see `hooks.Fused.encode`.
        check_positions(segments, self.config.positions)
        cache = filled(turns, self.und.device) if self.keeps_read else None
        states = torch.cat(und_states_for_any_size(self.und, sample, patch, old.segments, cache), dim=-1).to(device)
        if cache is not None:
            first = sum(segment.und_tokens for segment in old.segments)
            turns = (*turns, newly_read(cache, first, states.shape[1] - 2 * SIDES).to(device))
        if old_states is not None:
            states = torch.cat([states[:, : 2 * SIDES], old_states, states[:, 2 * SIDES :]], dim=1)
        kept = marked(states, pictures=len(segments) > 1)
        sources = Sources(
            segments,
            (*old.latents, *(latents for _, latents, _ in new)),
            (*old.keys, *(key for *_, key in new)),
            weakref.ref(kept),
            (*old.parts, *(part for part, _ in said)),
            self.mark,
        )
        # Kept by the tensor itself, since where a CLIP is scheduled ComfyUI keeps the tensor alone.
        remember(sources, kept, Read(turns, weights) if self.keeps_read else None)
        return kept, None, {"model_conds": {KEY: Unread(sources)}}

    def _read_before(self, part: Any, weights: Hashable) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]] | None:
        """The states [1, U, depth * hidden] of earlier turns that a prompt begins with, and their keys and values;
        None: without any, or where they must be read again.
        """
        found = READ.get(id(part.states)) if self.keeps_read and isinstance(part, Earlier) else None
        if found is None or found.weights != weights:
            return None
        return part.states[:, AHEAD:], found.turns

    def _contents(
        self, part: Source | Sequence[int], weights: Hashable, key: Hashable
    ) -> list[tuple[Content, torch.Tensor | None, Hashable]]:
        """The segments of a part: what each holds, the latents of a clean image, the key."""
        if not isinstance(part, Source):
            return [([self.und.token_id(IM_START), *part, self.und.token_id(IM_END)], None, key)]
        if part.only_ask:
            raise ValueError(NO_PICTURES_HERE)
        image = part.pictures.seen(weights, self._look)[part.index]
        image = replace(image, features=image.features.to(self.und.device))
        key = (part.pictures.mark, part.index)
        if part.latents is None:
            return [(image, None, key)]
        return [(CleanImage(part.latents[0]), part.latents, (*key, part.latents)), (image, None, key)]

    def _look(self, pictures: Pictures) -> list[VitImage]:
        """What the ViT makes of pictures, where it may stay."""
        found = self.und.vit_images([images.resized(picture, self.config.vit_image) for picture in pictures])
        device = comfy.model_management.intermediate_device()
        return [replace(image, features=image.features.to(device)) for image in found]

    def generate(
        self,
        tokens: Any,
        do_sample: bool,
        max_length: int,
        temperature: float,
        top_k: int,
        top_p: float,
        min_p: float,
        repetition_penalty: float,
        seed: int | None,
        presence_penalty: float = 0.0,
        **kwargs: Any,
    ) -> list[int]:
        """Token ids of the answer to a question about its pictures, by the stock model's own `generate`.

        Args:
            tokens: token lists of the question; or an `Asked` of our own nodes.
            kwargs: what newer ComfyUIs hand every text model (`mtp`: how fast, not what), passed over.

        Raises:
            ValueError: a presence_penalty, which the stock `generate` has not.
        """
        if do_sample and presence_penalty:
            raise ValueError(
                "LightBagel's answers know no presence_penalty: set it to 0; repetition_penalty keeps from repeating"
            )
        asked = tokens if isinstance(tokens, Asked) else Asked(tokens)
        talk = asked.what if isinstance(asked.what, Talk) else self._question(asked.what)
        options: dict[str, Any] = {"max_new_tokens": max_length, "do_sample": do_sample}
        if do_sample:
            options |= {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
            options |= {"repetition_penalty": repetition_penalty}
        with torch.random.fork_rng():
            if seed is not None:
                torch.manual_seed(seed)
            return answer_ids(self.und, [talk], asked.on_text, stops=[_Interruptible()], **options)[0]

    def _question(self, tokens: Any) -> Talk:
        """The one question that token lists ask about their pictures."""
        parts = read(self.und, tokens)
        if any(isinstance(part, Earlier) for part in parts):
            raise ValueError("a history is for drawing: LightBagel's answers go by pictures and one question")
        seen = [part.picture for part in parts if isinstance(part, Source)]
        ids = [token for part in parts if not isinstance(part, Source) for token in part]
        return Talk([("user", [*seen, self.und.tokenizer.decode(ids, clean_up_tokenization_spaces=False)])])


def _keyed(
    part: Source | Earlier | list[int], weights: Hashable
) -> Iterator[tuple[Source | tuple[int, ...], Hashable]]:
    """The pictures and texts of a part, each with a key that is equal only where a text is said in the same place and
    read with the same weights.
    """
    if isinstance(part, Earlier):
        yield from ((each, (key, weights)) for each, key in part.keyed())
    else:
        yield part if isinstance(part, Source) else tuple(part), object()


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
    wrapped.patcher.hook_mode = comfy.hooks.EnumHookMode.MinVram  # else all keyframes would have the first's weights
    wrapped.patcher.is_clip = True
    wrapped.layer_idx = None
    wrapped.use_clip_schedule = False
    wrapped.apply_hooks_to_conds = None
    wrapped.tokenizer_options = {}
    return wrapped
