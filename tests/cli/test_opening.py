"""What the options say of the model is what is opened."""

from __future__ import annotations

import pytest
import torch
from format_files import lora

from lightbagel_core.cli.arguments import make_parser
from lightbagel_core.cli.opening import files_of, offload_of
from lightbagel_core.config import NANO
from lightbagel_core.files.formats import open_model


@pytest.mark.parametrize(("free", "offload"), [(48e9, None), (0.83e9, "parts"), (0.8e9, "layers")])
def test_offloading_is_chosen_by_the_cards_free_memory(monkeypatch, free, offload):
    """The nano needs some 40 MB, half of that part by part; 0.8 GB are left to the system."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free), int(48e9)))
    args = make_parser().parse_args(["generate", "a red circle", "-o", "a.png", "--dtype", "bfloat16"])
    cuda = torch.device("cuda")
    assert offload_of(args, files_of(args), cuda, torch.bfloat16) == offload
    assert offload_of(args, files_of(args), torch.device("cpu"), None) is None
    args.offload = "layers"
    assert offload_of(args, files_of(args), cuda, None) == "layers"


def test_loras_are_opened_with_the_model(tmp_path):
    style = lora(open_model(NANO).components, tmp_path / "style.safetensors")
    args = make_parser().parse_args(["info", "--lora", f"{style}=0.5"])
    opened = files_of(args)
    assert opened.loras == {style: 0.5}
    assert all(opened.components[name][weight].added for name, weight in (
        ("generation", "blocks.0.ffn.net.2.weight"), ("fusion", "layers.0.und_k.weight")))  # fmt: skip


def test_loras_of_what_is_not_used_and_twice_the_same_are_refused(tmp_path):
    style = lora(open_model(NANO).components, tmp_path / "style.safetensors")
    args = make_parser().parse_args(["info", "--lora", str(style)])
    for need in (["understanding"], ["vae"]):
        with pytest.raises(ValueError, match="--lora changes nothing here"):
            files_of(args, need)
    args = make_parser().parse_args(["info", "--lora", str(style), "--lora", f"{style}=0.5"])
    with pytest.raises(ValueError, match="--lora names a file twice"):
        files_of(args)
