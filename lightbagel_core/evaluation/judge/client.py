"""Sends one request to a judge behind an OpenAI-compatible endpoint, and says in plain words what came of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any, Literal
from urllib.parse import urlsplit

from .access import OURS, PATH, Key

SHOWN = 300  # letters of what a server says, in a sentence of ours
LOGGERS = ("openai", "httpx", "httpcore", "httpx2", "httpcore2")  # at DEBUG they write bodies and headers
# Headers that a request keeps of those the library gives it; by the last the library knows that it was asked for the
# whole response.
SENT = {
    "host",
    "accept",
    "accept-encoding",
    "connection",
    "user-agent",
    "content-length",
    "content-type",
    "x-stainless-raw-response",
}

# text: an answer. refused: the judge will not answer. rejected: the server does not take this request.
# nonsense: what came is no answer. away: the server is not there or overloaded. stop: it concerns every question.
Kind = Literal["text", "refused", "rejected", "nonsense", "away", "stop"]


@dataclass(frozen=True)
class Reply:
    """What came of one request.

    text: the answer, or in words what happened. cut: the answer was as long as it may be.
    tokens: as the server counts them, of request and answer; None where it does not say.
    after: the seconds that the server wants to be left alone.
    """

    kind: Kind
    text: str
    tokens: tuple[int, int] | None = None
    after: float | None = None
    cut: bool = False

    @property
    def again(self) -> bool:
        """Whether the same request may go better later."""
        return self.kind in ("nonsense", "away")


def one_line(text: str) -> str:
    """Somebody else's words in one line: without what would steer a terminal, and not too long."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


class Client:
    """A connection to one judge. It knows no other address: it follows no redirect and uses no proxy, and of the
    environment's variables for the library `openai` none reaches the request.
    """

    def __init__(self, url: str, key: Key, timeout: float) -> None:
        """Raises ValueError when the library `openai` is missing, or has no use for the address."""
        try:
            import openai
        except ImportError:
            raise ValueError("a judge needs the library openai; pip install openai") from None

        def only_ours(request: Any) -> None:
            for name in [name for name in request.headers if name.lower() not in SENT]:
                del request.headers[name]
            if key:
                request.headers["Authorization"] = key.header()

        self.url, self._key, self._library = url, key, openai
        http = openai.DefaultHttpxClient(
            follow_redirects=False, trust_env=False, event_hooks={"request": [only_ours], "response": []}
        )
        # The library itself never learns the key, so it can log none.
        try:
            self._client = openai.OpenAI(api_key="none", base_url=url, http_client=http, max_retries=0, timeout=timeout)
            if self._client.base_url.raw_host.decode() != urlsplit(url).hostname:
                raise ValueError("its host can be read in two ways")
        except Exception as error:
            raise ValueError(f"the judge's address {url} cannot be used: {error}") from None

    def close(self) -> None:
        self._client.close()

    def ask(self, body: Mapping[str, Any]) -> Reply:
        """Sends one request. Args: body: as the endpoint takes it. Nothing is raised for what a server does."""
        known = {name: body[name] for name in ("model", "messages")}
        rest = {name: value for name, value in body.items() if name not in known}
        library = self._library
        try:
            raw = self._client.chat.completions.with_raw_response.create(**known, extra_body=rest)
            return self._read(raw.http_response)
        except library.APIStatusError as error:
            return self._status(error.response, str(body["model"]))
        except library.APITimeoutError:
            return Reply("away", f"the judge at {self.url} did not answer in time")
        except library.APIConnectionError as error:
            why = self._say(str(error.__cause__ or error))
            return Reply("away", f"the judge at {self.url} cannot be reached, or broke off: {why}")
        except UnicodeError as error:
            return Reply("rejected", f"the question cannot be sent: {error}")
        except library.OpenAIError as error:
            return Reply("nonsense", self._say(str(error)))

    def _say(self, text: str) -> str:
        return one_line(self._key.scrub(text))

    def _read(self, response: Any) -> Reply:
        data = _json(response)
        tokens = _tokens(_of(data, "usage"))
        choices = _of(data, "choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = _of(choice, "message")
        if not isinstance(message, dict):
            return Reply("nonsense", f"the judge's answer has no message: {self._say(response.text)}", tokens)
        if refusal := _of(message, "refusal"):
            return Reply("refused", f"the judge refused: {self._say(str(refusal))}", tokens)
        end = _of(choice, "finish_reason")
        if end == "content_filter":
            return Reply("refused", "the judge's content filter stopped the answer", tokens)
        text = _of(message, "content")
        if isinstance(text, list):
            text = "".join(str(_of(part, "text") or "") for part in text)
        if not isinstance(text, str) or not text.strip():
            longer = (
                ", with as many tokens as max_tokens allows; allow more by --judge-max-tokens"
                if end == "length"
                else ""
            )
            return Reply("nonsense", f"the judge's answer is empty{longer}", tokens)
        text = self._key.scrub(text).encode("utf-8", "replace").decode("utf-8")
        return Reply("text", text, tokens, cut=end == "length")

    def _status(self, response: Any, model: str) -> Reply:
        status = int(response.status_code)
        data = _json(response)
        error = _of(data, "error") or data
        said = _of(error, "message") or (error if isinstance(error, str) else _of(data, "detail")) or response.text
        message = self._say(str(said)) or "without a word"
        code, param = str(_of(error, "code")), str(_of(error, "param"))
        after = _seconds(response.headers.get("retry-after"))
        if status == 429 and code == "insufficient_quota":
            return Reply("stop", f"the judge's account has nothing left: {message}")
        if status in (408, 409, 429) or status >= 500:
            kind: Kind = "nonsense" if status == 500 else "away"  # 500 is often one question's fault
            return Reply(kind, f"the judge at {self.url} answers {status}: {message}", after=after)
        if status == 400 and param in ("temperature", "max_tokens"):
            return Reply("stop", f"the judge's model takes no such {param}: {message}; {_other(param)}")
        if status in (400, 413, 422, 451) and not (code == "model_not_found" or param == "model"):
            return Reply("rejected", f"the judge's server does not take this question ({status}): {message}")
        return Reply("stop", self._advice(status, code, param, message, model, response))

    def _advice(self, status: int, code: str, param: str, message: str, model: str, response: Any) -> str:
        if 300 <= status < 400:
            where = self._say(str(response.headers.get("location", "nowhere")))
            return (
                f"the judge at {self.url} leads on to {where}; pictures are sent to no address but the one that was "
                "named: name that one, if you trust it"
            )
        if status == 401:
            sent = "the key that it was sent" if self._key else "a request without a key"
            return f"the judge at {self.url} does not accept {sent}: {message}; set {OURS} in the environment"
        if status == 403:
            return f"the judge at {self.url} denies access: {message}; see what the key is allowed to do"
        if code == "model_not_found" or param == "model" or (status == 404 and "model" in message.lower()):
            return f"the judge at {self.url} has no model {model}: {message}; name one that it serves"
        if status == 404:
            return f"there is nothing at {self.url}{PATH}: {message}; a judge's address mostly ends with /v1"
        return f"the judge at {self.url} answers {status}: {message}"


def _other(param: str) -> str:
    """What to do about a parameter that a model does not take."""
    option = f"--judge-{param.replace('_', '-')}"
    instead = """, with --judge-extra '{"max_completion_tokens": 4000}' instead"""
    return f"set another by {option}, or leave it out by {option} none{instead if param == 'max_tokens' else ''}"


def _json(response: Any) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def _of(data: Any, name: str) -> Any:
    return data.get(name) if isinstance(data, dict) else None


def _tokens(usage: Any) -> tuple[int, int] | None:
    counts = [_of(usage, name) for name in ("prompt_tokens", "completion_tokens")]
    if all(isinstance(n, int) and n >= 0 for n in counts):
        return counts[0], counts[1]
    return None


def _seconds(header: str | None) -> float | None:
    """How long `Retry-After` asks to wait: it is a number of seconds, or a date."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, OverflowError):  # a year that no date has
            return None
    return max(0.0, seconds) if isfinite(seconds) else None


def quiet() -> Callable[[], None]:
    """Keeps the libraries that send requests from logging more than warnings; gives what restores their levels."""
    names = {*LOGGERS, *(name for name in logging.root.manager.loggerDict if name.split(".")[0] in LOGGERS)}
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(max(logger.level, logging.WARNING))

    def restore() -> None:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

    return restore
