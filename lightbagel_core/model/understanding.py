"""The understanding branch: transformers' Qwen2.5-VL exactly as it ships, read layer by layer.

For drawing it runs once per prompt: `und_states` gives what the fusion reads after every decoder layer. There, image
tokens see each other both ways (the layout's mask); for answers in words, the stock model is used untouched (`chat`).
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import Cache, PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

try:  # transformers 5 has two; this one needs no torchvision and resizes the same whether it is there or not
    from transformers import Qwen2VLImageProcessorPil as ImageProcessor
except ImportError:
    from transformers import Qwen2VLImageProcessor as ImageProcessor

__all__ = ["ImageProcessor", "Understanding", "VitImage"]

IM_START, IM_END = "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END, IMAGE_PAD = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"


@dataclass(frozen=True, eq=False)
class VitImage:
    """ViT tokens of one image after the merger, [rows*cols, hidden], row by row."""

    features: Tensor
    rows: int
    cols: int


class Understanding(nn.Module):
    """A Qwen2.5-VL with its tokenizer and image processor.

    Args:
        vlm: the stock model.
        tokenizer: its tokenizer, with a chat template.
        processor: its image processor; its pixel bounds hold for `describe`.
        device: where it computes, for a model whose weights are elsewhere in between; default: where its weights are.
    """

    def __init__(
        self,
        vlm: Qwen2_5_VLForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        processor: ImageProcessor,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        self.vlm, self.tokenizer, self.processor = vlm, tokenizer, processor
        self._device = device

    @property
    def device(self) -> torch.device:
        return self._device or self.vlm.get_input_embeddings().weight.device

    @device.setter
    def device(self, device: torch.device) -> None:
        self._device = device

    @property
    def depth(self) -> int:
        return len(self.vlm.model.language_model.layers)

    @cached_property
    def arguments(self) -> Collection[str]:
        """The names of what the stock model's `forward` takes, by which transformers' versions are told apart."""
        return inspect.signature(self.vlm.forward).parameters.keys()

    @cached_property
    def _cache_argument(self) -> str:
        """What a decoder layer calls its cache: transformers 5.24 has renamed it."""
        layer = self.vlm.model.language_model.layers[0]
        return "cache" if "cache" in inspect.signature(layer.forward).parameters else "past_key_values"

    def token_id(self, token: str) -> int:
        return int(self.tokenizer.convert_tokens_to_ids(token))

    def words_to_ids(self, text: str) -> list[int]:
        """Token ids of plain text.

        Raises:
            ValueError: the tokenizer has a closed vocabulary (the nano's) and the text a word outside it, or the text
                holds a special token such as `<|im_end|>`, or half a character (a lone surrogate).
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the text holds half a character (\\u{ord(text[error.start]):x} at place {error.start + 1}), which no "
                "tokenizer reads: write it anew"
            ) from None
        special = [token for token in self.tokenizer.get_added_vocab() if token in text]
        if special:
            raise ValueError(f"the text must not contain the model's own marker {special[0]}")
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        unknown = self.tokenizer.unk_token_id
        if unknown is not None and unknown in ids:
            vocabulary = self.tokenizer.get_vocab()
            backend = self.tokenizer.backend_tokenizer
            read_as = text if backend.normalizer is None else backend.normalizer.normalize_str(text)
            pieces = backend.pre_tokenizer.pre_tokenize_str(read_as.lower())
            strange = sorted({piece for piece, _ in pieces if piece not in vocabulary})
            known = ", ".join(sorted(w for w in vocabulary if w.isalpha()))
            raise ValueError(f"this model does not know: {', '.join(strange)}. The words it knows: {known}")
        return ids

    def text_ids(self, text: str) -> list[int]:
        """`<|im_start|>` tokens `<|im_end|>`: a text segment of the generation path; no chat template."""
        return [self.token_id(IM_START), *self.words_to_ids(text), self.token_id(IM_END)]

    def pixel_values(self, images: Sequence[Image.Image | np.ndarray], **options: Any) -> tuple[Tensor, Tensor]:
        """RGB images as the ViT takes them: all their patches, and the grid [images, 3] that says whose they are."""
        batch = self.processor(images=list(images), return_tensors="pt", **options)
        return batch["pixel_values"].to(self.device, self.vlm.dtype), batch["image_grid_thw"].to(self.device)

    def vit_images(self, images: Sequence[Image.Image | np.ndarray]) -> list[VitImage]:
        """ViT tokens of RGB images whose sides are already multiples of patch x merge (28 in Qwen2.5-VL)."""
        if not images:
            return []
        pixels, grid = self.pixel_values(images, do_resize=False)
        merge = self.processor.merge_size
        output = self.vlm.model.get_image_features(pixels, grid)
        features = getattr(output, "pooler_output", output)  # transformers 4.57 gives the tuple itself
        return [
            VitImage(feature, int(h) // merge, int(w) // merge)
            for feature, (_, h, w) in zip(features, grid.tolist(), strict=True)
        ]

    def und_embeddings(self, parts: Sequence[Sequence[int] | VitImage | None]) -> Tensor:
        """Input embeddings of all und tokens of a sample, [U, hidden].

        Args:
            parts: one per segment: token ids for text, a `VitImage`, or None for a VAE image (its two markers only).
        """
        ids: list[int] = []
        features: list[tuple[int, Tensor]] = []
        for part in parts:
            if part is None or isinstance(part, VitImage):
                ids.append(self.token_id(VISION_START))
                if isinstance(part, VitImage):
                    features.append((len(ids), part.features))
                    ids += [self.token_id(IMAGE_PAD)] * len(part.features)
                ids.append(self.token_id(VISION_END))
            else:
                ids += part
        embeddings = self.vlm.get_input_embeddings()(torch.tensor(ids, device=self.device))
        for at, feature in features:
            embeddings = torch.cat([embeddings[:at], feature.to(embeddings), embeddings[at + len(feature) :]])
        return embeddings

    def und_states(
        self, embeddings: Tensor, positions: Tensor, visible: Tensor, cache: Cache | None = None
    ) -> list[Tensor]:
        """States after each decoder layer, without the final norm: depth x [B, U, hidden].

        Args:
            embeddings: [B, U, hidden].
            positions: int64 [3, B, U].
            visible: bool [B, U, K + U], the layout's mask restricted to und tokens.
            cache: keys and values of K tokens that were read before, to which those of the U are added.
        """
        language = self.vlm.model.language_model
        minus_inf = torch.finfo(embeddings.dtype).min
        mask = torch.zeros_like(visible, dtype=embeddings.dtype).masked_fill(~visible, minus_inf)[:, None]
        rotary = language.rotary_emb(embeddings, positions)
        known = {} if cache is None else {self._cache_argument: cache}
        states, hidden = [], embeddings
        for layer in language.layers:
            output = layer(hidden, attention_mask=mask, position_embeddings=rotary, **known)
            hidden = output[0] if isinstance(output, tuple) else output  # a tuple in transformers 4.57
            states.append(hidden)
        return states

    def image_token_types(self, ids: Tensor) -> dict[str, Tensor]:
        """The argument by which transformers 5 finds image tokens in ids [B, N]; none in transformers 4."""
        if "mm_token_type_ids" not in self.arguments:
            return {}
        return {"mm_token_type_ids": (ids == self.token_id(IMAGE_PAD)).int()}
