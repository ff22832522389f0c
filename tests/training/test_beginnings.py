"""What untrained parts begin with: as their own constructors make them, from seed and name alone."""

from __future__ import annotations

import math

import pytest
import torch
from tiny import tiny_config
from torch import nn

from lightbagel_core.files.components import COMPONENTS, build_component, empty_components
from lightbagel_core.training.beginnings import drawn


@pytest.mark.parametrize("component", COMPONENTS)
def test_untrained_parts_begin_as_their_own_constructors_make_them(component):
    """Each tensor's mean, spread and kind of distribution; over several draws, for tensors of a few numbers."""
    config = tiny_config()
    empty = empty_components(config, "tiny", [component])[component]
    draws = [dict(drawn(empty, str(seed))) for seed in range(6)]
    torch.manual_seed(1)
    plain = [dict(build_component(component, config).named_parameters()) for _ in range(6)]
    assert draws[0].keys() == plain[0].keys()
    for name in plain[0]:
        ours, theirs = (torch.stack([d[name].detach() for d in of]).flatten().double() for of in (draws, plain))
        if name.endswith("scale_shift_table") and name.startswith("blocks."):
            theirs *= 0.02 * theirs.std().reciprocal()  # gates begin nearer to zero
        if theirs.std() == 0:
            assert torch.equal(ours, theirs), name
            continue
        error = 5 / math.sqrt(len(ours))
        assert abs(ours.mean() - theirs.mean()) < 2 * error * theirs.std(), name
        assert abs(ours.std() / theirs.std() - 1) < 2 * error, name
        tails = [float((x.abs() > 1.5 * x.std()).double().mean()) for x in (ours, theirs)]  # 0.13 normal, 0.13 uniform
        ends = [float(x.abs().max() / x.std()) for x in (ours, theirs)]  # uniform: about 1.73
        assert abs(tails[0] - tails[1]) < 2 * error, name
        assert len(ours) < 200 or (ends[0] < 2.2) == (ends[1] < 2.2), name


def test_beginnings_depend_on_seed_and_name_alone():
    config = tiny_config()
    empty = empty_components(config, "tiny", ["fusion"])["fusion"]
    state = torch.get_rng_state()
    first, again, other = (dict(drawn(empty, seed)) for seed in ("1", "1", "2"))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layers.0.gen_q.weight"], other["layers.0.gen_q.weight"])
    assert not torch.equal(first["layers.0.gen_q.weight"], first["layers.1.gen_q.weight"])
    (only,) = drawn(empty, "1", lambda name: name == "context")
    assert torch.equal(only[1], first["context"])


def test_a_parameter_of_unknown_beginning_is_named():
    class Strange(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.knob = nn.Parameter(torch.ones(2))

    with pytest.raises(ValueError, match=r"how 0 \(Strange\) begins: knob"):
        dict(drawn(nn.Sequential(Strange()), "1"))
