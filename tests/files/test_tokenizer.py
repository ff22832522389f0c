"""The tokenizer from the files people have of it."""

from __future__ import annotations

import pytest

from lightbagel_core.config import NANO
from lightbagel_core.files.formats import open_model
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
