"""One process, DDP, FSDP and HSDP through one code path, on torch's own engines.

A process group always exists, also for one process, so that whatever speaks to others is written once. Launch several
processes with `torchrun`; which of them share one copy of the weights is said by `parallel.shard`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from ..files.precision import default_device
from ..model.fusion import MultimodalSelfAttention
from .stages import Stage

T = TypeVar("T")
PATIENCE = timedelta(hours=2)  # for one that makes a chunk, scores suites or writes the model while others wait
REDUCED = ("cpu", "cuda")  # devices whose tensors the backends of `start` can add up
FUSION_METHODS = ("gen_query_key_value", "und_key_value", "update")  # what is compiled of a fusion layer


@dataclass(frozen=True)
class World:
    """This process among those that train together.

    rank: of `size` processes. shard: so many of them share one copy of the weights.
    mesh: (shard,) or (replicate, shard); None where each process has its own copy.
    """

    rank: int
    size: int
    device: torch.device
    shard: int
    mesh: DeviceMesh | None = None

    @property
    def first(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0


def shards(asked: int, size: int) -> int:
    """How many of `size` processes share one copy of the weights.

    Raises:
        ValueError: that many do not divide the processes; the message says which numbers would do.
    """
    if asked == 0:
        return size
    if asked < 0 or size % asked:
        fitting = ", ".join(str(n) for n in range(1, size + 1) if size % n == 0)
        raise ValueError(f"parallel.shard {asked} does not divide {size} processes; it can be {fitting}, or 0 for all")
    return asked


def start(stage: Stage) -> World:
    """Joins the processes that `torchrun` started, or makes a group of this one alone.

    Raises:
        ValueError: `parallel.shard` does not divide the processes.
    """
    env = os.environ
    several = "RANK" in env and "WORLD_SIZE" in env
    rank, size = (int(env["RANK"]), int(env["WORLD_SIZE"])) if several else (0, 1)
    shard = shards(stage.parallel.shard, size)
    device = _device(stage)
    if device.type == "cuda":
        device = torch.device("cuda", int(env.get("LOCAL_RANK", "0")) if several else device.index or 0)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        if several:
            dist.init_process_group(backend, rank=rank, world_size=size, timeout=PATIENCE)
        else:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    mesh = None
    if shard > 1:
        copies = size // shard
        shape, names = ((shard,), ("shard",)) if copies == 1 else ((copies, shard), ("replicate", "shard"))
        mesh = init_device_mesh(device.type, shape, mesh_dim_names=names)
    return World(rank, size, device, shard, mesh)


def _device(stage: Stage) -> torch.device:
    return torch.device(stage.device) if stage.device else default_device()


def stop() -> None:
    """Leaves the group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def prepare_units(units: Iterable[nn.Module], stage: Stage) -> None:
    """Has each unit compute its activations again in the backward pass, and compiled, as the stage says; before `wrap`.

    A fusion layer is entered by its `joint`, every other unit by its `forward`. Of a fusion layer the projections are
    compiled, and attention is not: its keys are as many as a prompt is long.

    On a CPU the compiler is kept from replacing attention that is written in matrix products (see
    `attention.for_training`) by the fused kernel, which is slow there.
    """
    options: Any = {"pattern_matcher": False} if _device(stage).type == "cpu" else None
    for unit in units:
        fused = isinstance(unit, MultimodalSelfAttention)
        if stage.compile:
            for name in FUSION_METHODS if fused else ("forward",):
                setattr(unit, name, torch.compile(getattr(unit, name), dynamic=True, options=options))
        if stage.checkpointing:
            entry = "joint" if fused else "forward"
            setattr(unit, entry, _recomputed(getattr(unit, entry)))


def _recomputed(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return method(*args, **kwargs)
        return checkpoint(method, *args, use_reentrant=False, **kwargs)

    return call


def wrap(module: nn.Module, units: Sequence[nn.Module], world: World, stage: Stage) -> nn.Module:
    """The module as this world's engine trains it: itself, in DDP, or sharded with each unit on its own.

    A module that is sharded may lie on the meta device still; for DDP it must have its weights.

    Where weights are sharded, those of units are gathered in bfloat16 under "bfloat16-mixed". What belongs to the root
    alone (embeddings, time, head, the learned context) is small and gathered as it is: the model computes it in
    float32 on purpose.
    """
    if world.mesh is None:
        if world.size == 1:
            return module
        return DistributedDataParallel(module, broadcast_buffers=False, gradient_as_bucket_view=True)
    mixed = stage.precision == "bfloat16-mixed"
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if mixed else None, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for unit in units:
        fully_shard(unit, mesh=world.mesh, mp_policy=policy)
        if isinstance(unit, MultimodalSelfAttention):
            register_fsdp_forward_method(unit, "joint")
    fully_shard(
        module,
        mesh=world.mesh,
        mp_policy=MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False),
    )
    return module


def autocast(stage: Stage, world: World) -> AbstractContextManager[Any]:
    """The context in which a pass is computed.

    Casts of weights are not kept: each weight is used once in a pass, and is cast anew where it is computed again.
    """
    enabled = stage.precision == "bfloat16-mixed"
    return torch.autocast(world.device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)


@contextmanager
def syncing(module: nn.Module, last: bool) -> Iterator[None]:
    """Around forward and backward of a pass: copies of the weights average their gradients at the last of a step only.

    Where weights are shared, each pass shares out its gradients: kept whole until the last they would be as large as
    all trained weights in float32.

    Args:
        module: as `wrap` gave it.
    """
    if isinstance(module, FSDPModule):
        module.set_requires_all_reduce(last)  # among the copies, where there are several
        module.set_is_last_backward(last)
        yield
    elif isinstance(module, DistributedDataParallel) and not last:
        with module.no_sync():
            yield
    else:
        yield


def clip(parameters: Iterable[nn.Parameter], norm: float) -> Tensor:
    """Scales the gradients down to `norm` where all of them together are larger; 0: never. Returns what it was.

    The norm is that of whole gradients, on however many processes they are spread; float32 [].
    """
    with_gradient = [p for p in parameters if p.grad is not None]
    gradients = [p.grad for p in with_gradient if p.grad is not None]
    found = nn.utils.get_total_norm(gradients)
    total = found.full_tensor() if isinstance(found, DTensor) else found
    if norm and not total < norm:  # also where it is no number
        nn.utils.clip_grads_with_norm_(with_gradient, norm, total)
    return total.float()


def all_sum(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes, on its device or on the CPU; the tensor itself stays as it is."""
    device = tensor.device if tensor.device.type in REDUCED else "cpu"
    total = tensor.detach().to(device, copy=True)
    dist.all_reduce(total)
    return total


def agree(flag: bool) -> bool:
    """Whether any process says so: all of them answer alike, and stop at the same step."""
    said = torch.tensor(int(flag))
    dist.all_reduce(said, dist.ReduceOp.MAX)
    return bool(said)


def of_first(ask: Callable[[], T], group: Any = None) -> T:
    """What the first process does or finds, for which all wait; they get the same answer, or the same error.

    Args:
        ask: gives what can be sent to other processes. group: default: all processes.

    Raises:
        ValueError: the first process could not; the message is its own.
    """
    answer: list[Any] = [None, None]
    if dist.get_rank(group) == 0:
        try:
            answer[0] = ask()
        except (ValueError, OSError) as error:
            answer[1] = str(error)
    dist.broadcast_object_list(answer, group=group, group_src=0)
    if answer[1] is not None:
        raise ValueError(answer[1])
    found: T = answer[0]
    return found


@contextmanager
def whole(module: nn.Module) -> Iterator[None]:
    """Inside, every tensor is whole on every process, and any method of the model may be called, by some or by all.

    All processes enter and leave it together.
    """
    inner = [m for m in module.modules() if isinstance(m, FSDPModule)]
    if not inner:
        yield
        return
    root = inner[0]
    root._get_fsdp_state()._lazy_init()  # else a unit that is called first would take itself for the root
    units = inner[1:]
    for part in inner:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in units:
            part.set_reshard_after_forward(True, recurse=False)
        for part in inner:
            part.reshard()
