"""What is computed once a run, and covers over Wan's own methods so that Wan, too, computes it once.

Newer ComfyUIs record what a forward allocates and expect it to be free again at its end. What is kept over steps is
made in their pause, and whether anything is kept is settled when a run begins, before any recording.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from .keeping import keeps

PREFETCH, PAUSE = "comfy.model_prefetch", "pause_malloc_graph"
PLAIN = (int, float, str, torch.dtype, torch.device, type(None))  # what rotary tables are made from


def pause_of_host() -> Callable[[], AbstractContextManager[Any]]:
    """ComfyUI's pause of its recording; in a ComfyUI that records nothing, a context that does nothing."""
    prefetch = import_module(PREFETCH) if find_spec(PREFETCH) else None
    return getattr(prefetch, PAUSE, nullcontext)


class RunCache:
    """What stays constant over the run in progress; empty between runs, and where nothing is to be kept.

    keeping: whether what is made outlives its step, and Wan's own methods are covered.
    kept: by name. unchanging: by id, tensors that are the same for all rows and steps, and one row of each.
    """

    def __init__(self) -> None:
        self.keeping = self.paused = False
        self.kept: dict[Any, Any] = {}
        self.unchanging: dict[int, tuple[Tensor, Tensor]] = {}
        self.pause: Callable[[], AbstractContextManager[Any]] = nullcontext

    @contextmanager
    def run(self, constant: bool) -> Iterator[None]:
        """Inside is one run. `constant`: whether the weights stay as they are over it, without gradients of each
        step's own; else nothing is kept.

        Raises:
            ValueError: LIGHTBAGEL_KEEP has a value without a meaning.
        """
        before = self.keeping, self.kept, self.unchanging, self.pause
        self.keeping = constant and keeps()
        self.kept, self.unchanging = {}, {}
        self.pause = pause_of_host() if self.keeping else nullcontext
        try:
            yield
        finally:
            self.keeping, self.kept, self.unchanging, self.pause = before

    @contextmanager
    def making(self) -> Iterator[None]:
        """Inside is made what outlives the step: in the host's pause, entered once (a second would end the first)."""
        if self.paused or not self.keeping:
            yield
            return
        self.paused = True
        try:
            with self.pause():
                yield
        finally:
            self.paused = False

    def once(self, at: Any, make: Callable[[], Any]) -> Any:
        """What `make` made when it was first asked for in this run under this name."""
        if not self.keeping:
            return make()
        if at not in self.kept:
            with self.making():
                self.kept[at] = make()
        return self.kept[at]

    def rows(self, row: Tensor, count: int) -> Tensor:
        """A tensor [1, ...] that is constant over the run as [count, ...]: the same object whenever it is asked for."""
        if not self.keeping:
            return row.expand(count, *row.shape[1:])
        made: Tensor = self.once(("rows", id(row), count), lambda: row.expand(count, *row.shape[1:]))
        self.unchanging[id(made)] = made, row
        return made

    @contextmanager
    def covering(self, wan: Any) -> Iterator[None]:
        """Inside a run Wan then computes once what is constant: all it makes of the learned context, its rotary tables.

        Its own methods are covered for the time of one forward, not by a MODEL's patches: a MODEL may be cloned onto
        another Wan, whose layers have other weights.
        """
        covers = self.once(("covers", wan), lambda: self._covers(wan))
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

    def _covers(self, wan: Any) -> list[tuple[dict[str, Any], str, Any, Callable[..., Tensor]]]:
        """(attributes of an object, name of a method, what of this name is among them, what covers it)."""
        methods: list[tuple[Any, str, Any]] = [(layer, "forward", self._constant) for layer in layers_of_context(wan)]
        if hasattr(wan, "rope_encode"):
            methods.append((wan, "rope_encode", self._tables))
        return [(vars(at), name, vars(at).get(name), cover(getattr(at, name))) for at, name, cover in methods]

    def _constant(self, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """A layer's `forward`, computed once a run for the learned context, which is the same for all rows and steps.

        It must be given the very tensor that is the learned context, or that another such layer made of it. All else
        that other nodes may send through the layer takes the ordinary way, as does all where blocks are compiled.
        """

        def run(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            known = None if torch.compiler.is_compiling() else self.unchanging.get(id(x))
            if known is None or args or kwargs:
                return forward(x, *args, **kwargs)
            _, row = known
            return self.rows(self.once((forward, id(row)), lambda: forward(row)), x.shape[0])

        return run

    def _tables(self, rope_encode: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Wan's own rotary tables, made once a run for each size; not where another node moves them."""

        def run(*args: Any, **kwargs: Any) -> Tensor:
            sizes = (*args, *(value for name, value in kwargs.items() if name != "transformer_options"))
            moved = "rope_options" in (kwargs.get("transformer_options") or {})
            if moved or torch.compiler.is_compiling() or not all(isinstance(value, PLAIN) for value in sizes):
                return rope_encode(*args, **kwargs)
            made: Tensor = self.once((rope_encode, tuple(kwargs), sizes), lambda: rope_encode(*args, **kwargs))
            return made

        return run


def layers_of_context(wan: Any) -> list[Any]:
    """The layers that Wan sends its context through, and nothing else; those that this Wan has.

    Where some have become one (parallel projections fused into one layer), Wan computes them at every step.
    """
    attentions = (getattr(block, "cross_attn", None) for block in wan.blocks)
    inside = (getattr(attention, name, None) for attention in attentions for name in ("k", "norm_k", "v"))
    return [layer for layer in (getattr(wan, "text_embedding", None), *inside) if isinstance(layer, nn.Module)]
