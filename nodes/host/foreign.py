"""What nodes hand a CLIP beside the text: what LightBagel's cannot follow is refused in words, the rest passed over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

INSTEAD = "use CLIP Text Encode for text, LightBagel Text Encode to edit"
REFUSED = {
    "video": "LightBagel looks at pictures, not at videos: take frames of it as images",
    "audio": "LightBagel hears nothing: disconnect the audio",
    "system_prompt": "LightBagel answers without a system prompt: leave it empty and put its words into the prompt, "
    "or use LightBagel Rewrite Prompt, which has one",
    "skip_template": "LightBagel answers in its own chat template only: switch use_default_template on",
}
FAMILY = ("llama_template", "image_embeds", "image_interleave", "lyrics", "minimax_ref_items")  # only others' nodes
MARKERS = ("<Prompt Start>", "<start_of_turn>", "<|start_header_id|>")  # of other models' templates
NO_PICTURES_HERE = (
    "LightBagel's CLIP takes no pictures from this node; use LightBagel Text Encode to draw or edit, "
    "LightBagel Describe Image to ask"
)


def refuse(text: str, options: Mapping[str, Any]) -> None:
    """Raises ValueError when a node hands `CLIP.tokenize` something that changes what it asks for, or a text in the
    form of another model.

    Options that are empty, or that say how an answer is computed and not what is asked (`thinking`, `min_length`,
    whatever a newer ComfyUI adds), are passed over.
    """
    for name, why in REFUSED.items():
        value = options.get(name)
        if value.numel() if isinstance(value, Tensor) else value:
            raise ValueError(why)
    found = [name for name in FAMILY if options.get(name) is not None]
    found += [marker for marker in MARKERS if marker in text]
    if found:
        raise ValueError(f"this node writes prompts in the form of another model ({', '.join(found)}): {INSTEAD}")


def batches(image: Tensor | None, images: Tensor | Sequence[Tensor | None] | None) -> list[Tensor]:
    """IMAGEs [B, H, W, C] of a node's `image` and `images`: one IMAGE, or a list of which some may be missing."""
    listed = [images] if isinstance(images, Tensor) else images or []
    return [each.reshape(-1, *each.shape[-3:]) for each in (image, *listed) if each is not None]
