"""The processes of --workers: how many there are, that they are started again, and that nothing of them is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keras_ref.frontends.invocations import distribution
from keras_ref.frontends.invocations.distribution import WorkerPool, open_executor

ROOT = Path(__file__).parents[1]


@pytest.fixture
def plain(monkeypatch):
    """Processes that load nothing."""
    monkeypatch.setattr(distribution, "_begin_worker", os.getpid)


def test_a_pool_ends_after_as_many_deaths(plain):
    with WorkerPool(1) as dying:
        dying._restarts = distribution.RESTARTS
        dying.submit(os._exit, 1).exception()
        with pytest.raises(distribution.BrokenExecutor):
            dying.submit(int)


def test_nothing_is_left_of_a_pool_that_stopped(plain):
    with WorkerPool(1) as stopping:
        process = stopping.submit(os.getpid).result()
        os.kill(process, signal.SIGSTOP)
    assert not Path(f"/proc/{process}").exists()


def test_none_is_asked_for():
    for workers in (0, 1):
        with open_executor(workers=workers, cluster="") as executor:
            assert executor is None
    with open_executor(workers=2, cluster="") as executor:
        assert isinstance(executor, WorkerPool)
        folder = Path(executor._folder.name)
        assert folder.is_dir()
    assert not folder.exists()


@pytest.mark.slow
def test_workers_end_with_their_parent():
    code = """
        import os, sys
        from keras_ref.frontends.invocations.distribution import WorkerPool
        if __name__ == "__main__":
            print(WorkerPool(1).submit(os.getpid).result(), flush=True)
            sys.stdin.read()
    """
    lines = "\n".join(line[8:] for line in code.splitlines())
    command = [sys.executable, "-c", lines]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        worker = int(parent.stdout.readline())
        parent.kill()
    ended = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and "Z" not in Path(f"/proc/{worker}/stat").read_text().split():
        assert time.monotonic() < ended
        time.sleep(0.1)
