"""Asks a judge, a model behind an OpenAI-compatible endpoint, a bench's questions, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from typing import Any

from ..bench import Answer, Question
from .access import key_for
from .cache import Cache, fingerprint
from .client import Client, Reply, one_line, quiet
from .cost import Cost
from .judge import Judge

__all__ = ["Cost", "Judge", "Judgement", "ask"]

FIRST, LONGEST = 1.0, 60.0  # seconds between two tries: they double from the one to the other
PATIENCE = 600.0  # seconds that a server may ask to wait before the run ends instead
LOST = 5  # questions without an answer, after which a server is taken for gone or wrong


@dataclass(frozen=True)
class Judgement:
    """The answers by their questions' ids, in the questions' order, and what they took."""

    answers: Mapping[str, Answer]
    cost: Cost


@dataclass(frozen=True)
class _Asked:
    """A question's end: its answer, the replies that led to it, and why the whole run must end, if it must."""

    id: str
    answer: Answer
    replies: Sequence[Reply] = ()
    trouble: str = ""

    @property
    def cached(self) -> bool:
        return not self.replies and self.answer.text is not None


class _Stopped(Exception):
    """The run is over; nobody waits for this question any more."""


def ask(
    questions: Sequence[Question],
    judge: Judge,
    cache: Path,
    progress: Callable[[int, int], object] | None = None,
    wait: Callable[[float], object] | None = None,
    paid: Callable[[Cost], object] | None = None,
) -> Judgement:
    """Asks a judge all questions. Broken off, by Ctrl-C or by what is raised, it goes on where it stood when called
    again: what was answered is in `cache`. What was refused, or could not be read, is not; it is asked again then.

    Args:
        cache: the file of answers, of this judge and others.
        progress: called when the first questions are about to be sent, and after each, with how many are done, of how
            many.
        wait: waits so many seconds before a request is sent again.
        paid: called with what the run took, also where it breaks off; of a question under way then, what came back.

    Raises:
        ValueError: two questions have one id; openai is missing; the endpoint does not know the model or the key, is
            not there, or gives no answer that can be read to any question; the cache cannot be read or written.
    """
    if len({question.id for question in questions}) < len(questions):
        raise ValueError("two questions to the judge have the same id")
    kept = Cache(cache)
    client = Client(judge.url, key_for(judge.url), judge.timeout)
    stop = Event()
    todo: SimpleQueue[Question] = SimpleQueue()
    done: SimpleQueue[_Asked | BaseException] = SimpleQueue()
    for question in questions:
        todo.put(question)
    asker = _Asker(judge, client, kept, stop, wait or stop.wait)
    work = partial(asker.work, todo, done)
    number = min(judge.concurrency, len(questions))
    # Daemons, so that a program that is broken off need not wait for answers that are under way.
    threads = [Thread(target=work, name=f"judge {i}", daemon=True) for i in range(number)]
    restore = quiet()
    ended: dict[str, _Asked] = {}
    cost = Cost()
    try:
        if progress is not None:
            progress(0, len(questions))
        for thread in threads:
            thread.start()
        while len(ended) < len(questions):
            try:
                asked = done.get(timeout=0.2)  # without a limit, Windows would not notice Ctrl-C
            except Empty:
                continue
            if isinstance(asked, BaseException):
                raise asked
            ended[asked.id] = asked
            if progress is not None:
                progress(len(ended), len(questions))
            if asked.trouble:
                answered = sum(one.answer.text is not None for one in ended.values())
                raise ValueError(
                    f"{asked.trouble}. {answered} of {len(questions)} questions are answered and kept in {cache}; "
                    "the same again goes on from there"
                )
        for thread in threads:
            thread.join()
        if questions and all(one.answer.text is None for one in ended.values()):
            last = ended[questions[-1].id].answer.reason
            raise ValueError(f"the judge answers none of {len(questions)} questions; of the last: {last}")
    finally:
        stop.set()
        if not any(thread.is_alive() for thread in threads):
            client.close()
            restore()
        cached = sum(one.cached for one in ended.values())
        refused = sum(one.answer.text is None for one in ended.values())
        cost = Cost.of(list(asker.replies), cached, refused, judge)
        if paid is not None:
            paid(cost)
    return Judgement({question.id: ended[question.id].answer for question in questions}, cost)


class _Health:
    """Judges by how questions ended whether asking on makes sense."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._there = False  # the server has answered something
        self._works = False  # this judge has given an answer that can be read, now or in an earlier run
        self._away = self._useless = 0

    def after(self, asked: _Asked) -> str:
        """Says why the run must end, or nothing."""
        kind = asked.replies[-1].kind if asked.replies else None
        unreadable = kind == "text" and asked.answer.text is None
        reason = asked.answer.reason
        with self._lock:
            if kind is None:
                self._works = self._works or asked.cached
            elif kind == "stop":
                return reason
            elif kind == "away":
                self._away += 1
                if self._away >= (LOST if self._there or self._works else 1):
                    return reason
            elif kind in ("rejected", "nonsense") or unreadable:
                self._there = self._there or unreadable
                self._useless += 1
                if self._useless >= LOST and not self._works:
                    return f"the judge answers none of {self._useless} questions; of the last: {reason}"
            else:
                self._there, self._away = True, 0
                self._works = self._works or asked.answer.text is not None
        return ""


@dataclass(frozen=True)
class _Asker:
    """What each thread does."""

    judge: Judge
    client: Client
    cache: Cache
    stop: Event
    wait: Callable[[float], object]
    health: _Health = field(default_factory=_Health)
    replies: list[Reply] = field(default_factory=list)  # all that came, to whatever question

    def work(self, todo: SimpleQueue[Question], done: SimpleQueue[_Asked | BaseException]) -> None:
        while not self.stop.is_set():
            try:
                question = todo.get_nowait()
            except Empty:
                return
            try:
                asked = self.one(question)
                if trouble := self.health.after(asked):
                    self.stop.set()
                done.put(replace(asked, trouble=trouble))
            except _Stopped:
                return
            except BaseException as error:
                done.put(error)

    def one(self, question: Question) -> _Asked:
        try:
            body = self.judge.body(question)
        except (ValueError, OSError) as error:
            return _Asked(question.id, Answer(None, f"its pictures cannot be read: {error}"))
        key = fingerprint(self.judge.url, body)
        known = self.cache.get(key)
        if known is not None and question.readable(known):
            return _Asked(question.id, Answer(known))
        replies: list[Reply] = []
        for _ in range(self.judge.asks):
            reply = self.reply(body, replies)
            if reply.kind != "text":
                return _Asked(question.id, Answer(None, reply.text), replies)
            if question.readable(reply.text):
                self.cache.add(key, reply.text, id=question.id, model=self.judge.model)
                return _Asked(question.id, Answer(reply.text), replies)
        cut = ", which ends where max_tokens cut it" if reply.cut else ""
        times = f"{self.judge.asks} times" if self.judge.asks > 1 else "once"
        return _Asked(
            question.id, Answer(None, f"asked {times}, no answer could be read{cut}: {one_line(reply.text)}"), replies
        )

    def reply(self, body: Mapping[str, Any], replies: list[Reply]) -> Reply:
        """The reply to one request, sent again while that may help."""
        for attempt in range(self.judge.retries + 1):
            if self.stop.is_set():
                raise _Stopped
            reply = self.client.ask(body)
            if reply.again and (reply.after or 0.0) > PATIENCE:
                reply = replace(reply, kind="stop", text=f"{reply.text}; it asks to wait {reply.after:.0f} seconds")
            replies.append(reply)
            self.replies.append(reply)
            if not reply.again or attempt == self.judge.retries:
                break
            self.wait(max(min(LONGEST, FIRST * 2**attempt), reply.after or 0.0))
        return reply
