"""Requests, tokens and money, by hand."""

from __future__ import annotations

from lightbagel_core.evaluation.judge.client import Reply
from lightbagel_core.evaluation.judge.cost import Cost
from lightbagel_core.evaluation.judge.judge import Judge

URL = "http://localhost:8000/v1"
REPLIES = [Reply("text", "yes", (1_000_000, 2000)), Reply("away", "broke off"), Reply("refused", "no", (500_000, 0))]


def test_every_reply_that_was_paid_for_counts():
    cost = Cost.of(REPLIES, 4, 1, Judge(URL, "m", price_in=2.5, price_out=10.0))
    assert cost == Cost(3, 4, 1, 1_500_000, 2000, 0, 1.5 * 2.5 + 0.002 * 10)
    assert cost.line() == (
        "judge: 3 requests, 4 answers from the cache, 1,500,000 tokens in, 2,000 out, cost 3.77, "
        "1 question without an answer"
    )


def test_without_prices_or_without_counts_no_money_is_named():
    assert Cost.of(REPLIES, 0, 0, Judge(URL, "m")).money is None
    cost = Cost.of([*REPLIES, Reply("text", "yes")], 0, 0, Judge(URL, "m", price_in=1.0))
    assert cost.money is None
    assert cost.line() == (
        "judge: 4 requests, 0 answers from the cache, 1,500,000 tokens in, 2,000 out, tokens of 1 answer unknown"
    )
    assert Cost.of(REPLIES[:1], 0, 0, Judge(URL, "m", price_in=1.0)).money == 1.0
