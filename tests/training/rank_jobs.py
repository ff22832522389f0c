"""What a rank does in test_processes.py: opens a model, trains some steps, leaves what it found in files."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path

import drawings
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from lightbagel_core.model.attention import SDPA
from lightbagel_core.training import parallel
from lightbagel_core.training.config_file import build
from lightbagel_core.training.loading import Opening
from lightbagel_core.training.loss import Drawing, Pass
from lightbagel_core.training.stages import Adapters, Model, Parallel, Stage

RATE = 0.02
COLLECTIVES = ("_allgather_base_", "_reduce_scatter_base_", "allreduce_")


class Moved(TorchDispatchMode):
    """Counts collectives and the bytes of the whole tensors in them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, call, types, args=(), kwargs=None):
        name = call._schema.name.removeprefix("c10d::")
        if name in COLLECTIVES:
            whole = args[1] if name == "_reduce_scatter_base_" else args[0]
            self.calls[name] += 1
            self.bytes[name] += sum(x.nbytes for x in (whole if isinstance(whole, list) else [whole]))
        return call(*args, **(kwargs or {}))


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def opened(model: str, shard: int, live: bool, **said):
    """(stage, world, opening, module as its own class, module as the engine has it)."""
    said = {"train": ["generation", "fusion", "context"], "precision": "float32", "base": "float32", **said}
    said = {key: tuple(value) if isinstance(value, list) else value for key, value in said.items()}
    if "lora" in said:
        said["lora"] = build(Adapters, said["lora"])
    stage = Stage(model=Model(model=model), device="cpu", parallel=Parallel(shard), **said)
    world = parallel.start(stage)
    opening = Opening.of(stage, world, ("generation", "fusion", "understanding"))
    module = Drawing(opening.gen, opening.fusion, SDPA, opening.und if live else None)
    return stage, world, opening, module, opening.ready(module, drawings.units(module))


def own(step: list[Pass], world) -> list[Pass]:
    """This rank's passes; a step has as many as are dealt out evenly."""
    assert len(step) % world.size == 0
    return step[world.rank :: world.size]


def one_step(wrapped: nn.Module, step: list[Pass], stage, world) -> Tensor:
    """Forward and backward of a whole step; the loss, over all ranks."""
    mine, count = own(step, world), drawings.tokens(step)
    total = torch.zeros(())
    for number, each in enumerate(mine):
        with parallel.syncing(wrapped, last=number == len(mine) - 1):
            with parallel.autocast(stage, world):
                loss = wrapped(each).sum() / count
            (loss * world.size).backward()
        total += loss.detach()
    return parallel.all_sum(total)


def train(model: str, out: str, shard: int, steps: int, only: list[int] | None = None, **said) -> None:
    """SGD on the four samples of `drawings.batch`, or on some of them; rank 0 writes gradients, losses and weights."""
    stage, world, opening, _, wrapped = opened(model, shard, live=True, **said)
    samples = drawings.batch(opening.und)
    samples = [samples[i] for i in only] if only else samples
    trained = opening.trained()
    frozen = {name: p for name, p in wrapped.named_parameters() if not p.requires_grad}
    before = {name: whole(p).clone() for name, p in frozen.items()}
    optimiser = torch.optim.SGD(trained.values(), RATE)
    losses, norms, gradients = [], [], {}
    for number in range(steps):
        loss = one_step(wrapped, drawings.passes(samples, seed=number), stage, world)
        losses.append(loss.item())
        norms.append(parallel.clip(trained.values(), 0).item())
        if not number:
            gradients = {name: whole(p.grad).clone() for name, p in trained.items()}
            norm = torch.stack([g.square().sum() for g in gradients.values()]).sum().sqrt()
            torch.testing.assert_close(norms[0], norm.item(), rtol=1e-5, atol=0)
        optimiser.step()
        optimiser.zero_grad()
    assert all(torch.equal(whole(p), before[name]) for name, p in frozen.items())
    weights = {name: whole(p).detach().clone() for name, p in trained.items()}
    if world.first:
        Path(out).mkdir(parents=True)
        save_file(gradients, Path(out) / "gradients.safetensors")
        save_file(weights, Path(out) / "weights.safetensors")
        found = {"losses": losses, "norms": norms, "frozen": len(frozen)}
        Path(out, "found.json").write_text(json.dumps(found), "utf-8")


def refused(model: str, out: str, shard: int) -> None:
    """What each rank is told where the first one finds something, and where it cannot do something."""
    parallel.start(Stage(device="cpu"))
    found = parallel.of_first(lambda: 7)

    def no() -> None:
        raise ValueError("no room")

    try:
        parallel.of_first(no)
    except ValueError as error:
        Path(out).mkdir(parents=True, exist_ok=True)
        Path(out, os.environ["RANK"]).write_text(f"{error}; {found}", "utf-8")


def count(model: str, out: str, shard: int, passes: int) -> None:
    """What the collectives of the second step carry, and the bytes of the weights by unit."""
    stage, world, opening, module, wrapped = opened(model, shard, live=True)
    step = drawings.passes(drawings.batch(opening.und)[:1] * passes * world.size)
    one_step(wrapped, step, stage, world)
    with Moved() as moved:
        mine, tokens = own(step, world), drawings.tokens(step)
        for number, each in enumerate(mine):
            with parallel.syncing(wrapped, last=number == len(mine) - 1):
                (wrapped(each).sum() / tokens).backward()
    units = [sum(p.numel() * p.element_size() for p in unit.parameters()) for unit in drawings.units(module)]
    every = sum(p.numel() * p.element_size() for p in wrapped.parameters())
    read = len(module.und.vlm.model.language_model.layers)
    trained = sum(p.numel() * p.element_size() for p in opening.trained().values())
    found = {"calls": moved.calls, "bytes": moved.bytes, "frozen units": units[:read], "units": units[read:]}
    found |= {"root": every - sum(units), "trained": trained}
    if world.first:
        Path(out).mkdir(parents=True)
        Path(out, "found.json").write_text(json.dumps(found), "utf-8")


def infer(model: str, out: str, shard: int) -> None:
    """Inference by the first rank alone on whole weights, before the first step and after it, and another step."""
    stage, world, opening, _, wrapped = opened(model, shard, live=True)
    step = drawings.passes(drawings.batch(opening.und))
    optimiser = torch.optim.SGD(opening.trained().values(), RATE)
    drawn, held = {}, {}
    for number in range(3):
        with parallel.whole(wrapped), torch.inference_mode():
            if world.first:
                drawn[str(number)] = opening.gen(
                    step[0].noise[0][None],
                    step[0].t,
                    opening.gen.learned_context(opening.fusion.context),
                    after(opening),
                )
        one_step(wrapped, step, stage, world)
        optimiser.step()
        optimiser.zero_grad()
        local = sum(p.to_local().numel() if isinstance(p, DTensor) else p.numel() for p in wrapped.parameters())
        held[str(number)] = torch.tensor(local)
    if world.first:
        Path(out).mkdir(parents=True)
        save_file(drawn, Path(out) / "drawn.safetensors")
        save_file(held, Path(out) / "held.safetensors")


def after(opening):
    """A use of the fusion's layers after each block by other methods than training's, which FSDP does not know."""

    def after_block(tokens: Tensor, i: int) -> Tensor:
        if i >= opening.config.fusion.layers:
            return tokens
        rotary = tuple(torch.ones(1, tokens.shape[1], opening.config.fusion.head_dim) for _ in range(2))
        q, _, _ = opening.fusion[i].gen_query_key_value(tokens, rotary)
        return tokens + opening.fusion[i].update(q)

    return after_block


def run_slowly(config: str, out: str, overrides: list[str]) -> None:
    """A whole run in which the first rank takes its time to claim the folder and to write models.

    Each rank writes where its last stage's fusion stack came from.
    """
    from lightbagel_core.training import one_stage, running
    from lightbagel_core.training.config_file import read

    first = os.environ["RANK"] == "0"
    for module, name in ((running, "claim"), (one_stage, "write_model"), (one_stage, "put_in_place")):
        if first:
            setattr(module, name, _late(getattr(module, name)))
    whole = running.run_stage

    def noted(stage, *rest):
        Path(out, f"began-{os.environ['RANK']}").write_text(f"{stage.model.fresh} {stage.model.fusion}", "utf-8")
        return whole(stage, *rest)

    running.run_stage = noted
    assert running.run(read(config, overrides), Path(out))


def _late(act):
    def later(*args):
        time.sleep(1)
        return act(*args)

    return later


def lightbagel(words: list[str]) -> None:
    """The command itself."""
    from lightbagel_core.cli.commands import main

    assert main(words) == 0
