"""What other processes save of a check: `python tests/benchmarks/workers.py [--width 192] [--before COMMIT]`.

One target, a dense network of tanh with `--effort full` and both oracles, checked alone, with `--workers 2`, by two
workers of a Dask scheduler, and by pytest with and without `-n 2`. Every row is a command in a process of its own, one
after the other, in seconds of wall time and of all its processes' processors; the workers of the scheduler are not its
children, and their processor seconds are added. With --before the last row is that of an earlier commit too, which is
checked out as a git worktree for the time of the run. It needs a quiet machine.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from earlier import ROOT, worktree

TARGET = "workers:network"
WIDTH = "GRADTWIN_BENCHMARK_WIDTH"
#: rows → the words of their commands
CHECK = ("-m", "keras_ref", "check", TARGET, "--effort", "full")
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--gradtwin", TARGET)
PYTEST = (*PYTEST, "--gradtwin-effort", "full")


def network():
    """64-n-n-10 with tanh, and a batch of 64."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    width, dense = int(os.environ[WIDTH]), keras.layers.Dense
    model = keras.Sequential([keras.Input((64,)), dense(width, "tanh"), dense(width, "tanh"), dense(10)])
    model.compile(loss="mse")
    draw = np.random.default_rng(0).normal
    return model, draw(size=(64, 64)), draw(size=(64, 10))


@contextmanager
def cluster(environment):
    """A Dask scheduler with two workers of a thread each: its address, and a function that gives their seconds."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scheduler.json"
        started = []

        def start(module, *words):
            command = [sys.executable, "-m", module, "--scheduler-file", str(file), *words]
            started.append(subprocess.Popen(command, env=environment, cwd=folder, stderr=subprocess.DEVNULL))

        try:
            start("distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1")
            for _ in range(2):
                start("distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny", "--no-dashboard")
            from distributed import Client

            with Client(scheduler_file=str(file), timeout=60, set_as_default=False) as client:
                client.wait_for_workers(2, timeout=60)
                yield client.scheduler.address, lambda: sum(map(seconds_of, (p.pid for p in started)))
        finally:
            for process in started:
                process.kill()
                process.wait()


def seconds_of(pid):
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def timed(command, environment, beside=lambda: 0.0):
    """(wall-clock seconds, processor seconds) of a command that succeeds, with those of processes `beside` it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall, others = time.perf_counter(), beside()
    with tempfile.TemporaryDirectory() as folder:  # which has no settings
        options = {"env": environment, "cwd": folder, "capture_output": True, "text": True}
        done = subprocess.run([sys.executable, *command], **options, check=False)
    wall, others = time.perf_counter() - wall, beside() - others
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime + others


def environment_of(tree, width):
    """The environment of a command that runs the product in a tree."""
    path = os.pathsep.join([str(tree), str(Path(__file__).parent)])
    return os.environ | {"PYTHONPATH": path, WIDTH: str(width), "TF_CPP_MIN_LOG_LEVEL": "3"}


def table(width, before, rows):
    """Print the rows as they are measured."""
    environment = environment_of(ROOT, width)
    weights = 65 * width + (width + 1) * width + (width + 1) * 10
    print(f"64-{width}-{width}-10, {weights:,} weights, {len(os.sched_getaffinity(0))} cores")
    print(f"{'seconds of':<44}{'wall':>8}{'processor':>12}")

    def show(name, found):
        print(f"{name:<44}{found[0]:>8.1f}{found[1]:>12.1f}", flush=True)

    if "alone" in rows:
        show("gradtwin check", timed(CHECK, environment))
    if "workers" in rows:
        show("gradtwin check --workers 2", timed([*CHECK, "--workers", "2"], environment))
    if "cluster" in rows:
        with cluster(environment) as (address, seconds):
            show("gradtwin check --cluster", timed([*CHECK, "--cluster", address], environment, seconds))
    if "pytest" in rows:
        show("pytest", timed(PYTEST, environment))
        show("pytest -n 2", timed([*PYTEST, "-n", "2"], environment))
        if before:
            with worktree(before) as tree:
                show(f"pytest -n 2 at {before}", timed([*PYTEST, "-n", "2"], environment_of(tree, width)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=192, help="of the two hidden layers")
    parser.add_argument("--before", help="a commit whose `pytest -n 2` is timed, too")
    names = ("alone", "workers", "cluster", "pytest")
    parser.add_argument("--only", action="append", choices=names, help="some rows")
    options = parser.parse_args()
    table(options.width, options.before, options.only or names)
