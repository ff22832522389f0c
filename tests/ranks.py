"""Several processes that train together, started as torchrun would, forked from one that has imported torch.

python tests/ranks.py JOB SIZE ARGUMENTS: runs the function JOB of rank_jobs.py on SIZE ranks, with a table of
arguments in JSON.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent


Jobs = Sequence[tuple[str, dict[str, Any]]]


def run(size: int, jobs: Jobs, timeout: float = 600) -> None:
    """Runs jobs on all ranks to their end; raises AssertionError where one fails or all of them wait too long."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TESTS / "ranks.py"), str(size), json.dumps(jobs)]
    process = subprocess.Popen(
        command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        said, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        raise AssertionError(f"{size} ranks did not end in {timeout} s:\n{said}") from None
    assert process.returncode == 0, said


def main(size: int, jobs: Jobs) -> int:
    sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "training")]
    import rank_jobs
    import torch

    torch.set_num_threads(1)  # threads do not survive a fork
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [fork(rank, size, port, rank_jobs, jobs) for rank in range(size)]
    failed = 0
    for _ in range(size):
        child, status = os.wait()
        children.remove(child)
        if status and not failed:
            failed = 1
            for other in children:  # they would wait for it
                os.kill(other, signal.SIGKILL)
    return failed


def fork(rank: int, size: int, port: int, module: Any, jobs: Jobs) -> int:
    """The number of a process that runs the jobs and ends."""
    child = os.fork()
    if child:
        return child
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    status = 1
    try:
        for job, arguments in jobs:
            getattr(module, job)(**arguments)
        status = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), json.loads(sys.argv[2])))
