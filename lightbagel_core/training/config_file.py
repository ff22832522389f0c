"""From a TOML file or a preset, with overrides, to the stages of a training.

A file has sections that are common to all stages, and stages that differ from it:

    seed = 1
    [model]
    model = "nano"
    [optimiser]
    lr = 3e-5
    [[stages]]
    name = "first"
    steps = 1000
    optimiser.lr = 1e-4

`read` gives one `Stage` per stage, each with everything filled in. An override such as `optimiser.lr=1e-4` holds for
every stage, `stages.first.optimiser.lr=1e-4` for the one of that name.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .stages import Stage

PRESETS = Path(__file__).parent / "presets"


def read(source: str | Path, overrides: Sequence[str] = ()) -> list[Stage]:
    """The stages of a config file, or of a preset by its name.

    Args:
        overrides: "key=value", with TOML's values or bare words; for every stage, or as "stages.NAME.key=value" for
            one.

    Raises:
        ValueError: there is no such file or preset, it is no TOML, a key is unknown, or a value of the wrong kind.
    """
    file = _file(source)
    tables, said = _tables(file), [_override(text) for text in overrides]
    known = [str(table.get("name", Stage.name)) for table in tables]
    for name in (name for override in said for name in override.get("stages", {})):
        if name not in known:
            raise ValueError(f"{file} has no stage {name}; it has {', '.join(known)}")
    found = []
    for name, merged in zip(known, tables, strict=True):
        for override in said:
            merged = merge(merged, override["stages"].get(name, {}) if "stages" in override else override)
        try:
            found.append(build(Stage, merged))
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
    names = [stage.name for stage in found]
    if len(set(names)) < len(names):
        raise ValueError(f"{file}: stages need names of their own, these are called {', '.join(names)}")
    return found


def _file(source: str | Path) -> Path:
    file = Path(source)
    if file.suffix or file.is_file():
        return file
    file = PRESETS / f"{source}.toml"
    if not file.is_file():
        known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.toml")))
        raise ValueError(f"there is no preset {str(source)!r}; there are {known}; a file's name ends in .toml")
    return file


def _tables(file: Path) -> list[dict[str, Any]]:
    """What a file says of each stage, common sections included."""
    try:
        common = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"there is no file {file}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
    stages = common.pop("stages", [{}])
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages) or not stages:
        raise ValueError(f"{file}: stages are written as [[stages]]")
    return [merge(common, stage) for stage in stages]


def merge(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested tables as one; what `more` says wins. Lists are replaced whole."""
    merged = dict(base)
    for key, value in more.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"{text!r} is no override; write key=value, such as optimiser.lr=1e-4")
    for said in (value, f'"{value}"', f"'{value}'"):  # the last keeps backslashes
        try:
            table = tomllib.loads(f"{key} = {said}")
        except tomllib.TOMLDecodeError:
            continue
        if not _are_tables(table.get("stages", {})):
            raise ValueError(f"{text!r} is no override; of one stage it is stages.NAME.key=value")
        return table
    raise ValueError(f"{text!r} is no override: {value!r} is neither a value of TOML nor a word")


def _are_tables(stages: Any) -> bool:
    """Whether what an override says of stages by their names is a table of each."""
    return isinstance(stages, Mapping) and all(isinstance(said, Mapping) for said in stages.values())


def build(cls: Any, table: Any, at: str = "") -> Any:
    """A dataclass from a table of TOML, checked field by field.

    Raises:
        ValueError: a key is unknown, or a value of the wrong kind; `at` says where.
    """
    if not isinstance(table, Mapping):
        raise ValueError(f"{at.rstrip('.')} is a table, not {table!r}")
    hints = get_type_hints(cls)
    known = [f.name for f in fields(cls)]
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            meant = f"; did you mean {at}{near[0]}?" if near else f"; known are {', '.join(known)}"
            raise ValueError(f"there is no key {at}{key}{meant}")
    return cls(**{key: _value(hints[key], value, f"{at}{key}") for key, value in table.items()})


def _value(kind: Any, value: Any, at: str) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return build(kind, value, f"{at}.")
    if origin in (Union, UnionType):
        if value == "none" and type(None) in args:
            return None
        return _value(next(a for a in args if a is not type(None)), value, at)
    if origin is Literal:
        if value not in args:
            raise ValueError(f"{at} is one of {', '.join(map(str, args))}, not {value!r}")
        return value
    if origin is tuple:
        if isinstance(value, Mapping) and is_dataclass(args[0]) and "name" in get_type_hints(args[0]):
            return tuple(replace(build(args[0], said, f"{at}.{name}."), name=name) for name, said in value.items())
        if not isinstance(value, list | tuple):
            raise ValueError(f"{at} is a list, not {value!r}")
        if args[-1] is not Ellipsis and len(value) != len(args):
            raise ValueError(f"{at} has {len(args)} values, not {len(value)}")
        return tuple(_value(args[0], v, f"{at}[{i}]") for i, v in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{at} is {'a ' if kind is not int else 'an '}{kind.__name__}, not {value!r}")
    return value
