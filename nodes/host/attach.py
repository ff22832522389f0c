"""The fusion stack attached to ComfyUI's own Wan model, through its patch and wrapper hooks.

Nothing of Wan is subclassed or forked. What LightBagel's text encoder gives travels as ordinary CONDITIONING: the und
states as its tensor, the order of the segments and the source latents beside it. Four hooks do the rest:

- PREPARE_SAMPLING has ComfyUI leave room for what a run keeps;
- OUTER_SAMPLE opens a run: everything that stays constant over it is kept until it ends, also what Wan itself computes
  anew at every step (see `remembering`);
- CALC_COND_BATCH makes the conditions batchable: prompts of different lengths may share one forward;
- DIFFUSION_MODEL computes the prefix when a run first needs it, gives Wan the learned context in place of umT5's, and
  puts the fusion layers after its blocks, by the replacement hook of each block ("double_block", which ComfyUI had for
  Wan before it had the hook after a block).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import comfy.conds
import comfy.model_sampling
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...lightbagel_core.config import FusionConfig
from ...lightbagel_core.model.attention import Reach, run_by_run
from ...lightbagel_core.model.forward import at_size
from ...lightbagel_core.model.fusion import FusionStack
from ...lightbagel_core.model.packing import CleanTokens, pack
from ...lightbagel_core.model.sequence import SIDES, ImageSegment, Rotary, Segment, lay_out, mrope

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
    """What is constant over a run for B samples; see `fused.Context`.

    keys, values: per fusion layer [B, P + N, H, D], the last N for the noised tokens' own.
    """

    keys: list[Tensor]
    values: list[Tensor]
    rotary: Rotary
    reach: Reach


class Fused:
    """The hooks of one attached fusion stack; holds what is constant over the run in progress, and nothing between."""

    def __init__(self, fusion: FusionStack, compute: torch.dtype) -> None:
        """`compute`: what the stack computes in; Wan's own dtype, unless somebody changes that later."""
        self.fusion, self.compute = fusion, compute
        self.running = False
        self.kept: dict[Any, Any] = {}
        self.still: dict[int, tuple[Tensor, Tensor]] = {}  # by id: what is constant over the run, and one row of it

    # --- the four hooks ----------------------------------------------------------------------------------------------

    def outer_sample(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        self.kept, self.still = {}, {}  # a sampler that goes past this hook leaves what it kept
        # LoRAs that hooks switch on and off during the run change what Wan makes of the learned context.
        self.running = not getattr(executor.class_obj.model_patcher, "hook_patches", None)
        try:
            return executor(*args, **kwargs)
        finally:
            self.running, self.kept, self.still = False, {}, {}

    def prepare_sampling(
        self, executor: Any, model: Any, noise_shape: Any, conds: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Has ComfyUI leave room for the run's keys and values, which it cannot know of."""
        base = model.model
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
        config, patch, longest, samples = self.fusion.config, wan.patch_size[-1], 0, 0
        for cond in (c for each in conds.values() for c in each or ()):
            beside = cond.get("model_conds", {}).get(KEY)
            if beside is None or cond.get("cross_attn") is None:
                continue
            sources = sum(x.shape[-2] * x.shape[-1] // patch**2 for x in beside.cond.latents)
            longest = max(longest, cond["cross_attn"].shape[1] - 2 * SIDES + 2 + sources)
            samples += noise_shape[0]
        own = -(-noise_shape[-2] // patch) * -(-noise_shape[-1] // patch)
        heard = 2 * config.layers * samples * (longest + own) * config.heads * config.head_dim
        context = config.context_len * (config.context_dim + (len(layers_of_context(wan)) * wan.dim))
        return (heard + context) * self.compute.itemsize

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
        latents = tuple(self.once(("latent", x), lambda x=x: model.process_latent_in(x)) for x in sources.latents)
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
        model = executor.class_obj
        wan = Wan(executor.original, options, len(model.blocks))
        grid = (-(-x.shape[-2] // model.patch_size[-1]), -(-x.shape[-1] // model.patch_size[-1]))

        def forward() -> Tensor:
            prefix, learned = self.constants(wan, rows, grid, x)

            def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                return run_by_run(wan.attend, q, k, v, prefix.reach)

            def listen(tokens: Tensor, i: int) -> Tensor:
                heard = tokens.to(self.compute)
                heard = self.fusion[i].listen(heard, prefix.rotary, prefix.keys[i], prefix.values[i], attend)
                return heard.to(tokens.dtype)

            options["patches_replace"] = self.after_blocks(listen, options.get("patches_replace", {}))
            own = x.clone()  # EasyCache adds to what it is handed; in float32 that would be the sampler's own latents
            return executor(own, timestep, learned, clip_fea, time_dim_concat, options, **kwargs)

        if not self.running or torch.compiler.is_compiling():
            return forward()
        with self.remembering(model):
            return forward()

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

    def once(self, at: Any, make: Callable[[], Any]) -> Any:
        """What `make` made when it was first asked for in this run under this name."""
        if at not in self.kept:
            self.kept[at] = make()
        return self.kept[at]

    @torch.compiler.disable  # computed once a run: compiling it would cost more than it saves
    def constants(self, wan: Wan, rows: tuple[Row, ...], grid: tuple[int, int], like: Tensor) -> tuple[Prefix, Tensor]:
        """The rows' prefix, and the learned context for as many."""
        prefix = self.once((rows, grid, like.device), lambda: self.batch(wan, rows, grid, like))
        return prefix, self.learned(like, len(like))

    def batch(self, wan: Wan, rows: tuple[Row, ...], grid: tuple[int, int], like: Tensor) -> Prefix:
        """The rows' prefixes in one, each at the end of buffers of one length. What a single row keeps is then its
        stretch of these, so that nothing is kept twice.
        """
        parts = [self.once((row, grid, like.device), lambda row=row: self.prefix(wan, row, grid, like)) for row in rows]
        if len(parts) == 1:
            return parts[0]
        lengths = tuple(part.reach.width for part in parts)
        return Prefix(
            [together([part.keys for part in parts], i, lengths) for i in range(self.fusion.config.layers)],
            [together([part.values for part in parts], i, lengths) for i in range(self.fusion.config.layers)],
            (torch.cat([part.rotary[0] for part in parts]), torch.cat([part.rotary[1] for part in parts])),
            Reach(max(lengths), lengths, grid[0] * grid[1], like.device),
        )

    def prefix(self, wan: Wan, row: Row, grid: tuple[int, int], like: Tensor) -> Prefix:
        """The prefix of one sample: the fusion's keys and values of its und states, then of its clean source images."""
        config, segments = self.fusion.config, row.sources.segments
        layout = lay_out([*segments, ImageSegment("noised", *grid)])
        tokens = pack([layout], [range(len(segments))])
        positions = tokens.positions[:, None].to(like.device)
        count, own = positions.shape[2], grid[0] * grid[1]
        states = at_size(row.states, grid).unflatten(-1, (config.und_layers, config.und_dim))
        keys, values = (
            [
                like.new_empty(1, count + own, config.heads, config.head_dim, dtype=self.compute)
                for _ in range(config.layers)
            ]
            for _ in range(2)
        )
        rotary = tables(config, positions[..., : tokens.und])
        for i in range(config.layers):
            # In float32 up to the norm: Qwen's states may be larger than half precision holds.
            heard = states[None, :, config.und_layer(i)].to(like.device, torch.float32)
            k, v = self.fusion[i].und_key_value(heard, rotary, self.compute)
            keys[i][:, : tokens.und], values[i][:, : tokens.und] = k, v
        for number, clean in enumerate(tokens.clean):
            # Samples that begin with the same pictures, as guidance's do, share what Wan makes of these.
            at = (segments[: clean.at[1] + 1], row.sources.latents[: number + 1], like.device)
            image = CleanTokens(clean.at, clean.own.to(like.device), clean.seen.to(like.device))
            known = self.kept.setdefault(at, (keys, values, image.own))
            if known[0] is keys:
                rotary = tables(config, positions[..., image.own])
                self.listen_clean(wan, row.sources.latents[number].to(like), keys, values, rotary, image)
            else:
                for mine, theirs in ((keys, known[0]), (values, known[1])):
                    for i in range(config.layers):
                        mine[i][:, image.own] = theirs[i][:, known[2]]
        rotary = tables(config, tokens.noised_positions.to(like.device))
        return Prefix(keys, values, rotary, Reach(count + own, (count + own,), own, like.device))

    def listen_clean(
        self, wan: Wan, latents: Tensor, keys: list[Tensor], values: list[Tensor], rotary: Rotary, image: CleanTokens
    ) -> None:
        """Sends one source image through Wan at t = 0 and writes its keys and values, layer by layer.

        It hears the und tokens and the images before it, which its buffers hold already, and itself.
        """
        last = self.fusion.config.layers - 1

        def listen(tokens: Tensor, i: int) -> Tensor:
            layer = self.fusion[i]
            q, k, v = layer.gen_query_key_value(tokens.to(self.compute), rotary)
            keys[i][:, image.own], values[i][:, image.own] = k, v
            if i == last:  # nobody hears what it would become
                return tokens
            return tokens + layer.update(wan.attend(q, keys[i][:, image.seen], values[i][:, image.seen])).to(
                tokens.dtype
            )

        blocks = self.after_blocks(listen, {})
        for i in range(last + 1, wan.blocks):
            blocks["dit"][("double_block", i)] = lambda args, extra: {"img": args["img"]}
        wan.forward(latents, self.learned(latents, 1), blocks)

    def learned(self, like: Tensor, count: int) -> Tensor:
        """The learned context for so many rows, [count, L, text_dim]."""
        row = self.once(("learned", like.dtype, like.device), lambda: self.fusion.context.to(like)[None])
        return self.rows(row, count) if self.running else row.expand(count, -1, -1)

    @contextmanager
    def remembering(self, wan: Any) -> Iterator[None]:
        """Inside, Wan computes once a run what is constant: all it makes of the learned context, its rotary tables.

        Its own methods are covered for the time of one forward, not by a MODEL's patches: a MODEL may be cloned onto
        another Wan, whose layers have other weights.
        """
        covers = self.once(("covers", wan), lambda: self.covers(wan))
        for own, name, _, cover in covers:
            own[name] = cover
        try:
            yield
        finally:
            for own, name, before, _ in covers:
                if before is None:
                    del own[name]
                else:
                    own[name] = before

    def covers(self, wan: Any) -> list[tuple[dict[str, Any], str, Any, Callable[..., Tensor]]]:
        """(attributes of an object, name of a method, what of this name is among them, what covers it)."""
        methods: list[tuple[Any, str, Any]] = [(wan, "rope_encode", self.tables)]
        methods += [(layer, "forward", self.constant) for layer in layers_of_context(wan)]
        return [(vars(at), name, vars(at).get(name), cover(getattr(at, name))) for at, name, cover in methods]

    def constant(self, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """A layer's `forward`, computed once a run for the learned context, which is the same for all rows and steps.

        It must be given the very tensor that is the learned context, or that another such layer made of it. All else
        that other nodes may send through the layer takes the ordinary way, as does all where blocks are compiled.
        """

        def run(x: Tensor) -> Tensor:
            known = None if torch.compiler.is_compiling() else self.still.get(id(x))
            if known is None:
                return forward(x)
            _, row = known
            return self.rows(self.once((forward, id(row)), lambda: forward(row)), x.shape[0])

        return run

    def tables(self, rope_encode: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Wan's own rotary tables, made once a run for each size; not where another node moves them."""

        def run(*args: Any, **kwargs: Any) -> Tensor:
            sizes = (*args, *(value for name, value in kwargs.items() if name != "transformer_options"))
            moved = "rope_options" in kwargs.get("transformer_options", {})
            if moved or torch.compiler.is_compiling() or any(isinstance(value, Tensor) for value in sizes):
                return rope_encode(*args, **kwargs)
            return self.once((rope_encode, tuple(kwargs), sizes), lambda: rope_encode(*args, **kwargs))

        return run

    def rows(self, row: Tensor, count: int) -> Tensor:
        """A tensor [1, ...] that is constant over the run as [count, ...]: the same object whenever it is asked for."""
        made = self.once(("rows", id(row), count), lambda: row.expand(count, *row.shape[1:]))
        self.still[id(made)] = made, row
        return made


@dataclass(frozen=True, eq=False)
class Wan:
    """The native model as a run calls it for a source image: past all wrappers, without the run's other patches."""

    original: Any
    options: dict[str, Any]
    blocks: int

    def forward(self, latents: Tensor, learned: Tensor, patches_replace: dict[str, Any]) -> None:
        kept = {k: v for k, v in self.options.items() if k not in ("patches", "wrappers", "callbacks")}
        options = {**kept, "patches_replace": patches_replace}
        self.original(latents, torch.zeros(1, device=latents.device), learned, None, None, options)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """ComfyUI's attention, whichever the person chose; q [B, N, H, D], k and v [B, W, H, D]."""
        heads_first = (x.transpose(1, 2) for x in (q, k, v))
        out = optimized_attention(
            *heads_first,
            heads=q.shape[2],
            skip_reshape=True,
            skip_output_reshape=True,
            transformer_options=self.options,
        )
        return out.transpose(1, 2)


def together(parts: list[list[Tensor]], layer: int, lengths: tuple[int, ...]) -> Tensor:
    """One layer's buffers [1, W_b, H, D] of some samples in one, each at its end; the samples then hold their stretches
    of it.
    """
    own, width = [tensors[layer] for tensors in parts], max(lengths)
    whole = own[0].new_empty(len(parts), width, *own[0].shape[2:])
    for b, (tensors, length) in enumerate(zip(parts, lengths, strict=True)):
        whole[b, width - length :] = own[b][0]
        tensors[layer] = whole[b : b + 1, width - length :]
    return whole


def _is_gen(segment: Segment) -> bool:
    return isinstance(segment, ImageSegment) and segment.kind != "vit"


def tables(config: FusionConfig, positions: Tensor) -> Rotary:
    """M-RoPE tables [1, N, D] of positions [3, 1, N]."""
    return mrope(positions, config.head_dim, config.rope_theta, config.mrope_section)


def attach(model: ModelPatcher, fusion: ModelPatcher) -> ModelPatcher:
    """A MODEL that listens: the same Wan weights, with the fusion stack loaded and freed beside them."""
    model = model.clone()
    hooks = Fused(fusion.model, model.model.get_dtype_inference())
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


def layers_of_context(wan: Any) -> list[Any]:
    """The layers that Wan sends its context through, and nothing else."""
    inside = (getattr(block.cross_attn, name) for block in wan.blocks for name in ("k", "norm_k", "v"))
    return [wan.text_embedding, *inside]


def at_noise(sigma: Tensor, noise: Tensor, latent_image: Tensor, **kwargs: Any) -> Tensor:
    """The kept part of a picture at a step's noise, as for every image model; Wan2.2 keeps it clean, as for video."""
    return comfy.model_sampling.CONST().noise_scaling(sigma, noise, latent_image)
