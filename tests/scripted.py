"""A VLM that says what a test has written, through the real code paths: stock classes, chat template, `generate`.

Its decoder layers add nothing, so that a token's successor depends on the token alone; a text is a chain of pieces,
each of which occurs once, behind the line break that ends the chat template. All else of a model is the nano's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from lightbagel_core.config import NANO, LightBagelConfig
from lightbagel_core.files.checkpoint import save_components
from lightbagel_core.files.components import build_components
from lightbagel_core.files.formats import read_config
from lightbagel_core.files.tokenizer import CHAT_TEMPLATE
from lightbagel_core.model.generation import Generation
from lightbagel_core.model.understanding import ImageProcessor, Understanding
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.training.nano.shape import SPECIALS

START, END = "\n", "<|im_end|>"  # what the chat template ends with, and an answer
SURE = 100.0  # how much likelier a successor is than all else, so that sampling finds it too


def pieces_of(texts: Sequence[str]) -> list[list[str]]:
    """Each text in pieces of one word, or of more where a piece was there before."""
    taken = {START}
    found = []
    for text in texts:
        pieces, piece = [], ""
        for word in text.replace(" ", "\0 ").split("\0"):
            piece += word
            if piece and piece not in taken:
                taken.add(piece)
                pieces.append(piece)
                piece = ""
        if piece:
            raise ValueError(f"{text!r} ends in {piece!r}, which was there before: end it otherwise")
        found.append(pieces)
    return found


def tokenizer(pieces: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer that reads any text byte by byte, and has words for what is to be said."""
    letters = bytes_to_unicode()
    said = ["".join(letters[byte] for byte in piece.encode()) for piece in pieces]
    words = list(dict.fromkeys([*SPECIALS, *letters.values(), *said]))
    raw = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(SPECIALS)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<|endoftext|>", eos_token=END, padding_side="left",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    fast.chat_template = CHAT_TEMPLATE
    return fast


def config_of(tokens: PreTrainedTokenizerFast) -> LightBagelConfig:
    """The nano's config with a VLM of that vocabulary, which may read 16,384 tokens."""
    nano = read_config(NANO / "config.json")
    text = {
        **nano.understanding["text_config"],
        "vocab_size": len(tokens),
        "max_position_embeddings": 16384,
        "bos_token_id": tokens.pad_token_id,
        "eos_token_id": tokens.eos_token_id,
        "pad_token_id": tokens.pad_token_id,
    }
    named = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    ids = {f"{name}_token_id": tokens.convert_tokens_to_ids(f"<|{token}|>") for name, token in named.items()}
    understanding: dict[str, Any] = {**nano.understanding, **ids, "text_config": text}
    return replace(nano, name="scripted", understanding=understanding)


def scripted_understanding(*texts: str) -> Understanding:
    """A VLM that answers with these texts, one after the other, and with the last from then on."""
    pieces = pieces_of(texts)
    tokens = tokenizer([piece for text in pieces for piece in text])
    config = config_of(tokens)
    torch.manual_seed(0)
    vlm = build_components(config, ["understanding"])["understanding"].eval().requires_grad_(False)
    language, head = vlm.model.language_model, vlm.lm_head
    for layer in language.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    torch.nn.init.ones_(language.norm.weight)
    torch.nn.init.normal_(language.embed_tokens.weight)
    torch.nn.init.zeros_(head.weight)
    spelt = bytes_to_unicode()

    def number(piece: str) -> int:
        return int(tokens.convert_tokens_to_ids(piece if piece == END else "".join(spelt[b] for b in piece.encode())))

    def follow(before: str, after: str) -> None:
        """Lets a token be the likeliest after another; one may have several before it."""
        vector = language.embed_tokens.weight[number(before)]
        head.weight[number(after)] += vector * (SURE / (vector.norm() * vector.numel() ** 0.5))  # the norm is the root

    for text in pieces:
        for before, after in zip(text, [*text[1:], END], strict=True):
            follow(before, after)
    spoken = -1

    def begin(module: Any, args: Any, kwargs: Any) -> None:
        """A call with more than one token begins an answer."""
        nonlocal spoken
        if kwargs["inputs_embeds"].shape[1] > 1:
            spoken = min(spoken + 1, len(pieces) - 1)
            for text in pieces:
                head.weight[number(text[0])] = 0  # a first piece comes after START only
            follow(START, pieces[spoken][0])

    follow(START, pieces[0][0])
    if len(pieces) > 1:
        language.register_forward_pre_hook(begin, with_kwargs=True)
    return Understanding(vlm, tokens, ImageProcessor(**config.processor))


def scripted_model(*texts: str) -> LightBagel:
    """A LightBagel with such a VLM, all else the nano's; what it draws of a prompt is nothing in particular."""
    nano = LightBagel.from_pretrained("nano", "cpu")
    nano.need("generation", "fusion", "vae")
    und = scripted_understanding(*texts)
    return LightBagel(config_of(und.tokenizer), und, Generation(nano.gen.dit), nano.fusion, nano.vae)


def save_scripted(folder: Path, text: str) -> Path:
    """The checkpoint folder of a model whose VLM answers with a text, for ComfyUI and the command line."""
    model = scripted_model(text)
    save_components(folder, model.config, model.und, model.gen, model.fusion, model.vae, torch.float32)
    return folder
