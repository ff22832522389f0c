"""LightBagel: draws pictures from prompts, edits them by instruction, describes them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from . import images
from .config import NANO, LightBagelConfig, SolverName
from .conversation import composing
from .conversation.composition import Composition
from .conversation.conversation import Conversation
from .describe import Describer
from .files.checkpoint import build_modules, save_components
from .files.components import COMPONENTS
from .files.convert import merged_loras, told_apart
from .files.formats import Opened, open_model
from .files.precision import Precision, default_device
from .images import to_rgb
from .language.choosing import Choosing
from .language.rewriting import LENGTH, Rewritten, rewrite, talk_of
from .language.system_prompts import Task
from .language.thinking import Think, fed, has_thought, thought_of
from .memory.offload import Offload, Residency
from .model import forward, vae
from .model.attention import SDPA, Attention, by_name, choose
from .model.chat import OnText
from .model.forward import CleanImage, Content, Context
from .model.fusion import FusionStack
from .model.generation import Generation, LearnedContext
from .model.reading import Reading
from .model.sequence import ImageSegment, check_positions
from .model.understanding import Understanding, VitImage
from .sampling.branches import branches_of
from .sampling.denoise import OnStep, Stopped, draw_noise, guided, sample
from .sampling.guidance import Guidance
from .sampling.settings import Asked, Settings, resolve
from .sampling.solvers import make_solver


class LightBagel:
    """A whole model, ready to use.

    High level: `generate`, `edit`, `rewrite`, `describe`, `describe_each`, `describe_in_turn`, `converse`, `compose`.
    Low level, for samplers of one's own: `text`, `vit` and `clean` make what segments hold; hand them to `encode`, call
    `velocity` as often as wanted, `decode` the result.
    """

    def __init__(
        self,
        config: LightBagelConfig,
        und: Understanding,
        gen: Generation,
        fusion: FusionStack,
        autoencoder: AutoencoderKLWan,
        residency: Residency | None = None,
        attention: Attention = SDPA,
    ) -> None:
        """`residency` brings weights when they are needed; without one the components have them."""
        self.config, self.und, self.gen, self.fusion = config, und, gen, fusion
        self.vae = vae.use_single_frames(autoencoder)
        self.residency, self.attention = residency, attention
        gen.use_attention(attention)
        self._learned = LearnedContext(gen, fusion)
        describer = Describer(und, partial(self.need, "understanding"))
        self.describe, self.describe_each = describer.describe, describer.describe_each
        self.describe_in_turn = describer.describe_in_turn
        self.compiled = False

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | None = "nano",
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        *,
        components: Mapping[str, Path | None] | None = None,
        tokenizer: Path | None = None,
        config: Path | None = None,
        loras: Mapping[str, float] | Mapping[Path, float] | None = None,
        offload: Offload | None = None,
        attention: str | None = None,
    ) -> LightBagel:
        """Opens a model: checks its files now, reads the weights of each component when it is first needed.

        Args:
            name: "nano", the one that ships with the package; a checkpoint folder; the authors' file or folder; a
                fusion stack alone; None for the base models as they are.
            device: default: the accelerator that is there, else the CPU.
            dtype: float32, bfloat16, float16 or float8_e4m3fn (weights; computes in bfloat16). Default: float32 on the
                CPU, bfloat16 elsewhere, float8 weights as they are.
            components: base models' files or folders by component; they win over the checkpoint's.
            tokenizer, config: see `formats.open_model`.
            loras: LoRA files of the DiT or the fusion stack, and the strength of each: {"style.safetensors": 0.8}. They
                are added to the weights when these are read; several add up.
            offload: "parts" or "layers", see `residency`.
            attention: "sdpa", "flash" or "flash3"; default: the fastest that is installed and suits device and dtype.

        Raises:
            ValueError: the files are no complete model; the message names what is wrong.
        """
        checkpoint = NANO if name == "nano" else None if name is None else Path(name)
        opened = open_model(checkpoint, components=components, tokenizer=tokenizer, config=config, loras=loras)
        return cls.of(opened, device, dtype, offload, attention)

    @classmethod
    def of(
        cls,
        opened: Opened,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        offload: Offload | None = None,
        attention: str | None = None,
    ) -> LightBagel:
        """The model of files that were opened; arguments as in `from_pretrained`."""
        device = torch.device(device) if device is not None else default_device()
        und, gen, fusion, autoencoder = build_modules(opened, device)
        modules = {"understanding": und.vlm, "generation": gen.dit, "fusion": fusion, "vae": autoencoder}
        precision = Precision.of(dtype, device)
        residency = Residency(opened, modules, precision, device, offload)
        kernel = by_name(choose(device, precision.compute, attention))
        return cls(opened.config, und, gen, fusion, autoencoder, residency, kernel)

    @property
    def unfused(self) -> bool:
        """Whether no fusion stack was opened: then it is the plain Wan and hears no prompt, and the plain Qwen."""
        return self.residency is not None and "fusion" not in self.residency.opened.components

    @property
    def loras(self) -> dict[str, float]:
        """The LoRAs that it was opened with, by the shortest names that tell all its files apart: their strengths."""
        if self.residency is None:
            return {}
        opened = self.residency.opened
        names = told_apart(opened.files)
        return {names[file]: strength for file, strength in opened.loras.items()}

    def need(self, *components: str) -> None:
        """Has the weights of these components ready; see `Residency.need`."""
        if self.residency is not None:
            self.residency.need(*components)
            if not {"generation", "fusion"} <= self.residency.loaded:
                self._learned.forget()

    def release(self, *components: str) -> None:
        """Gives up the weights of components ("understanding" before denoising, say) until they are needed again."""
        if self.residency is not None:
            self.residency.release(*components)
        if {"generation", "fusion"}.intersection(components):
            self._learned.forget()

    def weights_changed(self) -> None:
        """Forgets what was computed from weights: to be called after changing them through `.data`, as fusing a LoRA
        into the DiT does.
        """
        self._learned.forget()

    def compile(self, **options: Any) -> None:
        """Has what repeats in every step compiled, when it first runs: the DiT's blocks and the fusion's projections.

        Each is compiled once for all layers, and again only for another number of pictures or another size, whatever
        the prompts, seeds and steps.

        Args:
            options: torch.compile's.

        Raises:
            ValueError: the weights are streamed.
        """
        if self._streamed:
            raise ValueError(
                "compiled steps need their weights on the device, and these are streamed (offload layers): offload "
                "parts or nothing, or do not compile"
            )
        if self.compiled:
            return
        self.compiled = True
        self.gen.dit.compile_repeated_blocks(fullgraph=True, **options)
        self.fusion.compile_layers("gen_query_key_value", fullgraph=True, **options)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Writes a checkpoint folder that `from_pretrained` opens; LoRAs are merged, and in its metadata."""
        if self.unfused:
            raise ValueError("there is no fusion stack to save: this is the plain Wan and the plain Qwen2.5-VL")
        self.need(*COMPONENTS)
        said = {} if self.residency is None else merged_loras(self.residency.opened)
        config = replace(self.config, metadata=self.config.metadata | said)
        save_components(Path(folder), config, self.und, self.gen, self.fusion, self.vae, dtype)

    # --- low level ---------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return self.fusion.context.device if self.residency is None else self.residency.device

    @property
    def _streamed(self) -> bool:
        return self.residency is not None and self.residency.offload == "layers"

    @property
    def pixels_per_token(self) -> int:
        """Pixels along one side of a DiT token."""
        return self.config.vae_image.stride

    def text(self, prompt: str) -> list[int]:
        """A text segment. Raises ValueError for words outside a closed vocabulary (the nano's)."""
        return self.und.text_ids(prompt)

    @torch.no_grad()
    def vit(self, image: Image.Image) -> VitImage:
        """A source image as the VLM sees it."""
        self.need("understanding")
        return self.und.vit_images([images.resized(images.to_rgb(image), self.config.vit_image)])[0]

    @torch.no_grad()
    def clean(self, image: Image.Image) -> CleanImage:
        """A source image as the DiT sees it."""
        self.need("vae")
        pixels = images.to_pixels(images.resized(images.to_rgb(image), self.config.vae_image))
        return CleanImage(vae.encode(self.vae, pixels[None].to(self.device))[0])

    @torch.no_grad()
    def encode(
        self, samples: Sequence[Sequence[Content]], width: int, height: int, reading: Reading | None = None
    ) -> Context:
        """All that is constant over a run: the context of each sample for a target of width x height pixels.

        Args:
            reading: what the VLM has read in earlier calls, with the same weights; it is not run over that again.

        Raises:
            ValueError: a size that is not made of whole tokens (see `size`); more positions than the VLM has.
        """
        stride = self.pixels_per_token
        if width % stride or height % stride or min(width, height) < stride:
            raise ValueError(f"a target of {width}x{height} is not made of whole tokens of {stride} pixels")
        target = (height // stride, width // stride)
        for contents in samples:
            segments = [forward.segment_of(content, self.gen.patch) for content in contents]
            check_positions([*segments, ImageSegment("noised", *target)], self.config.positions)
        tokens = forward.pack_samples(samples, self.gen.patch, target)
        self.need("understanding")
        states = forward.und_states(self.und, tokens) if reading is None else reading.read(self.und, tokens)
        self.need("generation", "fusion")
        learned = self._learned.get(self._streamed)
        return forward.encode(
            self.gen, self.fusion, tokens, states.__getitem__, learned, self.attention, self.gen.dtype, self.device
        )

    @torch.no_grad()
    def velocity(self, latents: Tensor, t: float | Tensor, context: Context) -> Tensor:
        """Velocity (noise - picture) at flow time t in 0..1; latents and result float32 [B, C, h, w].

        Raises:
            ValueError: latents of another batch or size than the context's.
        """
        batch, tokens = context.rotary[0].shape[:2]
        rows, cols = self.gen.grid(*latents.shape[-2:])
        if (len(latents), rows * cols) != (batch, tokens):
            raise ValueError(
                f"latents of {len(latents)} samples, {rows * cols} tokens do not fit a context of {batch}, {tokens}"
            )
        # Filled in on the device: a copy to it would wait for everything that was asked of it before.
        times = t if isinstance(t, Tensor) else torch.full((1,), t, device=self.device)
        self.need("generation", "fusion")
        times = times.to(self.device, torch.float32).expand(batch)
        return forward.velocity(self.gen, self.fusion, latents, times, context, self.attention)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> list[Image.Image]:
        """Pictures of normalised latents [B, C, h, w]."""
        self.need("vae")
        return [images.from_pixels(pixels) for pixels in vae.decode(self.vae, latents)]

    def noise(self, count: int, width: int, height: int, seed: int | torch.Generator) -> Tensor:
        """Float32 noise [count, C, h, w] for pictures of width x height pixels; see `draw_noise`."""
        per_token = self.pixels_per_token // self.gen.patch
        shape = (count, self.config.vae["z_dim"], height // per_token, width // per_token)
        return draw_noise(shape, seed).to(self.device)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """An asked-for size as the model can draw it: each side to the nearest multiple of a token's pixels, with a
        warning where that changes it.

        Raises:
            ValueError: a side below 1 or above what the DiT has positions for.
        """
        largest = self.pixels_per_token * int(self.gen.dit.config.rope_max_seq_len)
        size = images.round_size(width, height, self.pixels_per_token, largest)
        if size != (width, height):
            warnings.warn(f"size {width}x{height} rounded to {size[0]}x{size[1]}", stacklevel=3)
        return size

    def settings(self, source: Image.Image | None = None, **asked: Unpack[Asked]) -> Settings:
        """The settings of a run, resolved against the model's defaults; of an edit of a source picture, whose size the
        result has unless another is asked for.

        Raises:
            ValueError: a setting outside its range.
        """
        natural = None if source is None else images.size_by_rule(*source.size, self.config.vae_image)
        return resolve(self.config.defaults, asked, self.size, natural)

    # --- high level --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def draw(
        self,
        branches: Mapping[str, Sequence[Sequence[Content]]],
        noise: Tensor,
        guidance: Guidance,
        *,
        steps: int | None = None,
        solver: SolverName | None = None,
        shift: float | None = None,
        on_step: OnStep | None = None,
        progress: bool = True,
        reading: Reading | None = None,
    ) -> list[Image.Image]:
        """Draws a batch of samples: one guided run from noise to pictures.

        Args:
            branches: the contents of each of B samples, for every branch that `guidance` names.
            noise: [B * k, C, h, w], k pictures for each sample in turn (see `noise`).
            steps, solver, shift: default: the model's own. on_step, progress: as in `generate`.
            reading: as in `encode`.
        """
        default = self.config.defaults
        schedule = make_solver(
            solver or default.solver,
            default.steps if steps is None else steps,
            default.shift if shift is None else shift,
            self.device,
        )
        # Apart, so that nothing of the run but its latents is there when they are decoded.
        return self.decode(self._denoised(branches, noise, guidance, schedule, on_step, progress, reading))

    def _denoised(
        self,
        branches: Mapping[str, Sequence[Sequence[Content]]],
        noise: Tensor,
        guidance: Guidance,
        schedule: Any,
        on_step: OnStep | None,
        progress: bool,
        reading: Reading | None,
    ) -> Tensor:
        """The latents that `draw` decodes."""
        height, width = (side * self.pixels_per_token // self.gen.patch for side in noise.shape[-2:])
        pictures = len(noise) // len(branches["full"])
        samples = [sample for name in guidance.branches for sample in branches[name] for _ in range(pictures)]
        context = self.encode(samples, width, height, reading)
        plain = context.rows(list(range(len(noise))))
        one, together = (partial(self.velocity, context=each) for each in (plain, context))
        velocity = guided(one, together, guidance, self.gen.patch)
        with tqdm(total=len(schedule.timesteps), disable=not progress, unit="step") as bar:

            def step(done: int, total: int, latents: Tensor) -> bool | None:
                bar.update()
                return on_step(done, total, latents) if on_step is not None else None

            return sample(velocity, noise, schedule, step)

    def rewrite(
        self,
        prompt: str,
        images: Image.Image | Sequence[Image.Image] = (),
        task: Task = "generate",
        system_prompt: str | None = None,
        thinking: bool = False,
        max_new_tokens: int = LENGTH,
        on_text: OnText | None = None,
        **choosing: Unpack[Choosing],
    ) -> Rewritten:
        """Writes a prompt out, by the VLM that is loaded: what it was trained on are long prompts. Its `prompt` can be
        read, changed and given to `generate` or `edit`.

        Args:
            images: of an edit its pictures, which the VLM looks at; of "generate" what the prompt speaks of, if any.
            system_prompt: in place of the built-in one (`language/system_prompts.py`).
            thinking: whether it thinks first; the thought is returned, and not drawn from.
            max_new_tokens: of the answer, a thought included; where it ends the answer there is a warning.
            on_text: told all words so far as they are made; returning False ends the answer.
            choosing: of words: temperature, top_k, top_p, min_p, repetition_penalty, seed (see `Choosing`); without
                them the likeliest, so that the answer is the same each time.

        Raises:
            ValueError: nothing to rewrite, an edit without pictures, a setting outside its range, an answer without a
                prompt, a thought that does not end; a VLM that cannot write freely (the nano's).
        """
        seen = [to_rgb(image) for image in ([images] if isinstance(images, Image.Image) else images)]
        talk = talk_of(prompt, seen, task, system_prompt, thinking)
        return rewrite(
            self.und, talk, partial(self.need, "understanding"), thinking, max_new_tokens, on_text, **choosing
        )

    def generate(
        self,
        prompt: str,
        negative_prompt: str = "",
        *,
        think: Think = False,
        on_thought: OnText | None = None,
        settings: Settings | None = None,
        on_step: OnStep | None = None,
        progress: bool = True,
        **asked: Unpack[Asked],
    ) -> list[Image.Image]:
        """Draws pictures of a prompt.

        Args:
            think: True: the VLM thinks first. Weights that were trained to (`config.thinking`) draw after prompt and
                thought, each a segment of its own; others draw after the prompt that they come to (see `rewrite`).
                "feed", EXPERIMENTAL: after prompt and thought, with weights that never saw a thought; it warns.
            on_thought: told all words of the VLM so far, as they are made; returning False ends them there.
            settings: of the run, as a whole; or `asked`, one by one: width, height, steps, solver, shift,
                text_guidance, guidance_interval, renorm, renorm_min, seed, num_images (see `Settings`).
            on_step: called after each step with (done, all, latents); returning False stops the run.

        Raises:
            ValueError: a setting outside its range, an empty prompt, an unknown word (nano), a thought that cannot be
                used, a negative prompt beside one.
            Stopped: `on_step` asked to stop.
        """
        if not prompt.strip():
            raise ValueError("generate needs a prompt: say what to draw")
        has_thought(self.config.thinking, think, negative_prompt)
        settings = self.settings(**asked) if settings is None else settings
        branches, reading = self._branches([], [], prompt, negative_prompt, think, on_thought)
        return self._run(branches, settings, on_step, progress, reading)

    def edit(
        self,
        image: Image.Image | Sequence[Image.Image],
        instruction: str,
        negative_prompt: str = "",
        *,
        source_tokens: tuple[str, ...] = ("vae", "vit"),
        think: Think = False,
        on_thought: OnText | None = None,
        settings: Settings | None = None,
        on_step: OnStep | None = None,
        progress: bool = True,
        **asked: Unpack[Asked],
    ) -> list[Image.Image]:
        """Edits a picture by an instruction, or makes one from several sources.

        The size is the first source's, by the VAE rule, unless asked otherwise; after a thought of its own (see `think`
        of `generate`) the last one's.

        Args:
            source_tokens: which kinds of source token are used; both is the paper's double fusion, one an ablation.
            think, on_thought, settings, asked, on_step: as in `generate`, with image_guidance, which above 1 adds the
                image step of dual guidance.

        Raises:
            ValueError, Stopped: as `generate`.
        """
        sources = [images.to_rgb(i) for i in ([image] if isinstance(image, Image.Image) else image)]
        if not sources:
            raise ValueError("edit needs at least one source image")
        if not instruction.strip():
            raise ValueError("edit needs an instruction: say what to change")
        if not source_tokens or not set(source_tokens) <= {"vae", "vit"}:
            raise ValueError(f"source_tokens must name 'vae', 'vit' or both, not {source_tokens}")
        has_thought(self.config.thinking, think, negative_prompt)
        settings = self.settings(self.sizing(sources, think), **asked) if settings is None else settings
        # All of one kind first: where only one component is on the device at a time, each comes once.
        clean = [[self.clean(source)] if "vae" in source_tokens else [] for source in sources]
        seen = [[self.vit(source)] if "vit" in source_tokens else [] for source in sources]
        pictures: list[Content] = [
            content for pair in zip(clean, seen, strict=True) for kind in pair for content in kind
        ]
        branches, reading = self._branches(sources, pictures, instruction, negative_prompt, think, on_thought)
        return self._run(branches, settings, on_step, progress, reading)

    def compose(
        self,
        request: str,
        images: Sequence[Image.Image] = (),
        tries: int = composing.TRIES,
        *,
        on_part: composing.OnPart | None = None,
        on_step: OnStep | None = None,
        progress: bool = True,
        **asked: Unpack[Asked],
    ) -> Composition:
        """EXPERIMENTAL. Answers a request in words and pictures, by a plan of the VLM's; see `composing.compose`."""
        how: dict[str, Any] = {"on_part": on_part, "on_step": on_step, "progress": progress, **asked}
        return composing.compose(self, request, images, tries, **how)

    def sizing(self, sources: Sequence[Image.Image], think: Think = False) -> Image.Image:
        """Which of an edit's sources gives the size: the first, and after a thought of its own the last."""
        return sources[-1 if has_thought(self.config.thinking, think) else 0]

    def _branches(
        self,
        sources: Sequence[Image.Image],
        pictures: Sequence[Content],
        prompt: str,
        negative: str,
        think: Think,
        on_thought: OnText | None,
    ) -> tuple[Mapping[str, Sequence[Content]], Reading | None]:
        """What is before the target in each branch of guidance, and what the VLM has read of it while it thought.

        Args:
            pictures: the contents of the sources.
        """
        thinking = self.config.thinking
        if think and thinking is not None:
            self.need("understanding")
            thought = thought_of(self.und, thinking, pictures, prompt, self.gen.patch, on_thought)
            return thought.branches, thought.reading
        if think:
            task: Task = "edit" if sources else "generate"
            rewritten = self.rewrite(prompt, sources, task, thinking=True, on_text=on_thought)
            if think == "feed":
                return fed(self.und, pictures, prompt, rewritten.thinking).branches, None
            prompt = rewritten.prompt
        return branches_of(pictures, self.text(prompt), self.text(negative)), None

    def converse(self, history: int = 0) -> Conversation:
        """A conversation with this model, in which pictures, drawings, edits, questions and answers follow each other.

        Args:
            history: how many earlier turns of an edit its drawing looks at; see `Conversation`.

        Raises:
            ValueError: `history` is no whole number from 0 on.
        """
        return Conversation(self, history)

    def _run(
        self,
        branches: Mapping[str, Sequence[Content]],
        settings: Settings,
        on_step: OnStep | None,
        progress: bool,
        reading: Reading | None,
    ) -> list[Image.Image]:
        """Pictures of one sample, as the settings say."""
        noise = self.noise(settings.num_images, settings.width, settings.height, settings.seed)
        return self.draw(
            {name: [sample] for name, sample in branches.items()},
            noise,
            settings.guidance,
            steps=settings.steps,
            solver=settings.solver,
            shift=settings.shift,
            on_step=on_step,
            progress=progress,
            reading=reading,
        )


__all__ = ["LightBagel", "Stopped", "default_device"]
