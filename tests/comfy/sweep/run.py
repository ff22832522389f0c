"""Runs the sweep and writes its table: python tests/comfy/sweep/run.py --help."""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [] if str(HERE.parent) in sys.path else [str(HERE.parent)]

from sweep import expect, rows_cond, rows_latent, rows_mask, rows_model, rows_onebox, rows_sampling, table, world  # noqa: E402

SOCKETS = {"MODEL", "CLIP", "VAE", "CONDITIONING", "LATENT", "GUIDER", "SAMPLER", "SIGMAS", "NOISE", "MASK"}
ROOMS = {
    "Latents": rows_latent.ROWS,
    "Conditionings": rows_cond.ROWS,
    "Models": rows_model.ROWS,
    "Sampling": rows_sampling.ROWS,
    "Masks": rows_mask.ROWS,
    "Other hosts and samplers": rows_onebox.ROWS,
}
STATED = [row for rows in ROOMS.values() for row in rows]
ROOM = {row.name: room for room, rows in ROOMS.items() for row in rows}
EXPECTED, TABLE = HERE / "expected.json", HERE.parents[2] / "docs" / "sweep.md"


def stock(host: Any) -> list[str]:
    """The ids of the host's own nodes with a socket of ours."""
    found = []
    for name, kind in host.mappings.items():
        if name.startswith("LightBagel") or str(getattr(kind, "RELATIVE_PYTHON_MODULE", "")).startswith("custom_nodes"):
            continue
        schema = kind.INPUT_TYPES()
        kinds = [kind for kind in kind.RETURN_TYPES if isinstance(kind, str)]
        for group in ("required", "optional"):
            for spec in (schema.get(group) or {}).values():
                kinds += [spec[0]] if isinstance(spec[0], str) else []
                template = spec[1].get("template") if len(spec) > 1 and isinstance(spec[1], dict) else None
                kinds += [kind for kind in SOCKETS if template and f"'{kind}'" in str(template)]
        if SOCKETS & {one for kind in kinds for one in kind.split(",")}:
            found.append(name)
    return sorted(found)


def rows(host: Any, whole: bool) -> list[expect.Row]:
    """The rows to run: every stock node's first, or all; a node of which nothing is stated gets one."""
    here = [row for row in STATED if row.node in host.mappings]
    if not whole:
        first: dict[str, expect.Row] = {}
        for row in here:
            first.setdefault(row.node, row)
        here = list(first.values())
    known = {row.node for row in here}
    return here + [expect.Row(node, expect.NO_EXPECTATION) for node in stock(host) if node not in known]


def worlds(host: Any) -> expect.Worlds:
    ours = world.ours(host)
    return expect.Worlds(ours, world.native(host, ours.part("VAE")), world.flux(host))


def judged(host: Any, chosen: list[expect.Row], kept: Path | None = None) -> list[dict[str, Any]]:
    """Each row with its class, a note and the seconds it took; what `kept` holds already is not run again."""
    made = worlds(host)
    found = json.loads(kept.read_text("utf-8")) if kept and kept.exists() else []
    done = {one["row"] for one in found}
    for row in chosen:
        if row.name in done:
            continue
        start = time.perf_counter()
        verdict, note = row.expected.judge(row, made)
        found.append({
            "row": row.name, "room": ROOM.get(row.name, "Others"), "expected": row.expected.words, "class": verdict,
            "note": without_paths(note), "seconds": round(time.perf_counter() - start, 2),
        })  # fmt: skip
        if verdict not in expect.GOOD:
            print(f"{verdict:18} {row.name}: {note}", flush=True)
        if kept:
            kept.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def without_paths(note: str) -> str:
    """A note in which no folder of this machine stands."""
    return re.sub(r"(/[\w.~-]+)+/", "…/", note)


def version() -> str:
    """The host's."""
    import comfyui_version

    return str(comfyui_version.__version__)


def write(found: list[dict[str, Any]]) -> None:
    """The table, and each row's class; exceptions, which are written by hand, stay."""
    import torch

    known = json.loads(EXPECTED.read_text("utf-8")) if EXPECTED.exists() else {}
    for one in found:
        one["exception"] = known.get(one["row"], {}).get("exception", "") if one["class"] not in expect.GOOD else ""
    classes: dict[str, dict[str, str]] = {"": {"comfyui": version()}}
    for one in found:
        classes[one["row"]] = {"class": one["class"], **({"exception": one["exception"]} if one["exception"] else {})}
    EXPECTED.write_text(json.dumps(classes, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    TABLE.write_text(table.written(found, version(), torch.__version__), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="every row, not one a node")
    parser.add_argument("--node", nargs="+", default=[], help="the rows of these nodes")
    parser.add_argument("--json", type=Path, help="where the results go, row by row; a run that was cut off goes on")
    parser.add_argument("--write", action="store_true", help="every row, into docs/sweep.md and expected.json")
    arguments = parser.parse_args()
    from conftest import Host

    kept = arguments.json.absolute() if arguments.json else None
    host = Host()
    import comfy.utils

    logging.getLogger().setLevel(logging.WARNING)
    comfy.utils.PROGRESS_BAR_ENABLED = False
    whole = arguments.all or arguments.write or bool(arguments.node)
    found = judged(host, [row for row in rows(host, whole) if not arguments.node or row.node in arguments.node], kept)
    if arguments.node:
        for one in found:
            print(one["class"], one["row"], one["note"], sep=": ")
    print(dict(Counter(one["class"] for one in found)), f"{sum(one['seconds'] for one in found):.0f} s")
    if arguments.write:
        write(found)


if __name__ == "__main__":
    main()
