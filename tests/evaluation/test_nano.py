"""What the nano can do, on fresh scenes and sentences; the thresholds lie a little under what it reached."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from lightbagel_core.config import NANO
from lightbagel_core.evaluation import nano as evaluate
from lightbagel_core.sampling.guidance import Guidance
from lightbagel_core.training.nano import vae_recipe as vae
from lightbagel_core.training.nano.world import Scene, Thing, render

SEEDS = (101, 102)
COUNT = 50
PICTURE = Image.fromarray(
    render(Scene("white", (Thing("circle", "red", "large", "left"), Thing("square", "blue", "small", "right"))))
)


def mean_over_seeds(score) -> float:
    return sum(score(seed) for seed in SEEDS) / len(SEEDS)


def test_it_describes(nano):
    assert mean_over_seeds(lambda seed: evaluate.describe_score(nano, COUNT, seed)) >= 0.97


def test_its_vae_keeps_what_matters(nano):
    assert mean_over_seeds(lambda seed: evaluate.vae_score(nano, COUNT, seed)) >= 0.97


def test_it_draws_what_the_prompt_says(nano):
    guidance = Guidance(nano.config.defaults.text_guidance)
    assert mean_over_seeds(lambda seed: evaluate.generate_score(nano, COUNT, seed, guidance)[0]) >= 0.80


def test_it_edits_and_leaves_the_rest(nano):
    guidance = Guidance(nano.config.defaults.edit_text_guidance)
    assert mean_over_seeds(lambda seed: evaluate.edit_score(nano, COUNT, seed, guidance)[0]) >= 0.62


def test_it_answers_questions(nano):
    assert mean_over_seeds(lambda seed: evaluate.answer_score(nano, COUNT, seed)) >= 0.80
    assert nano.describe(PICTURE, "How many shapes are there?") == "two"


def test_both_kinds_of_source_token_beat_either_alone(nano):
    """The double fusion (paper, ablation of source tokens); all three see the same scenes and noise."""
    guidance = Guidance(nano.config.defaults.edit_text_guidance)

    def score(*tokens: str) -> float:
        return mean_over_seeds(lambda seed: evaluate.edit_score(nano, COUNT, seed, guidance, tokens)[0])

    assert score("vae", "vit") > max(score("vae"), score("vit"))


def test_seeds_generators_and_batches_agree(nano):
    one, other = (nano.generate("a red circle", seed=s, steps=3, progress=False)[0] for s in (5, 6))
    assert one.tobytes() != other.tobytes()
    generator = torch.Generator().manual_seed(5)
    assert nano.generate("a red circle", seed=generator, steps=3, progress=False)[0].tobytes() == one.tobytes()
    batch = nano.generate("a red circle", seed=5, steps=3, num_images=3, progress=False)
    assert len(batch) == 3
    difference = torch.tensor(list(batch[0].tobytes())) - torch.tensor(list(one.tobytes()))
    assert difference.abs().max() <= 1  # another batch size sums in another order


def test_an_edit_takes_the_sources_size_and_several_sources(nano):
    wide = PICTURE.resize((128, 64))
    out = nano.edit([wide, PICTURE], "make the circle blue", steps=2, image_guidance=1.5, progress=False)
    assert [p.size for p in out] == [(128, 64)]
    with pytest.raises(ValueError, match="at least one source"):
        nano.edit([], "make the circle blue")


def test_its_preview_colours_are_what_the_trainer_fits(nano):
    fitted, shipped = vae.preview(nano.vae, nano.config.metadata["seed"]), nano.config.preview
    torch.testing.assert_close(torch.tensor(shipped.factors), torch.tensor(fitted.factors), rtol=0, atol=1e-3)
    torch.testing.assert_close(torch.tensor(shipped.bias), torch.tensor(fitted.bias), rtol=0, atol=1e-3)


def test_it_fits_its_package():
    assert sum(f.stat().st_size for f in NANO.iterdir()) <= 32_000_000
    assert {f.suffix for f in NANO.iterdir()} <= {".safetensors", ".json", ".jinja"}
