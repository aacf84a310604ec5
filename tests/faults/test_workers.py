"""Workers that lie in ten ways, and ones that never answer: none is believed; the numbers are those of this process."""

import threading
from concurrent.futures import Executor, Future
from dataclasses import replace

import numpy as np
import pytest

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


class Lying(Executor):
    """Computes at once, and changes each answer; `lie(answer, number, answers so far)`."""

    _max_workers = 2

    def __init__(self, lie):
        self.lie, self.answers, self.asked = lie, [], 0

    def submit(self, function, /, *arguments, **keywords):
        future = Future()
        answer = function(*arguments, **keywords)
        self.answers.append(answer)
        self.asked += 1
        future.set_result(self.lie(answer, self.asked, self.answers))
        return future


def with_losses(change):
    return lambda answer, number, answers: replace(answer, losses=change(answer.losses))


def rolled(losses):
    return np.roll(losses, 1)


LIES = {
    "NaN": with_losses(lambda losses: np.full_like(losses, np.nan)),
    "zeros": with_losses(np.zeros_like),
    "float32": with_losses(lambda losses: losses.astype(np.float32)),
    "computed in float32": with_losses(lambda losses: losses.astype(np.float32).astype(np.float64)),
    "too short": with_losses(lambda losses: losses[:-1]),
    "too long": with_losses(lambda losses: np.append(losses, 1.0)),
    "no array": with_losses(list),
    "another shape": with_losses(lambda losses: losses[None]),
    "off by a part in a million": with_losses(lambda losses: losses * (1 + 1e-6)),
    "shifted by one": with_losses(rolled),
    "reversed": with_losses(lambda losses: losses[::-1]),
    "all the same": with_losses(lambda losses: np.full_like(losses, losses[0])),
    "infinite": with_losses(lambda losses: losses / 0.0),
    "the block before": lambda answer, number, answers: answers[max(0, len(answers) - 2)] if number > 1 else answers[0],
    "the first block's": lambda answer, number, answers: answers[0],
    "another question": lambda answer, number, answers: replace(answer, asked="0" * 64),
    "nothing": lambda answer, number, answers: None,
    "text": lambda answer, number, answers: "done",
    "losses alone": lambda answer, number, answers: answer.losses,
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("name", LIES)
def test_a_worker_that_lies_is_not_believed(name, caplog):
    executor = Lying(LIES[name])
    found = nudges(executor).losses("dense/kernel", ENTRIES, OFFSETS)
    true = nudges(None, plain=True).losses("dense/kernel", ENTRIES, OFFSETS)
    assert executor.asked > 4
    assert isinstance(executor.answers[0], Answer)
    assert (np.abs(found - true) <= 1e-12 * np.abs(true)).all()
    assert "A worker's answer was not taken" in caplog.text


def test_a_worker_that_does_not_lie_is_believed(caplog):
    executor = Lying(lambda answer, number, answers: answer)
    found = nudges(executor).losses("dense/kernel", ENTRIES, OFFSETS)
    true = nudges(None, plain=True).losses("dense/kernel", ENTRIES, OFFSETS)
    assert (np.abs(found - true) <= 1e-12 * np.abs(true)).all()
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["NaN", "zeros", "reversed", "off by a part in a million"])
def test_complex_losses(name):
    """The slope of a complex step is in its imaginary part."""
    offsets = 1e-200j * (1 + np.arange(32) / 64)[None]
    found = nudges(Lying(LIES[name])).losses("dense/kernel", ENTRIES, offsets)
    true = nudges(None, plain=True).losses("dense/kernel", ENTRIES, offsets)
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
