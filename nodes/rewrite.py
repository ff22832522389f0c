"""Prompts to longer prompts."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .answers import max_length_input, sampling_mode_input
from .checked import checked
from .loader import CATEGORY
from .pictures import images_input


class LightBagelRewritePrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LightBagelRewritePrompt",
            display_name="LightBagel Rewrite Prompt",
            category=CATEGORY,
            description="Has the model's own language model write a prompt out, before anything is drawn from it.",
            search_aliases=["lightbagel", "prompt enhance", "prompt expand", "upsample prompt", "LLM"],
            inputs=[
                io.Clip.Input("clip", tooltip="LightBagel's CLIP; no other model is loaded."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="What to draw, or what to change, in a few words.",
                ),
                images_input("Source images, which are looked at; an edit needs one."),
                io.Combo.Input(
                    "task",
                    options=["generate", "edit"],
                    default="generate",
                    tooltip="What the prompt is for: a new picture, or a change of the source images.",
                ),
                io.String.Input(
                    "system_prompt",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="How to rewrite. Empty: LightBagel's own, in the language of the prompt.",
                ),
                max_length_input(512, "Tokens of the answer, at most, a thought included."),
                sampling_mode_input(),
                io.Boolean.Input(
                    "thinking",
                    default=False,
                    optional=True,
                    tooltip="Let the model think in words first. The thought is an output of its own, not drawn.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="prompt", tooltip="The rewritten prompt, for Text Encode or Generate."),
                io.String.Output(display_name="thinking", tooltip="What was thought before it; empty without."),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls,
        clip: Any,
        prompt: str,
        task: str,
        max_length: int,
        sampling_mode: Any,
        images: Any = None,
        system_prompt: str = "",
        thinking: bool = False,
    ) -> io.NodeOutput:
        from .host.rewriting import rewrite

        batches = [image for image in (images or {}).values() if image is not None]
        made = rewrite(clip, prompt, batches, task, system_prompt, thinking, max_length, sampling_mode)
        return io.NodeOutput(made.prompt, made.thinking)
