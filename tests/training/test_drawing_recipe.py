"""The loss of a step is the mean over the noised tokens of all its passes, however they are cut."""

from __future__ import annotations

import pytest
import torch
from drawings import PATCH, batch, drawing
from tiny import make_tiny

from lightbagel_core.model.attention import SDPA
from lightbagel_core.training.data.supply import Part
from lightbagel_core.training.drawing_recipe import DrawingRecipe
from lightbagel_core.training.lazy import Lazy
from lightbagel_core.training.loss import noised
from lightbagel_core.training.stages import Stage


class Supply:
    """Four samples, and one that only fills, in passes that are cut after these numbers."""

    def __init__(self, model, cuts):
        parts = [Part(sample, (1, number), 1.0) for number, sample in enumerate(batch(model.und))]
        parts.append(Part(parts[0].sample, (9,), 0.0))
        self.cut = [parts[a:b] for a, b in zip([0, *cuts], [*cuts, 5], strict=True)]

    def passes(self, step):
        return Lazy(len(self.cut), self.cut.__getitem__)

    def noised(self, step):
        return 6 + 6 + 6 + 4

    def tokens(self, step):
        return 99

    def named(self, step):
        return ["a", "b"]


@pytest.mark.parametrize("cuts", [[], [2], [1, 2, 3, 4]])
def test_passes_add_up_to_the_mean_over_all_noised_tokens(cuts):
    model = make_tiny()
    subject = DrawingRecipe(Stage(), model.gen, model.fusion, SDPA, Supply(model, cuts), model.und)
    given = subject.passes(0)
    assert len(given) == len(cuts) + 1
    found = [subject.loss(subject.module, each) for each in given]
    alone = [noised([sample], [(1, number)], 4.0) for number, sample in enumerate(batch(model.und))]
    errors = torch.cat([drawing(model)(each) for each in alone]).detach()
    torch.testing.assert_close(sum(loss for loss, _ in found), errors.sum() / 22)
    draw, edit = (torch.stack([figures[name] for _, figures in found]).sum(0) for name in ("draw", "edit"))
    torch.testing.assert_close(draw, torch.tensor([float(errors[0] + errors[2]), 12.0]))
    torch.testing.assert_close(edit, torch.tensor([float(errors[1] + errors[3]), 10.0]))


def test_what_is_trained_and_sharded():
    model = make_tiny()
    model.fusion.context.requires_grad_(True)
    model.gen.blocks[1].requires_grad_(True)
    subject = DrawingRecipe(Stage(), model.gen, model.fusion, SDPA, Supply(model, []))
    assert subject.trained()["fusion.context"] is model.fusion.context
    blocks = {name for name in subject.trained() if name != "fusion.context"}
    assert blocks == {f"generation.blocks.1.{name}" for name, _ in model.gen.blocks[1].named_parameters()}
    assert list(subject.units) == [*model.gen.blocks, *model.fusion.layers]
    assert subject.tokens(0) == 99
    assert subject.named(0) == ["a", "b"]
    assert model.gen.patch == PATCH
