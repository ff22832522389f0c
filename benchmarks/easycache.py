"""What ComfyUI's EasyCache and LazyCache cost on the nano: COMFYUI_PATH=... python -m benchmarks.easycache

In a real ComfyUI, on our MODEL, with the scenes, the noise and the table of benchmarks.quality. One picture at a time:
these nodes decide by what a batch does as a whole. Needs what tests/comfy needs, and accelerate.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.quality import GUIDANCE, Result, Task, is_right, report
from lightbagel_core.evaluation.nano import picture
from lightbagel_core.sampling.guidance import Guidance

TESTS = Path(__file__).resolve().parents[1] / "tests" / "comfy"


@dataclass(frozen=True)
class Row:
    """`node` is a stock node that caches, `threshold` its reuse threshold; its other settings are its defaults."""

    steps: int
    node: str = ""
    threshold: float = 0.0


ROWS = {
    "euler 50": Row(50),
    **{f"euler {steps}": Row(steps) for steps in (20, 12, 8)},
    **{
        f"euler 20, {node} {threshold}": Row(20, node, threshold)
        for node in ("EasyCache", "LazyCache")
        for threshold in (0.05, 0.1, 0.2)
    },
}


class Comfy:
    """ComfyUI with the nano loaded; `forwards` counts branches of pictures through its Wan's blocks."""

    def __init__(self) -> None:
        sys.path.insert(0, str(TESTS))
        import helpers
        from conftest import Host

        self.helpers, self.host, self.forwards = helpers, Host(), 0
        self.model, self.clip, self.vae = self.host(
            "LightBagelLoader", checkpoint="nano (built in)", weight_dtype="float32"
        )
        wan = type(self.model.model.diffusion_model)
        forward = wan.forward_orig

        def counted(module: Any, x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
            self.forwards += len(x) if t.any() else 0  # at 0 it is a source image
            return forward(module, x, t, *args, **kwargs)

        wan.forward_orig = counted

    def guider(self, task: Task, guidance: Guidance) -> Callable[[Any], Any]:
        """What makes the guider of a task for a MODEL."""
        source, words, _ = task
        seen = {} if source is None else {"vae": self.vae, "images": {"image": self.helpers.tensor(picture(source))}}

        def encoded(said: str, **images: Any) -> Any:
            return self.host("LightBagelTextEncode", self.clip, said, **images)

        full, negative = encoded(words, **seen), encoded("", **seen)
        if source is None:
            return lambda model: self.host(
                "CFGGuider", model=model, positive=full, negative=negative, cfg=guidance.text
            )
        no_image = encoded(words)
        return lambda model: self.host(
            "DualCFGGuider", model=model, cond1=full, cond2=negative, negative=no_image,
            cfg_conds=guidance.text, cfg_cond2_negative=guidance.image, style="nested",
        )  # fmt: skip

    def draw(self, guider: Callable[[Any], Any], row: Row, seed: int) -> Image.Image:
        model = self.model
        if row.node:
            settings = {"start_percent": 0.15, "end_percent": 0.95, "verbose": False}
            model = self.host(row.node, model=model, reuse_threshold=row.threshold, **settings)
        latent = self.host(
            "SamplerCustomAdvanced",
            noise=self.host("RandomNoise", noise_seed=seed),
            guider=guider(model),
            sampler=self.host("KSamplerSelect", sampler_name="euler"),
            sigmas=self.host("BasicScheduler", model=model, scheduler="simple", steps=row.steps, denoise=1.0),
            latent_image=self.helpers.empty(),
        )[0]
        return Image.fromarray(self.helpers.pixels(self.host("VAEDecode", self.vae, latent)))

    def result(self, wanted: list[Task], guiders: list[Callable[[Any], Any]], row: Row) -> Result:
        self.forwards, start, count = 0, time.process_time(), len(wanted)
        pictures = [self.draw(guider, row, seed) for seed, guider in enumerate(guiders)]
        seconds = time.process_time() - start
        right = [is_right(task, image) for task, image in zip(wanted, pictures, strict=True)]
        return Result(pictures, right, self.forwards / count, self.forwards / count, seconds / count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=100, help="of each kind")
    parser.add_argument("--json", help="a file for the same figures")
    args = parser.parse_args()
    comfy = Comfy()

    def results(kind: str, wanted: list[Task]) -> dict[str, Result]:
        guiders = [comfy.guider(task, GUIDANCE[kind]) for task in wanted]
        return {name: comfy.result(wanted, guiders, row) for name, row in ROWS.items()}

    report(args.scenes, results, args.json)


if __name__ == "__main__":
    main()
