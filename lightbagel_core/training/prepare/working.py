"""The same function of many things, by several processes: its results in the order of the things, few of them at once.

The processes are started anew, not forked from this one, whose threads and locks they would have copies of. One that is
left behind, because this one was killed, ends by itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


def in_order(call: Callable[..., T], things: Iterable[tuple[Any, ...]], workers: int, preload: str = "") -> Iterator[T]:
    """What a function gives of each thing's values; at most one result for each worker, and one more, waits to be
    taken.

    Args:
        call: a function of a module, so that another process finds it. workers: 1: this process does it.
        preload: a module that is imported once for all processes, where the system can do that.

    Raises:
        ValueError: a process ended before its work did.
    """
    if workers == 1:
        yield from (call(*thing) for thing in things)
        return
    way = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(way)
    if preload:
        context.set_forkserver_preload([preload])
    pool = ProcessPoolExecutor(workers, context, _begin)
    waiting: deque[Future[T]] = deque()
    try:
        for thing in things:
            waiting.append(pool.submit(call, *thing))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise ValueError(
            "one of the processes that check the pictures was ended, most likely for want of memory: begin again, with "
            "fewer --workers; what was done is kept"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Leaves Ctrl-C to the first process, and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
