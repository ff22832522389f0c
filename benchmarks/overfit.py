"""Can an untrained fusion stack learn a few edits by heart? What cannot overfit has a bug, not too few steps.

    python -m benchmarks.overfit --out DIR

trains the fusion stack and the context of the shipped nano from nothing on a few pairs, DiT, VLM and VAE frozen, edits
the same sources by the same instructions, and counts the results that the reader of pixels finds to be the target.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from lightbagel_core.evaluation.suites.truth import read_picture
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.training.config_file import read
from lightbagel_core.training.data.sets import open_sets
from lightbagel_core.training.data.world_set import WorldSet, picture
from lightbagel_core.training.journal import FILE
from lightbagel_core.training.journal import read as read_journal
from lightbagel_core.training.running import MODEL, run
from lightbagel_core.world.reader import same_spot

CONFIG = """
name = "overfit"
seed = 1
base = "float32"
checkpointing = false
train = ["fusion", "context"]
[model]
model = "nano"
fresh = ["fusion"]
[optimiser]
lr = 2e-3
eps = 1e-8
betas = [0.9, 0.98]
clip = 1.0
schedule = "cosine"
final_lr = 0.02
warmup = 50
[ema]
decay = 0.98
warmup = true
[batch]
samples = 32
[dropout]
text = 0.0
clean = 0.0
vit = 0.0
[cache]
states = "rolling"
samples = 32
chunks = 1
renew = 1000000
[checkpoints]
every = 200
[data.sets.world]
edits = 1.0
first = 32
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    config = args.out / "overfit.toml"
    config.write_text(CONFIG, "utf-8")
    number = args.pairs
    asked = [f"steps={args.steps}", f"data.sets.world.first={number}", f"batch.samples={number}"]
    (stage,) = read(config, [*asked, f"cache.samples={number}"])
    run([stage], args.out / "run", args.resume)
    (examples,) = open_sets(stage)
    assert isinstance(examples, WorldSet)
    model, right = LightBagel.from_pretrained(args.out / "run" / MODEL), 0
    for index in range(number):
        story, _ = examples.told(index)
        (source,), (turn,) = story.sources, story.turns
        drawn = model.edit(picture(source), turn.words, seed=index, text_guidance=1.0)[0]
        found = read_picture(drawn)
        right += found is not None and same_spot(found, turn.target)
    steps = list(read_journal(args.out / "run" / stage.name / FILE).of("step"))
    print(
        f"{number} pairs, {args.steps} steps, {steps[-1]['seconds']:.0f} s: loss {steps[0]['loss']:.3f} at first, ",
        end="",
    )
    print(f"{np.mean([line['loss'] for line in steps[-20:]]):.3f} at last; {right} of {number} edits are the target")


if __name__ == "__main__":
    main()
