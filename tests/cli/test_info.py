"""What info says of a model's files."""

from __future__ import annotations

import torch
from format_files import authors, save_hollow

from lightbagel_core.cli.commands import main
from lightbagel_core.config import PUBLISHED
from lightbagel_core.files.components import build_components
from lightbagel_core.files.formats import read_config


def test_info_says_what_fits(tmp_path, capsys):
    with torch.device("meta"):
        states = {part: m.state_dict() for part, m in build_components(read_config(PUBLISHED)).items()}
    whole = save_hollow(authors(states).items(), tmp_path / "ema.safetensors", torch.bfloat16)
    vae = save_hollow(states["vae"].items(), tmp_path / "vae.safetensors", torch.float16)
    assert main(["info", "--model", str(whole), "--vae", str(vae)]) == 0
    text = capsys.readouterr().out
    for line in (
        "understanding (Qwen2.5-VL)     8292.17 M  16.58 GB  bfloat16",
        "8 GB  --dtype float8 --offload layers",
        "12 GB  --dtype float8 --offload parts",
        "24 GB  --dtype bfloat16 --offload parts",
        "tokenizer: none found",
    ):
        assert line in text
