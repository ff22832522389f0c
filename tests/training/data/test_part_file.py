"""Samples in a file are the samples that were written, to the bit and with what they share; they stay in the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lightbagel_core.model.forward import EncodedSegment
from lightbagel_core.model.sequence import ImageSegment, TextSegment
from lightbagel_core.training.data.part_file import read_part, read_stamp, write_part
from lightbagel_core.training.data.samples import Sample

DEPTH, DIM = 3, 8


def encoded(tokens: int, latents: torch.Tensor | None = None) -> EncodedSegment:
    return EncodedSegment(torch.randn(DEPTH, tokens, DIM).bfloat16(), latents)


def some_slots() -> list[list[Sample]]:
    """Text to image; a chain whose second turn has the first one's target as a source; nothing but a target."""
    first, second, third, source = (torch.randn(4, *size) for size in ((4, 4), (2, 6), (4, 4), (4, 2)))
    text, clean, vit, more = encoded(5), encoded(2, source), encoded(6), encoded(3)
    between = encoded(2, first)
    one = [ImageSegment("clean", 2, 1), ImageSegment("vit", 2, 2), TextSegment(5)]
    two = [*one, ImageSegment("clean", 2, 2), TextSegment(3)]
    return [
        [Sample((TextSegment(4), ImageSegment("noised", 2, 2)), [encoded(4), encoded(2)], third, False)],
        [
            Sample((*one, ImageSegment("noised", 2, 2)), [clean, vit, text, encoded(2)], first, True),
            Sample(
                (*two, ImageSegment("noised", 1, 3)),
                [clean, vit, text, between, more, encoded(2)],
                second,
                True,
            ),
        ],
        [Sample((ImageSegment("noised", 1, 3),), [encoded(2)], second, False)],
    ]


def test_what_is_written_is_read(tmp_path):
    torch.manual_seed(0)
    slots, file = some_slots(), tmp_path / "new" / "part.safetensors"
    write_part(file, slots, "mine")
    assert read_stamp(file) == "mine"
    found = read_part(file)
    assert [len(samples) for samples in found] == [1, 2, 1]
    for samples, expected in zip(found, slots, strict=True):
        for sample, one in zip(samples, expected, strict=True):
            assert sample.edit == one.edit
            assert torch.equal(sample.target, one.target)
            assert sample.segments == one.segments
            for content, written in zip(sample.contents, one.contents, strict=True):
                assert torch.equal(content.states, written.states)
                assert content.states.dtype == torch.bfloat16
                assert (content.latents is None) == (written.latents is None)
                if written.latents is not None:
                    assert torch.equal(content.latents, written.latents)


def test_what_samples_share_stands_there_once(tmp_path):
    file = tmp_path / "part.safetensors"
    write_part(file, some_slots(), "mine")
    first, second = read_part(file)[1]
    assert all(a is b for a, b in zip(first.contents[:3], second.contents[:3], strict=True))
    assert second.contents[3].latents is first.target
    assert read_part(file)[2][0].target.data_ptr() != second.target.data_ptr()  # read anew
    tokens = (4 + 2) + (2 + 6 + 5 + 2) + (2 + 3 + 2) + 2
    latents = 4 * (16 + 16 + 12 + 8)
    assert file.stat().st_size == pytest.approx(DEPTH * DIM * 2 * tokens + 4 * latents, abs=1500)


def test_tensors_are_the_mapped_file_and_it_is_not_held_open(tmp_path):
    file = tmp_path / "part.safetensors"
    write_part(file, some_slots(), "mine")
    kept = read_part(file)
    expected = kept[0][0].target.clone()
    descriptors, maps = Path("/proc/self/fd"), Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("only Linux tells what is mapped")
    assert str(file) in maps.read_text("utf-8")
    assert str(file) not in [str(fd.resolve()) for fd in descriptors.iterdir()]
    file.unlink()
    assert torch.equal(kept[0][0].target, expected)  # what is in use stays until it is given up


def test_damaged_parts_are_said(tmp_path):
    file = tmp_path / "part.safetensors"
    assert read_stamp(file) is None
    with pytest.raises(ValueError, match=r"part\.safetensors is gone or damaged"):
        read_part(file)
    write_part(file, some_slots(), "mine")
    file.write_bytes(file.read_bytes()[:-40])
    assert read_stamp(file) is None
    with pytest.raises(ValueError, match=r"part\.safetensors is gone or damaged"):
        read_part(file)
