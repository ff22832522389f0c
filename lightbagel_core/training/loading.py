"""From a stage's model to the modules that it trains, filled where they will lie.

The modules are built without weights first; the engine wraps them; then each process reads its own share from the
memory-mapped files, so that none ever holds a whole model. What begins untrained is drawn submodule by submodule, from
the stage's seed and the submodule's name: on any number of processes the same numbers.

    opening = Opening.of(stage, world)
    module = Drawing(opening.gen, opening.fusion, attention, opening.und)
    trained = opening.ready(module, units)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from ..config import COMPONENTS, NANO, LightBagelConfig
from ..files.checkpoint import build_understanding, read_scale, weights, with_added
from ..files.components import empty_components
from ..files.formats import Opened, open_model
from ..files.lora import components_of, with_loras
from ..files.precision import FLOAT8_KINDS, SCALE, Precision, dtypes, use_float8, widened
from ..files.tensor_files import Stored, Tensors, read, read_rows
from . import adapters, going_on
from .beginnings import drawn
from .parallel import World, prepare_units, wrap
from .precisions import BASES, trained_precision
from .stages import Merged, Model, Stage

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    from ..model.fusion import FusionStack
    from ..model.generation import Generation
    from ..model.understanding import Understanding


def find(model: Model, need: Collection[str] = COMPONENTS) -> Opened:
    """The files of a stage's model, in every layout that inference opens, with its LoRAs merged in; no weight is read.

    Args:
        need: components that are wanted; of those that begin fresh no file needs to be there.

    Raises:
        ValueError: as `open_model` and `with_loras`; a fusion stack is wanted, and there is none and none is to begin;
            or a LoRA is of what begins fresh.
    """
    nano = model.config == "nano"
    own = nano and model.model is None and model.understanding is None
    tokenizer = model.tokenizer or (NANO if own else None)
    opened = open_model(
        _path(model.model),
        components={name: _path(getattr(model, name)) for name in COMPONENTS},
        tokenizer=_path(tokenizer),
        config=NANO / "config.json" if nano else _path(model.config),
        need=[name for name in need if name not in model.fresh],
    )
    if "fusion" in need and "fusion" not in opened.components and "fusion" not in model.fresh:
        raise ValueError('the model has no fusion stack; train one from the start with model.fresh = ["fusion"]')
    for lora in model.loras:
        opened = _with_lora(opened, lora, model.fresh)
    return opened


def _with_lora(opened: Opened, lora: Merged, fresh: Collection[str]) -> Opened:
    """An opened model with a LoRA added to the weights of those components that are there."""
    file = Path(lora.file)
    held = components_of(file) & set(lora.components)
    if begun := held & set(fresh):
        raise ValueError(f"model.loras: {file} is a LoRA of a trained {min(begun)}, but here that begins fresh")
    chosen = {name: opened.components[name] for name in held & opened.components.keys()}
    if not chosen:
        return opened
    loras = {**opened.loras, file: lora.strength}
    return replace(opened, components=opened.components | with_loras(chosen, {file: lora.strength}), loras=loras)


def _path(said: str | Path | None) -> Path | None:
    return NANO if said == "nano" else None if said is None else Path(said)


@dataclass(eq=False)
class Opening:
    """The modules of a stage's model, without weights until `fill` or `ready`.

    components: the bare modules by name: the VLM, the DiT, the fusion stack, the VAE. und and gen hold the first two.
    What was not needed is None. requires_grad is set on what the stage trains, and on nothing else.
    """

    stage: Stage
    world: World
    opened: Opened
    components: dict[str, Any]
    und: Understanding | None
    gen: Generation | None

    @classmethod
    def of(cls, stage: Stage, world: World, need: Collection[str] = COMPONENTS) -> Opening:
        """Lists the files, builds what is needed on the meta device, adds adapters, marks what is trained.

        Raises:
            ValueError: as `find`, `going_on.resolved` and `adapters.add`; a tokenizer is missing; or the weights cannot
                be shared out.
        """
        if world.mesh is not None and stage.unshareable:
            raise ValueError(stage.unshareable)
        from ..model.generation import Generation

        opened = find(stage.model, need)
        und = build_understanding(opened, world.device) if "understanding" in need else None
        stage = going_on.resolved(stage, opened.components)
        others = [name for name in COMPONENTS if name in need and name != "understanding"]
        components = {} if und is None else {"understanding": und.vlm}
        components |= empty_components(opened.config, opened.config_file, others)
        opening = cls(stage, world, opened, components, und, None)
        opening._mark()
        for name in components.keys() & opened.components.keys():
            use_float8(components[name], opening.kinds(name))
        for name, lora in stage.lora.by_component().items():
            if name in components:
                kept = [p for p in components[name].parameters() if p.requires_grad]
                adapters.add(components[name], lora, name)
                for parameter in kept:
                    parameter.requires_grad_(True)
        if "generation" in components:
            opening.gen = Generation(components["generation"])
        return opening

    @property
    def config(self) -> LightBagelConfig:
        """The model's."""
        return self.opened.config

    @property
    def fusion(self) -> FusionStack | None:
        """The fusion stack with the learned context."""
        return self.components.get("fusion")

    @property
    def vae(self) -> AutoencoderKLWan | None:
        """diffusers' VAE as it ships."""
        return self.components.get("vae")

    def trained(self) -> dict[str, nn.Parameter]:
        """What is trained, by component and name: "fusion.layers.0.gen_q.weight"."""
        return {
            f"{component}.{adapters.plain(name)}": parameter
            for component, module in self.components.items()
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }

    def ready(self, module: nn.Module, units: Sequence[nn.Module]) -> nn.Module:
        """A module made of the opening's, prepared and wrapped by the engine, with all weights in place.

        Args:
            units: what of it is sharded, recomputed and compiled on its own.

        Raises:
            ValueError: as `fill`.
        """
        prepare_units(units, self.stage)
        if self.world.mesh is None:
            self.fill()
            return wrap(module, units, self.world, self.stage)
        wrapped = wrap(module, units, self.world, self.stage)
        self.fill()
        return wrapped

    def fill(self) -> None:
        """Gives every tensor its numbers, on this process's device: all of it, or this process's rows of it.

        Raises:
            ValueError: a file is damaged, or no longer what it was.
        """
        for name, module in self.components.items():
            if name in self.opened.components:
                self._read(name, module, self.opened.components[name])
            self._draw(name, module)
            for inner in module.modules():
                for key, buffer in inner._buffers.items():
                    inner._buffers[key] = None if buffer is None else buffer.to(self.world.device)
            module.train(any(p.requires_grad for p in module.parameters()))

    def kinds(self, component: str) -> dict[str, torch.dtype]:
        """The dtype of each weight of a component, by its plain name. What begins fresh is never float8."""
        own = {adapters.plain(name): p for name, p in self.components[component].named_parameters()}
        precision, tensors = BASES[self.stage.base], self.opened.components.get(component)
        if tensors is None:
            precision = Precision(precision.compute, False)
            tensors = {name: Stored(Path(), name, shape, torch.float32, 0, shape) for name, shape in _shapes(own)}
        found = dtypes(component, tensors, precision)
        trained = trained_precision(self.stage)
        whole = dtypes(component, tensors, trained)
        return found | {name: whole.get(name, trained.compute) for name, p in own.items() if p.requires_grad}

    def _mark(self) -> None:
        """Sets requires_grad on what `train` names."""
        for name, module in self.components.items():
            module.requires_grad_(name in self.stage.train)
        fusion, vlm = self.components.get("fusion"), self.components.get("understanding")
        if fusion is not None:
            if strange := [i for i in self.stage.fusion_layers if not 0 <= i < len(fusion.layers)]:
                raise ValueError(f"fusion_layers names layer {strange[0]}; there are 0 to {len(fusion.layers) - 1}")
            for i, layer in enumerate(fusion.layers) if self.stage.fusion_layers else ():
                layer.requires_grad_(i in self.stage.fusion_layers)
            fusion.context.requires_grad_("context" in self.stage.train)
        if vlm is not None and "understanding" in self.stage.train and self.stage.recipe == "drawing":
            vlm.requires_grad_(False)  # but what the fusion reads, and the ViT, whose pictures pass through that
            language = vlm.model.language_model
            rule = self.config.fusion
            deepest = max((rule.und_layer(i) for i in range(rule.layers)), default=-1)
            for part in (vlm.model.visual, language.embed_tokens, *language.layers[: deepest + 1]):
                part.requires_grad_(True)

    def _read(self, component: str, module: nn.Module, tensors: Tensors) -> None:
        places = {adapters.plain(name): name for name, _ in module.named_parameters() if not adapters.is_adapter(name)}
        kinds = {name: kind for name, kind in self.kinds(component).items() if name in tensors}
        parameters = dict(module.named_parameters())
        sharded = {name for name in kinds if isinstance(parameters[places[name]], DTensor)}
        for name in sharded:
            rows, stored = own_rows(parameters[places[name]]), tensors[name]
            # what is added is known of the whole matrix
            held = read(stored) if stored.added else read_rows(stored, rows.start, rows.stop)
            held = held.to(self.world.device)
            scale = read_scale(tensors.get(name + SCALE)) if held.dtype in FLOAT8_KINDS else None
            if stored.added:
                held, scale = with_added(stored, held, scale)
                held = held[rows]
            self._put(
                module, places[name], held.to(kinds[name]) if scale is None else widened(held, scale, kinds[name])
            )
        whole = {name: kind for name, kind in kinds.items() if name not in sharded}
        for name, weight in weights(tensors, whole, self.world.device):
            self._put(module, places[name], weight)

    def _draw(self, component: str, module: nn.Module) -> None:
        """What no file of the model holds: a component that begins fresh, and adapters, which may have one of their
        own.
        """
        kinds, held = self.kinds(component), self.opened.components.get(component)
        lora = self.stage.lora.by_component().get(component)
        file = None if lora is None else lora.file
        begun = {} if file is None or held is None else going_on.numbers(component, Path(file), held)

        def is_drawn(name: str) -> bool:
            return (held is None or adapters.is_adapter(name)) and adapters.plain(name) not in begun

        begins = {n: begun[adapters.plain(n)] for n, _ in module.named_parameters() if adapters.plain(n) in begun}
        for name, tensor in chain(begins.items(), drawn(module, f"{self.stage.seed}.{component}", is_drawn)):
            rows = own_rows(module.get_parameter(name))
            self._put(module, name, tensor[rows].to(self.world.device, kinds[adapters.plain(name)]))

    def _put(self, module: nn.Module, name: str, own: Tensor) -> None:
        """Makes a tensor, of a sharded one this process's rows, the parameter of this name."""
        at, _, leaf = name.rpartition(".")
        owner = module.get_submodule(at)
        old = owner._parameters[leaf]
        assert old is not None
        if old.requires_grad or isinstance(old, DTensor):
            own = own.clone()  # else it may be its place in the file, or a view of a larger tensor
        if isinstance(old, DTensor):
            mesh, placements = old.device_mesh, old.placements
            own = DTensor.from_local(own, mesh, placements, run_check=False, shape=old.shape, stride=old.stride())
        owner._parameters[leaf] = nn.Parameter(own, requires_grad=old.requires_grad)


def own_rows(parameter: Tensor) -> slice:
    """The rows of a parameter that this process holds; a sharded one is sharded by rows alone."""
    if not isinstance(parameter, DTensor):
        return slice(None)
    shape, offset = compute_local_shape_and_global_offset(parameter.shape, parameter.device_mesh, parameter.placements)
    return slice(offset[0], offset[0] + shape[0])


def _shapes(parameters: Mapping[str, Tensor]) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(p.shape)) for name, p in parameters.items()]
