"""Stage 1: the nano's VLM, a small Qwen2.5-VL, taught to describe its world and to follow edit instructions.

Besides the answers in chat form it learns from throw-away linear heads. Two read the merged ViT tokens: the scene from
all of them, and from each alone the thing it shows. One reads the scene to be drawn from the drawing path's states
(the sequences of docs/model.md, section 4; images are bidirectional there) at the target's start marker, one reads at
the end of an instruction what is to stand where. They stand in for what a 7 B model knows: its states hold the scene a
sentence speaks of.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from ...model.forward import CleanImage, Content, pack_samples, und_states
from ...model.understanding import ImageProcessor, Understanding
from ...pipeline import LightBagel
from ...world.scenes import BACKGROUNDS, COLOURS, PLACES, RADIUS, SHAPES, SIZE, Scene, coverage, random_scene, render
from ...world.sentences import DESCRIBE, caption, random_edit, random_prompt, random_question, vocabulary
from ..loop import Recipe, Training

SPECIALS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)
VIT_SIDE = 112  # pixels: 8 x 8 patches, 4 x 4 tokens after the merger
RECIPE = Recipe(steps=8600, lr=1e-3, weight_decay=0.01, autocast=False)
PATCH = 2  # latents per token side, as in Wan2.2
GRID = 4  # tokens per side: both the ViT's merged grid and the DiT's token grid of a nano picture


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, so that a word it does not know is known to be unknown."""
    words = [*SPECIALS, "<unk>", *vocabulary()]
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.add_special_tokens(SPECIALS)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", pad_token="<|endoftext|>", eos_token="<|im_end|>", padding_side="left"
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def config(tokens: PreTrainedTokenizerFast) -> dict[str, Any]:
    """The arguments of a Qwen2_5_VLConfig, in the names that transformers 4 and 5 both take."""
    ids = {name: tokens.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad")}
    # theta is 10 where Qwen has 1e6: its slowest frequencies serve the width axis, and pictures here are 4 tokens wide.
    return {
        "text_config": {
            "vocab_size": 64 * -(-len(tokens) // 64),
            "hidden_size": 256,
            "intermediate_size": 640,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10.0,
            "rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]},
            "bos_token_id": tokens.convert_tokens_to_ids("<|endoftext|>"),
            "eos_token_id": tokens.eos_token_id,
            "pad_token_id": tokens.pad_token_id,
            "tie_word_embeddings": False,
        },
        "vision_config": {
            "depth": 4,
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_heads": 4,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "out_hidden_size": 256,
            "fullatt_block_indexes": [1, 3],
        },
        "image_token_id": ids["image_pad"],
        "video_token_id": ids["video_pad"],
        "vision_start_token_id": tokens.convert_tokens_to_ids("<|vision_start|>"),
        "vision_end_token_id": tokens.convert_tokens_to_ids("<|vision_end|>"),
        "tie_word_embeddings": False,
    }


def build() -> Understanding:
    tokens = tokenizer()
    processor = ImageProcessor(min_pixels=VIT_SIDE**2, max_pixels=VIT_SIDE**2)
    vlm = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**config(tokens)))
    return Understanding(vlm, tokens, processor)


def vit_picture(scene: Scene) -> Image.Image:
    return Image.fromarray(render(scene)).resize((VIT_SIDE, VIT_SIDE), Image.Resampling.BICUBIC)


# --- what the throw-away heads are asked: per place empty / shape, colour, size, and the background ------------------

SCENE = [len(SHAPES) + 1, len(COLOURS), len(RADIUS)] * len(PLACES) + [len(BACKGROUNDS)]
IGNORE = -100


def scene_code(scene: Scene) -> list[int]:
    """Class indices: for each place shape (0 is empty), colour, size; then the background."""
    by_place = {t.place: t for t in scene.things}
    code = []
    for place in PLACES:
        thing = by_place.get(place)
        code += (
            [SHAPES.index(thing.shape) + 1, COLOURS.index(thing.colour), list(RADIUS).index(thing.size)]
            if thing
            else [0, IGNORE, IGNORE]
        )
    return [*code, BACKGROUNDS.index(scene.background)]


CELL = [len(SHAPES) + 1, len(COLOURS), len(RADIUS), len(PLACES)]
SEEN = 0.05  # share of a token's area from which on it shows a thing


def cell_codes(scene: Scene) -> list[list[int]]:
    """For each merged ViT token, row by row: shape (0 is empty), colour, size, place of the thing it shows most of."""
    covers = [coverage(thing).reshape(GRID, SIZE // GRID, GRID, -1).mean((1, 3)).flatten() for thing in scene.things]
    codes = []
    for shares in zip(*covers, strict=True):
        thing, share = scene.things[int(np.argmax(shares))], max(shares)
        codes.append(
            [
                SHAPES.index(thing.shape) + 1,
                COLOURS.index(thing.colour),
                list(RADIUS).index(thing.size),
                list(PLACES).index(thing.place),
            ]
            if share >= SEEN
            else [0, IGNORE, IGNORE, IGNORE]
        )
    return codes or [[0, IGNORE, IGNORE, IGNORE]] * GRID**2


def meant(source: Scene | None, target: Scene) -> list[int]:
    """The one place an instruction changes, then shape (0 is empty), colour and size of what is to stand there.

    A change of the background means the place after the last; without a source nothing is meant.
    """
    if source is None:
        return [IGNORE] * 4
    changed = {t.place for t in set(source.things) ^ set(target.things)}
    if not changed:
        return [len(PLACES), IGNORE, IGNORE, IGNORE]
    place = list(PLACES).index(changed.pop())
    return [place, *scene_code(target)[3 * place : 3 * place + 3]]


def classes_loss(logits: Tensor, codes: Tensor, sizes: list[int]) -> Tensor:
    """Mean cross-entropy of several classes each; logits [B, sum(sizes)], codes int64 [B, len(sizes)]."""
    losses = [
        F.cross_entropy(p, codes[:, i], ignore_index=IGNORE) for i, p in enumerate(logits.float().split(sizes, dim=1))
    ]
    return torch.stack([torch.nan_to_num(x) for x in losses]).mean()


class Reader(nn.Module):
    """Linear readers of one token's state after each later layer."""

    def __init__(self, hidden: int, depth: int, sizes: list[int]) -> None:
        super().__init__()
        self.layers, self.sizes = range(1, depth), sizes
        self.norms = nn.ModuleList(nn.RMSNorm(hidden) for _ in self.layers)
        self.heads = nn.ModuleList(nn.Linear(hidden, sum(sizes)) for _ in self.layers)

    def forward(self, states: Sequence[Tensor], codes: Tensor) -> Tensor:
        """Mean loss over the layers; states depth x [B, hidden], codes int64 [B, len(sizes)]."""
        losses = [
            classes_loss(head(norm(states[i])), codes, self.sizes)
            for i, norm, head in zip(self.layers, self.norms, self.heads, strict=True)
        ]
        return torch.stack(losses).mean()


class Heads(nn.Module):
    """The throw-away heads: the scene and its cells from the ViT, the target's scene, and the change that is meant."""

    def __init__(self, hidden: int, depth: int) -> None:
        super().__init__()
        self.vit = nn.Linear(hidden * GRID * GRID, sum(SCENE))
        self.cell = nn.Linear(hidden, sum(CELL))
        self.marker = Reader(hidden, depth, SCENE)
        self.meant = Reader(hidden, depth, [len(PLACES) + 1, *CELL[:3]])

    def vit_loss(self, features: Tensor, scenes: Sequence[Scene]) -> Tensor:
        """features [B, tokens, hidden]."""
        codes = torch.tensor([scene_code(s) for s in scenes], device=features.device)
        cells = torch.tensor([cell_codes(s) for s in scenes], device=features.device)
        return classes_loss(self.vit(features.flatten(1)), codes, SCENE) + len(CELL) * classes_loss(
            self.cell(features.flatten(0, 1)), cells.flatten(0, 1), CELL
        )


# --- batches ---------------------------------------------------------------------------------------------------------


def chat_sample(rng: np.random.Generator) -> tuple[Scene, str, str, list[int]]:
    """(picture, question, answer, what is meant)."""
    roll = rng.random()
    if roll < 0.15:
        scene = random_scene(rng)
        return scene, DESCRIBE, caption(scene), meant(None, scene)
    if roll < 0.4:
        scene = random_scene(rng)
        return scene, *random_question(rng, scene), meant(None, scene)
    source, instruction, target = random_edit(rng)
    return source, instruction, caption(target), meant(source, target)


def pad_left(rows: list[list[int]], value: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[value] * (width - len(row)) + row for row in rows])


def chat_loss(und: Understanding, heads: Heads, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
    """(language-model loss on the answers' tokens alone, on whole sequences it learns nothing for long; meant)."""
    tokens, scenes, rows, labels, codes = und.tokenizer, [], [], [], []
    for _ in range(count):
        scene, question, answer, code = chat_sample(rng)
        scenes.append(scene)
        codes.append(code)
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text = tokens.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        text = text.replace("<|image_pad|>", "<|image_pad|>" * GRID * GRID)
        ask = tokens(text, add_special_tokens=False)["input_ids"]
        reply = tokens(answer + "<|im_end|>", add_special_tokens=False)["input_ids"]
        rows.append(ask + reply)
        labels.append([IGNORE] * len(ask) + reply)
    batch = und.processor(images=[vit_picture(s) for s in scenes], do_resize=False, return_tensors="pt")
    ids, wanted = pad_left(rows, tokens.pad_token_id).to(und.device), pad_left(labels, IGNORE).to(und.device)
    output = und.vlm(
        input_ids=ids,
        attention_mask=(ids != tokens.pad_token_id).long(),
        labels=wanted,
        **und.image_token_types(ids),
        pixel_values=batch["pixel_values"].to(und.device),
        image_grid_thw=batch["image_grid_thw"].to(und.device),
        output_hidden_states=True,
    )
    asked = (wanted != IGNORE).int().argmax(1) - 1  # the last token before the answer
    which = torch.arange(len(asked), device=und.device)
    read = [state[which, asked] for state in output.hidden_states[1:]]
    return output.loss, heads.meant(read, torch.tensor(codes, device=und.device))


def drawing_sample(rng: np.random.Generator, und: Understanding) -> tuple[list[Any], Scene | None, Scene]:
    """(parts, "clean" and "vit" standing for the source's tokens; source or None; target) of one drawing sequence."""
    if rng.random() < 0.25:
        prompt, target = random_prompt(rng)
        return [und.text_ids(prompt)], None, target
    source, instruction, target = random_edit(rng)
    parts = ["clean", "vit", und.text_ids(instruction)]
    return parts[1:] if rng.random() < 0.15 else parts, source, target


def loss(
    und: Understanding, heads: Heads, rng: np.random.Generator, count: int = 24
) -> tuple[Tensor, dict[str, float]]:
    answers, asked = chat_loss(und, heads, rng, count)
    drawn = [drawing_sample(rng, und) for _ in range(count)]
    pictures = [s for _, s, _ in drawn if s is not None]
    images = und.vit_images([vit_picture(s) for s in pictures])
    seen = heads.vit_loss(torch.stack([image.features for image in images]), pictures)
    supply = iter(images)
    unread = CleanImage(torch.empty(48, PATCH * GRID, PATCH * GRID))  # only its markers pass through the VLM
    samples: list[list[Content]] = [
        [next(supply) if p == "vit" else unread if p == "clean" else p for p in parts] for parts, _, _ in drawn
    ]
    tokens = pack_samples(samples, PATCH, (GRID, GRID))
    states = und_states(und, tokens)
    # A sample's last three und tokens: the instruction's <|im_end|>, the target's two markers.
    end, marker = (torch.tensor([int(own[i]) for own in tokens.und]) for i in (-3, -2))
    told = heads.marker([s[marker] for s in states], torch.tensor([scene_code(t) for *_, t in drawn]).to(und.device))
    changes = torch.tensor([meant(s, t) for _, s, t in drawn], device=und.device)
    asked = asked + heads.meant([s[end] for s in states], changes)
    losses = {"answers": answers, "vit": seen, "marker": told, "meant": asked}
    return answers + seen + 2.0 * told + 2.0 * asked, {name: round(x.item(), 4) for name, x in losses.items()}


def train(
    out: Path, seed: int, accelerator: Accelerator, recipe: Recipe, start: LightBagel | None = None
) -> tuple[Understanding, Training]:
    torch.manual_seed(seed)
    und = build().to(accelerator.device)
    if start is not None:
        und.load_state_dict(start.und.state_dict())
    heads = Heads(und.vlm.config.text_config.hidden_size, und.depth).to(accelerator.device)
    training = Training("vlm", nn.ModuleDict({"und": und, "heads": heads}), recipe, out, accelerator)
    training.run(lambda rng, generator: loss(und, heads, rng), seed)
    training.use_ema()
    return und.eval().requires_grad_(False), training
