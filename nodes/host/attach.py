"""The fusion stack attached to ComfyUI's own Wan model, through its patch and wrapper hooks.

Nothing of Wan is subclassed or forked. What LightBagel's text encoder gives travels as ordinary CONDITIONING: the und
states as its tensor, the order of the segments and the source latents beside it. Four hooks do the rest:

- PREPARE_SAMPLING has ComfyUI leave room for what a run keeps;
- OUTER_SAMPLE opens a run: everything that stays constant over it is kept until it ends;
- CALC_COND_BATCH makes the conditions batchable: prompts of different lengths may share one forward;
- DIFFUSION_MODEL computes the prefix when a run first needs it, gives Wan the learned context in place of umT5's, and
  puts the fusion layers after its blocks, by the replacement hook of each block ("double_block", which ComfyUI had for
  Wan before it had the hook after a block).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.conds
import comfy.model_sampling
import torch
import torch.nn.functional as F
from comfy.ldm.modules.attention import optimized_attention
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...lightbagel_core.config import FusionConfig
from ...lightbagel_core.fused import at_size
from ...lightbagel_core.fusion import FusionStack
from ...lightbagel_core.sequence import SIDES, ImageSegment, Layout, Rotary, Segment, lay_out, mrope

KEY = "lightbagel"


@dataclass(frozen=True, eq=False)
class Sources:
    """What stands beside the und states in a CONDITIONING, among its `model_conds` under `KEY`.

    segments: all segments before the drawn image, in sequence order.
    latents: the clean source images' latents [1, C, 1, h, w], as a VAE gives them, in the order of their segments.
    """

    segments: tuple[Segment, ...]
    latents: tuple[Tensor, ...] = ()


@dataclass(frozen=True, eq=False)
class Row:
    """One sample of a batch: und states for any size [2 * SIDES + U, depth * hidden], and what stands beside them."""

    states: Tensor
    sources: Sources


class Rows(comfy.conds.CONDRegular):
    """A condition of whole samples, which may differ in length and still share a batch."""

    def process_cond(self, batch_size: int, **kwargs: Any) -> Rows:
        return Rows(tuple(self.cond[i % len(self.cond)] for i in range(batch_size)))

    def can_concat(self, other: Any) -> bool:
        return isinstance(other, Rows)

    def concat(self, others: list[Rows]) -> tuple[Row, ...]:
        return sum((other.cond for other in others), self.cond)

    def size(self) -> list[int]:
        return [len(self.cond), *max((row.states for row in self.cond), key=len).shape]


class Unheard(comfy.conds.CONDRegular):
    """`Sources` in a CONDITIONING, until `Rows` take its place; a model that leaves it there hears something else."""

    def __init__(self, sources: Sources) -> None:
        super().__init__(sources)

    def process_cond(self, **kwargs: Any) -> Any:
        raise ValueError(
            "this conditioning is LightBagel's, but the MODEL does not listen to it. Use the MODEL of Load LightBagel, "
            "or put Apply LightBagel Fusion behind the loader of a Wan2.2-TI2V-5B."
        )


@dataclass(frozen=True, eq=False)
class Prefix:
    """What a sample's noised tokens attend to besides themselves, per fusion layer [1, H, P, D]; where they stand."""

    keys: list[Tensor]
    values: list[Tensor]
    rotary: Rotary


class Fused:
    """The hooks of one attached fusion stack; holds what is constant over the run in progress, and nothing between."""

    def __init__(self, fusion: FusionStack) -> None:
        self.fusion = fusion
        self.prefixes: dict[Any, Any] = {}

    # --- the four hooks ----------------------------------------------------------------------------------------------

    def outer_sample(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        self.prefixes.clear()
        try:
            return executor(*args, **kwargs)
        finally:
            self.prefixes.clear()

    def prepare_sampling(
        self, executor: Any, model: Any, noise_shape: Any, conds: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Has ComfyUI leave room for the run's keys and values, which it cannot know of."""
        base = model.model
        room = self.prefix_bytes(conds, noise_shape, base.diffusion_model.patch_size[-1], base.get_dtype_inference())
        estimate, others = base.memory_required, vars(base).get("memory_required")
        base.memory_required = lambda *a, **k: estimate(*a, **k) + room
        try:
            return executor(model, noise_shape, conds, *args, **kwargs)
        finally:
            del base.memory_required
            if others is not None:
                base.memory_required = others

    def prefix_bytes(self, conds: Any, noise_shape: Any, patch: int, dtype: torch.dtype) -> int:
        """Bytes of the keys and values of all samples of a run; samples may share a batch and then are equally long."""
        config, longest, samples = self.fusion.config, 0, 0
        for cond in (c for each in conds.values() for c in each or ()):
            beside = cond.get("model_conds", {}).get(KEY)
            if beside is None or cond.get("cross_attn") is None:
                continue
            sources = sum(x.shape[-2] * x.shape[-1] // patch**2 for x in beside.cond.latents)
            longest = max(longest, cond["cross_attn"].shape[1] - 2 * SIDES + 2 + sources)
            samples += noise_shape[0]
        return 2 * config.layers * samples * longest * config.heads * config.head_dim * dtype.itemsize

    def calc_cond_batch(self, executor: Any, model: Any, conds: Any, *args: Any) -> Any:
        return executor(model, [c and [self.batchable(x, model) for x in c] for c in conds], *args)

    def batchable(self, cond: dict[str, Any], model: Any) -> dict[str, Any]:
        """A condition with its samples as `Rows` in place of what Wan would read from it.

        All is read from `model_conds`: of the conditions ComfyUI makes where an area is set, only those are their own.
        """
        conds = cond["model_conds"]
        if isinstance(conds.get(KEY), Rows):
            return cond
        if KEY not in conds:
            raise ValueError(
                "this MODEL listens to LightBagel's own text encoder, but a conditioning came from another one, or "
                "from scheduled CLIP hooks. Encode the prompt with the CLIP of the LightBagel loader, without schedule."
            )
        if {"reference_latent", "context_latents"} & conds.keys():
            raise ValueError(
                "LightBagel does not hear a ReferenceLatent: connect the picture and the VAE to LightBagel Text Encode"
            )
        sources, states = conds[KEY].cond, conds["c_crossattn"].cond
        config = self.fusion.config
        if states.shape[2] != config.und_layers * config.und_dim:
            raise ValueError(
                "this conditioning is of another LightBagel checkpoint than the MODEL's fusion stack; use the CLIP and "
                "the fusion stack of one checkpoint"
            )
        wanted = sum(2 if _is_gen(s) else s.length for s in sources.segments) + 2 * SIDES
        if states.shape[1] != wanted:
            raise ValueError(
                "this conditioning was joined from several (ConditioningConcat), which LightBagel's cannot be: its "
                "tokens have places in one sequence. Write one prompt, or use ConditioningCombine."
            )
        latents = tuple(model.process_latent_in(x) for x in sources.latents)
        rows = tuple(Row(row, Sources(sources.segments, latents)) for row in states)
        # A mask is for the sampler. Wan2.2 would scale time by it frame by frame: right for video, not for a picture.
        kept = {k: v for k, v in conds.items() if k not in ("c_crossattn", "denoise_mask")}
        cond["model_conds"] = {**kept, KEY: Rows(rows)}  # once a run: ComfyUI made this dictionary for it
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
        options = dict(transformer_options or {})
        rows: tuple[Row, ...] = kwargs.pop(KEY)
        if x.shape[2] != 1:
            raise ValueError(f"LightBagel draws single images; this latent has {x.shape[2]} frames")
        learned = self.fusion.context.to(x)[None]
        wan = Wan(executor.original, learned, options)
        patch = executor.class_obj.patch_size[-1]
        grid = (-(-x.shape[-2] // patch), -(-x.shape[-1] // patch))
        keys, values, (cos, sin), mask = self.batch(wan, rows, grid, patch, x)

        def listen(tokens: Tensor, i: int) -> Tensor:
            layer = self.fusion[i]
            q, k, v = layer.gen_query_key_value(tokens, (cos, sin))
            k, v = torch.cat([keys[i], k], dim=2), torch.cat([values[i], v], dim=2)
            return tokens + layer.update(q, k, v, mask, wan.attend)

        options["patches_replace"] = self.after_blocks(listen, options.get("patches_replace", {}))
        return executor(x, timestep, learned.expand(len(x), -1, -1), clip_fea, time_dim_concat, options, **kwargs)

    def after_blocks(self, listen: Callable[[Tensor, int], Tensor], others: dict[str, Any]) -> dict[str, Any]:
        """Wan's block replacements `others`, with a fusion layer after each block that has one."""
        blocks = others.get("dit", {})

        def followed(i: int) -> Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]:
            other = blocks.get(("double_block", i))

            def run(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
                out = extra["original_block"](args) if other is None else other(args, extra)
                return {**out, "img": listen(out["img"], i)}

            return run

        layers = range(self.fusion.config.layers)
        return {**others, "dit": {**blocks, **{("double_block", i): followed(i) for i in layers}}}

    # --- what is constant over a run ---------------------------------------------------------------------------------

    @torch.compiler.disable  # computed once a run: compiling it would cost more than it saves
    def batch(
        self, wan: Wan, rows: tuple[Row, ...], grid: tuple[int, int], patch: int, like: Tensor
    ) -> tuple[list[Tensor], list[Tensor], Rotary, Tensor | None]:
        """Keys and values of all rows padded to one length, the tables of their noised tokens, and the mask."""
        at = (rows, grid)
        if at not in self.prefixes:
            parts = [self.prefix(wan, row, grid, patch, like) for row in rows]
            lengths = [part.keys[0].shape[2] for part in parts]
            width = max(lengths)

            mask = None
            if min(lengths) < width:
                seen = torch.ones(len(rows), 1, 1, width + grid[0] * grid[1], dtype=torch.bool, device=like.device)
                for b, length in enumerate(lengths):
                    seen[b, ..., length:width] = False
                mask = additive(seen, like.dtype)
            layers = range(self.fusion.config.layers)
            self.prefixes[at] = (
                [together([part.keys for part in parts], i, width) for i in layers],
                [together([part.values for part in parts], i, width) for i in layers],
                tuple(torch.cat([part.rotary[i] for part in parts]) for i in (0, 1)),
                mask,
            )
        return self.prefixes[at]

    def prefix(self, wan: Wan, row: Row, grid: tuple[int, int], patch: int, like: Tensor) -> Prefix:
        """The prefix of one sample: the fusion's keys and values of its und states, then of its clean source images.

        A source image passes through Wan at t = 0, after the images before it, whose keys and values it may see.
        """
        at = (row, grid)
        if at not in self.prefixes:
            config = self.fusion.config
            layout = lay_out([*row.sources.segments, ImageSegment("noised", *grid)])
            states = at_size(row.states, grid).unflatten(-1, (config.und_layers, config.und_dim))
            und_rotary = tables(config, layout, layout.und, like)
            keys, values = [], []
            for i in range(config.layers):
                # In float32 up to keys and values: Qwen's states may be larger than half precision holds.
                heard = states[None, :, config.und_layer(i)].to(like.device, torch.float32)
                k, v = self.fusion[i].und_key_value(heard, und_rotary)
                keys.append(k.to(like))
                values.append(v.to(like))
            before = layout.und.nonzero()[:, 0]
            clean = [i for i, s in enumerate(row.sources.segments) if _is_gen(s)]
            for number, latents in zip(clean, row.sources.latents, strict=True):
                own = ((layout.segment == number) & ~layout.und).nonzero()[:, 0]
                seen = layout.visible[own][:, torch.cat([before, own])].to(like.device)
                self.listen_clean(wan, latents.to(like), keys, values, tables(config, layout, own, like), seen)
                before = torch.cat([before, own])
            noised = (layout.segment == len(row.sources.segments)) & ~layout.und
            self.prefixes[at] = Prefix(keys, values, tables(config, layout, noised, like))
        return self.prefixes[at]

    def listen_clean(
        self, wan: Wan, latents: Tensor, keys: list[Tensor], values: list[Tensor], rotary: Rotary, seen: Tensor
    ) -> None:
        """Sends one source image through Wan at t = 0 and appends its keys and values, layer by layer."""
        mask = additive(seen[None, None], latents.dtype)

        def listen(tokens: Tensor, i: int) -> Tensor:
            layer = self.fusion[i]
            q, k, v = layer.gen_query_key_value(tokens, rotary)
            keys[i], values[i] = torch.cat([keys[i], k], dim=2), torch.cat([values[i], v], dim=2)
            return tokens + layer.update(q, keys[i], values[i], mask, wan.attend)

        wan.forward(latents, self.after_blocks(listen, {}))


@dataclass(frozen=True, eq=False)
class Wan:
    """The native model as a run calls it for a source image: past all wrappers, without the run's other patches."""

    original: Any
    learned: Tensor
    options: dict[str, Any]

    def forward(self, latents: Tensor, patches_replace: dict[str, Any]) -> None:
        kept = {k: v for k, v in self.options.items() if k not in ("patches", "wrappers", "callbacks")}
        options = {**kept, "patches_replace": patches_replace}
        self.original(latents, torch.zeros(1, device=latents.device), self.learned, None, None, options)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """ComfyUI's attention, whichever the person chose."""
        return optimized_attention(
            q,
            k,
            v,
            heads=q.shape[1],
            mask=mask,
            skip_reshape=True,
            skip_output_reshape=True,
            transformer_options=self.options,
        )


def together(parts: list[list[Tensor]], layer: int, width: int) -> Tensor:
    """One layer's tensors [1, H, P, D] of some samples in one, padded to `width`; the samples then hold their stretches
    of it, so that nothing is kept twice.
    """
    own = [tensors[layer] for tensors in parts]
    if len(own) == 1:
        return own[0]
    whole = torch.cat([F.pad(tensor, (0, 0, 0, width - tensor.shape[2])) for tensor in own])
    for b, tensors in enumerate(parts):
        tensors[layer] = whole[b : b + 1, :, : own[b].shape[2]]
    return whole


def _is_gen(segment: Segment) -> bool:
    return isinstance(segment, ImageSegment) and segment.kind != "vit"


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """A boolean mask as what is added to attention scores."""
    return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)


def tables(config: FusionConfig, layout: Layout, which: Tensor, like: Tensor) -> Rotary:
    """M-RoPE tables [1, N, D] of some tokens of a layout."""
    positions = layout.positions[:, which][:, None].to(like.device)
    return mrope(positions, config.head_dim, config.rope_theta, config.mrope_section)


def attach(model: ModelPatcher, fusion: ModelPatcher) -> ModelPatcher:
    """A MODEL that listens: the same Wan weights, with the fusion stack loaded and freed beside them."""
    model = model.clone()
    hooks = Fused(fusion.model)
    model.set_additional_models(KEY, [fusion])
    for kind, hook in (
        (WrappersMP.PREPARE_SAMPLING, hooks.prepare_sampling),
        (WrappersMP.OUTER_SAMPLE, hooks.outer_sample),
        (WrappersMP.CALC_COND_BATCH, hooks.calc_cond_batch),
        (WrappersMP.DIFFUSION_MODEL, hooks.diffusion_model),
    ):
        model.remove_wrappers_with_key(kind, KEY)
        model.add_wrapper_with_key(kind, KEY, hook)
    model.add_object_patch("scale_latent_inpaint", at_noise)
    return model


def at_noise(sigma: Tensor, noise: Tensor, latent_image: Tensor, **kwargs: Any) -> Tensor:
    """The kept part of a picture at a step's noise, as for every image model; Wan2.2 keeps it clean, as for video."""
    return comfy.model_sampling.CONST().noise_scaling(sigma, noise, latent_image)
