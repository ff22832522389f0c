"""What the options say of the model is what is opened."""

from __future__ import annotations

import pytest
import torch

from lightbagel_core.cli.arguments import make_parser
from lightbagel_core.cli.opening import files_of, offload_of


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
