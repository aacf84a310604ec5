"""Workers that lie, fail, answer twice, late or never: none is believed; the numbers are those of this process."""

import gc
import re
import threading
import time
from concurrent.futures import Executor, Future

import numpy as np
import pytest
from lying import (
    COMPLEX_CHANGES,
    FAILURES,
    FORMS,
    LIES,
    Failing,
    Late,
    Lying,
    Pickling,
    Repeating,
    by_the_worker,
    on_the_way,
)

from scratch import gradient
from scratch.gradient import Nudges
from scratch.layers.core import Dense
from scratch.model import Model
from scratch.nudging import blocks
from scratch.nudging.answers import Answer
from scratch.objective import Objective

ENTRIES = np.arange(32)
OFFSETS = np.array([[1e-3], [-1e-3], [2e-3]]) * (1 + np.arange(32) / 64)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(gradient, "WORTHWHILE", 2**8)
    monkeypatch.setattr(blocks, "PATIENCE", 0.5)


def nudges(executor, **options):
    model = Model.chain({"dense": Dense(8, "tanh"), "out": Dense(2)}, (4,))
    g = np.random.default_rng(0)
    weights = {n: g.normal(size=s) for n, s in model.weight_shapes.items()}
    data = g.normal(size=(3, 4)), g.normal(size=(3, 2))
    return Nudges(Objective.of(model, "MeanSquaredError"), weights, *data, executor=executor, **options)


def found_and_true(executor, offsets=OFFSETS):
    """The losses that workers and this process find, and those that this process finds alone."""
    found = nudges(executor).losses("dense/kernel", ENTRIES, offsets)
    return found, nudges(None, plain=True).losses("dense/kernel", ENTRIES, offsets)


@pytest.mark.parametrize("name", LIES)
def test_a_worker_that_lies_is_not_believed(name, caplog):
    executor = Lying(LIES[name])
    found, true = found_and_true(executor)
    assert executor.asked > 4
    assert isinstance(executor.answers[0], Answer)
    assert (np.abs(found - true) <= 1e-12 * np.abs(true)).all()
    assert "A worker's answer was not taken" in caplog.text


@pytest.mark.parametrize("name", FORMS)
def test_a_worker_that_does_not_lie_is_believed(name, caplog):
    found, true = found_and_true(Lying(on_the_way(FORMS[name])))
    assert (np.abs(found - true) <= 1e-12 * np.abs(true)).all()
    assert caplog.text == ""


@pytest.mark.parametrize("name", FAILURES)
def test_a_worker_that_fails_ends_nothing(name):
    executor = Failing(FAILURES[name])
    found, true = found_and_true(executor)
    assert executor.asked > 4
    assert (np.abs(found - true) <= 1e-12 * np.abs(true)).all()


@pytest.mark.slow
def test_processes_whose_errors_cannot_be_unpickled():
    """A real pool breaks where it reads such an error."""
    with Pickling() as executor:
        found, true = found_and_true(executor)
        assert executor.asked > 0
    assert (np.abs(found - true) <= 1e-12 * np.abs(true)).all()


def test_a_result_that_arrives_twice():
    executor = Repeating()
    found, true = found_and_true(executor)
    assert executor.asked > 4
    assert (np.abs(found - true) <= 1e-12 * np.abs(true)).all()


def test_an_answer_after_the_time_limit(monkeypatch):
    monkeypatch.setattr(blocks, "PATIENCE", 0.2)
    executor = Late()
    found, true = found_and_true(executor)
    for timer in executor.timers:
        timer.join()
    assert len(executor.timers) > 4
    assert (np.abs(found - true) <= 1e-12 * np.abs(true)).all()


@pytest.mark.parametrize("way", [on_the_way, by_the_worker])
@pytest.mark.parametrize("name", COMPLEX_CHANGES)
def test_complex_losses(name, way):
    """The slope of a complex step is in its imaginary part."""
    found, true = found_and_true(Lying(way(COMPLEX_CHANGES[name])), offsets=1e-200j * (1 + np.arange(32) / 64)[None])
    assert (np.abs(found.imag - true.imag) <= 1e-12 * np.abs(true.imag)).all()


class Stopped(Executor):
    """Takes blocks, and answers `few` of them."""

    _max_workers = 2

    def __init__(self, few):
        self.few, self.asked, self.futures = few, 0, []

    def submit(self, function, /, *arguments, **keywords):
        future = Future()
        self.asked += 1
        self.futures.append(future)
        if self.asked <= self.few:
            future.set_result(function(*arguments, **keywords))
        else:
            future.set_running_or_notify_cancel()  # it runs, and can no longer be cancelled
        return future


@pytest.mark.parametrize("few", [0, 2])
def test_a_worker_that_is_stopped_is_given_up(few, caplog):
    executor = Stopped(few)
    asking = nudges(executor)
    found = asking.losses("dense/kernel", ENTRIES, OFFSETS)
    asked = executor.asked
    true = nudges(None, plain=True).losses("dense/kernel", ENTRIES, OFFSETS)
    assert (np.abs(found - true) <= 1e-12 * np.abs(true)).all()
    assert "Workers have not answered for" in caplog.text
    asking.losses("dense/kernel", ENTRIES, OFFSETS)  # and not waited for a second time
    assert executor.asked == asked


@pytest.mark.sampled
def test_a_slow_worker_is_waited_for():
    """Patience is about silence, not about the whole."""

    class Slow(Stopped):
        def submit(self, function, /, *arguments, **keywords):
            future = Future()
            self.asked += 1

            def answer():
                future.set_result(function(*arguments, **keywords))

            threading.Timer(0.1 * self.asked, answer).start()
            return future

    executor = Slow(0)
    asking = nudges(executor)
    found = asking.losses("dense/kernel", ENTRIES, OFFSETS)
    true = nudges(None, plain=True).losses("dense/kernel", ENTRIES, OFFSETS)
    assert (np.abs(found - true) <= 1e-12 * np.abs(true)).all()
    assert executor.asked > 5
    assert asking.executor is executor


class Blocking(Executor):
    """Takes `few` blocks, and then no work: whoever gives it any waits."""

    _max_workers = 2

    def __init__(self, few):
        self.few, self.asked, self.goes_on, self.threads = few, 0, threading.Event(), set()

    def take(self):
        self.asked += 1
        self.threads.add(threading.get_ident())
        if self.asked > self.few:
            self.goes_on.wait()

    def submit(self, function, /, *arguments, **keywords):
        self.take()
        future = Future()
        future.set_result(function(*arguments, **keywords))
        return future


class BlockingWhereItShares(Blocking):
    """Waits where it is given what all blocks need."""

    def share(self, function):
        self.take()
        return function


class Unhashable(Blocking):
    """Nothing weak refers to it, and no dictionary has it as a key."""

    __slots__ = ()
    __hash__ = None


@pytest.mark.parametrize("few", [0, 2])
@pytest.mark.parametrize("kind", [Blocking, BlockingWhereItShares, Unhashable])
def test_an_executor_that_takes_no_work_is_given_up(kind, few, caplog, monkeypatch):
    monkeypatch.setattr(blocks, "PATIENCE", 0.3)
    executor = kind(few)
    try:
        asking = nudges(executor)
        found = asking.losses("dense/kernel", ENTRIES, OFFSETS)
        asked = executor.asked
        assert asked == few + 1
        true = nudges(None, plain=True).losses("dense/kernel", ENTRIES, OFFSETS)
        assert (np.abs(found - true) <= 1e-12 * np.abs(true)).all()
        said = [record.getMessage() for record in caplog.records if record.name == "gradtwin"]
        assert len(said) == 1
        seconds = r"\d[\d.]* s"  # on a slow machine it waits longer than it has to
        assert re.fullmatch(
            rf"An executor has not taken any work for {seconds}\. Its blocks are computed in this process\.", said[0]
        )
        asking.losses("dense/kernel", ENTRIES, OFFSETS)  # and not waited for a second time
        assert executor.asked == asked
    finally:
        executor.goes_on.set()


def test_an_executor_is_given_work_by_one_thread():
    """Processes that it starts may end with the thread that has started them."""
    executor = Blocking(10**6)
    for _ in range(3):
        nudges(executor).losses("dense/kernel", ENTRIES, OFFSETS)
    assert executor.asked > 10
    assert len(executor.threads) == 1


def test_no_thread_is_left_for_an_executor_that_is_gone():
    def count_threads():
        gc.collect()
        time.sleep(0.05)  # in which a thread ends
        return sum(thread.name == "submitter" for thread in threading.enumerate())

    before = count_threads()
    executor = Blocking(10**6)
    nudges(executor).losses("dense/kernel", ENTRIES, OFFSETS)
    assert count_threads() == before + 1
    del executor
    assert count_threads() == before
