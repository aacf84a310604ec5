"""Blocks in threads, processes and a Dask cluster: the same numbers, whoever computes them and whoever dies of it."""

import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl

from scratch import gradient
from scratch.gradient import Nudges
from scratch.layers.base import Layer
from scratch.layers.core import Dense
from scratch.model import Model
from scratch.nudging import blocks
from scratch.objective import Objective


def case(model, batch=3):
    """Objective, weights, inputs and targets of a chain."""
    g = np.random.default_rng(0)
    weights = {n: g.normal(size=s) for n, s in model.weight_shapes.items()}
    return Objective.of(model, "MeanSquaredError"), weights, g.normal(size=(batch, 4)), g.normal(size=(batch, 2))


@dataclass(frozen=True)
class Deadly(Layer):
    """x, and the end of any process but `parent`: of the first one only, if a file can be made to remember it by."""

    parent: int
    memory: str

    def forward(self, weights, *inputs):
        if os.getpid() != self.parent and not (self.memory and Path(self.memory).exists()):
            if self.memory:
                Path(self.memory).touch()
            os._exit(1)
        return inputs[0]


@dataclass(frozen=True)
class Faulty(Layer):
    """x, of inputs that are not nudged."""

    def forward(self, weights, *inputs):
        if inputs[0].min() < -1e3:
            raise ArithmeticError("a fault of the layer")
        return inputs[0]


def deadly(memory=""):
    model = Model.chain({"dense": Dense(8, "tanh"), "deadly": Deadly(os.getpid(), memory), "out": Dense(2)}, (4,))
    return case(model)


def check_executor(executor, objective, *point):
    entries, offsets = np.arange(32), np.array([[1e-3], [-1e-3]]) * np.ones(32)
    done = []
    many = Nudges(objective, *point, executor=executor, progress=lambda *now: done.append(now))
    true = Nudges(objective, *point, plain=True).losses("dense/kernel", entries, offsets)
    mine = many.losses("dense/kernel", entries, offsets)
    assert (np.abs(mine - true) <= 1e-12 * np.abs(true)).all()
    assert done[-1] == (64, 64, "dense/kernel") and [n for n, _, _ in done] == sorted(n for n, _, _ in done)


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        yield pool


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Examples are small: hand out even the smallest block."""
    monkeypatch.setattr(gradient, "WORTHWHILE", 2**8)


def test_threads():
    with ThreadPoolExecutor(3) as pool:
        check_executor(pool, *deadly())
    check_executor(None, *deadly())


@pytest.mark.sampled
def test_processes(processes, tmp_path):
    (tmp_path / "dead").touch()
    check_executor(processes, *deadly(str(tmp_path / "dead")))


@pytest.mark.sampled
@pytest.mark.parametrize("forever", [False, True])
def test_a_worker_that_dies(forever, tmp_path):
    """Its block, and what the broken pool will not take any more, is done again here."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        check_executor(pool, *deadly("" if forever else str(tmp_path / "dead")))
        check_executor(pool, *deadly("" if forever else str(tmp_path / "dead")))  # the pool is still broken


def test_a_pool_that_was_shut_down():
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    check_executor(pool, *deadly())


@pytest.mark.parametrize("where", ["threads", "processes", "here"])
def test_an_error_of_the_model_is_told(where, processes):
    """What goes wrong in the model itself is raised, once, by whoever asked."""
    model = Model.chain({"dense": Dense(8), "faulty": Faulty(), "out": Dense(2)}, (4,))
    executor = {"threads": ThreadPoolExecutor(2), "processes": processes, "here": None}[where]
    nudges = Nudges(*case(model), executor=executor)
    offsets = np.concatenate([np.full((1, 32), 1e-3), np.full((1, 32), 1e6), np.full((1, 32), -1e6)])
    with pytest.raises(ArithmeticError, match="a fault of the layer"):
        nudges.losses("dense/kernel", np.arange(32), offsets)


@pytest.mark.sampled
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("dying", [False, True])
def test_dask(dying, tmp_path):
    """A real cluster on this machine, one whose worker dies included."""
    distributed = pytest.importorskip("distributed", reason="needs gradtwin[dask]")
    memory = tmp_path / "dead"
    if not dying:
        memory.touch()
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50)
    with cluster, distributed.Client(cluster) as client:
        check_executor(client.get_executor(), *deadly(str(memory)))
    assert memory.exists()


def test_blas_threads():
    """BLAS has one thread inside, in whatever thread, and as many as before outside, whoever leaves first."""

    def counts(_=None):
        return {m["num_threads"] for m in threadpoolctl.threadpool_info() if m["user_api"] == "blas"}

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = counts()
        with blocks.one_blas_thread(), blocks.one_blas_thread():
            assert counts() <= {1}
        assert counts() == before
        with ThreadPoolExecutor(4) as pool:
            assert all(found <= {1} for found in pool.map(blocks.call_with_one_blas_thread, [counts] * 16, range(16)))
        assert counts() == before
        assert all(found <= {1} for found in blocks.run_blocks(counts, [()] * 4, done=lambda i: None))
        assert counts() == before
