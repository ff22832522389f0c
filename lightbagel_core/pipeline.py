"""LightBagel: draws pictures from prompts, edits them by instruction, describes them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from . import images
from .config import CACHES, DESCRIBE, NANO, LightBagelConfig, Renorm, SolverName
from .files.checkpoint import build_modules, save_components
from .files.components import COMPONENTS
from .files.formats import Opened, open_model
from .files.precision import Precision, default_device
from .graphs import Step, recorded
from .memory.offload import Offload, Residency
from .model import forward as fused
from .model import vae as vae_module
from .model.attention import SDPA, Attention, choose
from .model.forward import CleanImage, Context, Part
from .model.fusion import FusionStack
from .model.generation import Generation
from .model.understanding import Understanding, VitImage
from .sampling.denoise import Stopped, sample
from .sampling.guidance import Guidance, combine
from .sampling.solvers import make_solver

OnStep = Callable[[int, int, Tensor], bool | None]


class LightBagel:
    """A whole model, ready to use.

    High level: `generate`, `edit`, `describe`, `describe_each`. Low level, for samplers of one's own: make parts with
    `text`, `vit` and `clean`, hand them to `encode`, then call `velocity` as often as wanted, and `decode` the result.
    """

    def __init__(
        self,
        config: LightBagelConfig,
        und: Understanding,
        gen: Generation,
        fusion: FusionStack,
        vae: AutoencoderKLWan,
        residency: Residency | None = None,
        attention: Attention = SDPA,
    ) -> None:
        """`residency` brings weights when they are needed; without one the components have them."""
        self.config, self.und, self.gen, self.fusion = config, und, gen, fusion
        self.vae = vae_module.use_single_frames(vae)
        self.residency, self.attention = residency, attention
        gen.use_attention(attention)
        self.compiled = self.graphs = False
        self._learned: tuple[Any, list[Tensor], list[Tensor]] | None = None

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
            tokenizer, config: see `layouts.open_model`.
            offload: "parts" or "layers", see `residency`.
            attention: "sdpa", "flash" or "flash3"; default: the fastest that is installed and suits device and dtype.

        Raises:
            ValueError: the files are no complete model; the message names what is wrong.
        """
        checkpoint = NANO if name == "nano" else None if name is None else Path(name)
        opened = open_model(checkpoint, components=components, tokenizer=tokenizer, config=config)
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
        und, gen, fusion, vae = build_modules(opened, device)
        modules = {"understanding": und.vlm, "generation": gen.dit, "fusion": fusion, "vae": vae}
        precision = Precision.of(dtype, device)
        residency = Residency(opened, modules, precision, device, offload)
        return cls(opened.config, und, gen, fusion, vae, residency, choose(device, precision.compute, attention))

    @property
    def unfused(self) -> bool:
        """Whether no fusion stack was opened: then it is the plain Wan and hears no prompt, and the plain Qwen."""
        return self.residency is not None and "fusion" not in self.residency.opened.components

    def need(self, *components: str) -> None:
        """Has the weights of these components ready; see `Residency.need`."""
        if self.residency is not None:
            self.residency.need(*components)
            if not {"generation", "fusion"} <= self.residency.loaded:
                self._learned = None

    def release(self, *components: str) -> None:
        """Gives up the weights of components ("understanding" before denoising, say) until they are needed again."""
        if self.residency is not None:
            self.residency.release(*components)
        if {"generation", "fusion"}.intersection(components):
            self._learned = None

    def compile(self, *, graphs: bool = False, **options: Any) -> None:
        """Has what repeats in every step compiled, when it first runs: the DiT's blocks and the fusion's projections.

        Each is compiled once for all layers, and again only for another number of pictures or another size, whatever
        the prompts, seeds and steps.

        Args:
            graphs: also record each run's step as a CUDA graph and replay it: pays where the device waits for the
                program rather than the program for the device, as with small pictures.
            options: torch.compile's.

        Raises:
            ValueError: graphs without a CUDA device, or weights that are streamed.
        """
        if graphs and self.device.type != "cuda":
            raise ValueError(f"CUDA graphs need a CUDA device, not {self.device}")
        if self._streamed:
            raise ValueError(
                "compiled steps need their weights on the device, and these are streamed (offload layers): offload "
                "parts or nothing, or do not compile"
            )
        self.graphs = graphs
        if self.compiled:
            return
        self.compiled = True
        self.gen.dit.compile_repeated_blocks(fullgraph=True, **options)
        self.fusion.compile_layers("gen_query_key_value", fullgraph=True, **options)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Writes a checkpoint folder that `from_pretrained` opens."""
        if self.unfused:
            raise ValueError("there is no fusion stack to save: this is the plain Wan and the plain Qwen2.5-VL")
        self.need(*COMPONENTS)
        save_components(Path(folder), self.config, self.und, self.gen, self.fusion, self.vae, dtype)

    # --- low level ---------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return self.fusion.context.device if self.residency is None else self.residency.device

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
        return CleanImage(vae_module.encode(self.vae, pixels[None].to(self.device))[0])

    @torch.no_grad()
    def encode(self, samples: Sequence[Sequence[Part]], width: int, height: int) -> Context:
        """All that is constant over a run: the context of each sample for a target of width x height pixels.

        Raises:
            ValueError: a size that is not made of whole tokens (see `size`).
        """
        stride = self.pixels_per_token
        if width % stride or height % stride or min(width, height) < stride:
            raise ValueError(f"a target of {width}x{height} is not made of whole tokens of {stride} pixels")
        target = (height // stride, width // stride)
        tokens = fused.packed(samples, [fused.layout_of(parts, self.gen.patch, target) for parts in samples])
        clean = [samples[b][s].latents for b, s in (image.at for image in tokens.clean)]  # type: ignore[union-attr]
        self.need("understanding")
        states = fused.und_states(self.und, samples, tokens)
        self.need("generation", "fusion")
        learned = self._learned_context()
        return fused.prefix(self.gen, self.fusion, tokens, target, states, clean, learned, self.attention)

    def _learned_context(self) -> list[Tensor]:
        """`Generation.learned_context`, computed once for the weights as they are.

        Adapters (LoRA) may change what their layers compute without a trace in any weight: with them it is not reused.
        What is changed through a weight's `.data` leaves none either; see `weights_changed`.
        """
        weights = [self.fusion.context, *self.gen.context_weights()]
        # Tensors made in inference mode count no versions; nor can they be changed outside it.
        stamp = [] if self._streamed else [(id(w), None if w.is_inference() else w._version) for w in weights]
        if self._learned is None or self._learned[0] != stamp or self.gen.adapted:
            # The weights are held, so that nothing else can come to have their ids.
            self._learned = stamp, weights, self.gen.learned_context(self.fusion.context.to(self.gen.dtype))
        return self._learned[2]

    def weights_changed(self) -> None:
        """Forgets what was computed from weights: to be called after changing them through `.data`, as fusing a LoRA
        into the DiT does.
        """
        self._learned = None

    @property
    def _streamed(self) -> bool:
        """Whether weights come to the device for one use each; they are other tensors then at every use."""
        return self.residency is not None and self.residency.offload == "layers"

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
        times = torch.as_tensor(t, dtype=torch.float32, device=self.device).expand(batch)
        self.need("generation", "fusion")
        return fused.velocity(self.gen, self.fusion, latents, times, context, self.attention)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> list[Image.Image]:
        """Pictures of normalised latents [B, C, h, w]."""
        self.need("vae")
        return [images.from_pixels(pixels) for pixels in vae_module.decode(self.vae, latents)]

    def noise(self, count: int, width: int, height: int, seed: int | torch.Generator) -> Tensor:
        """Float32 noise [count, C, h, w], drawn on the CPU so that a seed means the same on every device.

        Raises:
            ValueError: a count below 1, or a seed outside what torch takes.
        """
        if count < 1:
            raise ValueError(f"the number of images must be at least 1, not {count}")
        if isinstance(seed, int) and not -(2**63) <= seed < 2**64:
            raise ValueError(f"the seed must lie between -2^63 and 2^64 - 1, not {seed}")
        generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
        per_token = self.pixels_per_token // self.gen.patch
        shape = (count, self.config.vae["z_dim"], height // per_token, width // per_token)
        return torch.randn(shape, generator=generator, device=generator.device).to(self.device)

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

    # --- high level --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def draw(
        self,
        branches: Mapping[str, Sequence[Sequence[Part]]],
        noise: Tensor,
        guidance: Guidance,
        *,
        steps: int | None = None,
        solver: SolverName | None = None,
        on_step: OnStep | None = None,
        progress: bool = True,
    ) -> list[Image.Image]:
        """Draws a batch of samples: one guided run from noise to pictures.

        Args:
            branches: the parts of each of B samples, for every branch that `guidance` names.
            noise: [B * k, C, h, w], k pictures for each sample in turn (see `noise`).
            steps, solver, on_step, progress: as in `generate`.
        """
        # Apart, so that nothing of the run but its latents is there when they are decoded.
        return self.decode(self._denoised(branches, noise, guidance, steps, solver, on_step, progress))

    def _denoised(
        self,
        branches: Mapping[str, Sequence[Sequence[Part]]],
        noise: Tensor,
        guidance: Guidance,
        steps: int | None,
        solver: SolverName | None,
        on_step: OnStep | None,
        progress: bool,
    ) -> Tensor:
        """The latents that `draw` decodes."""
        default = self.config.defaults
        schedule = make_solver(
            solver or default.solver,
            default.steps if steps is None else steps,
            default.shift,
            self.device,
        )
        names = guidance.branches
        height, width = (side * self.pixels_per_token // self.gen.patch for side in noise.shape[-2:])
        each = len(noise) // len(branches["full"])
        guided = self.encode([parts for name in names for parts in branches[name] for _ in range(each)], width, height)
        plain = guided.rows(list(range(len(noise))))

        def step_of(context: Context) -> Step:
            step = partial(self.velocity, context=context)
            return recorded(step) if self.graphs else step

        one, all_at_once = step_of(plain), step_of(guided)

        def velocity(x: Tensor, t: float) -> Tensor:
            # Filled in on the device: a copy to it would wait for everything that was asked of it before.
            time = torch.full((1,), t, device=self.device)
            if not guidance.active(t):
                return one(x, time)
            together = all_at_once(x.repeat(len(names), 1, 1, 1), time)
            return combine(list(together.chunk(len(names))), guidance, self.gen.patch)

        with tqdm(total=len(schedule.timesteps), disable=not progress, unit="step") as bar:

            def step(done: int, total: int, latents: Tensor) -> bool | None:
                bar.update()
                return on_step(done, total, latents) if on_step is not None else None

            return sample(velocity, noise, schedule, step)

    def generate(
        self,
        prompt: str,
        negative_prompt: str = "",
        *,
        width: int | None = None,
        height: int | None = None,
        steps: int | None = None,
        text_guidance: float | None = None,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        renorm: Renorm = "none",
        renorm_min: float = 0.0,
        solver: SolverName | None = None,
        seed: int | torch.Generator = 0,
        num_images: int = 1,
        on_step: OnStep | None = None,
        progress: bool = True,
    ) -> list[Image.Image]:
        """Draws pictures of a prompt.

        Args:
            width, height: pixels; rounded to what the model can draw (see `size`). Default: the model's own.
            steps, text_guidance, solver: default: the model's own. A text guidance of 1 or less switches guidance off.
            seed: a number or a torch.Generator; the same one gives the same picture on one device.
            on_step: called after each step with (done, all, latents); returning False stops the run.

        Raises:
            ValueError: a setting outside its range, an empty prompt, an unknown word (nano).
            Stopped: `on_step` asked to stop.
        """
        if not prompt.strip():
            raise ValueError("generate needs a prompt: say what to draw")
        default = self.config.defaults
        text_scale = default.text_guidance if text_guidance is None else text_guidance
        guidance = Guidance(text_scale, 1.0, guidance_interval, renorm, renorm_min)
        size = self.size(default.width if width is None else width, default.height if height is None else height)
        branches: dict[str, list[list[Part]]] = {
            "full": [[self.text(prompt)]],
            "negative": [[self.text(negative_prompt)]],
        }
        noise = self.noise(num_images, *size, seed)
        return self.draw(branches, noise, guidance, steps=steps, solver=solver, on_step=on_step, progress=progress)

    def edit(
        self,
        image: Image.Image | Sequence[Image.Image],
        instruction: str,
        negative_prompt: str = "",
        *,
        width: int | None = None,
        height: int | None = None,
        steps: int | None = None,
        text_guidance: float | None = None,
        image_guidance: float | None = None,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        renorm: Renorm = "none",
        renorm_min: float = 0.0,
        solver: SolverName | None = None,
        seed: int | torch.Generator = 0,
        num_images: int = 1,
        source_tokens: tuple[str, ...] = ("vae", "vit"),
        on_step: OnStep | None = None,
        progress: bool = True,
    ) -> list[Image.Image]:
        """Edits a picture by an instruction, or makes one from several sources.

        The size is the first source's, by the VAE rule, unless asked otherwise.

        Args:
            image_guidance: above 1 adds the image step of dual guidance. Default: the model's own.
            source_tokens: which kinds of source token are used; both is the paper's double fusion, one an ablation.

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
        default = self.config.defaults
        guidance = Guidance(
            default.edit_text_guidance if text_guidance is None else text_guidance,
            default.image_guidance if image_guidance is None else image_guidance,
            guidance_interval,
            renorm,
            renorm_min,
        )
        natural = images.size_by_rule(*sources[0].size, self.config.vae_image)
        size = self.size(natural[0] if width is None else width, natural[1] if height is None else height)
        # All of one kind first: where only one part is on the device at a time, each comes once.
        clean = [[self.clean(source)] if "vae" in source_tokens else [] for source in sources]
        seen = [[self.vit(source)] if "vit" in source_tokens else [] for source in sources]
        pictures: list[Part] = [part for pair in zip(clean, seen, strict=True) for kind in pair for part in kind]
        text, negative = self.text(instruction), self.text(negative_prompt)
        branches: dict[str, list[list[Part]]] = {
            "full": [[*pictures, text]],
            "negative": [[*pictures, negative]],
            "no_image": [[text]],
        }
        noise = self.noise(num_images, *size, seed)
        return self.draw(branches, noise, guidance, steps=steps, solver=solver, on_step=on_step, progress=progress)

    def describe(
        self,
        image: Image.Image | Sequence[Image.Image],
        question: str = DESCRIBE,
        max_new_tokens: int = 128,
        cache: str = "dynamic",
    ) -> str:
        """Answers a question about one or several pictures; the VLM alone, as its makers ship it.

        Args:
            cache: "dynamic", or "static": on a CUDA device transformers then compiles its steps, which the first
                answer of a shape waits for.

        Raises:
            ValueError: no picture, an empty question, an unknown word (nano), another word for the cache.
        """
        pictures = [image] if isinstance(image, Image.Image) else list(image)
        return self._answers([pictures], question, max_new_tokens, cache)[0]

    def describe_each(
        self,
        pictures: Sequence[Image.Image],
        question: str = DESCRIBE,
        max_new_tokens: int = 128,
        cache: str = "dynamic",
    ) -> list[str]:
        """Answers a question about each of several pictures, all in one batch; arguments as in `describe`."""
        return self._answers([[picture] for picture in pictures], question, max_new_tokens, cache)

    def _answers(
        self, sets: Sequence[Sequence[Image.Image]], question: str, max_new_tokens: int, cache: str
    ) -> list[str]:
        """The answer to one question about each of several sets of pictures."""
        if not sets or not all(sets):
            raise ValueError("describe needs at least one image")
        if not question.strip():
            raise ValueError("describe needs a question; leave it out for a description")
        if cache not in CACHES:
            raise ValueError(f"the cache is {' or '.join(CACHES)}, not {cache!r}")
        turns = [([images.to_rgb(picture) for picture in pictures], question) for pictures in sets]
        self.need("understanding")
        return self.und.answers(turns, max_new_tokens, cache)


__all__ = ["LightBagel", "Stopped", "default_device"]
