"""No two uses of random numbers share a stream."""

from __future__ import annotations

from pathlib import Path

from lightbagel_core.training import seeds
from lightbagel_core.training.seeds import Stream, generator, of_stage

TRAINING = Path(seeds.__file__).parent


def test_every_use_draws_numbers_of_its_own():
    values = [stream.value for stream in Stream.__members__.values()]  # an alias would stand here twice
    assert len(set(values)) == len(values)
    drawn = {generator(1, stream, 2).random() for stream in Stream}
    assert len(drawn) == len(values)
    assert generator(1, Stream.WORLD, 2).random() == generator(1, Stream.WORLD, 2).random()
    assert generator(1, Stream.WORLD, 2).random() != generator(2, Stream.WORLD, 1).random()


def test_nobody_else_makes_a_generator():
    """Whoever seeds one from a list of his own may meet a stream's numbers, as the dry run once met the noise's."""
    made = [f"{file.name}: {line.strip()}" for file in TRAINING.rglob("*.py") for line in lines_that_seed(file)]
    assert [line for line in made if not line.startswith("seeds.py: ")] == []
    assert len(made) == 1


def lines_that_seed(file: Path) -> list[str]:
    return [line for line in file.read_text("utf-8").splitlines() if "default_rng(" in line]


def test_each_stage_of_a_run_has_a_seed_of_its_own():
    numbers = {of_stage(seed, name) for seed in (1, 2) for name in ("first", "second", "")}
    assert len(numbers) == 6
    assert of_stage(1, "first") == 17838517129944977267  # on any machine
