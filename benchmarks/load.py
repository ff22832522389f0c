"""Memory and time of opening the model of the real size: python -m benchmarks.load [--dtypes float16]

The 7B + 5B model in the authors' layout and the VAE in ComfyUI's, in sparse files: headers, names and shapes are real,
the weights are a hole in the file that reads as zeros. The loader cannot tell the difference; the disk's speed is not
in the times. "own" is the process's memory, "file" what lies in mapped files, which the system can drop at any time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch

from lightbagel_core.config import NANO, PUBLISHED
from lightbagel_core.layouts import open_model, read_config
from lightbagel_core.model import LightBagel
from lightbagel_core.names import original_vae_name
from lightbagel_core.parts import PARTS, build_parts
from lightbagel_core.precision import MODES

from .measure import Peak, apart

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from layout_files import authors, save_hollow


def hollow_files(folder: Path) -> None:
    """The real model's files, in bfloat16, the VAE's in float16; some megabytes on the disk."""
    with torch.device("meta"):
        states = {part: module.state_dict() for part, module in build_parts(read_config(PUBLISHED)).items()}
    save_hollow(authors(states).items(), folder / "ema.safetensors", torch.bfloat16)
    vae = ((original_vae_name(name, 2), like) for name, like in states["vae"].items())
    save_hollow(vae, folder / "vae.safetensors", torch.float16)


def one(folder: Path, dtype: torch.dtype | None, parts: list[str]) -> None:
    with Peak() as opening:
        opened = open_model(folder / "ema.safetensors", parts={"vae": folder / "vae.safetensors"}, tokenizer=NANO)
        model = LightBagel.of(opened, "cpu", dtype)
    with Peak() as loading:
        model.need(*parts)
    modules = {"understanding": model.und.vlm, "generation": model.gen.dit, "fusion": model.fusion, "vae": model.vae}
    size = sum(p.numel() * p.element_size() for part in parts for p in modules[part].parameters())
    kept = sum(tensor.bytes for part in parts for tensor in opened.parts[part].values())
    figures = {
        "weights": size,
        "stored": kept,
        "opening_seconds": opening.seconds,
        "loading_seconds": loading.seconds,
        "own_most": loading.most["anon"] - loading.start["anon"],
        "file_most": loading.most["file"] - loading.start["file"],
        "both_most": loading.most["both"] - sum(loading.start.values()),
    }
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float16", "float8"], choices=list(MODES))
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--json", help="a file for the same figures")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one, MODES[args.dtypes[0]], args.parts)
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        hollow_files(Path(scratch))
        print(
            f"{'GB':<10}{'stored':>8}{'weights':>9}{'own':>7}{'file':>7}{'both':>7}{'both / weights':>16}{'seconds':>9}"
        )
        for dtype in args.dtypes:
            row = apart("benchmarks.load", "--one", scratch, "--dtypes", dtype, "--parts", *args.parts)
            rows[dtype] = row
            sizes = [row[key] / 1e9 for key in ("stored", "weights", "own_most", "file_most", "both_most")]
            print(
                f"{dtype:<10}{sizes[0]:>8.2f}{sizes[1]:>9.2f}{sizes[2]:>7.2f}{sizes[3]:>7.2f}{sizes[4]:>7.2f}", end=""
            )
            print(f"{row['both_most'] / row['weights']:>16.3f}{row['loading_seconds']:>9.1f}")
    if args.json:
        Path(args.json).write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
