"""Whole runs: python -m benchmarks.run generate|edit|describe [--sizes 1024] [--counts 1 4 8] [--compile]

On a CPU with the nano; on a CUDA device with a model of the published size, whose weights are random.

generate, edit: a run from given parts to latents by us and by the naive way; the VAE, and the ViT on source pictures,
are the same and left out. Ratios are medians over rounds taken in turns, `…_predicted` is what the operation counts say
of them (see flops.py).

describe: `ours` from pictures to words, `stock` the same by the stock processor and model. Both read the same random
pictures and write equally many tokens. A batch's questions differ in length, so that it is padded as real ones are;
`ours_over_alone` is what a picture takes in a batch over what one takes alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2_5_VLProcessor

from lightbagel_core.model.chat import Turn, answers
from lightbagel_core.model.understanding import Understanding
from lightbagel_core.pipeline import LightBagel

from . import ways
from .measure import interleaved, options, parsed, ratio, report
from .models import model_for

QUESTIONS = ("describe the image", "what colour is the circle?")


@torch.no_grad()
def drawn(model: LightBagel, work: ways.Work, steps: int, rounds: int) -> dict[str, Any]:
    calls = {"ours": lambda: ways.ours(model, work, steps), "naive": lambda: ways.naive(model, work, steps)}
    taken = interleaved(calls, rounds, model.device)
    seconds = {name: statistics.median(each) for name, each in taken.items()}
    operations = ways.Operations.of(model, work)
    count = operations.encode + steps * operations.ours
    return {
        **{f"{name}_s": each for name, each in seconds.items()},
        "ours_s_per_image": seconds["ours"] / len(work.noise),
        "naive_over_ours": ratio(taken, "naive", "ours"),
        "naive_over_ours_predicted": steps * operations.naive / count,
    }


class StockProcessor(Qwen2_5_VLProcessor):
    """As it ships, but for asking for a video processor, which needs torchvision."""

    def check_argument_for_proper_class(self, *_: object) -> None:
        pass

    @classmethod
    def of(cls, und: Understanding) -> StockProcessor:
        return cls(und.processor, und.tokenizer, None, chat_template=und.tokenizer.chat_template)

    def inputs(self, turns: Sequence[Turn]) -> Any:
        """What the stock model takes, on the CPU."""
        talks = [
            [{"role": "user", "content": [*({"type": "image"} for _ in seen), {"type": "text", "text": question}]}]
            for seen, question in turns
        ]
        texts = self.apply_chat_template(talks, tokenize=False, add_generation_prompt=True)
        seen = [image for images, _ in turns for image in images]
        inputs = self(images=seen, text=texts, padding=True, return_tensors="pt")
        inputs.pop("token_type_ids", None)  # a bare fast tokenizer makes them, and the stock model refuses them
        return inputs


def turns_of(count: int, side: int) -> list[Turn]:
    """Questions about one square picture of noise each."""
    pictures = [np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8) for i in range(count)]
    return [([Image.fromarray(pixels)], QUESTIONS[i % len(QUESTIONS)]) for i, pixels in enumerate(pictures)]


def answering(und: Understanding, turns: Sequence[Turn], tokens: int) -> dict[str, Callable[[], list[str]]]:
    """What is compared: each answers the turns in exactly `tokens` new tokens."""
    processor = StockProcessor.of(und)

    def stock() -> list[str]:
        inputs = processor.inputs(turns).to(und.device)
        ids = und.vlm.generate(**inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
        answers = processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return [answer.strip() for answer in answers]

    return {"ours": lambda: answers(und, turns, tokens, min_new_tokens=tokens), "stock": stock}


def described(und: Understanding, side: int, count: int, tokens: int, rounds: int) -> dict[str, Any]:
    turns = turns_of(count, side)
    calls = answering(und, turns, tokens)
    calls["alone"] = answering(und, turns[:1], tokens)["ours"]
    taken = interleaved(calls, rounds, und.device)
    seconds = {name: statistics.median(each) for name, each in taken.items()}
    return {
        **{f"{name}_s": each for name, each in seconds.items()},
        "ours_over_stock": ratio(taken, "ours", "stock"),
        "ours_over_alone": ratio(taken, "ours", "alone") / count,
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("what", choices=["generate", "edit", "describe"])
    parser.add_argument("--sizes", type=int, nargs="+", help="pixels of a side; default: the model's own")
    parser.add_argument(
        "--counts", type=int, nargs="+", help="prompts at once, sources of the edit, pictures to describe"
    )
    parser.add_argument("--steps", type=int, help="of a drawing; default: the model's own")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    parser.add_argument("--compile", action="store_true", help="compile what repeats")
    args = parsed(parser)
    model = model_for(args.device)
    default = model.config.defaults
    if args.compile:
        model.compile()
    rows = []
    for size in args.sizes or [default.width]:
        for count in args.counts or [1]:
            row = {"size": size, "count": count}
            if args.what == "describe":
                rows.append(row | described(model.und, size, count, args.tokens, args.rounds))
            else:
                work = (ways.generate if args.what == "generate" else ways.edit)(model, size, count)
                rows.append(row | drawn(model, work, args.steps or default.steps, args.rounds))
    report(args, f"{model.config.name}, {model.gen.dtype}: {args.what}", rows)


if __name__ == "__main__":
    main()
