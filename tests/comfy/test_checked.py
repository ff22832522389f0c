"""What comes out of a socket without a type, or as a number by a link, is refused in words that name the input."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import INSTRUCTION, PROMPT, SETTINGS, SIDE, source, tensor

GENERATE = {"prompt": PROMPT, "width": SIDE, "height": SIDE, "batch_size": 1, **SETTINGS}
EDIT = {"images": {"image0": tensor(source())}, "instruction": INSTRUCTION, "image_guidance": 1.0, **SETTINGS}
DESCRIBE = {
    "image": tensor(source()),
    "question": "describe",
    "max_length": 8,
    "sampling_mode": {"sampling_mode": "off"},
}
ENCODE = {"prompt": PROMPT}
PARTS = ("model", "clip", "vae")

WRONG = [
    ("LightBagelGenerate", GENERATE, "model", None, "the model input needs a MODEL; .* gives nothing"),
    ("LightBagelGenerate", GENERATE, "clip", None, "the clip input needs a CLIP; .* gives nothing"),
    ("LightBagelGenerate", GENERATE, "vae", {"samples": 0}, "the vae input needs a VAE; .* of type dict"),
    ("LightBagelGenerate", GENERATE, "prompt", ["a red circle"], "the prompt input needs text; .* of type list"),
    ("LightBagelGenerate", GENERATE, "negative_prompt", b"", "the negative_prompt input needs text"),
    ("LightBagelGenerate", GENERATE, "steps", 2.5, "the steps input needs a whole number; .* of type float"),
    ("LightBagelGenerate", GENERATE, "steps", 0, "steps must lie between 1 and 1000, not be 0"),
    ("LightBagelGenerate", GENERATE, "seed", -1, "seed must lie between 0 and 18446744073709551615, not be -1"),
    ("LightBagelGenerate", GENERATE, "shift", math.nan, "shift must lie between 0.1 and 100.0, not be nan"),
    ("LightBagelGenerate", GENERATE, "guidance_from", math.nan, "guidance_from must lie between 0.0 and 1.0"),
    ("LightBagelGenerate", GENERATE, "text_guidance", "2", "the text_guidance input needs a number; .* of type str"),
    ("LightBagelEdit", EDIT, "images", None, "the images input needs pictures"),
    ("LightBagelEdit", EDIT, "images", {"image3": torch.zeros(64, 64, 3)}, r"the image3 input needs .*\[64, 64, 3\]"),
    ("LightBagelEdit", EDIT, "images", {"image0": torch.zeros(0, 64, 64, 3)}, "the image0 input needs .*something in"),
    ("LightBagelEdit", EDIT, "mask", torch.zeros(7), r"the mask input needs a mask .*\[7\]"),
    ("LightBagelEdit", EDIT, "mask", torch.full((1, 64, 64), math.nan), "the mask input holds values that are no numb"),
    ("LightBagelDescribe", DESCRIBE, "image", torch.zeros(1, 64, 64, 2), r"the image input needs .*\[1, 64, 64, 2\]"),
    ("LightBagelDescribe", DESCRIBE, "image", {"samples": 1}, "the image input needs a picture.* of type dict"),
    ("LightBagelTextEncode", ENCODE, "history", "a red circle", "the history input needs a conditioning .* type str"),
    ("LightBagelTextEncode", ENCODE, "history", torch.zeros(1, 7, 9), r"the history input needs .*\[1, 7, 9\]"),
    ("LightBagelTextEncode", ENCODE, "history", [torch.zeros(1, 7, 9)], "the history input needs .* of type list"),
    ("LightBagelTextEncode", ENCODE, "history", [[torch.zeros(1, 7, 9)]], "the history input needs .* of type list"),
    ("LightBagelTextEncode", ENCODE, "history", [["a", {}]], "the history input needs .* of type list"),
    ("LightBagelTextEncode", ENCODE, "history", [[torch.zeros(1, 7, 9), None]], "the history input needs .* type list"),
]  # fmt: skip


@pytest.mark.parametrize(("node", "inputs", "name", "value", "told"), WRONG, ids=lambda value: str(value)[:30])
def test_an_input_that_does_not_fit_is_named(host, loaded, node, inputs, name, value, told):
    parts = dict(zip(PARTS, loaded, strict=True))
    if node in ("LightBagelDescribe", "LightBagelTextEncode"):
        parts = {"clip": loaded[1]}
    with pytest.raises(ValueError, match=told):
        host(node, **{**parts, **inputs, name: value})


def test_the_loaders_say_it_too(host):
    with pytest.raises(ValueError, match=r"the weight_dtype input needs one of its choices; .* of type dict"):
        host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype={})
    with pytest.raises(ValueError, match=r"the weight_dtype input needs one of default.*'float64'"):
        host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype="float64")
    with pytest.raises(ValueError, match=r"the model input needs a MODEL"):
        host("LightBagelApplyFusion", model="wan", fusion="nano (built in)")


def test_an_input_that_the_node_has_not_is_named(host, loaded):
    """As in a workflow that was made with a newer version, which has it."""
    with pytest.raises(ValueError, match="this node has no input 'sharpness'"):
        host("LightBagelGenerate", *loaded, **GENERATE, sharpness=3)
    with pytest.raises(ValueError, match="this node has no input 'checkpoint2'"):
        host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype="default", checkpoint2="")


@pytest.mark.parametrize(
    ("node", "inputs", "name"),
    [
        ("LightBagelGenerate", GENERATE, "prompt"),
        ("LightBagelGenerate", GENERATE, "negative_prompt"),
        ("LightBagelEdit", EDIT, "instruction"),
        ("LightBagelEdit", EDIT, "negative_prompt"),
        ("LightBagelDescribe", DESCRIBE, "question"),
        ("LightBagelTextEncode", {}, "prompt"),
    ],
)
def test_a_text_with_unknown_words_is_named(host, loaded, node, inputs, name):
    """A node may have two of them."""
    parts = dict(zip(PARTS, loaded, strict=True)) if "steps" in inputs else {"clip": loaded[1]}
    with pytest.raises(ValueError, match=f"the {name} input: this model does not know: cat"):
        host(node, **{**parts, **inputs, name: "a cat"})


def test_the_settings_of_a_choice_are_checked(host, loaded):
    chosen = {"temperature": math.nan, "top_k": 1, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0, "seed": 0}
    with pytest.raises(ValueError, match=r"temperature must lie between 0\.01 and 2\.0, not be nan"):
        host("LightBagelDescribe", clip=loaded[1], **{**DESCRIBE, "sampling_mode": {"sampling_mode": "on", **chosen}})


def test_what_may_be_left_out_may_be_nothing(host, loaded):
    one = host("LightBagelTextEncode", clip=loaded[1], prompt=PROMPT, vae=None, images=None, history=None)
    host("LightBagelTextEncode", clip=loaded[1], prompt=INSTRUCTION, history=tuple(map(tuple, one)))
    host("LightBagelTextEncode", clip=loaded[1], prompt=PROMPT, images={"image0": None})
    host("LightBagelEdit", *loaded, **{**EDIT, "mask": None, "steps": 1})
