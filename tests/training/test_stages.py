"""What a stage refuses: what contradicts itself, what its recipe would not heed, dtypes that meet in no product."""

from __future__ import annotations

import tomllib

import pytest

from lightbagel_core.training.config_file import build
from lightbagel_core.training.stages import Stage

VAE = 'recipe = "nano-vae"\ntrain = ["vae"]'
LOOK = 'lora.generation.file = "a"\n[model]'
ROUNDED = 'precision = "bfloat16"\noptimiser.name = "adamw-8bit"'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[batch]\nsamples = 3\ntokens = 4", "batch needs either samples or tokens"),
        ("[batch]\nsamples = 0", "batch needs either samples or tokens"),
        ("train = []", "nothing would be trained"),
        ("[lora.fusion]\nrank = 4", "fusion is trained whole already"),
        ('[lora.fusion]\nfile = "a"', "fusion is trained whole already"),
        (
            f'{LOOK}\nfresh = ["generation"]',
            "lora.generation.file is a LoRA of a trained generation, but here that begin",
        ),
        (
            f'{LOOK}\nloras = [{{file = "a"}}]',
            "lora.generation.file is among model.loras too, and would count twice: a",
        ),
        ('[model]\nloras = [{file = "a"}, {file = "a", strength = 0.5}]', "model.loras names a twice"),
        ('output_from = "best"', "goes by the held-out loss: set validation.held_out and validation.every"),
        ('output_from = "best"\nvalidation.held_out = 8', "set validation.held_out and validation.every"),
        ("[dropout]\nvit = 1.5", r"dropout.vit is a share in 0..1, not 1.5"),
        ("[dropout]\nvit = nan", r"dropout.vit is a share in 0..1, not nan"),
        ("[optimiser]\nlr = -1", "optimiser.lr must be at least 0, not -1"),
        ("[optimiser]\nlr = nan", "optimiser.lr must be at least 0, not nan"),
        ("shift = 0", "shift must be at least 1e-06, not 0"),
        ("[parallel]\nshard = -1", "parallel.shard must be at least 0, not -1"),
        ("[data]\nsets = []", "data.sets needs at least one set"),
        ("[[data.sets]]\nweight = 0", "each with a weight above 0"),
        ('[[data.sets]]\nkind = "folder"', "the folder among data.sets needs a path"),
        ('[[data.sets]]\nkind = "store"', "the store among data.sets needs a path"),
        ('[data.sets.mine]\npath = "x"', "the world mine among data.sets has no path"),
        ('train = ["fusion", "vae"]', 'take "vae" out of train'),
        ('train = ["fusion", "understanding"]\ncache.states = "rolling"', 'set cache.states = "live"'),
        ('recipe = "nano-vlm"', r'the recipe nano-vlm trains that component alone: train = \["understanding"\]'),
        ('recipe = "nano-vae"\ntrain = ["vae", "fusion"]', r'train = \["vae"\]'),
        (f"{VAE}\nlora.fusion.rank = 4", "the stage train heeds no lora: .* as stages.NAME.lora"),
        (f"{VAE}\ndropout.vit = 0.3", "heeds no dropout"),
        (f"{VAE}\ndata.sets.world.edits = 1.0", "heeds no data"),
        (f"{VAE}\nvalidation.held_out = 8", "heeds no validation.held_out"),
        ('precision = "bfloat16"', 'set optimiser.name = "adamw-8bit", which rounds at random'),
        ('precision = "float32"', 'generation would stay in base = "bfloat16", .* set base = "float32", or'),
        ('precision = "float32"\nbase = "float8"', 'set base = "float32", or precision = "bfloat16-mixed"'),
        (f'{ROUNDED}\ntrain = ["generation", "fusion"]\nbase = "float32"', 'context would stay in base = "float32"'),
    ],
)
def test_what_cannot_be_is_said(text, said):
    with pytest.raises(ValueError, match=said):
        build(Stage, tomllib.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        f'{LOOK}\nfresh = ["fusion"]\nloras = [{{file = "a", components = ["fusion"]}}]',
        'output_from = "best"\n[validation]\nheld_out = 8\nevery = 10',
        'precision = "float32"\ntrain = ["generation", "fusion", "context"]',  # nothing is frozen
        'precision = "float32"\nbase = "float32"',
        f'{ROUNDED}\nbase = "float8"',
        'train = ["fusion", "understanding"]',
        VAE,
    ],
)
def test_what_can_be_is_taken(text):
    assert build(Stage, tomllib.loads(text))
