"""The judge's prompts, read out of the user's copy of a bench. Python files are parsed; nothing of theirs is run."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..prompt_file import read_json


@dataclass(frozen=True)
class Template:
    """A text with gaps, as an f-string is one.

    texts: what stands between the gaps, one more than there are gaps. fields: the expression that each gap is written
    with, its quotes as Python prints them: `prompt_data['Prompt']`.
    """

    texts: tuple[str, ...]
    fields: tuple[str, ...] = ()

    def __add__(self, other: Template) -> Template:
        joined = self.texts[-1] + other.texts[0]
        return Template((*self.texts[:-1], joined, *other.texts[1:]), (*self.fields, *other.fields))

    def filled(self, values: Mapping[str, str]) -> str:
        """The text with a value in each gap; a value's own braces mean nothing. Raises KeyError for a gap without."""
        gaps = (values[field] + text for field, text in zip(self.fields, self.texts[1:], strict=True))
        return self.texts[0] + "".join(gaps)


def named(file: Path | None, names: Sequence[str], usual: str) -> list[str]:
    """The texts of these names: assigned at the top of a .py file, keys of a .json file, or a .txt file for one name.

    Args:
        usual: which file of the bench it should be, for the error where none was given.

    Raises:
        ValueError: the file cannot be read, or has no such text.
    """
    file = _given(file, usual)
    found: Mapping[str, object]
    if file.suffix == ".py":
        assigned = _assigned(_parsed(file))
        found = {name: made.texts[0] for name, made in assigned.items() if made and not made.fields}
    elif file.suffix == ".json":
        found = _object(file)
    else:
        found = {names[0]: _read(file)}
    texts = []
    for name in names:
        text = found.get(name)
        if not isinstance(text, str):
            raise ValueError(f"{file} has no text {name!r} for the judge; give the bench's own {usual}")
        texts.append(text)
    return texts


def message(file: Path | None, role: str, fields: Collection[str], usual: str) -> Template:
    """The text of the one chat message of a role.

    In a .py file that is {"role": …, "content": …} spelled out, with a text or an f-string; in a .json file the text at
    the key of that role; in a .txt file the whole of it, for the role "user".

    Args:
        fields: the expressions that may stand in its gaps. In .json and .txt each is looked for in braces.
        usual: which file of the bench it should be, for the errors.

    Raises:
        ValueError: the file cannot be read, has no such message, several that differ, or a gap of another name.
    """
    file = _given(file, usual)
    if file.suffix == ".py":
        texts = list(dict.fromkeys(_messages(_parsed(file), role)))
    else:
        whole = _object(file).get(role) if file.suffix == ".json" else _read(file) if role == "user" else None
        texts = [_with_gaps(whole, fields)] if isinstance(whole, str) else []
    if len(texts) != 1:
        count = "several different messages" if texts else "no message"
        raise ValueError(f"{file} has {count} to the judge with the role {role!r}; give the bench's own {usual}")
    unknown = [field for field in texts[0].fields if field not in fields]
    if unknown:
        raise ValueError(f"{file}: the judge's prompt asks for {unknown[0]!r}, of which nothing is known")
    return texts[0]


def _given(file: Path | None, usual: str) -> Path:
    if file is None:
        raise ValueError(f"the judge's prompts are missing: give {usual} of your copy of the bench")
    return file


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"there is no file {file}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None


def _object(file: Path) -> dict[str, object]:
    data, _ = read_json(file)
    if not isinstance(data, dict):
        raise ValueError(f"{file} holds no object of judge's prompts")
    return data


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(_read(file))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{file} is no readable Python: {error}") from None


def _text(node: ast.expr) -> Template | None:
    """The text that an expression spells out, with gaps where values are put in; None where it does anything more."""
    try:
        return _spelled(node)
    except RecursionError:  # thousands of texts added up
        return None


def _spelled(node: ast.expr) -> Template | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return Template((node.value,))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _spelled(node.left), _spelled(node.right)
        return left + right if left and right else None
    if not isinstance(node, ast.JoinedStr):
        return None
    whole = Template(("",))
    for part in node.values:
        if isinstance(part, ast.Constant):
            whole += Template((str(part.value),))
        elif isinstance(part, ast.FormattedValue) and part.conversion == -1 and part.format_spec is None:
            whole += Template(("", ""), (ast.unparse(part.value),))
        else:
            return None
    return whole


def _assigned(module: ast.Module) -> dict[str, Template | None]:
    """What the names at the top of a module stand for in the end; None where that is more than a text."""
    found: dict[str, Template | None] = {}
    for node in module.body:
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            plain = not isinstance(node, ast.AugAssign) and node.value is not None
            for target in targets:
                if isinstance(target, ast.Name):
                    found[target.id] = _text(node.value) if plain and node.value is not None else None
    return found


def _messages(module: ast.Module, role: str) -> Iterator[Template]:
    """The texts of all chat messages of a role that are spelled out anywhere in a module."""
    for node in ast.walk(module):
        keys = _keys(node)
        named_role = keys.get("role")
        if not isinstance(named_role, ast.Constant) or named_role.value != role or "content" not in keys:
            continue
        content = keys["content"]
        parts = content.elts if isinstance(content, ast.List) else [content]
        for part in parts:
            text = _text(_keys(part).get("text", part))
            if text:
                yield text


def _keys(node: ast.AST) -> dict[object, ast.expr]:
    if not isinstance(node, ast.Dict):
        return {}
    pairs = zip(node.keys, node.values, strict=True)
    return {key.value: value for key, value in pairs if isinstance(key, ast.Constant)}


def _with_gaps(text: str, fields: Collection[str]) -> Template:
    pattern = "|".join(re.escape(f"{{{field}}}") for field in fields)
    if not pattern:
        return Template((text,))
    return Template(tuple(re.split(pattern, text)), tuple(gap[1:-1] for gap in re.findall(pattern, text)))
