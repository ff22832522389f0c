"""A training of a few layers that can be killed, stopped and gone on with, on any number of processes.

Batches depend on the step alone and are the same on all processes, so its weights do not depend on their number.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from lightbagel_core.training import optimisers
from lightbagel_core.training import stages as config
from lightbagel_core.training.checkpoints import Checkpoints
from lightbagel_core.training.ema import Ema
from lightbagel_core.training.signals import Stopping

torch.set_num_threads(1)
# what takes seconds to import; torch._dynamo is imported by every optimiser's first step
HEAVY = ["torch._dynamo", "torch.distributed.fsdp", "torch.distributed.checkpoint.hf_storage", "safetensors.torch"]


def whole(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


class Toy:
    """Layers of which one has an odd number of rows and one a single row, so that a process holds none of it."""

    def __init__(self, optimiser: str = "adamw", seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.module = nn.Sequential(nn.Linear(64, 129), nn.Tanh(), nn.Linear(129, 64), nn.Tanh(), nn.Linear(64, 1))
        if dist.get_world_size() > 1:
            for unit in (self.module[0], self.module[2], self.module):  # the last layer is the root's own
                fully_shard(unit)
        self.trained = dict(self.module.named_parameters())
        self.options = config.Optimiser(optimiser, lr=1e-2, eps=1e-8, warmup=4, schedule="cosine")
        self.optimizer = optimisers.make(self.options, self.trained.values())
        self.ema = Ema(self.trained, config.Ema(0.9))

    def tensors(self) -> dict[str, Tensor]:
        found = {f"param.{name}": p for name, p in self.trained.items()}
        found |= {f"ema.{name}": average for name, average in self.ema.state().items()}
        with torch.compiler.set_stance("force_eager"):
            return found | optimisers.moments(self.optimizer, self.trained)

    def step(self, step: int, steps: int) -> None:
        """Step number `step`, counted from 0."""
        x = torch.randn(8, 64, generator=torch.Generator().manual_seed(step))
        optimisers.set_learning_rate(self.optimizer, optimisers.learning_rate(self.options, steps, step))
        (self.module(x) - x.mean(1, keepdim=True)).square().mean().backward()
        with torch.compiler.set_stance("force_eager"):
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update(step + 1)

    def final(self) -> dict[str, Tensor]:
        return {name: whole(tensor).float().contiguous() for name, tensor in self.tensors().items()}


def start(rank: int = 0, world: int = 1, file: str = "") -> None:
    store = dist.FileStore(file, world) if world > 1 else dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)


def train(
    rank: int,
    world: int,
    store: str,
    out: str,
    optimiser: str = "adamw",
    steps: int = 10,
    every: int = 3,
    pause: float = 0.0,
) -> None:
    """Goes on from the latest checkpoint of OUT, and at the end writes all tensors to OUT/final.safetensors."""
    start(rank, world, store)
    toy = Toy(optimiser, seed=0)
    checkpoints = Checkpoints(Path(out) / "checkpoints", 2)
    done = checkpoints.latest() or 0
    if done:
        checkpoints.load(done, tensors := toy.tensors())
        optimisers.restore(
            toy.optimizer, toy.trained, {k: v for k, v in tensors.items() if k[:4] not in ("para", "ema.")}
        )
    with Stopping() as stopping:
        for step in range(done, steps):
            toy.step(step, steps)
            time.sleep(pause)
            Path(out, f"done-{rank}").write_text(str(step + 1), "utf-8")
            if (step + 1) % every == 0 or step + 1 == steps or stopping.asked:
                checkpoints.save(step + 1, toy.tensors(), asynchronous=not stopping.asked)
            if stopping.asked:
                break
        else:
            final = toy.final()
            if rank == 0:
                save_file(final, f"{out}/final.safetensors")
        checkpoints.wait()
    dist.destroy_process_group()


def begin(world: int, out: Path, *args: Any, target: Callable[..., None] = train) -> list[Any]:
    """Starts `train` in so many processes, which share one import of torch."""
    context = get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    store = str(out / f"store-{time.monotonic_ns()}")
    processes = [
        context.Process(target=target, args=(rank, world, store, str(out), *args), daemon=True) for rank in range(world)
    ]
    for process in processes:
        process.start()
    return processes
