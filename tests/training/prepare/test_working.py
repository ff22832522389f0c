"""Results come in the order of their things, few at once; no process is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import count

import pytest

from lightbagel_core.training.prepare.working import in_order


def twice(number: int) -> int:
    time.sleep(0.02 * (number % 3 == 0))
    return 2 * number


def where() -> int:
    return os.getpid()


def ended() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_and_not_all_at_once(workers):
    taken = count()
    given = in_order(twice, ((next(taken),) for _ in range(12)), workers)
    assert next(given) == 0
    assert next(taken) <= workers + 2
    given.close()
    assert list(in_order(twice, [(n,) for n in range(7)], workers)) == [2 * n for n in range(7)]


def test_one_worker_is_this_process_and_several_are_others():
    assert list(in_order(where, [()], 1)) == [os.getpid()]
    assert os.getpid() not in list(in_order(where, [(), ()], 2))


def test_a_process_that_is_ended_is_said():
    with pytest.raises(ValueError, match="begin again, with fewer --workers"):
        list(in_order(ended, [()], 2))


def test_what_a_killed_pass_leaves_behind_ends(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time\nsys.path[:0] = [sys.argv[1]]\n"
        "from lightbagel_core.training.prepare.working import in_order\nfrom test_working import where\n"
        "if __name__ == '__main__':\n"
        "    for pid in in_order(where, [()] * 100, 2):\n        print(pid, flush=True)\n        time.sleep(30)\n"
    )
    paths = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    process = subprocess.Popen(
        [sys.executable, script, paths.split(os.pathsep)[0]],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    worker = int(process.stdout.readline())
    process.kill()
    process.wait()
    until = time.monotonic() + 20
    while time.monotonic() < until and _lives(worker):
        time.sleep(0.05)
    assert not _lives(worker)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
