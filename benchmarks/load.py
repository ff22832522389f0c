"""Memory and time of opening a model: python -m benchmarks.load [--real] [--dtypes float16] [--device cuda]

On a CPU the nano, unless `--real`; on CUDA the real size: the 7B + 5B model in the authors' layout and the VAE in
ComfyUI's, in sparse files. Their headers, names and shapes are real, the weights are a hole in the file that reads as
zeros; the loader cannot tell the difference, and the disk's speed is not in the times. "own" is the process's memory,
"file" what lies in mapped files, which the system can drop at any time. `floor_s` is the time to copy the weights that
must be made, those in another dtype than stored or on another device, at the rate of a plain copy in the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from lightbagel_core.config import NANO, PUBLISHED
from lightbagel_core.files.components import COMPONENTS, build_components
from lightbagel_core.files.formats import open_model, read_config
from lightbagel_core.files.key_maps import original_vae_name
from lightbagel_core.files.precision import MODES
from lightbagel_core.pipeline import LightBagel

from .measure import Peak, apart
from .timing import about, interleaved, options, table, write_json

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from format_files import authors, save_hollow


def hollow_files(folder: Path) -> None:
    """The real model's files, in bfloat16, the VAE's in float16; some megabytes on the disk."""
    with torch.device("meta"):
        states = {part: module.state_dict() for part, module in build_components(read_config(PUBLISHED)).items()}
    save_hollow(authors(states).items(), folder / "ema.safetensors", torch.bfloat16)
    vae = ((original_vae_name(name, 2), like) for name, like in states["vae"].items())
    save_hollow(vae, folder / "vae.safetensors", torch.float16)


def one(folder: Path, dtype: torch.dtype | None, parts: list[str], device: torch.device) -> None:
    """Opens the nano's folder, or the one of hollow files."""
    with Peak() as opening:
        if folder == NANO:
            opened = open_model(NANO)
        else:
            opened = open_model(
                folder / "ema.safetensors", components={"vae": folder / "vae.safetensors"}, tokenizer=NANO
            )
        model = LightBagel.of(opened, device, dtype)
    on_cuda = device.type == "cuda"
    if on_cuda:
        torch.zeros(1, device=device)  # the driver's start is not the loader's
    with Peak() as loading:
        model.need(*parts)
        if on_cuda:
            torch.cuda.synchronize(device)
    modules = {"understanding": model.und.vlm, "generation": model.gen.dit, "fusion": model.fusion, "vae": model.vae}
    stored = {(part, name): tensor for part in parts for name, tensor in opened.components[part].items()}
    weights = {(part, name): p for part in parts for name, p in modules[part].named_parameters()}
    as_stored = {key for key, p in weights.items() if key in stored and p.dtype == stored[key].dtype and not on_cuda}
    figures = {
        "stored_gb": sum(tensor.bytes for tensor in stored.values()) / 1e9,
        "weights_gb": sum(p.nbytes for p in weights.values()) / 1e9,
        "made_gb": sum(p.nbytes for key, p in weights.items() if key not in as_stored) / 1e9,
        "own_gb": (loading.most["anon"] - loading.start["anon"]) / 1e9,
        "file_gb": (loading.most["file"] - loading.start["file"]) / 1e9,
        "both_gb": (loading.most["both"] - sum(loading.start.values())) / 1e9,
        "device_gb": torch.cuda.max_memory_allocated(device) / 1e9 if on_cuda else None,
        "opening_s": opening.seconds,
        "loading_s": loading.seconds,
    }
    print(json.dumps(figures))


def copy_rate(device: torch.device) -> float:
    """Bytes a second of a plain copy from the CPU's memory to the device."""
    numbers = torch.randn(1 << 26)
    made = torch.empty_like(numbers, device=device)
    return numbers.nbytes / statistics.median(interleaved({"": lambda: made.copy_(numbers)}, 5, device)[""])


def row(dtype: str, folder: Path, parts: list[str], device: torch.device) -> dict[str, Any]:
    words = ["--one", str(folder), "--dtypes", dtype, "--parts", *parts, "--device", str(device)]
    figures = apart("benchmarks.load", *words)
    floor = figures["made_gb"] * 1e9 / copy_rate(device)
    over = {"floor_s": floor, "loading_over_floor": figures["loading_s"] / floor if floor else None}
    return {"dtype": dtype, **figures, **over, "both_over_weights": figures["both_gb"] / figures["weights_gb"]}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--real", action="store_true", help="the real size, on a CPU too")
    parser.add_argument("--dtypes", nargs="+", choices=list(MODES))
    parser.add_argument("--parts", nargs="+", default=list(COMPONENTS), choices=COMPONENTS)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one, MODES[args.dtypes[0]], args.parts, args.device)
    real = args.real or args.device.type == "cuda"
    dtypes = args.dtypes or ["bfloat16", "float16" if real else "float32", "float8"]
    with tempfile.TemporaryDirectory() as scratch:
        if real:
            hollow_files(Path(scratch))
        folder = Path(scratch) if real else NANO
        rows = [row(dtype, folder, args.parts, args.device) for dtype in dtypes]
    print(f"{'7B + 5B' if real else 'nano'}, to {args.device.type}")
    print(table(rows))
    write_json(args.json, {**about(args.device), "rows": rows})


if __name__ == "__main__":
    main()
