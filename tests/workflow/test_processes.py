import os
import signal
import subprocess
import sys
import time

import psutil

from s2utils.workflow import processes


def test_one_worker_is_the_job_itself_and_two_are_others():
    with processes.pool(1) as pool:
        assert pool is None
    with processes.pool(2) as pool:
        others = {future.result() for future in [pool.submit(os.getpid) for _ in range(4)]}
    assert os.getpid() not in others and not any(psutil.pid_exists(pid) for pid in others)


JOB = """
import os, time
from s2utils.workflow import processes
if __name__ == "__main__":
    with processes.pool(2) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(600)
"""


def test_workers_end_with_a_job_that_is_killed(tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    with subprocess.Popen([sys.executable, tmp_path / "job.py"], stdout=subprocess.PIPE, text=True) as job:
        worker = int(job.stdout.readline())
        assert psutil.pid_exists(worker)
        job.send_signal(signal.SIGKILL)
    until = time.monotonic() + 30
    while psutil.pid_exists(worker) and psutil.Process(worker).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.05)
