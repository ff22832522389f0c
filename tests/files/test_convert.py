"""Conversion: from every format to the same folder, a little at a time, whole or not at all, and resumable."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path, PureWindowsPath

import forked
import pytest
import torch
from filelock import FileLock
from format_files import authors, float8_scaled, in_blocks, lora, qwen_release, save, save_sharded, wan_original
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import make_tiny, tiny_config

from lightbagel_core.cli.commands import main
from lightbagel_core.files import convert as module
from lightbagel_core.files import tensor_files as stored
from lightbagel_core.files import writer
from lightbagel_core.files.components import COMPONENTS
from lightbagel_core.files.convert import convert, told_apart
from lightbagel_core.files.formats import Opened, open_model
from lightbagel_core.files.precision import MODES
from lightbagel_core.pipeline import LightBagel

SHARD = 200_000  # bytes: several shards for every component


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, Path]:
    """The tiny model in the authors' format, sharded, and what it lacks."""
    model, folder = make_tiny(), tmp_path_factory.mktemp("source")
    modules = {"understanding": model.und.vlm, "generation": model.gen.dit, "fusion": model.fusion}
    save_sharded(authors({part: m.state_dict() for part, m in modules.items()}), folder / "authors", "ema")
    model.vae.save_pretrained(folder / "vae")
    model.und.tokenizer.save_pretrained(folder / "authors")
    (folder / "tiny.json").write_text(json.dumps(tiny_config().to_dict()), "utf-8")
    model.und.vlm.save_pretrained(folder / "qwen")
    scaled = float8_scaled({qwen_release(n): t for n, t in model.und.vlm.state_dict().items()}, in_blocks)
    save(scaled, folder / "qwen_fp8.safetensors")
    save({wan_original(n): t for n, t in model.gen.dit.state_dict().items()}, folder / "wan.safetensors")
    save(model.fusion.state_dict(), folder / "fusion.safetensors")
    return {name: folder / name for name in ("authors", "vae", "tiny.json", "qwen_fp8.safetensors", "wan.safetensors",
                                             "fusion.safetensors")}  # fmt: skip


def source(places) -> Opened:
    return open_model(places["authors"], components={"vae": places["vae"]}, config=places["tiny.json"])


def options(places) -> list[str]:
    return ["--model", str(places["authors"]), "--vae", str(places["vae"]), "--config", str(places["tiny.json"])]


def weights(opened: Opened | Path, dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    opened = open_model(opened) if isinstance(opened, Path) else opened
    model = LightBagel.of(opened, "cpu", dtype)
    model.need(*COMPONENTS)
    modules = {"understanding": model.und.vlm, "generation": model.gen.dit, "fusion": model.fusion, "vae": model.vae}
    return {f"{part}.{name}": t for part, m in modules.items() for name, t in m.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)


def digest(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


@pytest.mark.parametrize("dtype", [None, *MODES.values()])
def test_what_is_converted_opens_as_the_source_does(places, tmp_path, dtype):
    convert(source(places), tmp_path / "new", dtype, SHARD, progress=False)
    assert same(weights(tmp_path / "new", dtype), weights(source(places), dtype))
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    picture = LightBagel.from_pretrained(tmp_path / "new", "cpu", dtype).generate("a red circle", steps=1)[0]
    assert picture.size == (96, 64)


@pytest.mark.parametrize("dtype", [None, *MODES.values()])
def test_float8_files_too(places, tmp_path, dtype):
    parts = {"understanding": "qwen_fp8.safetensors", "generation": "wan.safetensors", "vae": "vae"}
    opened = open_model(
        places["fusion.safetensors"],
        components={part: places[name] for part, name in parts.items()},
        tokenizer=places["authors"],
        config=places["tiny.json"],
    )
    convert(opened, tmp_path / "new", dtype, progress=False)
    assert same(weights(tmp_path / "new", dtype), weights(opened, dtype))
    kept = load_file(tmp_path / "new" / "understanding.safetensors")["model.language_model.layers.0.mlp.up_proj.weight"]
    assert kept.dtype == (torch.float8_e4m3fn if dtype in (None, torch.float8_e4m3fn) else dtype_of_und(dtype))


def dtype_of_und(dtype: torch.dtype) -> torch.dtype:
    return torch.bfloat16 if dtype == torch.float16 else dtype


def test_the_folder_says_what_it_is(places, tmp_path, capsys):
    assert main(["convert", str(tmp_path / "new"), *options(places), "--shard-size", "0.0002", "--quiet"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'new'}\n"
    config = json.loads((tmp_path / "new" / "config.json").read_text("utf-8"))
    files = [*places["authors"].glob("*.safetensors"), *places["vae"].glob("*.safetensors")]
    assert config["metadata"]["sources"] == {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    shards = list((tmp_path / "new").glob("*.safetensors"))
    assert len(shards) > 8
    for shard in shards:
        with safe_open(shard, "pt") as tensors:  # the library reads what our writer wrote
            assert tensors.metadata() == {"format": "pt", "lightbagel_format": "1"}
            sizes = [tensors.get_tensor(n).nbytes for n in tensors.keys()]  # noqa: SIM118
        assert sum(sizes) <= 200_000 or len(sizes) == 1
    assert main(["info", "--model", str(tmp_path / "new")]) == 0
    text = capsys.readouterr().out
    assert "files in " in text
    assert "sources: " in text


def test_sources_are_told_apart_by_as_little_of_their_paths_as_is_needed():
    """On several drives, too, which have no path in common."""
    files = ["C:/anna/wan/model.safetensors", "D:/models/qwen/model.safetensors", "D:/models/vae.safetensors"]
    names = told_apart([PureWindowsPath(file) for file in files])
    assert list(names.values()) == ["wan/model.safetensors", "qwen/model.safetensors", "vae.safetensors"]
    assert list(told_apart([Path("a/b"), Path("/x/a/b")]).values()) == ["a/b", "x/a/b"]


def test_some_parts_alone(places, tmp_path, capsys):
    out = tmp_path / "new"
    assert main(["convert", str(out), *options(places), "--only", "generation", "fusion", "--quiet"]) == 0
    assert {f.name for f in out.glob("*.safetensors")} == {"generation.safetensors", "fusion.safetensors"}
    assert main(["info", "--model", str(out)]) == 2
    assert "lacks the understanding component, understanding.safetensors; name a file" in capsys.readouterr().err
    rest = ["--understanding", str(places["qwen_fp8.safetensors"]), "--vae", str(places["vae"])]
    assert main(["info", "--model", str(out), *rest]) == 0


def test_only_a_little_is_read_at_a_time(places, tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    convert(source(places), whole, torch.float8_e4m3fn, progress=False)
    read = []
    mapped = stored._mapped

    def watched(one, start, count):
        read.append(count * one.dtype.itemsize)
        return mapped(one, start, count)

    monkeypatch.setattr(stored, "_mapped", watched)
    monkeypatch.setattr(module, "CHUNK", 1000)
    convert(source(places), tmp_path / "pieces", torch.float8_e4m3fn, progress=False)
    patches = 64 * 48 * 4 * 4  # reworked, so read whole; in the real model it is 2.4 MB
    assert sorted(read)[-2] <= 1000 < sorted(read)[-1] == patches
    assert digest(whole) == digest(tmp_path / "pieces")


def test_nothing_is_overwritten(places, tmp_path, capsys):
    (tmp_path / "new").mkdir()
    with pytest.raises(ValueError, match="is there already; choose a new folder"):
        convert(source(places), tmp_path / "new", progress=False)
    assert not list((tmp_path / "new").iterdir())


def test_two_at_once_are_one_too_many(places, tmp_path):
    with FileLock(tmp_path / ".new.writing.lock"), pytest.raises(ValueError, match="another process is writing"):
        convert(source(places), tmp_path / "new", progress=False)
    convert(source(places), tmp_path / "new", progress=False)


def test_too_small_a_disk_is_said_before_anything_is_written(places, tmp_path, monkeypatch):
    usage = writer.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ValueError, match=r"new needs 0\.0 GB, 0\.0 GB are free there"):
        convert(source(places), tmp_path / "new", progress=False)
    assert not list(tmp_path.rglob("*.safetensors*"))


def test_a_full_disk_leaves_nothing_under_the_name(places, tmp_path, monkeypatch):
    write = writer.write

    def full(file, *rest):
        if file.name.startswith("understanding"):
            raise OSError(28, "No space left on device")
        write(file, *rest)

    monkeypatch.setattr(writer, "write", full)
    with pytest.raises(ValueError, match=r"could not write .*No space left"):
        convert(source(places), tmp_path / "new", progress=False)
    assert not (tmp_path / "new").exists()


# --- LoRAs ---------------------------------------------------------------------------------------------------------


def a_lora(places, folder: Path, seed: int = 0, **metadata: str) -> Path:
    return lora(source(places).components, folder / f"style{seed}.safetensors", seed, **metadata)


def with_lora(places, *loras: tuple[Path, float]) -> Opened:
    return open_model(
        places["authors"], components={"vae": places["vae"]}, config=places["tiny.json"], loras=dict(loras)
    )


@pytest.mark.parametrize("dtype", MODES.values())
def test_merged_weights_are_those_that_are_applied(places, tmp_path, dtype):
    """In float8 too, which is made of the sum; and in float32 where the sum is narrower in no file."""
    loras = (a_lora(places, tmp_path), 0.8), (a_lora(places, tmp_path, 1), -0.3)
    convert(with_lora(places, *loras), tmp_path / "new", dtype, SHARD, progress=False)
    applied = weights(with_lora(places, *loras), dtype)
    assert same(weights(tmp_path / "new", dtype), applied)
    changed = {name for name, base in weights(source(places), dtype).items() if not torch.equal(base, applied[name])}
    expected = {f"{part}.{name}" for part, tensors in with_lora(places, *loras).components.items()
                for name, stored in tensors.items() if stored.added}  # fmt: skip
    scales = {f"{name}_scale" for name in expected} & applied.keys()
    assert changed == expected | scales
    assert len(expected) == 4 * 10 + 3 * 6  # matrices of DiT blocks and fusion layers


def with_generation(places, file: Path, loras: dict[Path, float]) -> Opened:
    return open_model(
        places["fusion.safetensors"],
        components={"understanding": places["qwen_fp8.safetensors"], "generation": file, "vae": places["vae"]},
        tokenizer=places["authors"],
        config=places["tiny.json"],
        loras=loras,
    )


def test_a_merged_matrix_is_as_wide_as_is_asked_for(places, tmp_path):
    """What a LoRA adds may be less than a rounding of what is stored: so float32 is written where it is asked for."""
    half = save({n: t.half() for n, t in load_file(places["wan.safetensors"]).items()}, tmp_path / "half.safetensors")
    opened = with_generation(places, half, {a_lora(places, tmp_path): 1e-5})
    changed = [name for name, stored in opened.components["generation"].items() if stored.added]
    for dtype, kind in ((None, torch.float16), (torch.float32, torch.float32)):
        convert(opened, tmp_path / str(kind), dtype, progress=False)
        written = load_file(tmp_path / str(kind) / "generation.safetensors")
        assert {written[name].dtype for name in changed} == {kind}
        assert written["patch_embedding.weight"].dtype == torch.float16
    applied = weights(opened, torch.float32)
    torch.testing.assert_close(weights(tmp_path / str(kind), torch.float32), applied, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [None, torch.float8_e4m3fn])
@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_a_merged_float8_matrix_stays_float8(places, tmp_path, kind, dtype):
    scaled = float8_scaled(load_file(places["wan.safetensors"]), in_blocks)
    held = {n: t.to(kind) if t.dtype == torch.float8_e4m3fn else t for n, t in scaled.items()}
    opened = with_generation(places, save(held, tmp_path / "wan.safetensors"), {a_lora(places, tmp_path): 1.0})
    convert(opened, tmp_path / "new", dtype, progress=False)
    written, name = load_file(tmp_path / "new" / "generation.safetensors"), "blocks.1.attn1.to_q.weight"
    assert written[name].dtype == torch.float8_e4m3fn
    assert same(weights(tmp_path / "new", dtype), weights(opened, dtype))
    wide = weights(opened, torch.float32)[f"generation.{name}"]
    error = written[name].float() * written[f"{name}_scale"] - wide
    assert error.norm() < 0.04 * wide.norm()


def test_at_strength_0_it_is_converted_as_without(places, tmp_path):
    convert(with_lora(places, (a_lora(places, tmp_path), 0.0)), tmp_path / "new", progress=False)
    convert(source(places), tmp_path / "plain", progress=False)
    new, plain = digest(tmp_path / "new"), digest(tmp_path / "plain")
    assert {name for name in plain if plain[name] != new[name]} == {"config.json"}


def test_the_folder_says_which_loras_are_in_it(places, tmp_path, capsys):
    said = {"component": "fusion", "rank": 4, "data": [{"name": "shapes", "licence": "CC0-1.0"}]}
    one, other = a_lora(places, tmp_path, lightbagel=json.dumps(said)), a_lora(places, tmp_path, 1)
    words = ["--lora", f"{one}=0.8", "--quiet"]
    assert main(["convert", str(tmp_path / "new"), *options(places), *words]) == 0
    metadata = open_model(tmp_path / "new").config.metadata
    entry = {"name": one.name, "sha256": hashlib.sha256(one.read_bytes()).hexdigest(), "strength": 0.8, "says": said}
    assert metadata["loras"] == [entry]
    assert one.name not in metadata["sources"]
    assert str(tmp_path) not in json.dumps(metadata)
    # What was merged before stays said when another is merged on top.
    assert main(["convert", str(tmp_path / "both"), "--model", str(tmp_path / "new"), "--lora", str(other)]) == 0
    first, second = open_model(tmp_path / "both").config.metadata["loras"]
    assert (first, second["name"], second["strength"]) == (entry, other.name, 1.0)
    capsys.readouterr()
    assert main(["info", "--model", str(tmp_path / "both")]) == 0
    assert "CC0-1.0" in capsys.readouterr().out


def test_a_conversion_does_not_go_on_with_other_strengths(places, tmp_path, monkeypatch):
    style = a_lora(places, tmp_path)
    write = writer.write

    def full(file, *rest):
        if file.name.startswith("understanding"):
            raise OSError(28, "No space left on device")
        write(file, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "write", full)
        with pytest.raises(ValueError, match="No space left"):
            convert(with_lora(places, (style, 1.0)), tmp_path / "new", progress=False)
    assert (tmp_path / ".new.writing" / "generation.safetensors").is_file()
    for folder in ("new", "fresh"):
        convert(with_lora(places, (style, 0.5)), tmp_path / folder, progress=False)
    assert digest(tmp_path / "new") == digest(tmp_path / "fresh")


# --- killed at any moment ------------------------------------------------------------------------------------------

IMPORTED = (
    "lightbagel_core.cli.commands",
    "lightbagel_core.files.convert",
    # what a conversion imports on its way, three seconds each time
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
    "diffusers.models.transformers.transformer_wan",
    "diffusers.models.autoencoders.autoencoder_kl_wan",
)
KILLED = """
import os, sys
from pathlib import Path
import lightbagel_core.files.convert as module
import lightbagel_core.files.writer as writer
from lightbagel_core.cli.commands import main

after, count = int(sys.argv[1]), 0

def step(act):
    def watched(*args, **kwargs):
        global count
        count += 1
        if count == after:
            os._exit(9)  # as SIGKILL does: nothing is cleaned up
        return act(*args, **kwargs)
    return watched

writer.write = step(writer.write)
module.pieces = (lambda pieces: lambda *args: map(step(lambda x: x), pieces(*args)))(module.pieces)
writer.os.replace = step(os.replace)
for name in ('rename', 'unlink', 'write_text', 'write_bytes', 'mkdir'):
    setattr(Path, name, step(getattr(Path, name)))
writer.save_tokenizer = step(writer.save_tokenizer)
code = main(sys.argv[2:])
print("steps:", count)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def process():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with forked.parent(f"import {', '.join(IMPORTED)}", environment) as parent:
        yield lambda after, words: parent.run(KILLED, [str(after), *words], environment)


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [True, False])
def test_killed_at_any_moment_there_is_the_whole_folder_or_none(places, tmp_path, process, fresh):
    """Every run dies a little later than the one before; `fresh` ones begin anew, the others go on."""
    good = tmp_path / "good"
    command = ["convert", *options(places), "--shard-size", "0.0002", "--quiet"]
    first = process(0, [*command, str(good)])  # which nothing kills
    assert first.returncode == 0, first.stderr
    steps = int(first.stdout.rpartition("steps:")[2])
    assert steps > 150
    deaths = 0
    for after in sorted({*range(1, steps, 8), *range(steps - 8, steps + 1)}):
        folder = tmp_path / (f"run{after}" if fresh else "run")
        folder.mkdir(exist_ok=True)
        out = folder / "new"
        if out.exists():
            break
        deaths += process(after, [*command, str(out)]).returncode == 9
        if out.exists():
            assert digest(out) == digest(good)
    assert deaths >= 5
    if not out.exists():
        assert process(0, [*command, str(out)]).returncode == 0
    assert digest(out) == digest(good)
    assert [path.name for path in out.parent.iterdir() if not path.name.startswith(".new.writing")] == ["new"]


def test_it_goes_on_where_it_stopped_and_only_there(places, tmp_path, monkeypatch):
    written = []
    write = writer.write

    def counted(file, *rest):
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(file.name)
        write(file, *rest)

    monkeypatch.setattr(writer, "write", counted)
    with pytest.raises(KeyboardInterrupt):
        convert(source(places), tmp_path / "new", None, SHARD, progress=False)
    first = list(written)
    monkeypatch.setattr(writer, "write", lambda file, *rest: (written.append(file.name), write(file, *rest)))
    convert(source(places), tmp_path / "new", None, SHARD, progress=False)
    assert len(written) == len(set(written)) > len(first) == 4
    assert same(weights(tmp_path / "new", None), weights(source(places), None))


def test_another_source_or_dtype_begins_anew(places, tmp_path, monkeypatch):
    """What an abandoned conversion of something else has left is not mixed in."""
    write = writer.write

    def stops(file, *rest):
        write(file, *rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "write", stops)
    with pytest.raises(KeyboardInterrupt):
        convert(source(places), tmp_path / "new", torch.bfloat16, progress=False)
    monkeypatch.setattr(writer, "write", write)
    convert(source(places), tmp_path / "new", torch.float32, progress=False)
    assert same(weights(tmp_path / "new", None), weights(source(places), None))
