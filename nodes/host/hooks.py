"""The fusion stack attached to ComfyUI's own Wan model, through its patch and wrapper hooks.

Nothing of Wan is subclassed or forked, and nothing of the model is computed here: the core's `encode` and `velocity` do
that, with ComfyUI's Wan as their DiT. Four hooks lead there:

- PREPARE_SAMPLING has ComfyUI leave room for what a run keeps;
- OUTER_SAMPLE opens a run: pictures in the one form that a run knows (see `latents`), areas on the latents' own cells;
  what stays constant over it is kept until it ends (see `RunCache`);
- CALC_COND_BATCH makes the conditions batchable: prompts of different lengths may share one forward;
- DIFFUSION_MODEL computes a step: the core's `velocity`, and when a run first needs it the core's `encode`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import comfy.model_sampling
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import Tensor

from ...lightbagel_core.config import LightBagelConfig
from ...lightbagel_core.model.forward import Context, encode, known_states, velocity
from ...lightbagel_core.model.fusion import FusionStack
from ...lightbagel_core.model.packing import pack
from ...lightbagel_core.model.sequence import ImageSegment, check_positions, lay_out
from ...lightbagel_core.model.unsized import at_size
from .conditioning import AHEAD, KEY, Row, Rows, checked, rows_of, say_unread, sources_beside
from .fusion import FUSION, SAVING, patch_outside_layers, saved, warn_of_merging
from .latents import ImageFormat, as_pictures, checked_channels, conds_in_cells, is_native, with_frame
from .lora import warn_of_loras
from .patched import check_flow
from .run_cache import RunCache, layers_of_context
from .training import each_its_own, in_training, one_size, trainable
from .wan_adapter import Wan, attention, check_wan


class Fused:
    """The hooks of one attached fusion stack."""

    def __init__(self, compute: torch.dtype, beside: FusionStack | None, native: bool, most: int | None) -> None:
        """`compute`: what the stack computes in; Wan's own dtype, unless somebody changes that later.
        `beside`: the stack, where it is no part of the Wan that runs.
        `native`: the MODEL's latents were a video model's. With it comes a video model's VAE, to which what is drawn
        from an empty latent of any model must be one frame.
        `most`: the positions that the VLM has.
        """
        self.compute, self.beside, self.native, self.most = compute, beside, native, most
        self.cache = RunCache()

    def fusion(self, wan: Any) -> FusionStack:
        """The fusion stack of a run of `wan`. A MODEL may have been cloned onto another Wan: that one's own counts."""
        stack: FusionStack = getattr(wan, FUSION) if self.beside is None else self.beside
        return stack

    def outer_sample(
        self,
        executor: Any,
        noise: Tensor,
        latent_image: Tensor,
        sampler: Any,
        sigmas: Tensor,
        denoise_mask: Tensor | None = None,
        callback: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """A run, whatever the form of its latents; see `latents`."""
        guider = executor.class_obj
        check_flow(guider.model_patcher)
        if self.beside is not None:
            warn_of_merging(guider.model_patcher.patches)
            warn_of_loras(guider.model_patcher, *guider.model_patcher.get_additional_models_with_key(KEY))
        found = guider.model_patcher.get_model_object("latent_format")
        pictures = checked_channels(as_pictures(latent_image), found.latent_channels)
        if "latent_shapes" in kwargs:
            kwargs["latent_shapes"] = [pictures.shape]
        if denoise_mask is not None:
            denoise_mask = as_pictures(denoise_mask)
        framed = latent_image.ndim == 5 or (self.native and not latent_image.any())
        if callback is not None and (framed or self.native):  # native previews know videos only
            callback = with_frame(callback)
        guider.conds = conds_in_cells(guider.conds, pictures, found.spacial_downscale_ratio)
        # LoRAs that hooks switch on and off during the run change all that Wan and the fusion stack make.
        constant = not getattr(guider.model_patcher, "hook_patches", None) and not in_training()
        if in_training():
            one_size(sampler)
        with self.cache.run(constant):
            drawn = executor(as_pictures(noise), pictures, sampler, sigmas, denoise_mask, callback, *args, **kwargs)
        return drawn[:, :, None] if framed else drawn

    def prepare_sampling(
        self, executor: Any, model: Any, noise_shape: Any, conds: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Has ComfyUI leave room for the run's keys and values, which it cannot know of."""
        base = model.model
        say_unread(conds)
        room = self.kept_bytes(conds, noise_shape, base.diffusion_model)
        estimate, others = base.memory_required, vars(base).get("memory_required")
        base.memory_required = lambda *a, **k: estimate(*a, **k) + room
        try:
            return executor(model, noise_shape, conds, *args, **kwargs)
        finally:
            del base.memory_required
            if others is not None:
                base.memory_required = others

    def kept_bytes(self, conds: Any, noise_shape: Any, wan: Any) -> int:
        """Bytes of the keys and values of a run: of all its samples, which may share a batch and then are equally long,
        and of the learned context.
        """
        config, patch, longest, samples = self.fusion(wan).config, wan.patch_size[-1], 0, 0
        for cond in (c for each in conds.values() for c in each or ()):
            states = cond.get("cross_attn")
            if states is None:
                continue
            beside = sources_beside(cond.get("model_conds", {}), states)
            sources = sum(x.shape[-2] * x.shape[-1] // patch**2 for x in beside.images) if beside else 0
            longest = max(longest, states.shape[1] - AHEAD + 2 + sources)
            samples += noise_shape[0]
        target = -(-noise_shape[-2] // patch) * -(-noise_shape[-1] // patch)
        attended = 2 * config.layers * samples * (longest + target) * config.heads * config.head_dim
        context = config.context_len * (config.context_dim + (len(layers_of_context(wan)) * wan.dim))
        return (attended + context) * self.compute.itemsize

    def calc_cond_batch(self, executor: Any, model: Any, conds: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        check_wan(model.diffusion_model)
        conds = [each and [self.batchable(cond, model) for cond in each] for each in conds]
        if in_training():
            conds = [each and each_its_own(each, len(x)) for each in conds]
        return executor(model, conds, x, *args, **kwargs)

    def batchable(self, cond: dict[str, Any], model: Any) -> dict[str, Any]:
        """A condition with its samples as `Rows` in place of what Wan would read from it.

        All is read from `model_conds`: of the conditions ComfyUI makes where an area is set, only those are their own.
        """
        conds = cond["model_conds"]
        if isinstance(conds.get(KEY), Rows):
            return cond
        sources, states = checked(conds, self.fusion(model.diffusion_model).config)

        def normalised(latents: Tensor) -> Tensor:
            made: Tensor = self.cache.once(("latents", latents), lambda: model.process_latent_in(latents)[0])
            return made

        rows = rows_of(sources, states, tuple(x if x is None else normalised(x) for x in sources.latents))
        # A mask is for the sampler. Wan2.2 would scale time by it frame by frame: right for video, not for a picture.
        kept = {k: v for k, v in conds.items() if k not in ("c_crossattn", "denoise_mask")}
        made = {**kept, KEY: Rows(rows)}
        if not self.cache.keeping:
            return {**cond, "model_conds": made}
        cond["model_conds"] = made  # once a run: ComfyUI made this dictionary for it
        return cond

    def diffusion_model(
        self,
        executor: Any,
        x: Tensor,
        timestep: Tensor,
        context: Tensor | None,
        clip_fea: Any = None,
        time_dim_concat: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        pictures = as_pictures(x)
        rows = for_batch(kwargs.pop(KEY), len(pictures))
        wan = Wan(executor, dict(transformer_options or {}), self.compute)

        def step() -> Tensor:
            dit = wan.for_target(clip_fea, time_dim_concat, **kwargs)
            context = self.context_of(wan, rows, pictures)
            drawn = velocity(dit, self.fusion(wan.model), pictures, timestep, context, attention(wan.options))
            return drawn.reshape(x.shape)

        if in_training():
            with trainable(self.fusion(wan.model)):
                return step()
        if not self.cache.keeping or torch.compiler.is_compiling():
            return step()
        with self.cache.covering(wan.model):
            return step()

    @torch.compiler.disable  # computed once a run: compiling it would cost more than it saves
    def context_of(self, wan: Wan, rows: tuple[Row, ...], x: Tensor) -> Context:
        """The context of a forward's rows; where an earlier forward of the run had them, their rows of its context (a
        view where they are neighbours there, else a copy).
        """
        patch = wan.model.patch_size[-1]
        target = (-(-x.shape[-2] // patch), -(-x.shape[-1] // patch))
        made: dict[tuple[Row, ...], Context] = self.cache.once(("contexts", target, x.device), dict)
        if rows not in made:
            with self.cache.making():
                made[rows] = self.new_context(wan, rows, target, x, made)
        return made[rows]

    def new_context(
        self, wan: Wan, rows: tuple[Row, ...], target: tuple[int, int], x: Tensor, made: dict[tuple[Row, ...], Context]
    ) -> Context:
        """The context of rows that are new; `made`: those of the run so far, of which it replaces its own parts."""
        for others, whole in made.items():
            if (places := places_among(rows, others)) is not None:
                return whole.rows(places)
        for others in [each for each in made if places_among(each, rows) is not None]:
            del made[others]
        return self.encode(wan, rows, target, x)

    def encode(self, wan: Wan, rows: tuple[Row, ...], target: tuple[int, int], x: Tensor) -> Context:
        """The core's `encode`, of what text encoders gave.

        Raises:
            ValueError: more than the VLM has positions for.
        """
        fusion = self.fusion(wan.model)
        config, noised = fusion.config, ImageSegment("noised", *target)
        for row in rows:
            check_positions([*row.segments, noised], self.most)
        layouts = [lay_out([*row.segments, noised]) for row in rows]
        split = (config.und_layers, config.und_dim)
        samples = [at_size(row.states.unflatten(-1, split), row.segments, row.latents, target) for row in rows]
        tokens = pack(layouts, samples, [[*row.keys, None] for row in rows])
        known = self.cache.once(("sources", x.device), dict)  # conditions that do not share a forward share these
        dit, attend = wan.for_sources(x), attention(wan.options)
        states = known_states(tokens, x.device)
        learned = partial(self.learned, fusion.context)
        return encode(dit, fusion, tokens, states, learned, attend, self.compute, x.device, known)

    @torch.compiler.disable
    def learned(self, context: Tensor, like: Tensor) -> Tensor:
        """The learned context [L, text_dim] for the rows of `like`, [rows, L, text_dim]."""
        row = self.cache.once(("learned", like.dtype, like.device), lambda: context.to(like)[None])
        return self.cache.rows(row, len(like))


def for_batch(rows: tuple[Row, ...], batch: int) -> tuple[Row, ...]:
    """The rows of a forward whose batch another node has made larger, as tiled samplers do: over and over, as ComfyUI
    itself repeats what is beside a batch.

    Raises:
        ValueError: the batch is no multiple of the rows.
    """
    times, rest = divmod(batch, len(rows))
    if rest:
        raise ValueError(
            f"another node on this MODEL calls it with {batch} latents for {len(rows)} prompts, so that nobody can say "
            "which belongs to which; take that node away"
        )
    return rows * times


def places_among(rows: tuple[Row, ...], others: tuple[Row, ...]) -> list[int] | None:
    """Where rows stand among others, each in a place of its own; None: not all do."""
    free = list(enumerate(others))
    found = []
    for row in rows:
        at = next((pair for pair in free if pair[1] is row), None)
        if at is None:
            return None
        free.remove(at)
        found.append(at[0])
    return found


def attach(model: ModelPatcher, config: LightBagelConfig, beside: ModelPatcher | None = None) -> ModelPatcher:
    """A MODEL that listens: the same Wan weights, with the fusion stack that is a part of them, or with the one that is
    loaded and freed `beside` them.
    """
    model = model.clone()
    native = is_native(model)
    stack = None if beside is None else beside.model
    hooks = Fused(model.model.get_dtype_inference(), stack, native, config.positions)
    model.set_additional_models(KEY, [] if beside is None else [beside])
    for kind, hook in (
        (WrappersMP.PREPARE_SAMPLING, hooks.prepare_sampling),
        (WrappersMP.OUTER_SAMPLE, hooks.outer_sample),
        (WrappersMP.CALC_COND_BATCH, hooks.calc_cond_batch),
        (WrappersMP.DIFFUSION_MODEL, hooks.diffusion_model),
    ):
        model.remove_wrappers_with_key(kind, KEY)
        model.add_wrapper_with_key(kind, KEY, hook)
    model.add_object_patch("scale_latent_inpaint", at_noise)
    if native:
        own = model.get_model_object("latent_format")
        model.add_object_patch("latent_format", ImageFormat(own.latents_mean, own.latents_std))
    model.remove_callbacks_with_key(CallbacksMP.ON_LOAD, KEY)
    if beside is None:
        model.add_callback_with_key(CallbacksMP.ON_LOAD, KEY, patch_outside_layers)
    described = model.model.model_config
    stock = partial(type(described).process_unet_state_dict_for_saving, described)
    model.add_object_patch(SAVING, saved(stock, config, beside))
    return model


def at_noise(sigma: Tensor, noise: Tensor, latent_image: Tensor, **kwargs: Any) -> Tensor:
    """The kept part of a picture at a step's noise, as for every image model; Wan2.2 keeps it clean, as for video."""
    return comfy.model_sampling.CONST().noise_scaling(sigma, noise, latent_image)
