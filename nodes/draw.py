"""The one-box nodes: a prompt, or pictures and an instruction, to a finished picture, with the authors' settings."""

from __future__ import annotations

from typing import Any, get_args

from comfy_api.latest import io

from ..lightbagel_core.config import Defaults, Renorm, SolverName
from ..lightbagel_core.model.sequence import SIDES
from ..lightbagel_core.sampling.guidance import Guidance
from .checked import checked
from .loader import CATEGORY

STRIDE = 32  # pixels a DiT token covers

PARTS = [
    io.Model.Input("model", tooltip="LightBagel's MODEL, with the LoRAs and patches of other nodes."),
    io.Clip.Input("clip", tooltip="LightBagel's CLIP."),
    io.Vae.Input("vae", tooltip="LightBagel's VAE."),
]
OUTPUTS = [
    io.Image.Output(tooltip="The finished pictures."),
    io.Latent.Output(tooltip="Their latents, for another sampler or decoder."),
]


def common(defaults: Defaults, text_guidance: float) -> list[Any]:
    """The inputs both one-box nodes end with."""
    return [
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="The noise a picture starts from; the same seed draws the same picture.",
        ),
        io.Int.Input("steps", default=defaults.steps, min=1, max=1000, tooltip="Denoising steps; 20 to 50 are usual."),
        io.Float.Input(
            "text_guidance",
            default=text_guidance,
            min=0.0,
            max=30.0,
            step=0.05,
            tooltip="How strongly the words are followed; 1 or less switches guidance off and halves the time.",
        ),
        io.Float.Input(
            "image_guidance",
            default=defaults.image_guidance,
            min=1.0,
            max=30.0,
            step=0.05,
            tooltip="Above 1: how strongly the source images are followed.",
        ),
        io.String.Input(
            "negative_prompt",
            multiline=True,
            default="",
            advanced=True,
            tooltip="What to keep away from; may stay empty.",
        ),
        io.Combo.Input(
            "solver",
            options=list(get_args(SolverName)),
            default=defaults.solver,
            advanced=True,
            tooltip="How a step is taken; the authors use unipc.",
        ),
        io.Float.Input(
            "shift",
            default=defaults.shift,
            min=0.1,
            max=100.0,
            step=0.1,
            advanced=True,
            tooltip="Larger: more steps near the noise. At 4, as trained, a shift set on the MODEL counts.",
        ),
        io.Combo.Input(
            "renorm",
            options=list(get_args(Renorm)),
            default="none",
            advanced=True,
            tooltip="Brings an over-guided picture back to its natural contrast.",
        ),
        io.Float.Input(
            "renorm_min",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            advanced=True,
            tooltip="Renorm weakens guidance no further than to this part.",
        ),
        io.Float.Input(
            "guidance_from",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            advanced=True,
            tooltip="Guidance acts from this noise level; 1 is the start of the run.",
        ),
        io.Float.Input(
            "guidance_to",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            advanced=True,
            tooltip="Guidance acts down to this noise level; 0 is the end of the run.",
        ),
    ]


class LightBagelGenerate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        defaults = Defaults()
        side = {"min": STRIDE, "max": SIDES * STRIDE, "step": STRIDE}
        return io.Schema(
            node_id="LightBagelGenerate",
            display_name="LightBagel Generate",
            category=CATEGORY,
            description="Draws pictures of a prompt, with the authors' sampler and guidance.",
            search_aliases=["lightbagel", "text to image", "t2i", "draw"],
            inputs=[
                *PARTS,
                io.String.Input("prompt", multiline=True, dynamic_prompts=True, tooltip="What to draw."),
                io.Int.Input("width", default=defaults.width, tooltip="Pixels. The nano draws 96.", **side),
                io.Int.Input("height", default=defaults.height, tooltip="Pixels. The nano draws 96.", **side),
                io.Int.Input("batch_size", default=1, min=1, max=4096, tooltip="How many pictures to draw at once."),
                *(i for i in common(defaults, defaults.text_guidance) if i.id != "image_guidance"),
            ],
            outputs=OUTPUTS,
        )

    @classmethod
    @checked
    def execute(
        cls, model: Any, clip: Any, vae: Any, prompt: str, width: int, height: int, batch_size: int, **settings: Any
    ) -> io.NodeOutput:
        from .host.run import generate

        if not prompt.strip():
            raise ValueError("the prompt is empty: say what to draw")
        return io.NodeOutput(
            *generate(model, clip, vae, prompt, (width, height), batch_size, guidance_of(settings), **settings)
        )


class LightBagelEdit(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        defaults = Defaults()
        return io.Schema(
            node_id="LightBagelEdit",
            display_name="LightBagel Edit",
            category=CATEGORY,
            description="Changes a picture by an instruction, or makes one from several.",
            search_aliases=["lightbagel", "instruct", "image edit", "inpaint"],
            inputs=[
                *PARTS,
                io.Autogrow.Input(
                    "images",
                    template=io.Autogrow.TemplatePrefix(
                        io.Image.Input("image", tooltip="A source image; the first one gives the size."), "image", 1, 16
                    ),
                    tooltip="Source images; the first one gives the size.",
                ),
                io.String.Input("instruction", multiline=True, dynamic_prompts=True, tooltip="What to change."),
                io.Mask.Input("mask", optional=True, tooltip="Only here may the first image change."),
                *common(defaults, defaults.edit_text_guidance),
            ],
            outputs=OUTPUTS,
        )

    @classmethod
    @checked
    def execute(
        cls, model: Any, clip: Any, vae: Any, images: Any, instruction: str, mask: Any = None, **settings: Any
    ) -> io.NodeOutput:
        from .host.run import edit

        batches = [image for image in images.values() if image is not None]
        if not batches:
            raise ValueError("no image is connected: edit needs one to change")
        if not instruction.strip():
            raise ValueError("the instruction is empty: say what to change")
        return io.NodeOutput(*edit(model, clip, vae, batches, instruction, mask, guidance_of(settings), **settings))


def guidance_of(settings: dict[str, Any]) -> Guidance:
    """Takes the guidance settings out of a node's inputs."""
    interval = (settings.pop("guidance_to"), settings.pop("guidance_from"))
    if interval[0] >= interval[1]:
        raise ValueError("guidance_from must be larger than guidance_to: noise runs from 1 down to 0")
    return Guidance(
        settings.pop("text_guidance"),
        settings.pop("image_guidance", 1.0),
        interval,
        settings.pop("renorm"),
        settings.pop("renorm_min"),
    )
