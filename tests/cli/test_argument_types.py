"""Values that are more than a number or a word."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from lightbagel_core.cli.argument_types import count, gigabytes, interval, json_object, lora, or_none, prices, size


def test_what_is_meant():
    assert size("1024x768") == (1024, 768)
    assert size("96") == (96, 96)
    assert interval("0.7,1") == (0.7, 1.0)
    assert prices("2,8") == (2.0, 8.0)
    assert prices("0,0") == (0.0, 0.0)
    assert gigabytes("0.5") == 5e8
    assert count("8") == 8
    assert [or_none(float)(text) for text in ("0", "0.7", "none", "None")] == [0.0, 0.7, None, None]
    assert [or_none(count)(text) for text in ("4000", "none")] == [4000, None]
    assert json_object('{"max_completion_tokens": 4000}') == {"max_completion_tokens": 4000}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (size, "x64"),
        (interval, "0.5"),
        (prices, "cheap"),
        (prices, "nan,1"),
        (prices, "1,-2"),
        (prices, "inf,1"),
        (gigabytes, "0"),
        (gigabytes, "inf"),
        (count, "0"),
        (count, "-1"),
        (count, "2.5"),
        (count, "²"),
        (count, "9" * 5000),
        (or_none(float), "nan"),
        (or_none(float), "-1"),
        (or_none(float), "warm"),
        (or_none(count), "0"),
        (lora, "style.safetensors=strong"),
        (lora, "style.safetensors=nan"),
        (lora, "style.safetensors="),
        (lora, "=0.8"),
        (lora, "a=b.safetensors"),  # which is not there
        (json_object, "[]"),
        (json_object, "seed=1"),
        (json_object, "{" * 100_000),
    ],
)
def test_what_makes_no_sense_is_refused_with_an_example(kind, text):
    with pytest.raises(ArgumentTypeError, match=re.escape(f"not {text!r}")):
        kind(text)


def test_a_lora_is_a_file_and_its_strength(tmp_path, monkeypatch):
    assert lora("style.safetensors") == (Path("style.safetensors"), 1.0)
    assert lora("style.safetensors=0.8") == (Path("style.safetensors"), 0.8)
    assert lora("C:/my loras/style.safetensors=-2") == (Path("C:/my loras/style.safetensors"), -2.0)
    monkeypatch.chdir(tmp_path)
    for name in ("rank=8.safetensors", "alpha=16"):
        Path(name).touch()
        assert lora(name) == (Path(name), 1.0)
        assert lora(f"{name}=0.5") == (Path(name), 0.5)
    assert lora("a" * 5000 + "=1") == (Path("a" * 5000), 1.0)
