"""The understanding branch: transformers' Qwen2.5-VL exactly as it ships, read layer by layer.

For drawing it runs once per prompt: `und_states` gives what the fusion reads after every decoder layer. There, image
tokens see each other both ways (the layout's mask); for describing, the stock model with its own chat template and
causal attention is used untouched.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

try:  # transformers 5 has two; this one needs no torchvision and resizes the same whether it is there or not
    from transformers import Qwen2VLImageProcessorPil as ImageProcessor
except ImportError:
    from transformers import Qwen2VLImageProcessor as ImageProcessor

__all__ = ["ImageProcessor", "Talk", "Turn", "Understanding", "VitImage"]

IM_START, IM_END = "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END, IMAGE_PAD = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"

Turn = tuple[Sequence[Image.Image], str]  # RGB images, and one question about all of them


@dataclass(frozen=True, eq=False)
class Talk:
    """A conversation whose last message is to be answered, where one question about pictures does not say it all.

    messages: of each its role ("system", "user" or "assistant") and its RGB images and texts in the order of reading.
    """

    messages: Sequence[tuple[str, Sequence[Image.Image | str]]]


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

    def token_id(self, token: str) -> int:
        return int(self.tokenizer.convert_tokens_to_ids(token))

    def words_to_ids(self, text: str) -> list[int]:
        """Token ids of plain text.

        Raises:
            ValueError: the tokenizer has a closed vocabulary (the nano's) and the text a word outside it, or the text
                holds a special token such as `<|im_end|>`.
        """
        special = [token for token in self.tokenizer.get_added_vocab() if token in text]
        if special:
            raise ValueError(f"the text must not contain the model's own marker {special[0]}")
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        unknown = self.tokenizer.unk_token_id
        if unknown is not None and unknown in ids:
            vocabulary = self.tokenizer.get_vocab()
            pieces = self.tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text.lower())
            strange = sorted({piece for piece, _ in pieces if piece not in vocabulary})
            known = ", ".join(sorted(w for w in vocabulary if w.isalpha()))
            raise ValueError(f"this model does not know: {', '.join(strange)}. The words it knows: {known}")
        return ids

    def check(self, talk: Talk) -> None:
        """Raises ValueError where a conversation holds words that `words_to_ids` refuses."""
        for role, parts in talk.messages:
            for text in (role, *(part for part in parts if isinstance(part, str))):
                self.words_to_ids(text)

    def text_ids(self, text: str) -> list[int]:
        """`<|im_start|>` tokens `<|im_end|>`: a text segment of the generation path; no chat template."""
        return [self.token_id(IM_START), *self.words_to_ids(text), self.token_id(IM_END)]

    def _pixel_values(self, images: Sequence[Image.Image | np.ndarray], **options: Any) -> tuple[Tensor, Tensor]:
        batch = self.processor(images=list(images), return_tensors="pt", **options)
        return batch["pixel_values"].to(self.device, self.vlm.dtype), batch["image_grid_thw"].to(self.device)

    def vit_images(self, images: Sequence[Image.Image | np.ndarray]) -> list[VitImage]:
        """ViT tokens of RGB images whose sides are already multiples of patch x merge (28 in Qwen2.5-VL)."""
        if not images:
            return []
        pixels, grid = self._pixel_values(images, do_resize=False)
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
            embeddings = torch.cat([embeddings[:at], feature.to(embeddings.dtype), embeddings[at + len(feature) :]])
        return embeddings

    def und_states(self, embeddings: Tensor, positions: Tensor, visible: Tensor) -> list[Tensor]:
        """States after each decoder layer, without the final norm: depth x [B, U, hidden].

        Args:
            embeddings: [B, U, hidden].
            positions: int64 [3, B, U].
            visible: bool [B, U, U], the layout's mask restricted to und tokens.
        """
        language = self.vlm.model.language_model
        minus_inf = torch.finfo(embeddings.dtype).min
        mask = torch.zeros_like(visible, dtype=embeddings.dtype).masked_fill(~visible, minus_inf)[:, None]
        rotary = language.rotary_emb(embeddings, positions)
        states, hidden = [], embeddings
        for layer in language.layers:
            output = layer(hidden, attention_mask=mask, position_embeddings=rotary)
            hidden = output[0] if isinstance(output, tuple) else output  # a tuple in transformers 4.57
            states.append(hidden)
        return states

    def chat_inputs(self, turns: Sequence[Turn | Talk]) -> dict[str, Tensor]:
        """Inputs of the stock model for a batch of conversations, in its own chat template, padded on the left.

        `input_ids` and `attention_mask` are [B, N]; `pixel_values` and `image_grid_thw` hold the images of all turns
        one after the other, and are absent without any.
        """
        talks = [turn if isinstance(turn, Talk) else Talk([("user", [*turn[0], turn[1]])]) for turn in turns]
        for talk in talks:
            self.check(talk)
        chats = [[{"role": role, "content": _content(parts)} for role, parts in talk.messages] for talk in talks]
        texts = self.tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        inputs: dict[str, Tensor] = {}
        seen = [p for talk in talks for _, parts in talk.messages for p in parts if not isinstance(p, str)]
        if seen:
            pixels, grid = self._pixel_values(seen)
            inputs |= {"pixel_values": pixels, "image_grid_thw": grid}
            counts = iter((grid.prod(-1) // self.processor.merge_size**2).tolist())
            texts = [re.sub(re.escape(IMAGE_PAD), lambda _: IMAGE_PAD * next(counts), text) for text in texts]
        rows = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        length = max(map(len, rows))
        fill = self.token_id(IM_END)  # in every turn anyway: a penalty on repetition finds nothing new in the padding
        ids = torch.tensor([[fill] * (length - len(row)) + row for row in rows], device=self.device)
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows], device=self.device)
        return inputs | {"input_ids": ids, "attention_mask": mask} | self.image_token_types(ids)

    def image_token_types(self, ids: Tensor) -> dict[str, Tensor]:
        """The argument by which transformers 5 finds image tokens in ids [B, N]; none in transformers 4."""
        if "mm_token_type_ids" not in inspect.signature(self.vlm.forward).parameters:
            return {}
        return {"mm_token_type_ids": (ids == self.token_id(IMAGE_PAD)).int()}

    @torch.no_grad()
    def answer_ids(self, turns: Sequence[Turn | Talk], **options: Any) -> list[list[int]]:
        """Token ids of the stock model's answer to each turn, each up to its end marker: one `generate` for all.

        Args:
            options: those of the stock `generate`.
        """
        inputs = self.chat_inputs(turns)
        output = self.vlm.generate(**inputs, **options)
        ids: list[list[int]] = output[:, inputs["input_ids"].shape[1] :].tolist()
        return [self._to_its_end(row) for row in ids]

    def _to_its_end(self, ids: list[int]) -> list[int]:
        """The ids of an answer without what `generate` fills them up with while others of the batch go on."""
        ends = self.vlm.generation_config.eos_token_id  # one, several or none
        ends = ends if isinstance(ends, list) else [ends]
        return ids[: next((i + 1 for i, token in enumerate(ids) if token in ends), None)]

    def answers(self, turns: Sequence[Turn | Talk], max_new_tokens: int = 128, **options: Any) -> list[str]:
        """The stock model's greedy answer to each turn.

        In float32 a turn's answer is what it is alone; in fewer bits a batch rounds otherwise.

        Args:
            options: more of the stock `generate`.
        """
        options |= {"max_new_tokens": max_new_tokens, "do_sample": False}
        answers = self.answer_ids(turns, **options)
        return [str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in answers]


def _content(parts: Sequence[Image.Image | str]) -> list[dict[str, str]]:
    """The parts of a message as chat templates read them."""
    return [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in parts]
