"""What info says of a model's files."""

from __future__ import annotations

import json

import torch
from format_files import authors, lora, save_hollow

from lightbagel_core.cli.commands import main
from lightbagel_core.config import NANO, PUBLISHED
from lightbagel_core.files.components import build_components
from lightbagel_core.files.formats import open_model, read_config


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


def test_info_says_what_a_lora_is_and_what_it_is_added_to(tmp_path, capsys):
    components = open_model(NANO).components
    said = {"component": "generation", "rank": 4, "alpha": 2.0, "base": {"name": "nano"}, "config": {"steps": 3}}
    said["data"] = [{"name": "shapes", "count": 20, "source": "my pictures", "licence": "CC0-1.0"}]
    file = lora({"generation": components["generation"]}, tmp_path / "style.safetensors", lightbagel=json.dumps(said))
    assert main(["info", "--lora", f"{file}=0.8"]) == 0
    blocks = {"generation": 6 * 10, "fusion": 5 * 6}
    text = capsys.readouterr().out
    for line in (
        f"  LoRA {file}, strength 0.8",
        f"    added to {blocks['generation']} matrices of the generation component, rank 4",
        "    its component: generation",
        "    its rank: 4",
        "    its alpha: 2.0",
        "    its base: name nano",
        "    its data: name shapes, count 20, source my pictures, licence CC0-1.0",
    ):
        assert f"{line}\n" in text
    assert "its config" not in text
    plain = lora(components, tmp_path / "plain.safetensors")
    assert main(["info", "--lora", str(plain)]) == 0
    text = capsys.readouterr().out
    assert f"    added to {blocks['fusion']} matrices of the fusion component, rank 4\n" in text
    assert "    its " not in text
    assert main(["info"]) == 0
    assert "LoRA" not in capsys.readouterr().out
