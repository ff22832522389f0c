"""What files cost: python -m benchmarks.load open|convert

open [--real] [--dtypes float16]: memory and time of opening a model. On a CPU the nano, unless `--real`; on CUDA the
real size: the 7B + 5B model in the authors' file format and the VAE in ComfyUI's, in sparse files. Their headers, names
and shapes are real, the weights are a hole in the file that reads as zeros; the loader cannot tell the difference, and
the disk's speed is not in the times. "own" is the process's memory, "file" what lies in mapped files, which the system
can drop at any time. `made_gb` are the weights that cannot stay in the file: in another dtype than stored,
or on another device.

convert [--layers 5] [--dtypes float8]: peak memory and time of a conversion of a file in the authors' format, with real
widths and embeddings, fewer layers, random bfloat16; beside it a plain copy of the file.
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
from lightbagel_core.files.components import COMPONENTS, build_components
from lightbagel_core.files.convert import convert
from lightbagel_core.files.formats import open_model, read_config
from lightbagel_core.files.key_maps import original_vae_name
from lightbagel_core.files.precision import MODES
from lightbagel_core.pipeline import LightBagel

from .measure import Peak, apart, options, parsed, report
from .models import RUNNING, modules_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from format_files import authors, save_hollow

WHOLE, VAE = "ema.safetensors", "vae.safetensors"


def hollow_files(config: LightBagelConfig, folder: Path) -> Path:
    """A model's files, in bfloat16, the VAE's in float16; some megabytes on the disk. Gives the authors' file."""
    with torch.device("meta"):
        states = {name: module.state_dict() for name, module in build_components(config).items()}
    vae = ((original_vae_name(name, 2), like) for name, like in states["vae"].items())
    save_hollow(vae, folder / VAE, torch.float16)
    return save_hollow(authors(states).items(), folder / WHOLE, torch.bfloat16)


def open_one(
    folder: Path, dtype: torch.dtype | None, device: torch.device, components: tuple[str, ...] = COMPONENTS
) -> Any:
    """Figures of opening the nano's folder, or the one of hollow files."""
    with Peak() as opening:
        if folder == NANO:
            opened = open_model(NANO)
        else:
            opened = open_model(folder / WHOLE, components={"vae": folder / VAE}, tokenizer=NANO)
        model = LightBagel.of(opened, device, dtype)
    on_cuda = device.type == "cuda"
    if on_cuda:
        torch.zeros(1, device=device)  # the driver's start is not the loader's
    with Peak() as loading:
        model.need(*components)
        if on_cuda:
            torch.cuda.synchronize(device)
    modules = modules_of(model)
    stored = {(part, name): tensor for part in components for name, tensor in opened.components[part].items()}
    weights = {(part, name): p for part in components for name, p in modules[part].named_parameters()}
    as_stored = {key for key, p in weights.items() if key in stored and p.dtype == stored[key].dtype and not on_cuda}
    return {
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


def opened(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    real, rows = args.real or args.device.type == "cuda", []
    if real:
        hollow_files(read_config(PUBLISHED), folder)
    for dtype in args.dtypes or ["bfloat16", "float16" if real else "float32", "float8"]:
        rows.append({"dtype": dtype, **apart(open_one, folder if real else NANO, MODES[dtype], args.device)})
    return rows


def with_layers(layers: int) -> LightBagelConfig:
    """The published model with fewer layers."""
    config = json.loads(json.dumps(read_config(PUBLISHED).to_dict()))
    config["understanding"]["text_config"]["num_hidden_layers"] = layers
    config["generation"]["num_layers"] = layers + 1
    config["fusion"] |= {"layers": layers, "und_layers": layers}
    return replace(LightBagelConfig.from_dict(config), name=f"{layers} layers")


def convert_one(folder: Path, dtype: torch.dtype | None) -> Any:
    """Figures of the conversion itself."""
    opened = open_model(folder / WHOLE, config=folder / "config.json", tokenizer=NANO, need=RUNNING)
    with Peak() as peak:
        convert(opened, folder / "out", dtype, progress=False)
    return {"convert_s": peak.seconds, "memory_gb": peak.most["both"] / 1e9}


def converted(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    config, rows = with_layers(args.layers), []
    (folder / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    source = hollow_files(config, folder)
    noise = torch.randn(1 << 24).mul_(0.02).to(torch.bfloat16).view(torch.uint8).numpy()
    with open(source, "r+b") as file:
        left = source.stat().st_size - file.seek(8 + int.from_bytes(file.read(8), "little"))
        while left:
            left -= file.write(noise[: min(left, len(noise))].data)
    for dtype in args.dtypes or ["as stored", "float8"]:
        row: dict[str, Any] = {"dtype": dtype, "file_gb": source.stat().st_size / 1e9}
        with Peak() as copied:
            shutil.copyfile(source, folder / "copy")
        (folder / "copy").unlink()
        figures = apart(convert_one, folder, MODES.get(dtype))
        rows.append(row | {"copy_s": copied.seconds} | figures)
        shutil.rmtree(folder / "out")
    return rows


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("what", choices=["open", "convert"])
    parser.add_argument("--real", action="store_true", help="open the real size, on a CPU too")
    parser.add_argument("--dtypes", nargs="+", choices=list(MODES))
    parser.add_argument("--layers", type=int, default=5, help="of the model to convert")
    parser.add_argument("--folder", type=Path, help="where there is room; default: the system's temporary folder")
    args = parsed(parser)
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        rows = (opened if args.what == "open" else converted)(args, Path(scratch))
    report(args, args.what, rows)


if __name__ == "__main__":
    main()
