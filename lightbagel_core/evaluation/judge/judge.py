"""Which judge is asked, and how."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from ..bench import Question
from .access import checked_url


@dataclass(frozen=True)
class Judge:
    """A judge, and how it is asked. Its key is no part of it: see `key_for` in access.py.

    url: the endpoint's address, like http://localhost:8000/v1; pictures are sent there and nowhere else.
    model: the name under which the endpoint knows the model.
    temperature, max_tokens: None leaves them out, for models that take none.
    extra: what else is sent with every question, such as {"max_completion_tokens": 2000}.
    price_in, price_out: of a million tokens, for `Cost.line`.
    concurrency: questions under way at once. timeout: seconds without a byte from the server.
    retries: further tries when a server fails, with growing waits.
    asks: how often a question is asked until its answer can be read.
    """

    url: str
    model: str
    temperature: float | None = 0.0
    max_tokens: int | None = 2000
    extra: Mapping[str, Any] = field(default_factory=dict)
    price_in: float | None = None
    price_out: float | None = None
    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 5
    asks: int = 3

    def __post_init__(self) -> None:
        """Raises ValueError where a field makes no sense, or pictures may not be sent to the address."""
        object.__setattr__(self, "url", checked_url(self.url))
        if not self.model.strip():
            raise ValueError("the judge's model has no name; name one that the endpoint serves")
        for name, least in {"concurrency": 1, "retries": 0, "asks": 1, "max_tokens": 1}.items():
            number = getattr(self, name)
            if number is not None and number < least:
                raise ValueError(f"the judge's {name} is {number}; at least {least} makes sense")
        for name in ("timeout", "temperature", "price_in", "price_out"):
            number = getattr(self, name)
            bound = "above 0" if name == "timeout" else "0 or above"
            if number is not None and not (isfinite(number) and (number > 0 or (number == 0 and name != "timeout"))):
                raise ValueError(f"the judge's {name} is {number}; it must be {bound}")
        if twice := sorted({"model", "messages", "temperature", "max_tokens", "stream", "n"} & set(self.extra)):
            raise ValueError(f"{', '.join(twice)} cannot stand in what is sent besides; it is set by itself")

    def body(self, question: Question) -> dict[str, Any]:
        """What the endpoint is sent: the system's message, then the user's, its text first, its pictures in order.

        Raises:
            ValueError, OSError: a picture cannot be read.
        """
        content: list[dict[str, Any]] = [{"type": "text", "text": question.text}]
        for picture in question.pictures:
            url = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"
            content.append({"type": "image_url", "image_url": {"url": url}})
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if question.system:
            messages.insert(0, {"role": "system", "content": question.system})
        body = {"model": self.model, "messages": messages, **self.extra}
        numbers = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        return body | {name: number for name, number in numbers.items() if number is not None}
