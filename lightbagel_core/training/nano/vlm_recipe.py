"""The nano's VLM, a small Qwen2.5-VL, is taught to describe its world and to follow edit instructions.

Besides the answers in chat form it learns from throw-away heads (see heads.py), which are trained with it and not kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...config import LightBagelConfig
from ...model.forward import CleanImage, Content, pack_samples, und_states
from ...model.understanding import Understanding
from ..stages import LANGUAGE, Stage
from .codes import IGNORE
from .heads import Heads
from .shape import GRID, PATCH
from .single_process import SingleProcess, once
from .vlm_lessons import Chat, Drawings, chat, drawings

Lessons = tuple[Chat, Drawings]
Losses = tuple[Tensor, dict[str, Tensor]]


class Taught(nn.Module):
    """The VLM and its throw-away heads as one module that gives the loss of a step."""

    def __init__(self, und: Understanding, heads: Heads) -> None:
        super().__init__()
        self.und, self.heads = und, heads

    def forward(self, lessons: Lessons) -> Losses:
        """(What is minimised; its parts before they are weighted: of the answers' tokens, and of the heads)."""
        with sdpa_kernel(SDPBackend.MATH):  # on a CPU the backward pass of the fused kernel is half of all time
            answers, asked, named = self.chat_loss(lessons[0])
            seen, told, changed, called = self.drawing_loss(lessons[1])
        asked, named = asked + changed, named + called
        parts = {"answers": answers, "vit": seen, "marker": told, "wanted": asked, "pointed": named}
        return answers + seen + 2.0 * told + 2.0 * asked + named, {name: part.detach() for name, part in parts.items()}

    def chat_loss(self, lessons: Chat) -> tuple[Tensor, Tensor, Tensor]:
        """(Language-model loss on the answers' tokens alone: on whole sequences it learns nothing for long; of what is
        wanted; of what the words name).
        """
        und = self.und
        ids, wanted = lessons.ids.to(und.device), lessons.labels.to(und.device)
        output = und.vlm(
            input_ids=ids,
            attention_mask=(ids != und.tokenizer.pad_token_id).long(),
            labels=wanted,
            **und.image_token_types(ids),
            pixel_values=lessons.pixels.to(und.device),
            image_grid_thw=lessons.grid.to(und.device),
            output_hidden_states=True,
        )
        asked = (wanted != IGNORE).int().argmax(1) - 1  # the last token before the answer
        which = torch.arange(len(asked), device=und.device)
        read = [state[which, asked] for state in output.hidden_states[1:]]
        points = lessons.pointed.to(und.device)
        names = [state[points != IGNORE] for state in output.hidden_states[1:]]
        named = self.heads.pointed(names, points[points != IGNORE][:, None])
        return output.loss, self.heads.wanted(read, lessons.wanted.to(und.device)), named

    def drawing_loss(self, lessons: Drawings) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(What the ViT's tokens show; the target's scene; what the instruction wants; what its words name)."""
        und, device = self.und, self.und.device
        images = und.vit_images(lessons.pictures)
        seen = torch.zeros((), device=device)
        if self.heads.vit.weight.requires_grad:  # else the ViT is as it is
            features = torch.stack([image.features for image in images])
            seen = self.heads.vit_loss(features, lessons.scenes.to(device), lessons.cells.to(device))
        supply = iter(images)
        unread = CleanImage(torch.empty(48, PATCH * GRID, PATCH * GRID))  # only its markers pass through the VLM
        samples: list[list[Content]] = []
        for parts in lessons.parts:
            samples.append([next(supply) if p == "vit" else unread if isinstance(p, str) else p for p in parts])
        tokens = pack_samples(samples, PATCH, (GRID, GRID))
        states = und_states(und, tokens)
        # A sample's last three und tokens: the instruction's <|im_end|>, the target's two markers.
        end, marker = (torch.tensor([int(own[i]) for own in tokens.und]) for i in (-3, -2))
        told = self.heads.marker([s[marker] for s in states], lessons.targets.to(device))
        wanted = self.heads.wanted([s[end] for s in states], lessons.wanted.to(device))
        # A sample's last text ends before the target's two markers.
        found = [
            (int(own[i - len(points) - 2]), label)
            for own, points in zip(tokens.und, lessons.pointed, strict=True)
            for i, label in enumerate(points)
            if label != IGNORE
        ]
        where, labels = torch.tensor(found, dtype=torch.long, device=device).reshape(-1, 2).unbind(1)
        return seen, told, wanted, self.heads.pointed([s[where] for s in states], labels[:, None])


class VlmRecipe(SingleProcess):
    """The recipe (see training/trainer.py) of the nano's VLM.

    A step learns from `batch.samples` conversations and as many sequences of the drawing path. The recipe
    "nano-vlm-language" leaves the ViT as it is.

    Args:
        und: the VLM, on the device where it is trained.

    Raises:
        ValueError: there are several processes, or the stage's batch is told in tokens.
    """

    def __init__(self, stage: Stage, config: LightBagelConfig, und: Understanding) -> None:
        super().__init__(stage)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stage.seed)
            heads = Heads(config.fusion.und_dim, config.fusion.und_layers)
        self.und, self.module = und, Taught(und.train().requires_grad_(True), heads.to(und.device))
        if stage.recipe == LANGUAGE:
            und.vlm.model.visual.requires_grad_(False)
            heads.vit.requires_grad_(False)
            heads.cell.requires_grad_(False)
        self.units: Sequence[nn.Module] = ()

    def trained(self) -> Mapping[str, nn.Parameter]:
        """The VLM's weights as "understanding.…", those of the heads, which no checkpoint folder has, as "heads.…"."""
        parts = {"understanding": self.und.vlm, "heads": self.module.heads}
        named = ((f"{part}.{name}", p) for part, module in parts.items() for name, p in module.named_parameters())
        return {name: p for name, p in named if p.requires_grad}

    def passes(self, step: int) -> list[Lessons]:
        """The one pass of a step."""
        rng, _ = self.draws(step)
        return [(chat(self.und, rng, self.samples), drawings(self.und, rng, self.samples))]

    def loss(self, module: nn.Module, batch: Lessons) -> Losses:
        """(The loss of the step; its parts before they are weighted)."""
        value, figures = module(batch)
        return value, once(figures)

    def named(self, step: int) -> list[str]:
        """What is asked and answered, and what is to be drawn, each after what its picture shows."""
        return [text for lessons in self.passes(step)[0] for text in lessons.texts]

    def finish(self, config: LightBagelConfig) -> LightBagelConfig:
        """Freezes the trained VLM; the config stays as it is."""
        self.und.eval().requires_grad_(False)
        return config
