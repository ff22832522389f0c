"""What an edit needs on the device, stage by stage: python -m benchmarks.memory [--size 1024] [--device cuda]

Without a CUDA device it is computed: the real model, its very code and its real shapes run on torch's meta device,
where a tensor has a size and no memory, and every storage is counted from its making to its end. With one it is
measured as well, with random weights. Beside both stands what `lightbagel_core.memory.plan` says, as `lightbagel info`
uses it.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from lightbagel_core.config import COMPONENTS, PUBLISHED, LightBagelConfig
from lightbagel_core.files.components import empty_components
from lightbagel_core.files.formats import read_config
from lightbagel_core.files.precision import MODES, Precision
from lightbagel_core.images import size_by_rule
from lightbagel_core.memory import plan
from lightbagel_core.model import vae
from lightbagel_core.model.forward import CleanImage
from lightbagel_core.model.understanding import VitImage
from lightbagel_core.pipeline import LightBagel

from . import core
from .measure import options, parsed, report
from .models import modules_of, on_meta, with_random_weights

META = torch.device("meta")
PLANNED = {"encode the source": 0, "read the prompt": 1, "prefix": 2, "one step": 2, "decode": 3}  # the plan's stages
Stage = tuple[str, tuple[str, ...], Callable[[], Any]]  # name, components on the device, what is to be run


class PeakBytes(TorchDispatchMode):
    """Counts the bytes of all storages made inside, and the most that lived at once."""

    def __init__(self, *modules: nn.Module, device: torch.device = META) -> None:
        """The weights of `modules` are there before, and are not counted. `device`: where storages count."""
        super().__init__()
        self.device = device
        self.live = self.peak = 0
        self.known: dict[int, Any] = {}
        for module in modules:
            for tensor in (*module.parameters(), *module.buffers()):
                self.known[tensor.untyped_storage()._cdata] = None

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for leaf in tree_flatten(made)[0]:
            if isinstance(leaf, Tensor) and leaf.device.type == self.device.type:
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


def stages(model: LightBagel, work: plan.Work, device: torch.device) -> Iterator[Stage]:
    """One edit of pictures of the target's size, in order."""
    config, gen = model.config, model.gen
    stride, latents_of = config.vae_image.stride, config.vae["scale_factor_spatial"]
    grid = (work.height // stride, work.width // stride)
    width, height = size_by_rule(work.width, work.height, config.vit_image)
    rows, cols = height // config.vit_image.stride, width // config.vit_image.stride

    def new(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, device=device, dtype=dtype).normal_()

    pixels = new(1, 3, work.height, work.width)
    yield "encode the source", ("vae",), lambda: vae.encode(model.vae, pixels)
    latents = new(config.vae["z_dim"], work.height // latents_of, work.width // latents_of)
    features = new(rows * cols, config.fusion.und_dim, dtype=gen.dtype)
    pictures = [CleanImage(latents), VitImage(features, rows, cols)] * work.sources
    samples = [[*pictures, [0] * plan.TEXT], [*pictures, [0, 0]], [[0] * plan.TEXT]][: work.branches]
    packed, kept = core.pack(model, samples, grid), {}
    yield (
        "read the prompt",
        ("understanding",),
        lambda: kept.update(states=core.und_states(model, packed)),
    )
    yield (
        "prefix",
        ("generation", "fusion"),
        lambda: kept.update(context=core.context(model, packed, kept["states"])),
    )
    noised, times = new(len(samples), *latents.shape), torch.zeros(len(samples), device=device)
    yield (
        "one step",
        ("generation", "fusion"),
        lambda: core.velocity(model, noised, times, kept["context"]),
    )
    kept.clear()
    yield "decode", ("vae",), lambda: vae.decode(model.vae, latents[None])


@torch.no_grad()
def computed(
    config: LightBagelConfig, mode: str, work: plan.Work, device: torch.device = META
) -> dict[str, tuple[int, int]]:
    """{stage: (bytes of weights, most bytes of all else)}, counted on meta, or by a CUDA device's allocator."""
    found, meta = {}, device == META
    with on_meta() if meta else nullcontext():
        model = with_random_weights(config, mode, device, COMPONENTS)
        modules = modules_of(model)
        with PeakBytes(*modules.values()) if meta else nullcontext() as counter:
            for name, components, act in stages(model, work, device):
                if counter:
                    counter.peak = counter.live
                else:
                    for each, module in modules.items():
                        module.to(device if each in components else "cpu")
                    gc.collect()
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats(device)
                act()
                weights = sum(p.nbytes for each in components for p in modules[each].parameters())
                peak = counter.peak if counter else torch.cuda.max_memory_allocated(device) - weights
                found[name] = (weights, peak)
    return found


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--size", type=int, default=1024, help="pixels of a side")
    parser.add_argument("--modes", nargs="+", default=["bfloat16", "float8"], choices=list(MODES))
    args = parsed(parser)
    config, work = read_config(PUBLISHED), plan.Work(args.size, args.size)
    rows = []
    for mode in args.modes:
        tensors = {name: plan.tensors_of(module, name) for name, module in empty_components(config, PUBLISHED).items()}
        planned = plan.stages(config, tensors, Precision.of(MODES[mode], torch.device("cpu")), work)
        real = computed(config, mode, work, args.device) if args.device.type == "cuda" else {}
        for name, (weights, peak) in computed(config, mode, work).items():
            figures = {"weights": weights, "computed": peak, "planned": planned[PLANNED[name]].work}
            figures |= {"measured": real[name][1]} if real else {}
            rows.append({"mode": mode, "stage": name, **{f"{what}_gb": n / 1e9 for what, n in figures.items()}})
    report(args, f"an edit at {args.size} x {args.size}, three branches", rows)


if __name__ == "__main__":
    main()
