"""What lmms-eval asks, read without lmms-eval: its chat messages and generation settings as they stand in its tasks."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from PIL import Image
from scenes import PICTURE, noise_picture, one_thing

from lightbagel_core.evaluation.lmms import messages as lmms
from lightbagel_core.evaluation.lmms.messages import Wanted, read_talk
from lightbagel_core.model.chat import answers

ROOT = Path(__file__).resolve().parents[3]

# generation_kwargs of tasks that lmms-eval 0.7.3 ships, with what it fills in itself, and what they come to here.
TASKS = {
    "mmmu_val": ({"max_new_tokens": 128, "until": ["\n\n"]}, (128, (), ())),
    "mmbench_en_dev": (
        {
            "until": ["ASSISTANT:"],
            "max_new_tokens": 1024,
            "temperature": 0.0,
            "top_p": 1.0,
            "num_beams": 1,
            "do_sample": False,
        },
        (1024, ("ASSISTANT:",), ()),
    ),
    "mmvet": (  # a temperature, but no sampling
        {
            "max_new_tokens": 1024,
            "temperature": 0.2,
            "top_p": 1.0,
            "num_beams": 1,
            "do_sample": False,
            "until": ["\n\n"],
        },
        (1024, (), ()),
    ),
    "one without any": ({"until": None, "do_sample": False}, (128, (), ())),
    "one of a single ending": (
        {"until": "</s>", "image_aspect_ratio": "original"},
        (128, ("</s>",), ("image_aspect_ratio",)),
    ),
}


@pytest.mark.parametrize(("generation", "expected"), TASKS.values(), ids=TASKS)
def test_the_settings_of_real_tasks(generation, expected):
    wanted = Wanted.of(generation)
    assert (wanted.max_new_tokens, wanted.until, wanted.unused) == expected


@pytest.mark.parametrize(
    ("generation", "said"),
    [
        ({"temperature": 0.7}, "temperature 0.7.*--gen_kwargs temperature=0,do_sample=False"),
        ({"do_sample": True}, "greedily"),
        ({"num_beams": 4}, "4 beams"),
        ({"max_new_tokens": 0}, "at least 1, not 0"),
        ({"max_new_tokens": "many"}, "not 'many'"),
        ({"max_new_tokens": True}, "not True"),
    ],
)
def test_settings_that_are_not_ours(generation, said):
    with pytest.raises(ValueError, match=said):
        Wanted.of(generation)


@pytest.mark.parametrize(
    ("until", "answer", "cut"),
    [
        (["ASSISTANT:"], "a star ASSISTANT: what else?", "a star"),
        (["two", "one"], "three one two", "three"),
        (["star"], "star", ""),
        (["\n\n"], "step one\n\nso it is B", "step one\n\nso it is B"),  # as lmms-eval's Qwen2.5-VL
        (["", "red"], "a blue star", "a blue star"),
        ([], " a star ", "a star"),
    ],
)
def test_an_answer_ends_before_the_first_ending(until, answer, cut):
    assert Wanted.of({"until": until}).cut(answer) == cut


def test_messages_keep_their_order(tmp_path):
    noise_picture(3, 32, 16).save(tmp_path / "b.png")
    talk = read_talk(
        [
            {"role": "system", "content": "you answer in one word"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "is this"},
                    {"type": "image", "url": PICTURE.convert("RGBA")},
                    {"type": "text", "text": "or this"},
                    {"type": "image", "url": str(tmp_path / "b.png")},
                ],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "this"}]},
            {"role": "user", "content": [{"type": "text", "text": "a star?"}]},
        ]
    )
    assert [role for role, _ in talk.messages] == ["system", "user", "assistant", "user"]
    (first, one, then, other), (said,), (asked,) = (parts for _, parts in talk.messages[1:])
    assert talk.messages[0][1] == ["you answer in one word"]
    assert (first, then, said, asked) == ("is this", "or this", "this", "a star?")
    assert isinstance(one, Image.Image)
    assert (one.mode, one.tobytes()) == ("RGB", PICTURE.tobytes())
    assert other.tobytes() == noise_picture(3, 32, 16).tobytes()


def test_what_the_nano_answers_is_what_it_answers_to_describe(nano):
    pictures = [one_thing("circle", "red"), one_thing("star", "blue")]
    talks = [
        read_talk(
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "url": each},
                        {"type": "text", "text": "what colour is the background?"},
                    ],
                }
            ]
        )
        for each in pictures
    ]
    assert answers(nano.und, talks) == nano.describe_each(pictures, "what colour is the background?")


@pytest.mark.parametrize("kind", ["video", "audio", None])
def test_a_video_is_no_picture(kind):
    content = [{"type": kind, "url": "a.mp4"}, {"type": "text", "text": "what is there?"}]
    with pytest.raises(NotImplementedError, match=f"type {kind!r}.*texts and pictures alone"):
        read_talk([{"role": "user", "content": content}])


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        ("nowhere.png", "no image file nowhere.png"),
        (Image.new("RGB", (900, 100)), "too narrow"),
        (b"bytes", "not bytes"),
    ],
    ids=["missing", "narrow", "bytes"],
)
def test_a_picture_that_cannot_be_read(picture, said):
    with pytest.raises(ValueError, match=said):
        read_talk([{"role": "user", "content": [{"type": "image", "url": picture}]}])


def test_nothing_to_answer():
    with pytest.raises(ValueError, match="neither a question nor a picture"):
        read_talk([{"role": "user", "content": []}])


def test_lmms_eval_finds_us():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["entry-points"]["lmms_eval.models"] == {
        "lightbagel": "lightbagel_core.evaluation.lmms.messages:manifest"
    }


def test_nothing_of_ours_imports_lmms_eval():
    """Of the two that name it, `manifest` is called and `model.py` imported by lmms-eval alone."""
    importing = re.compile(r"^ *(?:from|import) .*\b(lmms_eval|loguru|lmms\.model)\b", re.MULTILINE)
    found = {}
    for file in (ROOT / "lightbagel_core").rglob("*.py"):
        if lines := importing.findall(file.read_text("utf-8")):
            found[file.name] = set(lines)
    assert found == {"messages.py": {"lmms_eval"}, "model.py": {"lmms_eval", "loguru"}}
    assert "ModelManifest" not in vars(lmms)  # imported in `manifest` only
