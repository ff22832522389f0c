"""One training loop for all stages: AdamW, warm-up and cosine, bf16 autocast, EMA, resumable without pickle."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

Loss = Callable[[np.random.Generator, torch.Generator], tuple[Tensor, dict[str, float]]]


@dataclass(frozen=True)
class Recipe:
    steps: int
    lr: float
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 1.0
    warmup: int = 100
    final_lr: float = 0.02  # fraction of lr at the last step of the cosine
    ema: float = 0.999
    autocast: bool = True  # bfloat16 where it is quicker


def learning_rate(recipe: Recipe, step: int) -> float:
    progress = min(1.0, step / recipe.steps)
    cosine = recipe.final_lr + (1 - recipe.final_lr) * (1 + math.cos(math.pi * progress)) / 2
    return recipe.lr * min(1.0, (step + 1) / recipe.warmup) * cosine


class Training:
    """The state of one stage: trained tensors by name, their EMA and AdamW's moments, saved as one safetensors file."""

    def __init__(self, name: str, modules: nn.Module, recipe: Recipe, out: Path, accelerator: Accelerator) -> None:
        self.name, self.recipe, self.accelerator = name, recipe, accelerator
        self.file, self.log = out / f"{name}.state.safetensors", out / f"{name}.log.jsonl"
        self.params = {key: p for key, p in modules.named_parameters() if p.requires_grad}
        self.optimizer = accelerator.prepare_optimizer(
            torch.optim.AdamW(
                self.params.values(), recipe.lr, recipe.betas, recipe.eps, recipe.weight_decay, fused=True
            )
        )
        self.ema = {key: p.detach().clone() for key, p in self.params.items()}
        self.step, self.seconds = 0, 0.0
        if self.file.exists():
            self.load()

    def moments(self) -> dict[str, dict[str, Tensor]]:
        return {key: self.optimizer.optimizer.state[p] for key, p in self.params.items()}

    def save(self) -> None:
        tensors = {f"param.{k}": p.detach() for k, p in self.params.items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.items()}
        for key, state in self.moments().items():
            tensors |= {f"{moment}.{key}": state[moment] for moment in ("exp_avg", "exp_avg_sq", "step") if state}
        partial = self.file.with_suffix(".partial")
        tensors = {k: v.contiguous() for k, v in tensors.items()}
        save_file(tensors, partial, {"step": str(self.step), "seconds": f"{self.seconds:.1f}"})
        partial.replace(self.file)

    def load(self) -> None:
        with safe_open(self.file, "pt") as file:
            meta = file.metadata()
            self.step, self.seconds = int(meta["step"]), float(meta["seconds"])
            names = set(file.keys())
            for key, p in self.params.items():
                p.data.copy_(file.get_tensor(f"param.{key}"))
                self.ema[key].copy_(file.get_tensor(f"ema.{key}"))
                if f"exp_avg.{key}" in names:
                    state = {m: file.get_tensor(f"{m}.{key}") for m in ("exp_avg", "exp_avg_sq", "step")}
                    self.optimizer.optimizer.state[p] = {m: v.to(p.device) for m, v in state.items()}

    def use_ema(self) -> None:
        """Puts the averaged weights in place of the trained ones; for after the last step."""
        for key, p in self.params.items():
            p.data.copy_(self.ema[key])

    def run(self, loss: Loss, seed: int, save_every: int = 200, until: int | None = None) -> None:
        """Trains from where the state stands to the recipe's end; each step's data depend only on seed and step."""
        stop = min(self.recipe.steps, until or self.recipe.steps)
        while self.step < stop:
            started = time.monotonic()
            stage = sum(self.name.encode())
            rng = np.random.default_rng([seed, stage, self.step])
            generator = torch.Generator(self.accelerator.device).manual_seed(int(rng.integers(2**62)))
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.recipe, self.step)
            with self.accelerator.autocast() if self.recipe.autocast else nullcontext():
                value, figures = loss(rng, generator)
            self.accelerator.backward(value)
            self.accelerator.clip_grad_norm_(self.params.values(), self.recipe.clip)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.step += 1
            decay = min(self.recipe.ema, (self.step + 1) / (self.step + 10))
            torch._foreach_lerp_(list(self.ema.values()), [p.detach() for p in self.params.values()], 1 - decay)
            self.seconds += time.monotonic() - started
            if self.step % 20 == 0 or self.step == stop:
                line = {"step": self.step, "seconds": round(self.seconds), "loss": round(value.item(), 5), **figures}
                with self.log.open("a") as log:
                    log.write(json.dumps(line) + "\n")
            if self.step % save_every == 0 or self.step == stop:
                self.save()
