"""--workers and --cluster: the same reports, bit for bit, whoever computes them and whatever becomes of a worker."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_ref.errors import CouldNotRun
from keras_ref.evaluation.nudged_losses import column_losses, stacked_losses
from keras_ref.evaluation.nudged_losses.remote_losses import GraphLosses
from keras_ref.frontends.invocations import distribution, invocation
from keras_ref.frontends.invocations.distribution import Cluster, WorkerPool, open_executor
from keras_ref.frontends.invocations.invocation import Invocation
from keras_ref.frontends.invocations.shared_check import Helpers, help_with
from keras_ref.reports.verdict import write_json_text
from scratch import gradient
from scratch.nudging import blocks
from scratch.nudging.answers import Answer, list_software

ROOT = Path(__file__).parents[1]
RIGHT, WRONG, HELD = (f"distributed_targets:{name}" for name in ("right", "wrong", "held"))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """The examples are small: even they are divided into blocks."""
    monkeypatch.setattr(stacked_losses, "BLOCK", 32)
    monkeypatch.setattr(stacked_losses, "CALL", 32)
    monkeypatch.setattr(gradient, "WORTHWHILE", 2**11)


@pytest.fixture(params=["whole passes", "columns"])
def way(request, monkeypatch):
    """Both ways of computing losses of nudged entries."""
    if request.param == "columns":
        monkeypatch.setattr(stacked_losses, "WORTH", 1)
        monkeypatch.setattr(column_losses, "LARGEST", 16)
    return request.param


def check(target):
    return Invocation("check", (target,), "", {"effort": "full"})


def text_of(report):
    return write_json_text(report.to_dict())


@pytest.fixture(scope="module")
def alone():
    """The reports of this process by itself, as text."""
    found = {}

    def of(target, way="whole passes"):
        if (target, way) not in found:
            with pytest.MonkeyPatch.context() as patch:  # whatever executor the test has put in its place
                patch.setattr(invocation, "open_executor", open_executor)
                found[target, way] = text_of(check(target).run(target))
        return found[target, way]

    return of


class Progress:
    """Keeps what other processes did, as it is reported: (done, total) pairs."""

    def __init__(self):
        self.reports = []

    def __call__(self, done, total, what):
        if what == "losses of other processes":
            self.reports.append((done, total))


def run_with(executor, target, monkeypatch):
    """The report of a target whose losses an executor computes, as text, and the progress."""
    opened, progress = [], Progress()
    monkeypatch.setattr(invocation, "open_executor", lambda **options: opened.append(options) or nullcontext(executor))
    found = replace(check(target), options={"effort": "full", "workers": 2}).run(target, progress)
    assert opened == [{"workers": 2, "cluster": ""}]
    return text_of(found), progress.reports


# Processes of this machine --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool():
    with WorkerPool(2) as processes:
        yield processes
        last = list(processes._pool._processes.values())
    assert last and not {*last} & {*active_children()}


class Watched(Executor):
    """Hands on to a pool; before the block of a number, something happens to its processes."""

    def __init__(self, pool, number=0, happens=lambda processes: None):
        self.pool, self.number, self.happens, self.asked = pool, number, happens, 0
        self.share = pool.share

    def submit(self, function, /, *arguments, **keywords):
        self.asked += 1
        if self.asked == self.number:
            self.happens(list(self.pool._pool._processes.values()))
        return self.pool.submit(function, *arguments, **keywords)


def kept_jobs(monkeypatch):
    """The jobs that workers are asked to do from now on."""
    jobs, ask = [], stacked_losses.StackedLosses._ask_workers

    def asked(self, job, blocks, **options):
        jobs.append(job)
        return ask(self, job, blocks, **options)

    monkeypatch.setattr(stacked_losses.StackedLosses, "_ask_workers", asked)
    return jobs


@pytest.mark.sampled
@pytest.mark.parametrize("target", [RIGHT, WRONG])
def test_workers_change_no_bit(target, way, pool, alone, monkeypatch, caplog):
    jobs = kept_jobs(monkeypatch)
    executor = Watched(pool)
    found, progress = run_with(executor, target, monkeypatch)
    assert found == alone(target, way)
    assert any(job.variable for job in jobs if job is not None) == (way == "columns")
    assert executor.asked > 10
    assert any(done == total for done, total in progress)
    assert caplog.text == ""


@pytest.mark.sampled
@pytest.mark.parametrize("target", [RIGHT, WRONG])
def test_processes_of_a_test_run_change_no_bit(target, pool, alone, tmp_path, monkeypatch, caplog):
    """What pytest-xdist's processes do that have tests of the same target."""
    with Helpers(tmp_path / "helpers") as executor:
        helping = pool.submit(help_with, tmp_path / "helpers")
        while not executor.connected:
            time.sleep(0.01)
        found, progress = run_with(executor, target, monkeypatch)
    assert helping.result(10)
    assert found == alone(target)
    assert any(done == total for done, total in progress)
    assert caplog.text == ""


@pytest.mark.sampled
def test_a_killed_worker(pool, alone, monkeypatch):
    """Its block and those that it took with it are computed all the same, by processes that are started anew."""
    before = pool._restarts
    executor = Watched(pool, 15, lambda processes: os.kill(processes[0].pid, signal.SIGKILL))
    found, progress = run_with(executor, RIGHT, monkeypatch)
    assert found == alone(RIGHT)
    assert pool._restarts == before + 1
    assert progress[-1][0] == progress[-1][1]


@pytest.mark.sampled
def test_workers_that_stop(pool, alone, monkeypatch, caplog):
    """They are given up after a silence."""
    monkeypatch.setattr(blocks, "PATIENCE", 1.0)
    monkeypatch.setattr(blocks, "SLOWER", 0.0)
    stopped = []

    def stop(processes):
        for process in processes:
            os.kill(process.pid, signal.SIGSTOP)
            stopped.append(process.pid)

    [future.result() for future in [pool.submit(time.sleep, 0.1) for _ in range(2)]]  # there are processes by now
    try:
        found, _ = run_with(Watched(pool, 2, stop), RIGHT, monkeypatch)
    finally:
        for process in stopped:
            os.kill(process, signal.SIGCONT)
    assert found == alone(RIGHT)
    assert "Workers have not answered for 1 s." in caplog.text
    assert stopped


# Workers that are broken ----------------------------------------------------------------------------------------------


class Here(Executor):
    """Computes at once in this process, and changes each answer."""

    def __init__(self, change=lambda answer, number: answer):
        self.change, self.asked = change, 0

    def submit(self, function, /, *arguments, **keywords):
        self.asked += 1
        future = Future()
        try:
            future.set_result(self.change(function(*arguments, **keywords), self.asked))
        except MemoryError as error:
            future.set_exception(error)
        return future


def out_of_memory(answer, number):
    if number % 2:
        raise MemoryError
    return answer


BROKEN = {
    "the last bit": lambda answer, number: replace(answer, losses=np.nextafter(answer.losses, np.inf)),
    "another order": lambda answer, number: replace(answer, losses=answer.losses[::-1]),
    "float32": lambda answer, number: replace(answer, losses=answer.losses.astype(np.float32)),
    "no answer": lambda answer, number: None,
    "out of memory": out_of_memory,
}


@pytest.mark.sampled
@pytest.mark.parametrize("kind", BROKEN)
def test_no_broken_worker_changes_a_bit(kind, way, alone, monkeypatch, caplog):
    executor = Here(BROKEN[kind])
    found, _ = run_with(executor, RIGHT, monkeypatch)
    assert found == alone(RIGHT, way)
    assert executor.asked > 10
    assert ("A worker's answer was not taken" in caplog.text) == (kind != "out of memory")


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["Python", "numpy", "tensorflow", "keras", "gradtwin"])
def test_other_software_ends_the_check(name, monkeypatch):
    def other(answer, number):
        assert isinstance(answer, Answer) and name in answer.software
        return replace(answer, software={**answer.software, name: "0.9"})

    with pytest.raises(CouldNotRun, match=f"Received: {name} 0.9 in a worker, and .* here. Install the same."):
        run_with(Here(other), RIGHT, monkeypatch)


@pytest.mark.sampled
def test_what_a_worker_cannot_evaluate_is_computed_here(alone, monkeypatch):
    """Python in the middle of a pass is in the memory of this process alone."""
    executor = Here()
    found, progress = run_with(executor, HELD, monkeypatch)
    assert found == alone(HELD)
    assert not executor.asked and not progress


def test_the_graph_of_another_process_is_the_loss():
    """Losses of the graph as data are those of the traced loss, bit for bit, at a second point too."""

    @tf.function
    def loss(first, second, held):
        moved = tf.concat([tf.reshape(first, [-1]), second], 0)
        return tf.reduce_sum(tf.exp(moved) * held) * tf.constant(np.linspace(0, 1, 7)[3])

    shapes = ((2, 1), (3,))
    traced = loss.get_concrete_function(*(tf.TensorSpec(shape, tf.float64) for shape in (*shapes, (5,))))
    points = np.linspace(-1, 1, 10).reshape(2, 5)
    job = GraphLosses.of(traced, points[0], [tf.constant(points[1])], shapes=shapes)
    entries, targets = np.arange(5), np.linspace(2, 3, 5)
    for flat, held in (points, points[::-1]):
        moved = np.where(np.eye(5, dtype=bool), targets, flat)
        expected = [float(traced(*map(tf.constant, (one[:2, None], one[2:], held)))) for one in moved]
        assert (job.at(flat, [held])(entries, targets) == expected).all()


# Dask -----------------------------------------------------------------------------------------------------------------


@contextmanager
def local_cluster(**options):
    distributed = pytest.importorskip("distributed", reason="needs gradtwin[dask]")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50, **options}
    with distributed.LocalCluster(**options) as cluster:
        yield cluster


@pytest.mark.sampled
@pytest.mark.filterwarnings("default")
def test_a_cluster_changes_no_bit(alone, monkeypatch, caplog):
    with (
        local_cluster(processes=False) as cluster,
        open_executor(workers=0, cluster=cluster.scheduler_address) as found,
    ):
        assert isinstance(found, Cluster)
        report, progress = run_with(found, RIGHT, monkeypatch)
    assert report == alone(RIGHT)
    assert any(done == total for done, total in progress)
    assert "A worker's answer" not in caplog.text


@pytest.mark.filterwarnings("default")
def test_a_cluster_without_workers_is_refused():
    with local_cluster(processes=False, n_workers=0) as cluster, pytest.raises(CouldNotRun) as refused:
        Cluster.at(cluster.scheduler_address)
    assert str(refused.value) == (
        f"A cluster must have workers. Received: a scheduler at {cluster.scheduler_address} without any. Start some "
        f"with `dask worker {cluster.scheduler_address}`."
    )


@pytest.mark.sampled
@pytest.mark.filterwarnings("default")
def test_no_scheduler_is_refused(monkeypatch):
    pytest.importorskip("distributed", reason="needs gradtwin[dask]")
    monkeypatch.setattr(distribution, "CONNECTING", 0.5)
    with pytest.raises(CouldNotRun, match="--cluster must be the address of a running Dask scheduler"):
        Cluster.at("tcp://127.0.0.1:9")


@pytest.mark.filterwarnings("default")
def test_a_worker_of_a_cluster_has_the_same_software(monkeypatch):
    monkeypatch.setattr(distribution, "prepare_worker", other_software)
    with (
        local_cluster(processes=False) as cluster,
        pytest.raises(CouldNotRun, match=r"Received: numpy 1\.0 in the worker"),
    ):
        Cluster.at(cluster.scheduler_address)


def other_software():
    return {**list_software(), "numpy": "1.0"}


# The command ----------------------------------------------------------------------------------------------------------


@pytest.mark.sampled
def test_several_targets_at_once(alone, tmp_path, monkeypatch):
    """Each has a process of its own, and the file is that of one after another."""
    monkeypatch.undo()  # the processes divide nothing
    file = tmp_path / "report.json"
    options = ["--effort", "full", "--workers", "2", "--json", str(file)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-m", "keras_ref", "check", WRONG, RIGHT, *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1, done.stderr
    document = json.loads(file.read_text())
    assert [report.pop("target") for report in document["reports"]] == [WRONG, RIGHT]
    assert document["reports"] == [json.loads(alone(target)) for target in (WRONG, RIGHT)]
    assert document["run"]["options"] == {"effort": "full"}
    assert document["run"]["replay"] == f"gradtwin check {WRONG} {RIGHT} --effort full"
