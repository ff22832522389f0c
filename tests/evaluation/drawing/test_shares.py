"""Every launcher's way of saying who draws what."""

from __future__ import annotations

import pytest

from lightbagel_core.evaluation.drawing.shares import Share


def test_what_launchers_say():
    assert Share.of({}) == Share(0, 1, 0)
    assert Share.of({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}) == Share(3, 8, 1)
    assert Share.of({"RANK": "1", "WORLD_SIZE": "2"}) == Share(1, 2, 0)  # two shells
    step = {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "6", "SLURM_LOCALID": "2", "SLURM_NTASKS": "9"}
    assert Share.of(step) == Share(5, 6, 2)
    assert Share.of({**step, "RANK": "0", "WORLD_SIZE": "2"}) == Share(0, 2, 0)  # torchrun inside SLURM
    assert Share.of({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) == Share()  # a batch script, where one process runs


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "rank 2 of 2 processes: a rank lies between 0 and 1"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "rank -1 of 2"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, "RANK='one', WORLD_SIZE='2', LOCAL_RANK='0' must be whole numbers"),
        ({"RANK": "1"}, "RANK is set, but RANK and WORLD_SIZE belong together"),
        ({"WORLD_SIZE": "4"}, "WORLD_SIZE is set, but"),
    ],
)
def test_what_makes_no_sense_is_refused(environment, message):
    with pytest.raises(ValueError, match=message):
        Share.of(environment)


@pytest.mark.parametrize("world", [1, 3, 4, 9])
def test_the_shares_are_all_batches_each_once(world):
    shares = [Share(rank, world).batches(7) for rank in range(world)]
    assert sorted(number for share in shares for number in share) == list(range(7))
