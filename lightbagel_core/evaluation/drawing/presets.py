"""With which settings a bench is drawn."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ...sampling.settings import Asked

# The authors have a fixed English list of words for bad quality as their negative prompt; these words are our own.
NEGATIVE = (
    "low quality, blurry, out of focus, overexposed, washed-out colours, compression artifacts, watermark, subtitles, "
    "cluttered background, distorted shapes, deformed hands, extra fingers, extra limbs"
)
AUTHORS = Asked(steps=50, solver="unipc", shift=4.0, text_guidance=3.0, renorm="none")


@dataclass(frozen=True)
class Drawing:
    """All that a bench's pictures depend on beside the model and the bench.

    asked: sampling settings; what is left out is the model's own. Its seed is that of the run, 0 unless another is.
    negative: the negative prompt.
    source_tokens: which kinds of source token an edit uses.
    samples, batch: pictures of each prompt; pictures drawn at once.
    history: how many earlier turns of a chain a later one is drawn after, their pictures and words.
    """

    samples: int
    batch: int
    asked: Asked = field(default_factory=Asked)
    negative: str = ""
    source_tokens: tuple[str, ...] = ("vae", "vit")
    history: int = 0

    def __post_init__(self) -> None:
        if min(self.samples, self.batch) < 1:
            raise ValueError(f"samples and batch must be at least 1, not {self.samples} and {self.batch}")
        object.__setattr__(self, "asked", {"seed": 0, **self.asked})

    def to_dict(self) -> dict[str, Any]:
        """What a run file says of it; the history only where there is one, as in records before there was any."""
        return {name: value for name, value in asdict(self).items() if name != "history" or value}


def authors(editing: bool) -> tuple[Asked, str, int]:
    """The authors' settings, negative prompt and seed (docs/model.md, section 10): text to image at 1024 x 1024, edits
    at their source's size without image guidance.
    """
    size: Asked = {"image_guidance": 1.0} if editing else {"width": 1024, "height": 1024}
    return {**AUTHORS, **size}, NEGATIVE, 42
