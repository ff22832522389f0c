"""No two uses of random numbers share a stream."""

from __future__ import annotations

from lightbagel_core.training.seeds import Stream, generator


def test_every_use_draws_numbers_of_its_own():
    values = [stream.value for stream in Stream.__members__.values()]  # an alias would stand here twice
    assert len(set(values)) == len(values)
    drawn = {generator(1, stream, 2).random() for stream in Stream}
    assert len(drawn) == len(values)
    assert generator(1, Stream.WORLD, 2).random() == generator(1, Stream.WORLD, 2).random()
    assert generator(1, Stream.WORLD, 2).random() != generator(2, Stream.WORLD, 1).random()
