"""Describing against transformers alone: python -m benchmarks.describe [--device cuda] [--rounds 5] [--json FILE]

On the CPU with the nano; on a CUDA device with a model of the published size in bfloat16, whose weights are random:
time and memory do not depend on them. All ways read the same random pictures and write the same number of tokens:
`ours` from pictures to words; `stock` the same by the stock processor and model; `ready` the stock model alone, its
inputs made before. A batch's questions differ in length, so that it is padded as real ones are.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLProcessor

from lightbagel_core.config import CACHES, DESCRIBE, PUBLISHED, LightBagelConfig
from lightbagel_core.files.formats import read_config
from lightbagel_core.files.tokenizer import CHAT_TEMPLATE, QWENS_IM_START
from lightbagel_core.model.understanding import (
    IM_END,
    IM_START,
    IMAGE_PAD,
    VISION_END,
    VISION_START,
    ImageProcessor,
    Turn,
    Understanding,
)
from lightbagel_core.pipeline import LightBagel

from .models import modules_of
from .timing import about, interleaved, options, peak_bytes, ratio, table, write_json

QUESTIONS = (DESCRIBE, "what colour is the circle?")


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


def tokenizer_like_qwens(config: LightBagelConfig) -> PreTrainedTokenizerFast:
    """The words of the questions, and the markers at the ids that the config of the published size has for them."""
    und = config.understanding
    markers = {
        "<|endoftext|>": und["text_config"]["pad_token_id"],
        IM_START: QWENS_IM_START,
        IM_END: und["text_config"]["eos_token_id"][0],
        VISION_START: und["vision_start_token_id"],
        VISION_END: und["vision_end_token_id"],
        IMAGE_PAD: und["image_token_id"],
        "<|video_pad|>": und["video_token_id"],
    }
    split = pre_tokenizers.Whitespace()
    words = sorted({word for question in QUESTIONS for word, _ in split.pre_tokenize_str(question)})
    vocabulary = {word: i for i, word in enumerate(["<unk>", *words])} | markers
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = split
    raw.add_special_tokens(list(markers))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", pad_token="<|endoftext|>", eos_token=IM_END, padding_side="left"
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def random_weights(config: LightBagelConfig, device: torch.device) -> Understanding:
    """The understanding branch of a config of the published kind; no files are needed."""
    vlm = modules_of(config, "bfloat16", device, ("understanding",))["understanding"]
    return Understanding(vlm, tokenizer_like_qwens(config), ImageProcessor(**config.processor))


def turns_of(count: int, side: int) -> list[Turn]:
    """Questions about one square picture of noise each."""
    pictures = [np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8) for i in range(count)]
    return [([Image.fromarray(pixels)], QUESTIONS[i % len(QUESTIONS)]) for i, pixels in enumerate(pictures)]


def ways(und: Understanding, turns: Sequence[Turn], cache: str, tokens: int) -> dict[str, Callable[[], Any]]:
    """What is compared: each answers the turns in exactly `tokens` new tokens."""
    processor = StockProcessor.of(und)
    asked = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False}
    asked |= {"cache_implementation": CACHES[cache]}
    ready = processor.inputs(turns).to(und.device)

    def stock() -> list[str]:
        inputs = processor.inputs(turns).to(und.device)
        answers = und.vlm.generate(**inputs, **asked)[:, inputs["input_ids"].shape[1] :]
        return list(processor.batch_decode(answers, skip_special_tokens=True))

    return {
        "ours": lambda: und.answers(turns, tokens, cache, min_new_tokens=tokens),
        "stock": stock,
        "ready": lambda: und.vlm.generate(**ready, **asked),
    }


def measured(
    und: Understanding, side: int, tokens: int, rounds: int, batches: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """A row for each batch and cache; seconds, but for ratios, `ms a token` and `GB`.

    All of a batch's ways and both caches take turns, and with them one picture alone with the dynamic cache.
    """
    for count in batches:
        turns = turns_of(count, side)
        tasks = {"alone": ways(und, turns[:1], "dynamic", tokens)["ours"]}
        for cache in CACHES:
            whole, short = ways(und, turns, cache, tokens), ways(und, turns, cache, 1)
            tasks |= {f"{cache} {name}": task for name, task in whole.items()}
            tasks |= {f"{cache} {name} first": short[name] for name in ("ours", "stock")}
        times = interleaved(tasks, rounds, und.device)
        taken = {name: statistics.median(each) for name, each in times.items()}
        for cache in CACHES:
            ours = f"{cache} ours"
            row: dict[str, Any] = {"pictures": count, "cache": cache}
            row |= {name: taken[f"{cache} {name}"] for name in ("ours", "stock", "ready")}
            row |= {f"ours/{name}": ratio(times, ours, f"{cache} {name}") for name in ("stock", "ready")}
            row |= {"a picture/alone": ratio(times, ours, "alone") / count, "first token": taken[f"{ours} first"]}
            for name in ("ours", "stock"):
                after = taken[f"{cache} {name}"] - taken[f"{cache} {name} first"]
                row[f"{name}, ms a token"] = after / (tokens - 1) * 1e3
            for name in ("ours", "stock"):
                row[f"{name}, GB"] = peak_bytes(tasks[f"{cache} {name}"], und.device) / 1e9
            yield row


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--size", type=int, help="pixels of a picture's side; default: 1024, the nano's 128")
    parser.add_argument("--tokens", type=int, default=64, help="new tokens of each answer; at least 2")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8], metavar="PICTURES")
    args = parser.parse_args()
    cuda = args.device.type == "cuda"
    if cuda:
        und = random_weights(read_config(PUBLISHED), args.device)
    else:
        model = LightBagel.from_pretrained("nano", args.device)
        model.need("understanding")
        und = model.und
    side, rounds = args.size or (1024 if cuda else 128), args.rounds or 5
    figures = about(args.device) | {"transformers": transformers.__version__, "threads": torch.get_num_threads()}
    figures |= {"dtype": str(und.vlm.dtype), "side": side, "tokens": args.tokens, "rounds": rounds}
    print(", ".join(f"{key} {value}" for key, value in figures.items()), flush=True)
    rows = list(measured(und, side, args.tokens, rounds, args.batches))
    print(table(rows))
    write_json(args.json, figures | {"rows": rows})


if __name__ == "__main__":
    main()
