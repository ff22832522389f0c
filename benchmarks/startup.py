"""What the pack adds to ComfyUI's start: COMFYUI_PATH=… python benchmarks/startup.py (with ComfyUI's Python).

Servers with and without the pack start in turns, several times; the machine's noise is larger than the difference, so
the least of each is compared. Beside it stands what ComfyUI itself measures for importing the pack.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from pathlib import Path

PACK = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PACK / "tests" / "comfy"))

from serving import serve  # noqa: E402

ROUNDS = 5


def seconds(comfyui: Path, with_pack: bool) -> tuple[float, float]:
    """(from start until all nodes are listed, ComfyUI's own figure for the pack), in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with serve(comfyui, Path(folder) / "base", with_pack=with_pack) as server:
            nodes = server.request("/object_info")
            took = time.perf_counter() - began
            assert ("LightBagelLoader" in nodes) == with_pack
            imported = re.search(r"([\d.]+) seconds: .*lightbagel", server.log_text())
            assert bool(imported) == with_pack, "ComfyUI's log names no import time"
            return took, float(imported[1]) if imported else 0.0


def main() -> None:
    comfyui = Path(os.environ["COMFYUI_PATH"])
    rounds = [(seconds(comfyui, False), seconds(comfyui, True)) for _ in range(ROUNDS)]
    without, with_pack = (min(pair[i][0] for pair in rounds) for i in (0, 1))
    print(f"without {without:.2f} s, with {with_pack:.2f} s: {with_pack - without:+.2f} s")
    print(f"importing the pack, by ComfyUI's own clock: at most {max(pair[1][1] for pair in rounds):.1f} s")


if __name__ == "__main__":
    main()
