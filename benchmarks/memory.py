"""What an edit needs on the device, stage by stage: python -m benchmarks.memory [--size 1024] [--device cuda]

Without a CUDA device it is computed: the real model, its very code and its real shapes run on torch's meta device,
where a tensor has a size and no memory, and every storage is counted from its making to its end. With one it is
measured as well, with random weights. Beside both stands what `lightbagel_core.memory.plan` says, as `lightbagel info`
uses it.
"""

from __future__ import annotations

import argparse
import gc
import json
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from lightbagel_core.config import PUBLISHED, LightBagelConfig
from lightbagel_core.files.components import empty_components
from lightbagel_core.files.formats import read_config
from lightbagel_core.files.precision import MODES, Precision
from lightbagel_core.images import size_by_rule
from lightbagel_core.memory import plan
from lightbagel_core.model import forward as fused
from lightbagel_core.model import vae as vae_module
from lightbagel_core.model.attention import SDPA
from lightbagel_core.model.forward import CleanImage
from lightbagel_core.model.generation import Generation
from lightbagel_core.model.understanding import Understanding, VitImage

from .models import modules_of, on_meta


class PeakBytes(TorchDispatchMode):
    """Counts the bytes of all storages made inside, and the most that lived at once."""

    def __init__(self, *modules: nn.Module) -> None:
        """The weights of `modules` are there before, and are not counted."""
        super().__init__()
        self.live = self.peak = 0
        self.known: dict[int, Any] = {}
        for module in modules:
            for tensor in (*module.parameters(), *module.buffers()):
                self.known[tensor.untyped_storage()._cdata] = None

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for leaf in tree_flatten(made)[0]:
            if isinstance(leaf, Tensor) and leaf.is_meta:
                self.count(leaf.untyped_storage())
        return made

    def count(self, storage: Any) -> None:
        key = storage._cdata
        if key in self.known:
            return
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)

        def gone(_: Any) -> None:
            self.live -= size
            del self.known[key]

        self.known[key] = weakref.ref(storage, gone)


class Run:
    """One edit of a picture of the target's size, stage by stage; three branches of guidance."""

    def __init__(self, config: LightBagelConfig, mode: str, work: plan.Work, device: torch.device) -> None:
        self.config, self.work, self.device = config, work, device
        self.modules = modules_of(config, mode, device)
        self.gen = Generation(self.modules["generation"])
        self.und = Understanding(self.modules["understanding"], None, None, device)  # type: ignore[arg-type]
        vae_module.use_single_frames(self.modules["vae"])
        stride = config.vae_image.stride
        self.grid = (work.height // stride, work.width // stride)
        vit = size_by_rule(work.width, work.height, config.vit_image)
        self.vit = (vit[1] // config.vit_image.stride, vit[0] // config.vit_image.stride)

    def place(self, *parts: str) -> None:
        """Has only these parts on the device (meta weighs nothing anyway)."""
        if self.device.type != "meta":
            for part, module in self.modules.items():
                module.to(self.device if part in parts else "cpu")

    def new(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, device=self.device, dtype=dtype).normal_()

    @torch.no_grad()
    def stages(self) -> Iterator[tuple[str, tuple[str, ...], Callable[[], Any]]]:
        """(name, parts on the device, what is to be run) in order."""
        work, gen, dtype = self.work, self.gen, self.gen.dtype
        pixels = self.new(1, 3, work.height, work.width)
        yield "encode the source", ("vae",), lambda: vae_module.encode(self.modules["vae"], pixels)
        latents = self.new(48, self.grid[0] * gen.patch, self.grid[1] * gen.patch)
        features = self.new(self.vit[0] * self.vit[1], self.config.fusion.und_dim, dtype=dtype)
        pictures = [CleanImage(latents), VitImage(features, *self.vit)] * work.sources
        samples = [[*pictures, [0] * plan.TEXT], [*pictures, [0, 0]], [[0] * plan.TEXT]][: work.branches]
        tokens = fused.packed(samples, [fused.layout_of(parts, gen.patch, self.grid) for parts in samples])
        embeddings = self.new(1, tokens.und, self.config.fusion.und_dim, dtype=dtype)
        positions, visible = tokens.positions[:, None, : tokens.und], tokens.und_visible[None]
        states: list[Tensor] = []

        def read() -> None:
            found = self.und.und_states(embeddings, positions.to(self.device), visible.to(self.device))
            states.extend(state[0] for state in found)

        yield "read the prompt", ("understanding",), read
        contexts: list[Any] = []
        fusion = self.modules["fusion"]

        def prepare() -> None:
            learned = gen.learned_context(fusion.context.to(dtype))
            clean = [latents] * len(tokens.clean)
            contexts.append(fused.prefix(gen, fusion, tokens, self.grid, states, clean, learned, SDPA))

        yield "prefix", ("generation", "fusion"), prepare
        noised, times = self.new(len(samples), *latents.shape), torch.zeros(len(samples), device=self.device)
        yield (
            "one step",
            ("generation", "fusion"),
            lambda: fused.velocity(gen, fusion, noised, times, contexts[0], SDPA),
        )
        states.clear()
        contexts.clear()
        yield "decode", ("vae",), lambda: vae_module.decode(self.modules["vae"], latents[None])


def computed(config: LightBagelConfig, mode: str, work: plan.Work) -> dict[str, tuple[int, int]]:
    """{stage: (bytes of weights, most bytes of all else)}, counted on the meta device."""
    found = {}
    with on_meta():
        run = Run(config, mode, work, torch.device("meta"))
        counter = PeakBytes(*run.modules.values())
        with counter:
            for name, parts, act in run.stages():
                counter.peak = counter.live
                act()
                found[name] = (sum(size_of(run.modules[part]) for part in parts), counter.peak)
    return found


def measured(config: LightBagelConfig, mode: str, work: plan.Work, device: torch.device) -> dict[str, tuple[int, int]]:
    """The same with random weights on a CUDA device, by its allocator."""
    found = {}
    run = Run(config, mode, work, device)
    for name, parts, act in run.stages():
        run.place(*parts)
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        act()
        weights = sum(size_of(run.modules[part]) for part in parts)
        found[name] = (weights, torch.cuda.max_memory_allocated(device) - weights)
    return found


def size_of(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


PLANNED = {  # the stages of the plan
    "encode the source": 0,
    "read the prompt": 1,
    "prefix": 2,
    "one step": 2,
    "decode": 3,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="pixels of a side")
    parser.add_argument("--modes", nargs="+", default=["bfloat16", "float8"], choices=list(MODES))
    parser.add_argument("--device", help="a CUDA device to measure on; default: only compute")
    parser.add_argument("--json", help="a file for the same figures")
    args = parser.parse_args()
    config, work = read_config(PUBLISHED), plan.Work(args.size, args.size)
    rows = []
    for mode in args.modes:
        tensors = {part: plan.tensors_of(module, part) for part, module in empty_components(config, PUBLISHED).items()}
        planned = plan.stages(config, tensors, Precision.of(MODES[mode], torch.device("cpu")), work)
        real = measured(config, mode, work, torch.device(args.device)) if args.device else {}
        for name, (weights, peak) in computed(config, mode, work).items():
            stage = planned[PLANNED[name]]
            row = {"mode": mode, "stage": name, "weights": weights, "computed": peak, "planned": stage.work}
            rows.append(row | {"measured": real[name][1] if real else None})
    print(f"an edit at {args.size} x {args.size}, three branches; GB")
    print(f"{'mode':<10}{'stage':<20}{'weights':>9}  beside them:")
    print(f"{'':<39}{'computed':>9}{'planned':>9}{'measured':>9}")
    for row in rows:
        figures = [row["weights"], row["computed"], row["planned"], row["measured"]]
        said = "".join(f"{'-' if f is None else format(f / 1e9, '.2f'):>9}" for f in figures)
        print(f"{row['mode']:<10}{row['stage']:<20}{said}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
