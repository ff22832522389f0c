"""The tokenizer from the files people have of it."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import save_file

from lightbagel_core.config import NANO
from lightbagel_core.files import tokenizer
from lightbagel_core.files.embedded import as_tensor
from lightbagel_core.files.formats import open_model
from lightbagel_core.files.tokenizer import find_tokenizer, open_tokenizer, save_tokenizer, tokenizer_files
from lightbagel_core.pipeline import LightBagel


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("tokenizer.json", "tokenizer was found neither"),
        ("tokenizer_config.json", "lacks tokenizer_config.json"),
        ("chat_template.jinja", "lacks chat_template.jinja"),
    ],
)
def test_a_missing_tokenizer_file_is_named(folder, file, message):
    (folder / file).unlink()
    with pytest.raises(ValueError, match=message):
        LightBagel.from_pretrained(folder, "cpu")


@pytest.mark.parametrize("text", ["", "{}", '{"model": 3}'])
def test_a_damaged_tokenizer_is_named(folder, text):
    (folder / "tokenizer.json").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"tokenizer\.json holds no tokenizer"):
        LightBagel.from_pretrained(folder, "cpu")


def test_a_tokenizer_that_is_none_is_not_passed_over(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="holds no tokenizer"):
            open_model(NANO, tokenizer=place)


def test_it_is_found_beside_files_and_in_a_folder_of_its_name(tmp_path):
    weights = tmp_path / "models" / "x.safetensors"
    weights.parent.mkdir()
    weights.touch()
    assert find_tokenizer(None, weights, tmp_path / "nowhere") is None
    (weights.parent / "tokenizer").mkdir()
    (weights.parent / "tokenizer" / "vocab.json").touch()
    assert find_tokenizer(None, weights) == weights.parent / "tokenizer"
    (weights.parent / "tokenizer.json").touch()
    assert find_tokenizer(None, weights) == weights.parent
    assert find_tokenizer(NANO, weights) == NANO


def test_what_is_saved_opens_the_same(nano, tmp_path):
    save_tokenizer(nano.und.tokenizer, tmp_path)
    again = open_tokenizer(tmp_path)
    text = "<|im_start|> a large red circle left of a small blue square <|im_end|>"
    assert again(text)["input_ids"] == nano.und.tokenizer(text)["input_ids"]
    assert again.chat_template == nano.und.tokenizer.chat_template
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_it_is_found_inside_a_file(nano, tmp_path):
    tensors = {f"text_encoders.{name}": as_tensor(text) for name, text in tokenizer_files(nano.und.tokenizer).items()}
    save_file(tensors, tmp_path / "it.safetensors")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "vocab.json").touch()
    assert find_tokenizer(tmp_path / "it.safetensors") == tmp_path / "it.safetensors"
    again = open_tokenizer(tmp_path / "it.safetensors")
    assert again("a red circle")["input_ids"] == nano.und.tokenizer("a red circle")["input_ids"]
    assert again.chat_template == nano.und.tokenizer.chat_template
    save_file({"tokenizer.json": as_tensor(b"{")}, tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match=r"lacks tokenizer_config\.json \(looked in .*cut\.safetensors\)"):
        open_tokenizer(tmp_path / "cut.safetensors")


def test_a_template_that_knows_no_pictures_is_replaced_for_qwens_vocabulary_alone(tmp_path, monkeypatch):
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(NANO / file, tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(ValueError, match=r"lacks chat_template\.jinja"):
        open_tokenizer(tmp_path)
    monkeypatch.setattr(tokenizer, "QWENS_IM_START", open_tokenizer(NANO).convert_tokens_to_ids("<|im_start|>"))
    opened = open_tokenizer(tmp_path)
    content = [{"type": "image"}, {"type": "text", "text": "what is it?"}]
    asked = opened.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    assert asked == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>what is it?<|im_end|>\n<|im_start|>assistant\n"
    )
