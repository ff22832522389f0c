"""Which part of a bench this process draws: its rank among how many, as every launcher says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# The names of a rank, of the number of processes and of the rank on this machine: torchrun's and accelerate's, SLURM's.
# SLURM's are those of a step: in a batch script itself SLURM_NTASKS is set too, where one process runs alone.
LAUNCHERS = (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"))


@dataclass(frozen=True)
class Share:
    """rank: 0 to world - 1. local: the rank on this machine, which says which of its cards is used."""

    rank: int = 0
    world: int = 1
    local: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank {self.rank} of {self.world} processes: a rank lies between 0 and {self.world - 1}")

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Share:
        """The share that a launcher's environment names; everything where it names none.

        Raises:
            ValueError: the values are no whole numbers or do not fit each other.
        """
        for names in LAUNCHERS:
            if names[0] not in environment or names[1] not in environment:
                continue
            given = {name: environment.get(name, "0") for name in names}
            try:
                rank, world, local = map(int, given.values())
            except ValueError:
                said = ", ".join(f"{name}={value!r}" for name, value in given.items())
                raise ValueError(f"{said} must be whole numbers") from None
            return cls(rank, world, local)
        alone = sorted({"RANK", "WORLD_SIZE"} & set(environment))
        if len(alone) == 1:
            raise ValueError(f"{alone[0]} is set, but RANK and WORLD_SIZE belong together: set both, or neither")
        return cls()

    def batches(self, count: int) -> range:
        """The numbers of this process's batches among `count`: every world-th."""
        return range(self.rank, count, self.world)
