"""Describing: the VLM alone answers, and nothing of the rest is opened or imported."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from scenes import PICTURE, one_thing

from lightbagel_core.config import NANO
from lightbagel_core.describe import Describer
from lightbagel_core.files.formats import open_model
from lightbagel_core.model.chat import answers


def test_describe_each(nano):
    pictures = [one_thing("circle", "red"), one_thing("star", "blue"), one_thing("square", "green")]
    answers = nano.describe_each(pictures, "what is in the centre?")
    assert answers == [nano.describe(each, "what is in the centre?") for each in pictures]
    assert len(set(answers)) == 3


def test_what_describing_refuses(nano):
    with pytest.raises(ValueError, match="needs at least one image"):
        nano.describe_each([])
    with pytest.raises(ValueError, match="needs at least one image"):
        nano.describe([])
    with pytest.raises(ValueError, match="needs a question"):
        nano.describe_each([PICTURE], " ")
    with pytest.raises(ValueError, match="does not know: president"):
        answers(nano.und, [([PICTURE], "what is on the left?"), ([], "the president")])


def test_the_vlm_alone_is_opened(nano):
    opened = open_model(NANO, need=["understanding"])
    describer = Describer.of(opened, torch.device("cpu"))
    assert set(opened.components) == {"understanding"}
    picture = one_thing("circle", "red")
    assert describer.describe(picture) == nano.describe(picture)


def test_an_answer_ends_at_its_length(nano):
    words = nano.describe(PICTURE)
    assert len(words.split()) > 3
    assert nano.describe(PICTURE, max_new_tokens=3) == " ".join(words.split()[:3])


@pytest.mark.slow
def test_describing_needs_no_diffusers():
    code = "import sys, lightbagel_core.describe; sys.exit('diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
