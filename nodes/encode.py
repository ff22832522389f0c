"""Prompts and pictures to CONDITIONING, and pictures to words."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io, ui

from ..lightbagel_core.config import DESCRIBE
from .answers import max_length_input, sampling_mode_input
from .checked import checked
from .loader import CATEGORY
from .pictures import images_input


class LightBagelTextEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LightBagelTextEncode",
            display_name="LightBagel Text Encode",
            category=CATEGORY,
            description="A prompt, or an instruction about source images, as CONDITIONING for any sampler.",
            search_aliases=["lightbagel", "prompt", "edit instruction", "clip text encode"],
            inputs=[
                io.Clip.Input("clip", tooltip="LightBagel's CLIP."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="What to draw, or what to change. Empty: nothing said, as guidance wants it.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="With it the model sees source images as pixels too, and keeps what is not to change.",
                ),
                images_input("Source images, in the order the instruction speaks of them. None: text to image."),
                io.Conditioning.Input(
                    "history",
                    optional=True,
                    tooltip="The turn before: the CONDITIONING of its LightBagel Text Encode. Give the negative side "
                    "the same one. More turns than one are untrained ground.",
                ),
            ],
            outputs=[io.Conditioning.Output(tooltip="For a sampler that runs LightBagel's MODEL.")],
        )

    @classmethod
    @checked
    def execute(cls, clip: Any, prompt: str, vae: Any = None, images: Any = None, history: Any = None) -> io.NodeOutput:
        from .host.encoding import encode

        batches = [image for image in (images or {}).values() if image is not None]
        return io.NodeOutput(encode(clip, prompt, vae, batches, history))


class LightBagelDescribe(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LightBagelDescribe",
            display_name="LightBagel Describe Image",
            category=CATEGORY,
            description="Describes pictures, or answers a question about them.",
            search_aliases=["lightbagel", "caption", "interrogate", "vqa", "image to text"],
            is_output_node=True,
            inputs=[
                io.Clip.Input("clip", tooltip="LightBagel's CLIP."),
                io.Image.Input("image", tooltip="What to look at; a batch is looked at together."),
                io.String.Input(
                    "question",
                    multiline=True,
                    dynamic_prompts=True,
                    default=DESCRIBE,
                    tooltip="A question about the picture, or a request to describe it.",
                ),
                max_length_input(128),
                sampling_mode_input(),
            ],
            outputs=[io.String.Output(display_name="text", tooltip="The answer.")],
        )

    @classmethod
    @checked
    def execute(
        cls, clip: Any, image: torch.Tensor, question: str, max_length: int, sampling_mode: Any
    ) -> io.NodeOutput:
        from .host.asking import answer
        from .host.encoding import encoder_of, tokens
        from .host.images import pictures
        from .host.telling import in_the_box

        encoder_of(clip)
        if not question.strip():
            raise ValueError(f'the question is empty: ask something, or write "{DESCRIBE}"')
        asked = tokens(clip, question, "question", pictures=pictures([image]))
        text = answer(clip, asked, max_length, sampling_mode, in_the_box()).text
        return io.NodeOutput(text, ui=ui.PreviewText(text))
