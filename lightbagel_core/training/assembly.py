"""What a stage works on: its model opened, its recipe, and where its samples come from."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..config import COMPONENTS, LightBagelConfig
from ..model.attention import SDPA, Attention, for_training
from ..model.vae import use_single_frames
from .data.batches import Batches, Pick
from .data.encode import Encoder
from .data.example import Examples
from .data.pool import Make, Pool
from .data.samples import Sample
from .data.sets import about, identity, left_out, open_sets, set_names, split
from .data.supply import Supply
from .drawing_recipe import DrawingRecipe
from .encoders import Readers, encoders, frozen, stamp
from .loading import Opening
from .parallel import World
from .planning.operations import operations
from .planning.portions import portions
from .precisions import computed
from .stages import ALONE, Stage
from .trainer import Recipe

Reading = Callable[[], AbstractContextManager[Encoder]]
Away = Callable[[], AbstractContextManager[None]]  # what trains is off the device meanwhile


@dataclass(eq=False)
class Work:
    """A stage's model and recipe.

    finish: what is done with the averages in place after the last step, to the config that is written.
    held_out: examples of each set that are never trained on. reading: opens what reads them. cache: the folder for what
        was read. readers: VLM and VAE that are there while the stage trains. attention: of DiT and fusion.
    flops: of a step, over all processes, as counted from shapes; recomputation is left out. 0: not counted.
    data: what the metadata says of the sets that it learns from.
    """

    opening: Opening
    recipe: Recipe
    finish: Callable[[LightBagelConfig], LightBagelConfig] = lambda config: config
    held_out: Sequence[Examples] = ()
    reading: Reading | None = None
    cache: Path = Path()
    readers: Readers | None = None
    attention: Attention = SDPA
    flops: float = 0.0
    data: Sequence[dict[str, Any]] = ()


def put_together(stage: Stage, world: World, folder: Path, away: Away, stack: ExitStack) -> Work:
    """Opens a stage's model, still without weights, and makes its recipe.

    Args:
        folder: of the stage, in the run's; there, or in the folder that `cache` names, lies what VLM and VAE give.
        away: makes room for them. stack: closes what stays open.

    Raises:
        ValueError: the model or the data cannot be opened.
    """
    if ALONE.get(stage.recipe) == "understanding":
        from .nano.vlm_recipe import VlmRecipe

        opening = Opening.of(stage, world, ["understanding"])
        assert opening.und is not None
        vlm = VlmRecipe(stage, opening.config, opening.und)
        return Work(opening, vlm, vlm.finish)
    if ALONE.get(stage.recipe) == "vae":
        from .nano.vae_recipe import VaeRecipe

        opening = Opening.of(stage, world, ["vae"])
        assert opening.vae is not None
        vae = VaeRecipe(stage, opening.config, opening.vae)
        return Work(opening, vae, vae.finish)
    return _drawing(stage, world, folder, away, stack)


def _drawing(stage: Stage, world: World, folder: Path, away: Away, stack: ExitStack) -> Work:
    teaches = "understanding" in stage.train  # then the VLM runs beside the DiT, with gradients
    opening = Opening.of(stage, world, COMPONENTS if teaches else ["generation", "fusion"])
    config = opening.config
    kept = Path(stage.cache.folder) if stage.cache.folder else folder.parent
    latents, cache = kept / "latents", kept / folder.name  # the former are those of all stages
    sets = open_sets(stage)
    for line in left_out(sets, stage) if world.first else ():
        print(f"lightbagel: {line}", file=sys.stderr)
    trained, held_out = split(sets, stage)
    batches = Batches(trained, stage, config)
    ahead = world.device.type != "cpu"  # where reading does not take the cores that compute
    supply = partial(Supply, batches, names=set_names(stage), steps=stage.steps, size=world.size, rank=world.rank)
    reading: Reading = partial(encoders, stage, world.device, latents)
    readers: Readers | None = None
    if teaches:
        assert opening.und is not None
        assert opening.vae is not None
        readers = Readers(opening.und, use_single_frames(opening.vae))
        samples = supply(partial(_read, batches, readers.encoder(stage, config, latents).live), ahead=ahead)
    elif stage.cache.states == "live":
        readers = frozen(stage, world.device)
        stack.callback(readers.rest)
        encoder = readers.encoder(stage, config, latents)
        reading = partial(_open, encoder)
        samples = supply(partial(_read, batches, encoder.read), ahead=ahead)
    else:
        depends = f"{stamp(stage, config)} {identity(trained)}"
        pool = Pool(cache / "states", stage.cache, depends, partial(_making, batches, reading, away))
        samples = supply(lambda picks: [pool.samples(pick.slot) for pick in picks], prepare=pool.prepare)
    assert opening.gen is not None
    assert opening.fusion is not None
    attention = for_training(world.device, computed(stage))
    recipe = DrawingRecipe(stage, opening.gen, opening.fusion, attention, samples, opening.und)
    held = portions(stage, config, trained)
    counted = operations(stage, config, held, world.size)
    flops = counted.forward + counted.backward
    return Work(
        opening,
        recipe,
        held_out=held_out,
        reading=reading,
        cache=cache,
        readers=readers,
        attention=attention,
        flops=flops,
        data=about(sets, stage),
    )


def _read(batches: Batches, read: Any, picks: Sequence[Pick]) -> list[list[Sample]]:
    """The samples of picks; of finite sets, whose pictures come again, latents are kept."""
    finite = [batches.sets[pick.which].count is not None for pick in picks]
    found: list[list[Sample]] = read([batches.plans(pick) for pick in picks], finite)
    return found


@contextmanager
def _open(encoder: Encoder) -> Iterator[Encoder]:
    yield encoder


@contextmanager
def _making(batches: Batches, reading: Reading, away: Away) -> Iterator[Make]:
    with away(), reading() as encoder:
        yield lambda slots: _read(batches, encoder.read, [batches.pick(slot) for slot in slots])
