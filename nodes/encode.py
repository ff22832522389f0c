"""Prompts and pictures to CONDITIONING, and pictures to words."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io, ui

from ..lightbagel_core.config import DESCRIBE
from .checked import checked
from .loader import CATEGORY


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
                io.Autogrow.Input(
                    "images",
                    template=io.Autogrow.TemplatePrefix(
                        io.Image.Input("image", tooltip="A source image; a batch counts as several."), "image", 0, 16
                    ),
                    optional=True,
                    tooltip="Source images, in the order the instruction speaks of them. None: text to image.",
                ),
            ],
            outputs=[io.Conditioning.Output(tooltip="For a sampler that runs LightBagel's MODEL.")],
        )

    @classmethod
    @checked
    def execute(cls, clip: Any, prompt: str, vae: Any = None, images: Any = None) -> io.NodeOutput:
        from .host.encoding import encode

        batches = [image for image in (images or {}).values() if image is not None]
        return io.NodeOutput(encode(clip, prompt, vae, batches))


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
                io.Int.Input("max_length", default=128, min=1, max=32768, tooltip="Tokens of the answer, at most."),
                io.DynamicCombo.Input(
                    "sampling_mode",
                    display_name="Sampling Mode",
                    tooltip="Off: always the likeliest word. On: chosen by chance, with these settings.",
                    options=[
                        io.DynamicCombo.Option("off", []),
                        io.DynamicCombo.Option(
                            "on",
                            [
                                io.Float.Input(
                                    "temperature",
                                    default=0.7,
                                    min=0.01,
                                    max=2.0,
                                    step=0.01,
                                    tooltip="Higher: more surprising words.",
                                ),
                                io.Int.Input(
                                    "top_k",
                                    default=64,
                                    min=0,
                                    max=1000,
                                    tooltip="Choose among this many likeliest words; 0: among all.",
                                ),
                                io.Float.Input(
                                    "top_p",
                                    default=0.95,
                                    min=0.0,
                                    max=1.0,
                                    step=0.01,
                                    tooltip="Choose among the likeliest words that together reach this probability.",
                                ),
                                io.Float.Input(
                                    "min_p",
                                    default=0.05,
                                    min=0.0,
                                    max=1.0,
                                    step=0.01,
                                    tooltip="Leave out words less likely than this part of the likeliest one.",
                                ),
                                io.Float.Input(
                                    "repetition_penalty",
                                    default=1.05,
                                    min=0.01,
                                    max=5.0,
                                    step=0.01,
                                    tooltip="Above 1: words already said become less likely.",
                                ),
                                io.Int.Input(
                                    "seed",
                                    default=0,
                                    min=0,
                                    max=0xFFFFFFFFFFFFFFFF,
                                    tooltip="The same seed gives the same answer.",
                                ),
                            ],
                        ),
                    ],
                ),
            ],
            outputs=[io.String.Output(display_name="text", tooltip="The answer.")],
        )

    @classmethod
    @checked
    def execute(
        cls, clip: Any, image: torch.Tensor, question: str, max_length: int, sampling_mode: Any
    ) -> io.NodeOutput:
        from .host.encoding import encoder_of, tokens
        from .host.images import pictures

        encoder_of(clip)
        if not question.strip():
            raise ValueError(f'the question is empty: ask something, or write "{DESCRIBE}"')
        asked = tokens(clip, question, "question", pictures=pictures([image]))
        options = {k: v for k, v in sampling_mode.items() if k != "sampling_mode"}
        sampled = sampling_mode["sampling_mode"] == "on"
        text = clip.decode(clip.generate(asked, do_sample=sampled, max_length=max_length, **options)).strip()
        return io.NodeOutput(text, ui=ui.PreviewText(text))
