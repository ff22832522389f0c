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
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent


def run(job: str, size: int, timeout: float = 120, **arguments: Any) -> None:
    """Runs a job on all ranks to its end; raises AssertionError where one fails or all of them wait too long."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TESTS / "ranks.py"), job, str(size), json.dumps(arguments)]
    process = subprocess.Popen(
        command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        said, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        raise AssertionError(f"{job} on {size} ranks did not end in {timeout} s:\n{said}") from None
    assert process.returncode == 0, said


def main(job: str, size: int, arguments: dict[str, Any]) -> int:
    sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "training")]
    import rank_jobs
    import torch

    torch.set_num_threads(1)  # threads do not survive a fork
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [fork(rank, size, port, getattr(rank_jobs, job), arguments) for rank in range(size)]
    failed = 0
    for _ in range(size):
        child, status = os.wait()
        children.remove(child)
        if status and not failed:
            failed = 1
            for other in children:  # they would wait for it
                os.kill(other, signal.SIGKILL)
    return failed


def fork(rank: int, size: int, port: int, job: Any, arguments: dict[str, Any]) -> int:
    """The number of a process that runs the job and ends."""
    child = os.fork()
    if child:
        return child
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    status = 1
    try:
        job(**arguments)
        status = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])))
