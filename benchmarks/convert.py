"""Peak memory and throughput of a conversion: python -m benchmarks.convert [--gigabytes 8] [--dtype float8]

The source is made for it: the authors' layout in one file, real widths and embeddings, fewer layers, random bfloat16.
Beside the conversion stand, from the same run, a plain copy of the file and its checksum, which a conversion makes too.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lightbagel_core.config import NANO, PUBLISHED, LightBagelConfig
from lightbagel_core.files.components import build_components
from lightbagel_core.files.convert import convert
from lightbagel_core.files.formats import open_model, read_config
from lightbagel_core.files.precision import MODES
from lightbagel_core.files.tensor_files import sha256

from .measure import Peak, apart

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from format_files import authors


def smaller(gigabytes: float) -> LightBagelConfig:
    """The published model with as many layers as come nearest to a size."""
    whole = read_config(PUBLISHED)
    for layers in range(1, 29):
        config = json.loads(json.dumps(whole.to_dict()))
        config["understanding"]["text_config"]["num_hidden_layers"] = layers
        config["generation"]["num_layers"] = layers + 1
        config["fusion"] |= {"layers": layers, "und_layers": layers}
        made = LightBagelConfig.from_dict(config)
        if sum(2 * t.numel() for t in named(made).values()) >= gigabytes * 1e9:
            break
    return replace(made, name=f"{layers} layers")


def named(config: LightBagelConfig) -> dict[str, Any]:
    with torch.device("meta"):
        return authors({part: module.state_dict() for part, module in build_components(config).items()})


def write_source(config: LightBagelConfig, folder: Path) -> Path:
    """The authors' file of random numbers, written tensor by tensor."""
    file = folder / "ema.safetensors"
    tensors = named(config)
    fields, at = {}, 0
    for name, like in tensors.items():
        fields[name] = {"dtype": "BF16", "shape": list(like.shape), "data_offsets": [at, at + 2 * like.numel()]}
        at += 2 * like.numel()
    text = json.dumps(fields).encode()
    text += b" " * (-len(text) % 8)
    noise = torch.randn(1 << 24).mul_(0.02).to(torch.bfloat16).view(torch.uint8).numpy()
    with open(file, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for like in tensors.values():
            left = 2 * like.numel()
            while left:
                left -= out.write(noise[: min(left, len(noise))].data)
    return file


def one(folder: Path, dtype: str | None) -> None:
    """The conversion itself."""
    opened = open_model(
        folder / "ema.safetensors",
        config=folder / "config.json",
        tokenizer=NANO,
        need=("understanding", "generation", "fusion"),
    )
    with Peak() as peak:
        convert(opened, folder / "out", MODES[dtype] if dtype else None, progress=False)
    print(json.dumps({"seconds": peak.seconds, **peak.most}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=8)
    parser.add_argument("--dtype", choices=list(MODES), help="default: as stored")
    parser.add_argument("--folder", type=Path, help="where there is room; default: the system's temporary folder")
    parser.add_argument("--json", type=Path, help="a file for the same figures")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one, args.dtype)
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        folder = Path(scratch)
        config = smaller(args.gigabytes)
        (folder / "config.json").write_text(json.dumps(config.to_dict()), "utf-8")
        source = write_source(config, folder)
        size = source.stat().st_size
        with Peak() as copied:
            shutil.copyfile(source, folder / "copy")
        (folder / "copy").unlink()
        with Peak() as summed:
            sha256(source)
        chosen = ["--dtype", args.dtype] if args.dtype else []
        found = apart("benchmarks.convert", "--one", str(folder), *chosen)
    rates = {"convert": size / found["seconds"], "copy": size / copied.seconds, "checksum": size / summed.seconds}
    print(f"{size / 1e9:.2f} GB in {found['seconds']:.0f} s; at most {found['both'] / 1e9:.2f} GB of memory")
    print(", ".join(f"{name} {rate / 1e9:.2f} GB/s" for name, rate in rates.items()))
    if args.json:
        args.json.write_text(json.dumps({"bytes": size, **found, "bytes_per_second": rates}), "utf-8")


if __name__ == "__main__":
    main()
