"""What twenty pictures teach, and what is forgotten over them: a LoRA, and the fusion stack trained whole, beside it.

    python -m benchmarks.look --out DIR

trains both by `docs/examples/look.toml` on the pictures of `docs/examples/twenty_pictures.py`, whose look needs no new
word: where a prompt names no background, it is black. Then draws, with the nano and with both: fresh prompts without a
background (how often it is black, and how often all that was asked for is there), and the nano's suites. The same
items with the same noise are drawn by all three, so the suites' differences are of pairs.
"""

from __future__ import annotations

import argparse
import json
import runpy
import sys
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np

from lightbagel_core.evaluation.drawing.presets import Drawing
from lightbagel_core.evaluation.drawing.run_file import claim
from lightbagel_core.evaluation.drawing.split import draw_bench
from lightbagel_core.evaluation.statistics import wilson
from lightbagel_core.evaluation.suites import editing, turns
from lightbagel_core.evaluation.suites.drawing import NAME as DRAWING
from lightbagel_core.evaluation.suites.run import DRAWN, make
from lightbagel_core.evaluation.suites.truth import RESULTS, read_picture
from lightbagel_core.files.formats import read_config
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.training.config_file import read
from lightbagel_core.training.running import MODEL, run
from lightbagel_core.world.sentences import random_prompt

from .quality import agrees

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
WHOLE = ['train=["fusion","context"]', "lora.generation.rank=0", "lora.fusion.rank=0", "optimiser.lr=3e-4"]
ARMS: dict[str, list[str]] = {"lora": [], "whole": WHOLE}
SUITES = {DRAWING: 0.4, editing.NAME: 0.4, turns.NAME: 0.2}  # of the items
SEED = 7  # of the fresh prompts


def trained(arm: str, out: Path, pictures: Path) -> tuple[LightBagel, str]:
    """A model after training, and what it cost."""
    (stage,) = read(
        EXAMPLES / "look.toml",
        [f'data.sets.{name}.path="{pictures / name}"' for name in ("look", "replay")] + ARMS[arm],
    )
    run([stage], out, resume=out.exists())
    made = out / MODEL
    loras = dict.fromkeys(made.glob("*_lora.safetensors"), 1.0)
    components = {} if loras else {"fusion": made}
    size = sum(file.stat().st_size for file in made.glob("*.safetensors"))
    minutes = read_config(made / "config.json").metadata["stages"][stage.name]["minutes"]
    model = LightBagel.from_pretrained("nano", loras=loras, components=components)
    return model, f"{minutes} minutes, {size / 1e3:.0f} kB"


def look(model: LightBagel, count: int) -> tuple[int, int]:
    """Of so many prompts without a background: how many pictures are black, and how many show what was asked for."""
    rng, asked = np.random.default_rng(SEED), []
    while len(asked) < count:
        prompt, scene = random_prompt(rng)
        white = scene.background == "white" and "white" not in prompt  # what it is where nothing is said of it
        if len(scene.things) == 1 and white and scene.things[0].colour != "black":
            asked.append((prompt, scene))
    black = right = 0
    for number, (prompt, scene) in enumerate(asked):
        drawn = model.generate(prompt, seed=number, progress=False)[0]
        black += bool(np.median(np.asarray(drawn)[:2]) < 60)
        found = read_picture(drawn)
        right += found is not None and agrees(prompt, replace(scene, background=found.background), found)
    return black, right


def suites(model: LightBagel, out: Path, count: int) -> dict[str, list[bool]]:
    """Of each suite, which items came out right."""
    found = {}
    for name, part in SUITES.items():
        bench, write_prompts, _ = DRAWN[name]
        folder, how = out / name, Drawing(bench.samples, bench.batch, history=bench.history)
        files = make(write_prompts, folder, round(part * count), (1,))
        claim(folder, model, name, files, how)
        draw_bench(model, name, bench.read(files, bench.samples).items, folder, how)
        assert bench.score is not None
        bench.score(files)
        rows = [json.loads(line) for line in (folder / RESULTS).read_text("utf-8").splitlines()]
        found[name] = [bool(row.get("correct", row.get("right"))) for row in rows]
        # GenEval's results leave out what the model has no words for and did not draw; that is wrong here too.
        found[name] += [False] * (round(part * count) - len(rows))
    return found


def share(right: int, n: int) -> str:
    """A share in words, with Wilson's interval."""
    found = wilson(right, n)
    return f"{found.value:.0%} ({found.low:.0%} to {found.high:.0%})"


def difference(before: list[bool], after: list[bool]) -> tuple[float, float, float]:
    """The share lost over pairs, and its 95 % interval: that of a difference of paired shares (Wald's)."""
    n = len(before)
    lost = sum(b and not a for b, a in zip(before, after, strict=True))
    won = sum(a and not b for b, a in zip(before, after, strict=True))
    loss = (lost - won) / n
    half = 1.96 * sqrt(max(lost + won - (lost - won) ** 2 / n, 0.25)) / n
    return loss, loss - half, loss + half


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--items", type=int, default=1000, help="of the suites, together")
    parser.add_argument("--prompts", type=int, default=100, help="without a background")
    args = parser.parse_args()
    pictures = args.out / "pictures"
    sys.argv = ["twenty_pictures.py", str(pictures)]
    runpy.run_path(str(EXAMPLES / "twenty_pictures.py"), run_name="__main__")
    models = {"nano": (LightBagel.from_pretrained("nano"), "")}
    models |= {arm: trained(arm, args.out / arm, pictures) for arm in ARMS}
    base: dict[str, list[bool]] = {}
    for arm, (model, cost) in models.items():
        black, right = (share(k, args.prompts) for k in look(model, args.prompts))
        print(
            f"{arm}: {cost}; {args.prompts} prompts without a background: {black} black, {right} as asked", flush=True
        )
        found = suites(model, args.out / "suites" / arm, args.items)
        found["together"] = [right for rows in found.values() for right in rows]
        for name, rows in found.items():
            loss = "" if not base else "; lost {:+.1%} ({:+.1%} to {:+.1%})".format(*difference(base[name], rows))
            print(f"  {name}: {sum(rows)} of {len(rows)}{loss}", flush=True)
        base = base or found


if __name__ == "__main__":
    main()
