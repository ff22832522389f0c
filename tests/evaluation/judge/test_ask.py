"""Asks many questions of a server that fails: what is asked again, what ends the run, what is kept and hidden."""

from __future__ import annotations

import _thread
import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judge_server import Server, close, echo, hang, raw, says, serve, status

from lightbagel_core.evaluation.bench import Answer, Question
from lightbagel_core.evaluation.judge.ask import Cost, Judge, Judgement, ask

KEY = "sk-very-secret-key"
CODE = base64.b64encode(f"Bearer {KEY}".encode()).decode()


def question(name: str = "0", pictures: tuple[bytes, ...] = (b"picture",)) -> Question:
    """One that takes "yes" and "no" for answers."""
    makers = tuple(lambda data=data: data for data in pictures)
    return Question(name, f"Is {name} red?", makers, lambda text: text in ("yes", "no"))


def questions(n: int) -> list[Question]:
    return [question(str(i)) for i in range(n)]


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as server:
        yield server


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    for name in ("LIGHTBAGEL_JUDGE_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


class Asking:
    """Asks in the way most tests do, without waiting; `waits` holds the seconds that were to be waited."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.cache, self.waits = server, folder / "answers.jsonl", list[float]()
        self.progress = list[tuple[int, int]]()
        self.paid = list[Cost]()

    def __call__(self, *asked: Question, **fields: Any) -> Judgement:
        judge = Judge(self.server.url, "eye", **{"concurrency": 1, "timeout": 5.0, **fields})
        return ask(asked, judge, self.cache, lambda *at: self.progress.append(at), self.waits.append, self.paid.append)


@pytest.fixture
def asking(server: Server, tmp_path: Path) -> Asking:
    return Asking(server, tmp_path)


def test_every_question_gets_its_own_answer_in_order_and_the_second_time_for_nothing(asking: Asking, server: Server):
    def by_number(request):
        return says("yes" if int(request.text.split()[1]) % 3 else "no", usage=(100, 2))(request)

    server.answer = by_number
    first = asking(*questions(40), concurrency=8, price_in=5.0, price_out=10.0)
    assert list(first.answers) == [str(i) for i in range(40)]
    assert all(answer == Answer("yes" if int(i) % 3 else "no") for i, answer in first.answers.items())
    assert first.cost == Cost(40, 0, 0, 4000, 80, 0, 0.0208)
    assert asking.progress == [(i, 40) for i in range(41)]
    assert asking.paid == [first.cost]
    assert server.requests[0].pictures == [b"picture"]
    second = asking(*questions(41), concurrency=8)
    assert (second.cost.requests, second.cost.cached) == (1, 40)
    assert {**second.answers, **first.answers} == second.answers
    assert len(server.requests) == 41
    assert b"picture" not in asking.cache.read_bytes()
    assert base64.b64encode(b"picture") not in asking.cache.read_bytes()


def test_another_picture_model_or_setting_is_another_question(asking: Asking, server: Server):
    asking(question())
    for n, (asked, fields) in enumerate(
        [
            (question(pictures=(b"other",)), {}),
            (question(pictures=(b"picture", b"picture")), {}),
            (question("1"), {}),
            (question(), {"temperature": 0.5}),
            (question(), {"max_tokens": 9}),
            (question(), {"extra": {"seed": 1}}),
        ],
        2,
    ):
        asking(asked, **fields)
        assert len(server.requests) == n
    asking(question(), retries=1, timeout=7.0, price_in=1.0)
    assert len(server.requests) == 7


def test_what_fails_is_asked_again_with_growing_waits(asking: Asking, server: Server):
    server.then(status(500), close, raw(b"nonsense"), says(""), raw(b'{"choices": []}'))
    asked = asking(question())
    assert asked.answers == {"0": Answer("yes")}
    assert asked.cost.requests == 6
    assert asking.waits == [1, 2, 4, 8, 16]


def test_a_server_says_how_long_to_wait(asking: Asking, server: Server):
    again = [status(429, headers={"Retry-After": seconds}) for seconds in ("0", "7", "0")]
    server.then(*again)
    assert asking(question()).answers["0"].text == "yes"
    assert asking.waits == [1, 7, 4]
    server.then(status(503, "come back tomorrow", headers={"Retry-After": "86400"}))
    with pytest.raises(ValueError, match=r"come back tomorrow; it asks to wait 86400 seconds\. 0 of 1"):
        asking(question("1"))
    assert len(asking.waits) == 3


def test_a_timeout_is_asked_again(asking: Asking, server: Server):
    server.then(hang)
    assert asking(question(), timeout=0.4).answers["0"].text == "yes"
    assert asking.waits == [1]


def test_who_waits_is_the_run_unless_another_is_named(asking: Asking, server: Server, monkeypatch):
    monkeypatch.setattr("lightbagel_core.evaluation.judge.ask.FIRST", 0.05)
    server.then(status(500))
    began = time.monotonic()
    asked = ask([question()], Judge(server.url, "eye"), asking.cache)
    assert asked.answers["0"].text == "yes"
    assert 0.05 <= time.monotonic() - began < 30


def test_refusals_are_counted_and_asked_again_by_the_next_run(asking: Asking, server: Server):
    server.then(
        says(None, refusal="not this"),
        says("y", finish="content_filter"),
        status(400, "picture refused"),
        *[says("perhaps")] * 3,
        says("maybe"),
    )
    asked = asking(*questions(6))
    reasons = [answer.reason for answer in asked.answers.values()]
    assert [answer.text for answer in asked.answers.values()] == [None, None, None, None, "yes", "yes"]
    assert "not this" in reasons[0]
    assert "content filter" in reasons[1]
    assert "picture refused" in reasons[2]
    assert reasons[3:] == ["asked 3 times, no answer could be read: perhaps", "", ""]
    assert (asked.cost.refused, asked.cost.requests, asked.cost.tokens_in) == (4, 9, 80)
    assert asking.waits == []
    again = asking(*questions(6))
    assert (again.cost.refused, again.cost.cached, again.cost.requests) == (0, 2, 4)


def test_an_answer_cut_by_max_tokens_says_so(asking: Asking, server: Server):
    server.answer = says("ye", finish="length")
    said = r"asked once, no answer could be read, which ends where max_tokens cut it: ye$"
    with pytest.raises(ValueError, match=said):
        asking(question(), asks=1)


def test_a_picture_that_cannot_be_read_costs_no_request(asking: Asking, server: Server, tmp_path: Path):
    broken = Question("b", "Is it?", ((tmp_path / "none.png").read_bytes,), bool)
    asked = asking(broken, question())
    assert "none.png" in asked.answers["b"].reason
    assert (asked.cost.requests, asked.cost.refused) == (1, 1)


@pytest.mark.parametrize(
    ("behaviour", "said", "requests"),
    [
        (status(401, "bad key"), "LIGHTBAGEL_JUDGE_KEY", 1),
        (status(403), "denies access", 1),
        (status(404, "model not found"), "has no model eye", 1),
        (status(404, "Not Found"), "mostly ends with /v1", 1),
        (status(307, headers={"Location": "http://127.0.0.1:9/"}), "leads on to", 1),
        (close, "broke off", 2),
        (status(400, "no pictures here"), "answers none of 5 questions; of the last: .*no pictures here", 5),
        (raw(b"welcome"), "answers none of 5 questions", 10),
        (says("perhaps"), "answers none of 5 questions; of the last: asked 3 times, .* read: perhaps", 15),
    ],
)
def test_what_concerns_every_question_ends_the_run(asking: Asking, server: Server, behaviour, said: str, requests: int):
    server.answer = behaviour
    with pytest.raises(ValueError, match=said) as raised:
        asking(*questions(50), concurrency=1, retries=1)
    assert "0 of 50 questions are answered and kept in" in str(raised.value)
    assert len(server.requests) == requests


@pytest.mark.parametrize("behaviour", [says("perhaps"), says(None, refusal="not this"), status(400, "filtered")])
def test_a_run_without_one_answer_that_can_be_read_is_none(asking: Asking, server: Server, behaviour):
    server.answer = behaviour
    with pytest.raises(ValueError, match=r"answers none of 3 questions; of the last: .*(perhaps|not this|filtered)"):
        asking(*questions(3))
    server.then(says("yes"))
    assert asking(*questions(3)).cost.refused == 2


def test_refusals_and_answers_that_cannot_be_read_show_that_a_server_is_there(asking: Asking, server: Server):
    server.then(says(None, refusal="not this"), status(503), *[says("perhaps")] * 3, status(503), says("yes"))
    assert asking(*questions(5), retries=0).cost.refused == 4


def test_a_server_that_goes_away_ends_the_run_and_the_next_goes_on(asking: Asking, server: Server):
    server.then(*[says("yes")] * 10)
    server.answer = status(503, "overloaded")
    with pytest.raises(ValueError, match=r"overloaded.* 10 of 50 questions are answered"):
        asking(*questions(50), retries=0)
    assert len(server.requests) == 15
    assert asking.paid == [Cost(15, 0, 5, 100, 30)]
    server.answer = says("no")
    asked = asking(*questions(50))
    assert (asked.cost.cached, asked.cost.requests) == (10, 40)


def test_questions_that_are_always_refused_do_not_stop_the_scoring_of_the_rest(asking: Asking, server: Server):
    def picky(request):
        return (says("yes") if int(request.text.split()[1]) < 2 else status(400, "filtered"))(request)

    server.answer = picky
    for _ in range(2):
        assert asking(*questions(20)).cost.refused == 18


def test_two_questions_of_one_id_and_no_question(asking: Asking):
    with pytest.raises(ValueError, match="same id"):
        asking(question(), question())
    assert asking() == Judgement({}, Cost())


def test_an_error_of_ours_ends_the_run(asking: Asking, server: Server, tmp_path: Path):
    def broken(text: str) -> bool:
        raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        asking(Question("0", "?", (), broken))
    asking.cache = tmp_path / "answers"
    asking.cache.mkdir()
    asking.progress.clear()
    with pytest.raises(ValueError, match="cannot be read"):
        asking(question())
    assert asking.progress == []  # nobody has shown a bar


def test_the_key_stands_nowhere(asking: Asking, server: Server, monkeypatch, capfd, caplog, tmp_path: Path):
    monkeypatch.setenv("LIGHTBAGEL_JUDGE_KEY", KEY)
    server.answer = echo
    with caplog.at_level("DEBUG"):
        echoing = Question("e", "What did I send?", (), lambda text: "you sent" in text)
        answer = asking(echoing).answers["e"]
        assert answer.text is not None
        assert "Bearer [key]" in answer.text
        server.then(status(400, f"bad header Bearer {KEY} or {CODE}"), says(None, refusal=KEY), *[says(KEY)] * 3)
        server.then(says("no"))
        refused = asking(*questions(4))
        assert [answer.text for answer in refused.answers.values()] == [None, None, None, "no"]
        server.then(status(401, f"Incorrect API key provided: {KEY}", headers={"X-Key": KEY}))
        with pytest.raises(ValueError, match=r"provided: \[key\]") as raised:
            asking(question("5"))
    assert all(request.headers["authorization"] == f"Bearer {KEY}" for request in server.requests)
    shown = capfd.readouterr()
    texts = [str(raised.value), repr(raised.getrepr(showlocals=True)), str(raised.getrepr(showlocals=True))]
    texts += [repr(refused), repr(answer), refused.cost.line(), shown.out, shown.err, caplog.text]
    texts += [file.read_text("utf-8") for file in tmp_path.rglob("*") if file.is_file()]
    texts += [repr(Judge(server.url, "eye")), str(raised.value.__context__), str(raised.value.__cause__)]
    assert asking.cache.is_file()
    for text in texts:
        assert KEY not in text
        assert CODE[12:-4] not in text


def test_a_run_that_is_broken_off_keeps_its_answers_and_waits_for_nothing(asking: Asking, server: Server):
    def break_off(request):
        _thread.interrupt_main()  # as Ctrl-C does
        server.over.wait(30)

    server.then(*[says("yes")] * 6, break_off)
    server.answer = hang
    began = time.monotonic()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            asking(*questions(500), concurrency=4, timeout=60.0)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 10
    left = [thread for thread in threading.enumerate() if thread.name.startswith("judge ")]
    assert all(thread.daemon for thread in left)  # so that the program ends without them
    server.over.set()
    for thread in left:
        thread.join(10)
    assert len(server.requests) <= 10
    assert len(asking.cache.read_text("utf-8").splitlines()) == 6
    (cost,) = asking.paid
    assert 3 <= cost.requests <= 6  # what had come back just then
    assert cost.tokens_in == 10 * cost.requests
    server.answer = says("yes")
    assert asking(*questions(10)).cost.cached == 6


SCRIPT = """
import signal, sys
from pathlib import Path
from lightbagel_core.evaluation.bench import Question
from lightbagel_core.evaluation.judge.ask import Judge, ask
signal.signal(signal.SIGINT, signal.default_int_handler)
asked = [Question(str(i), "Is it red?" + str(i), (), bool) for i in range(300)]
try:
    ask(asked, Judge(sys.argv[1], "eye", concurrency=4), Path(sys.argv[2]), lambda *at: print(*at, flush=True))
except KeyboardInterrupt:
    print("broken off")
"""


@pytest.mark.slow  # it imports torch
@pytest.mark.skipif(sys.platform == "win32", reason="sends the signal of Ctrl-C")
def test_a_program_ends_at_once_by_ctrl_c(asking: Asking, server: Server):
    server.then(*[says("yes")] * 3)
    server.answer = hang
    command = [sys.executable, "-c", SCRIPT, server.url, str(asking.cache)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "3 300\n":
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=5)  # `hang` would last 30 s
    assert (out, process.returncode) == ("broken off\n", 0)
    assert len([json.loads(line) for line in asking.cache.read_text("utf-8").splitlines()]) == 3
