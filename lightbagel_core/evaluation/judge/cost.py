"""What a judge's answers took: requests, tokens, money."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .client import Reply
from .judge import Judge


@dataclass(frozen=True)
class Cost:
    """What a run of questions took.

    requests: sent; more than questions where a server failed. cached: questions answered by an earlier run.
    refused: questions without an answer. uncounted: replies of which the server gave no number of tokens.
    money: None without prices, and where not all tokens are known.
    """

    requests: int = 0
    cached: int = 0
    refused: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    uncounted: int = 0
    money: float | None = None

    @classmethod
    def of(cls, replies: Sequence[Reply], cached: int, refused: int, judge: Judge) -> Cost:
        """Adds up what all replies took, at the judge's prices."""
        counts = [reply.tokens for reply in replies if reply.tokens]
        tokens_in, tokens_out = (sum(count[side] for count in counts) for side in (0, 1))
        uncounted = sum(reply.kind in ("text", "refused") and reply.tokens is None for reply in replies)
        money = None
        if (judge.price_in is not None or judge.price_out is not None) and not uncounted:
            money = (tokens_in * (judge.price_in or 0.0) + tokens_out * (judge.price_out or 0.0)) / 1e6
        return cls(len(replies), cached, refused, tokens_in, tokens_out, uncounted, money)

    def line(self) -> str:
        """The whole in one line, to be printed."""
        parts = [
            _count(self.requests, "request"),
            f"{_count(self.cached, 'answer')} from the cache",
            f"{_count(self.tokens_in, 'token')} in, {self.tokens_out:,} out",
        ]
        if self.uncounted:
            parts.append(f"tokens of {_count(self.uncounted, 'answer')} unknown")
        if self.money is not None:
            parts.append(f"cost {self.money:,.2f}")
        if self.refused:
            parts.append(f"{_count(self.refused, 'question')} without an answer")
        return "judge: " + ", ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
