"""How fast other people's data becomes a store, and how fast the store answers.

    python -m benchmarks.prepare --rows 100000
    python -m benchmarks.prepare --rows 100000 --kills 10

writes edits of the nano's world as an InstructPix2Pix data set in Parquet, prepares it with `lightbagel prepare`, and
measures rows a second, memory, the store's size, the time to open it and random reads. With --kills the pass is killed
so often on the way, at points spread over it, and goes on each time; the store must then be the same, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from lightbagel_core.training.data.store_set import StoreSet
from lightbagel_core.world.edits import random_edit
from lightbagel_core.world.scenes import render

GROUP = 1000  # rows of a row group
PART = 25_000  # rows of a file


def write_source(folder: Path, rows: int) -> None:
    """Edits as InstructPix2Pix has them, JPEGs within Parquet."""
    rng = np.random.default_rng(0)
    drawn = [_drawn(rng) for _ in range(min(rows, 2000))]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("original_image", kind), ("edit_prompt", pa.string()), ("edited_image", kind)])
    for part in range(0, rows, PART):
        with pq.ParquetWriter(
            folder / f"train-{part // PART:05}.parquet", schema, use_dictionary=False, compression="none"
        ) as writer:
            for first in range(part, min(part + PART, rows), GROUP):
                numbers = range(first, min(first + GROUP, part + PART, rows))
                some = [drawn[number % len(drawn)] for number in numbers]
                columns = {
                    "original_image": [{"bytes": source, "path": None} for source, _, _ in some],
                    "edit_prompt": [f"{words}, {number}" for number, (_, words, _) in zip(numbers, some, strict=True)],
                    "edited_image": [{"bytes": target, "path": None} for _, _, target in some],
                }
                writer.write_table(pa.table(columns, schema), row_group_size=GROUP)
    (folder / "README.md").write_text("---\nlicense: cc0-1.0\n---\n", "utf-8")


def _drawn(rng: np.random.Generator) -> tuple[bytes, str, bytes]:
    edit = random_edit(rng)
    return _encoded(render(edit.source)), edit.words, _encoded(render(edit.target))


def _encoded(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=90)
    return data.getvalue()


def command(source: Path, store: Path, workers: int) -> list[str]:
    words = ["prepare", str(source), "--out", str(store), "--workers", str(workers), "--quiet"]
    return [sys.executable, "-m", "lightbagel_core", *words]


def memory(pid: int) -> int:
    """Bytes that a process and those below it hold now, what they share counted in parts."""
    total = 0
    for process in (pid, *_below(pid)):
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text("utf-8")
        except OSError:
            continue
        total += sum(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("Pss_Anon:"))
    return total


def _below(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text("utf-8").split()]
        except OSError:
            continue
        for child in children:
            found += [child, *_below(child)]
    return found


def prepared(source: Path, store: Path, workers: int) -> tuple[float, int]:
    """(seconds, most bytes of memory) of an unbroken pass."""
    begun, most = time.monotonic(), 0
    process = subprocess.Popen(command(source, store, workers), stdout=subprocess.PIPE, text=True)
    while process.poll() is None:
        most = max(most, memory(process.pid))
        time.sleep(0.2)
    seconds = time.monotonic() - begun
    assert process.stdout is not None
    print(process.stdout.read())
    if process.returncode:
        raise SystemExit(f"the pass ended with {process.returncode}")
    return seconds, most


def killed(source: Path, store: Path, workers: int, shards: int, kills: int) -> int:
    """Kills a pass so often on the way, whose store has so many shards in the end, and then has it end; returns how
    many kills met it.
    """
    met, rng = 0, np.random.default_rng(2)
    for number in range(kills):
        process = subprocess.Popen(command(source, store, workers), stdout=subprocess.DEVNULL)
        while process.poll() is None and len(list(store.glob("rows-*.arrow"))) <= number * shards // (kills + 1):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 2))
        met += process.poll() is None
        process.kill()
        process.wait()
    subprocess.run(command(source, store, workers), check=True, stdout=subprocess.DEVNULL)
    return met


def checksum(store: Path) -> str:
    told = hashlib.sha256()
    for file in sorted(store.iterdir()):
        told.update(file.name.encode())
        with open(file, "rb") as opened:
            told.update(hashlib.file_digest(opened, "sha256").digest())
    return told.hexdigest()


def reads(store: Path, seconds: float = 5.0) -> tuple[float, float, float]:
    """(seconds to open, shapes a second, examples a second), in random order."""
    begun = time.perf_counter()
    examples = StoreSet(store)
    opened = time.perf_counter() - begun
    order = np.random.default_rng(1).permutation(examples.count).tolist()
    rates = []
    for call in (examples.shape, examples.__getitem__):
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            call(order[count % len(order)])
            count += 1
        rates.append(count / (time.perf_counter() - begun))
    return opened, rates[0], rates[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where it is done; default: a temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        source, store = Path(scratch, "source"), Path(scratch, "store")
        source.mkdir()
        write_source(source, args.rows)
        seconds, most = prepared(source, store, args.workers)
        size = sum(file.stat().st_size for file in store.iterdir())
        given = sum(file.stat().st_size for file in source.iterdir())
        print(f"{args.rows / seconds:,.0f} rows a second by {args.workers} processes, {most / 1e9:.2f} GB of memory")
        print(f"{size / 1e9:.2f} GB, of {given / 1e9:.2f} GB that were given")
        opened, shapes, examples = reads(store)
        print(f"opened in {opened * 1000:.1f} ms; at random {shapes:,.0f} sizes and {examples:,.0f} examples a second")
        if args.kills:
            again = Path(scratch, "again")
            met = killed(source, again, args.workers, len(list(store.glob("rows-*.arrow"))), args.kills)
            same = checksum(again) == checksum(store)
            print(f"killed {met} times on the way: {'the same store' if same else 'ANOTHER STORE'}")
            shutil.rmtree(again)
            if not same:
                raise SystemExit(1)


if __name__ == "__main__":
    main()
