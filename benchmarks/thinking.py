"""What a thought before an edit is worth: python -m benchmarks.thinking [--each 100] [--model FOLDER]

The nano's VLM is asked for an edit as it was taught: it answers with the caption of what is wanted. The DiT draws each
edit twice from the same noise: after the pictures and the instruction, and with that caption behind them, as a text
segment of its own (docs/model.md, section 11). Both are read off the pixels. `gain` is the difference of the shares, in
points, with the interval of pairs; `thought right` is the share of captions that say what the instruction wants.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
import torch

from lightbagel_core.evaluation.statistics import wilson
from lightbagel_core.evaluation.suites.checks import judge
from lightbagel_core.evaluation.suites.truth import picture, read_picture
from lightbagel_core.model.chat import answers
from lightbagel_core.model.forward import Content
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.sampling.branches import branches_of, thinking_branches
from lightbagel_core.world.edits import KINDS, Edit, random_edit
from lightbagel_core.world.sentence_reader import scene_of_sentence

from .measure import options, parsed, report

BATCH, SEED = 20, 79


def drawn(model: LightBagel, edits: Sequence[Edit], thoughts: Sequence[str] | None, seed: int) -> list[bool]:
    """Which of a batch of edits come out right."""
    pictures = [picture(edit.source) for edit in edits]
    settings = model.settings(pictures[0])
    branches: dict[str, list[list[Content]]] = {}
    for number, (edit, source) in enumerate(zip(edits, pictures, strict=True)):
        seen, text = [model.clean(source), model.vit(source)], model.text(edit.words)
        each = (
            branches_of(seen, text, model.text(""))
            if thoughts is None
            else thinking_branches(seen, [text, model.text(thoughts[number])])
        )
        for name, contents in each.items():
            branches.setdefault(name, []).append(contents)
    noise = model.noise(len(edits), settings.width, settings.height, seed)
    results = model.draw(branches, noise, settings.guidance, steps=settings.steps, progress=False)
    return [
        judge(edit.changes, edit.source, read_picture(result)).right
        for edit, result in zip(edits, results, strict=True)
    ]


def says(thought: str, edit: Edit) -> bool:
    """Whether a caption is one of what the instruction wants; places are compared, not centres."""
    try:
        scene = scene_of_sentence(thought)
    except ValueError:
        return False
    target = edit.target
    sized = {c.place for c in edit.changes if c.kind == "add" and "size" not in c.wanted}
    seen, wanted = (
        {(t.shape, t.colour, None if t.place in sized else t.size, t.place) for t in s.things} for s in (scene, target)
    )
    return scene.background == target.background and seen == wanted


def row(model: LightBagel, kind: str, each: int) -> dict[str, object]:
    """The figures of a kind of edits."""
    rng = np.random.default_rng([SEED, 2**31, KINDS.index(kind)])
    edits = [random_edit(rng, kind, crowded=False) for _ in range(each)]
    without: list[bool] = []
    after: list[bool] = []
    right = 0
    for start in range(0, each, BATCH):
        some = edits[start : start + BATCH]
        thoughts = answers(model.und, [([picture(edit.source)], edit.words) for edit in some])
        right += sum(says(thought, edit) for thought, edit in zip(thoughts, some, strict=True))
        without += drawn(model, some, None, SEED + start)
        after += drawn(model, some, thoughts, SEED + start)
    gains = np.array(after, float) - np.array(without, float)
    half = 1.96 * float(gains.std(ddof=1)) / sqrt(each)
    shares = {"without": wilson(sum(without), each), "with": wilson(sum(after), each)}
    said = {name: f"{s.value:.3f} [{s.low:.3f}, {s.high:.3f}]" for name, s in shares.items()}
    gain = f"{100 * gains.mean():+.1f} [{100 * (gains.mean() - half):+.1f}, {100 * (gains.mean() + half):+.1f}]"
    return {"kind": kind, "n": each, **said, "gain": gain, "thought right": f"{right / each:.3f}"}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--each", type=int, default=100, help="edits of each kind; default: 100")
    parser.add_argument("--model", default="nano", help="default: the nano")
    args = parsed(parser)
    model = LightBagel.from_pretrained(args.model, device=args.device)
    model.need("understanding", "generation", "fusion", "vae")  # the VLM is asked before anything is drawn
    with torch.no_grad():
        rows = [row(model, kind, args.each) for kind in KINDS]
    report(args, "edits with and without a thought", rows)


if __name__ == "__main__":
    main()
