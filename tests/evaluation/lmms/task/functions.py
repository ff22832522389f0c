"""What the tasks of this folder have lmms-eval call: the pictures, words and score of a line of their dataset."""

from __future__ import annotations

from typing import Any

from PIL import Image


def pictures(doc: dict[str, Any]) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in doc["pictures"]]


def question(doc: dict[str, Any]) -> str:
    return doc["question"]


def messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
    """The words of the question around its pictures: each * is one."""
    first, *rest = doc["question"].split("*")
    content = [{"type": "text", "text": first.strip()}]
    for picture, words in zip(pictures(doc), rest, strict=True):
        content += [{"type": "image", "url": picture}, {"type": "text", "text": words.strip()}]
    return [{"role": "user", "content": [each for each in content if each.get("text") != ""]}]


def right(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    return {"exact_match": float(results[0] == doc["answer"])}
