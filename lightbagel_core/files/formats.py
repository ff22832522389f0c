"""From the files people have to a model's components: which format a file has, and its tensors under our names.

| component | formats |
| --- | --- |
| a whole model | our folder; the authors' `ema.safetensors` or `model.safetensors`, sharded or not, new or old names; |
| | what ComfyUI's saving nodes write of a LightBagel, all of it or its MODEL alone |
| understanding | Hugging Face folder, sharded or not; ComfyUI's single file |
| generation | diffusers' folder; original and ComfyUI's single file |
| fusion | our `fusion.safetensors` |
| vae | diffusers' folder; original and ComfyUI's single file |

Weights may be float32, bfloat16, float16, or float8 with or without scales, as ComfyUI's files store them: `X.weight`
with `X.scale_weight` (older) or `X.weight_scale` (newer). Here the scale of `X.weight` is `X.weight_scale`, float32 [].
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from ..config import PUBLISHED, LightBagelConfig
from . import key_maps as names
from . import tensor_files as stored
from .components import COMPONENTS, empty_components
from .embedded import CONFIG, content_of, without_files
from .lora import with_loras
from .precision import FLOAT8_KINDS, SCALE, is_scale
from .tensor_files import Tensors
from .tokenizer import find_tokenizer

OPTION = {name: f"--{name}" for name in COMPONENTS}
INSIDE = {  # where in a folder a component's files may lie, and how they may be called
    "understanding": (("", "text_encoder"), ("model",)),
    "generation": (("", "transformer"), ("diffusion_pytorch_model",)),
    "fusion": (("",), ("fusion",)),
    "vae": (("", "vae"), ("diffusion_pytorch_model",)),
}
WHOLE = ("ema", "ema/model", "model")  # what the authors call theirs, the better one first


@dataclass(frozen=True)
class Opened:
    """A model whose files have been listed and found to fit; no weight has been read.

    components: the tensors of each, under our names. Without `fusion` the model is the plain Wan and the plain Qwen.
    tokenizer: the folder that holds it. config_file: what the config was read from.
    loras: what is added to weights when they are read: files, and the strength of each.
    """

    config: LightBagelConfig
    config_file: Path
    components: dict[str, Tensors]
    tokenizer: Path | None
    loras: Mapping[Path, float] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        """Every file that weights come from."""
        return sorted({s.file for tensors in self.components.values() for s in tensors.values()} | self.loras.keys())


def read_config(file: Path) -> LightBagelConfig:
    """The config in a config.json, or inside a safetensors file (see `embedded`).

    Raises:
        ValueError: the file is no readable LightBagel config.
    """
    try:
        if file.suffix == ".safetensors":
            inside = without_files(stored.read_header(file))[1]
            if CONFIG not in inside:
                raise ValueError(f"it holds no {CONFIG}")
            data = json.loads(content_of(inside[CONFIG]))
        else:
            data = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{file.parent} has no {file.name}; it is not a LightBagel checkpoint folder") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{file} is not a LightBagel config")
    try:
        return LightBagelConfig.from_dict(data)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _scalar(tensor: Tensor) -> Tensor:
    return tensor.reshape(()).float()


def with_scales(tensors: Tensors) -> Tensors:
    """The same with the scales of float8 weights as `X.weight_scale`, and without ComfyUI's markers beside them.

    Raises:
        ValueError: a scale without its weight or of a shape that is no scalar; a quantisation that cannot be read.
    """
    found: Tensors = {}
    for name, tensor in tensors.items():
        stem, _, leaf = name.rpartition(".")
        if leaf in ("comfy_quant", "scaled_fp8", "input_scale", "scale_input"):
            continue  # markers, and scales of activations, which stay as they are here
        if leaf in ("scale_weight", "weight_scale"):
            owner = tensors.get(f"{stem}.weight")
            real = tensor.dtype.is_floating_point and tensor.dtype not in FLOAT8_KINDS
            if owner is None or owner.dtype not in FLOAT8_KINDS or tensor.shape not in ((), (1,)) or not real:
                raise ValueError(
                    f"{tensor.file} holds {name} {list(tensor.shape)} {tensor.dtype}, which is no scale of a float8 "
                    "weight; of quantised files only float8 with one scale per weight can be read"
                )
            name, tensor = f"{stem}.weight{SCALE}", replace(tensor, shape=(), rework=_scalar)
        if name in found:
            raise ValueError(f"{tensor.file} holds the scale {name} twice")
        found[name] = tensor
    strange = sorted(n for n, t in found.items() if not t.dtype.is_floating_point)
    if strange:
        raise ValueError(
            f"{found[strange[0]].file} stores {stored.listed(strange)} as whole numbers: of quantised files only "
            "float8 can be read here"
        )
    return found


def renamed(tensors: Tensors, new_name: Callable[[str], str]) -> Tensors:
    """Tensors under new names.

    Raises:
        ValueError: two of them would have one name.
    """
    found: Tensors = {}
    for name, tensor in tensors.items():
        new = new_name(name)
        if new in found:
            raise ValueError(f"{tensor.file} holds {new} twice: as {found[new].key} and as {tensor.key}")
        found[new] = tensor
    return found


def understanding(tensors: Tensors, config: LightBagelConfig, wanted: Mapping[str, Any]) -> Tensors:
    return renamed(tensors, names.qwen_name)


def generation(tensors: Tensors, config: LightBagelConfig, wanted: Mapping[str, Any]) -> Tensors:
    tensors = renamed(tensors, lambda name: name.removeprefix("model.diffusion_model."))
    if any(".self_attn." in name for name in tensors):
        tensors = renamed(tensors, names.diffusers_transformer_name(tensors))
    patches = tensors.get("patch_embedding.weight")
    if patches is not None and len(patches.shape) == 2:
        shape, channels = tuple(wanted["patch_embedding.weight"]), config.generation["in_channels"]
        if patches.shape == (shape[0], shape[1] * shape[2] * shape[3] * shape[4]):
            unfold = partial(names.unfolded_patches, channels=channels)
            tensors["patch_embedding.weight"] = replace(patches, shape=shape, rework=unfold)
    return tensors


def fusion(tensors: Tensors, config: LightBagelConfig, wanted: Mapping[str, Any]) -> Tensors:
    return tensors


def vae(tensors: Tensors, config: LightBagelConfig, wanted: Mapping[str, Any]) -> Tensors:
    if "conv1.weight" not in tensors:
        return tensors
    ours = {names.original_vae_name(name, config.vae["num_res_blocks"]): name for name in wanted}

    def new_name(name: str) -> str:
        weight = name.removesuffix(SCALE)
        return ours.get(weight, weight) + name[len(weight) :]

    return renamed(tensors, new_name)


CANONICAL: dict[str, Callable[[Tensors, LightBagelConfig, Mapping[str, Any]], Tensors]] = {
    "understanding": understanding,
    "generation": generation,
    "fusion": fusion,
    "vae": vae,
}


def _component_file(component: str, path: Path) -> Path:
    """The file, or the index of the shards, that holds a component at a path a person gave, or inside that folder."""
    if not path.is_dir():
        return path
    folders, stems = INSIDE[component]
    for folder in folders:
        found = stored.find(path / folder, component, *stems)
        if found is not None:
            return found
    pickled = sorted(file for file in path.iterdir() if file.suffix.lower() in stored.PICKLED)
    if pickled:
        stored.refuse_pickle(pickled[0])
    raise ValueError(f"{path} holds no {' or '.join(f'{s}.safetensors' for s in (component, *stems))}")


def is_ours(checkpoint: Path) -> bool:
    """Whether a path is a folder of our own; one with a fusion stack alone need not have a config."""
    held = [name for name in COMPONENTS if stored.find(checkpoint, name)]
    return bool(held) and (held != ["fusion"] or (checkpoint / "config.json").is_file())


@dataclass(frozen=True)
class Listed:
    """What a path holds: the tensors of components, and where the config of its own is, if it brings one."""

    components: dict[str, Tensors]
    config: Path | None = None


def _saved_by_comfyui(tensors: Tensors, file: Path) -> Listed:
    """The components in a file of ComfyUI's saving nodes; of a MODEL alone these are generation and fusion.

    Raises:
        ValueError: it holds tensors of something else.
    """
    weights, files = without_files(tensors)
    weights = with_scales(weights)
    of_components = _found(names.saved_names(weights), weights, file)
    return Listed(of_components, file if CONFIG in files else None)


def _found(found: dict[str, dict[str, str]], tensors: Tensors, file: Path) -> dict[str, Tensors]:
    """The tensors of components, from {component: {the name there: name in the file}}.

    Raises:
        ValueError: some are "unknown".
    """
    unknown = found.pop("unknown")
    if unknown:
        raise ValueError(f"{file} holds tensors that belong to no component: {stored.listed(sorted(unknown.values()))}")
    return {name: {new: tensors[old] for new, old in of.items()} for name, of in found.items() if of}


def _component(component: str, path: Path) -> Listed:
    """A component from a path that a person gave. A MODEL as ComfyUI saves it brings its fusion stack too."""
    file = _component_file(component, path)
    tensors = stored.read_any(file)
    if not names.is_saved_by_comfyui(tensors):
        return Listed({component: with_scales(without_files(tensors)[0])})
    listed = _saved_by_comfyui(tensors, file)
    if component not in listed.components:
        raise ValueError(f"{file}, which ComfyUI saved, holds no {component} component")
    wanted = (component, "fusion") if component == "generation" else (component,)
    return replace(listed, components={c: listed.components[c] for c in wanted if c in listed.components})


def _layers(config: Path) -> int:
    return read_config(config).fusion.layers


def _whole(checkpoint: Path, layers: Callable[[], int]) -> Listed:
    """A checkpoint: our folder, the authors' file or folder (of a stack of `layers()`), ComfyUI's file, a fusion stack
    alone.
    """
    if is_ours(checkpoint):
        files = {name: stored.find(checkpoint, name) for name in COMPONENTS}
        held = {name: with_scales(stored.read_any(file)) for name, file in files.items() if file is not None}
        return Listed(held, checkpoint / CONFIG)
    file = stored.find(checkpoint, *WHOLE, "fusion") if checkpoint.is_dir() else checkpoint
    if file is None:
        pickled = sorted(f for f in checkpoint.iterdir() if f.suffix.lower() in stored.PICKLED)
        if pickled:
            stored.refuse_pickle(pickled[0])
        raise ValueError(
            f"{checkpoint} is no LightBagel checkpoint: it has neither a config.json with our components beside it nor "
            "ema.safetensors, model.safetensors or fusion.safetensors"
        )
    tensors = stored.read_any(file)
    if names.is_saved_by_comfyui(tensors):
        return _saved_by_comfyui(tensors, file)
    tensors = with_scales(tensors)
    if any(name.startswith(("vision_language_model.", "vgen_model")) for name in tensors):
        return Listed(_found(names.author_names(tensors, layers()), tensors, file))
    if "context" in tensors:
        return Listed({"fusion": tensors})
    raise ValueError(
        f"{file} is neither the authors' checkpoint nor a LightBagel fusion stack nor a LightBagel that ComfyUI saved: "
        f"its tensors are called {stored.listed(sorted(tensors))}. A base model's file goes with "
        f"{OPTION['understanding']}, {OPTION['generation']} or {OPTION['vae']}."
    )


def open_model(
    checkpoint: Path | None = None,
    *,
    components: Mapping[str, Path | None] | None = None,
    tokenizer: Path | None = None,
    config: Path | None = None,
    need: Collection[str] = COMPONENTS,
    loras: Mapping[str, float] | Mapping[Path, float] | None = None,
) -> Opened:
    """Lists a model's files, whatever their format, and checks that they fit the model; reads no weights.

    Args:
        checkpoint: our folder, the authors' file or folder, what ComfyUI saved, a fusion stack alone; None for the base
            models as they are.
        components: base models' files or folders by component; they win over what the checkpoint holds.
        tokenizer: Qwen2.5-VL's tokenizer files; default: beside the understanding branch.
        need: components that are wanted; of the others no file needs to be there.
        config: a config.json of a model of another size than the published 7B + 5B; our folder and what ComfyUI saved
            bring their own.
        loras: LoRA files, and the strength of each; see `with_loras`.

    Raises:
        ValueError: a file is missing, pickled or damaged; tensors are missing, unexpected or of a wrong shape.
    """
    given = {name: Path(path) for name, path in (components or {}).items() if path is not None}
    for path in (checkpoint, *given.values()):
        if path is not None:
            stored.refuse_pickle(path)
            if not path.exists():
                raise ValueError(f"there is no checkpoint folder or file {path}")
    layers = partial(_layers, config or PUBLISHED)
    whole = Listed({}) if checkpoint is None else _whole(checkpoint, layers)
    parts = {name: _component(name, path) for name, path in given.items()}
    own = [listed.config for listed in (whole, *parts.values()) if listed.config is not None]
    config = config or next(iter(own), PUBLISHED)
    described = read_config(config)
    held = whole.components | {n: t for part in parts.values() for n, t in part.components.items()}
    held |= {name: part.components[name] for name, part in parts.items()}  # what was named wins over what came along
    # A checkpoint must have a fusion stack; without any checkpoint it is the base models as they are.
    wanted = COMPONENTS if checkpoint is not None else tuple(name for name in COMPONENTS if name != "fusion")
    lacking = [name for name in wanted if name in need and name not in held]
    if lacking:
        raise ValueError(
            f"{checkpoint or 'a model put together from files'} lacks the {lacking[0]} component"
            f"{'' if checkpoint is None or not is_ours(checkpoint) else f', {lacking[0]}.safetensors'}; name a file or "
            f"folder of it with {OPTION[lacking[0]]}"
        )
    needed = [component for component in COMPONENTS if component in held and component in need]
    modules = empty_components(described, config, needed)
    if tokenizer is not None and find_tokenizer(tokenizer) is None:
        raise ValueError(f"{tokenizer} holds no tokenizer: neither a tokenizer.json nor a vocab.json")
    shapes = {name: {n: tuple(t.shape) for n, t in module.state_dict().items()} for name, module in modules.items()}
    opened: dict[str, Tensors] = {}
    for component in (name for name in COMPONENTS if name in held and name in need):
        tensors = CANONICAL[component](held[component], described, shapes[component])
        weights = {name: tensor for name, tensor in tensors.items() if not is_scale(name, tensors)}
        what = f"the {component} component in {_where(held[component], given.get(component) or checkpoint)}"
        stored.check_fit(weights, shapes[component], what)
        opened[component] = tensors
    added = {Path(file): strength for file, strength in (loras or {}).items()}
    if len({file.resolve() for file in added}) < len(loras or {}):
        raise ValueError("a LoRA is given twice; give it once, with the strength that both add up to")
    found = find_tokenizer(tokenizer, given.get("understanding"), checkpoint)
    return Opened(described, config, with_loras(opened, added, need), found, added)


def _where(tensors: Tensors, path: Path | None) -> str:
    files = {tensor.file for tensor in tensors.values()}
    return str(files.pop() if len(files) == 1 else path)
