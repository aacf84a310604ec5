"""Unused rows of an embedding cost nothing in training steps of a model's own, and of Keras 2, either."""

import sys

import keras
import pytest
import tensorflow as tf
from everything import changes, everything
from memory import FIXED, OPTIMIZERS, TIMES, measure, with_weights
from test_unused_rows import IDS, TARGETS, Moving, looking_up, of_rows, peak_of_arrays

from keras_ref import check_updates


class Stepping(keras.Sequential):
    """A model with a train_step of its own, and what that does beside."""

    def __init__(self, rows=80_000, *, penalty=lambda table: 0.0, beside=lambda table: None, optimizer="adam"):
        keras.utils.set_random_seed(0)
        self.table = keras.layers.Embedding(rows, 8, name="rows")
        last = [keras.layers.Flatten(), keras.layers.Dense(1, "tanh", name="dense")]
        super().__init__([keras.Input((3,), dtype="int32"), self.table, *last], name="large")
        self.penalty, self.beside, self.steps = penalty, beside, [0]
        self.compile(optimizer=optimizer)

    def train_step(self, data):
        x, y = data
        self.steps[0] += 1
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=True) - tf.cast(y, self.compute_dtype)) ** 2)
            loss += tf.cast(self.penalty(self.table.embeddings), loss.dtype)
        weights = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        self.beside(self.table.embeddings)
        return {"loss": loss}


class Twice(Stepping):
    """Two calls of an optimizer, the second of which takes the gradient from elsewhere."""

    def train_step(self, data):
        super().train_step(data)
        return super().train_step(data)


def of_keras_2(rows=80_000, optimizer="adam"):
    layers = pytest.importorskip("tf_keras").layers
    sys.modules["tf_keras"].utils.set_random_seed(0)
    last = [layers.Flatten(), layers.Dense(1, name="dense")]
    model = sys.modules["tf_keras"].Sequential([layers.Embedding(rows, 8, input_length=3, name="rows"), *last])
    model.compile(optimizer, "mse")
    return model


@pytest.mark.sampled
@pytest.mark.parametrize("make", [Stepping, Twice, of_keras_2])
def test_steps_leave_unused_rows_out(make):
    model = make()
    model.optimizer.build(model.trainable_variables) if make is not of_keras_2 else None
    before, arrays = everything(model), [one.numpy() for one in model.variables]
    report = check_updates(model, IDS, TARGETS, steps=2)
    assert changes(before, everything(model)) == []
    assert all((one.numpy() == array).all() for one, array in zip(model.variables, arrays, strict=True))
    assert report.ok
    assert "79,995 of 80,000 rows are used by none of the data" in report.notes[0]
    assert (of_rows(report).compared, of_rows(report).total) == (13 * 8, 640_000)


def test_an_optimizer_that_moves_unused_rows_otherwise(monkeypatch):
    """The examples show it."""
    monkeypatch.setattr(keras.optimizers, "SGD", Moving)
    verdict = of_rows(check_updates(Stepping(optimizer=Moving(0.01)), IDS, TARGETS, steps=1))
    assert (verdict.verdict, verdict.counts["mismatch"]) == ("mismatch", 64)
    assert verdict.worst[0] not in IDS


#: steps in which other rows matter, and how the check of a model of few rows ends
OTHER_USES = {
    "a penalty on all rows": (
        {"penalty": lambda table: 1e-3 * tf.reduce_sum(tf.convert_to_tensor(table) ** 2)},
        "match",
    ),
    "all rows are moved beside": ({"beside": lambda table: table.assign(0.5 * table)}, "undecided"),
    "rows take part together": ({"optimizer": keras.optimizers.Lamb}, "departure"),
}


@pytest.mark.sampled
@pytest.mark.parametrize("use", OTHER_USES)
def test_what_else_a_step_does_with_rows(monkeypatch, use):
    """All rows stay."""
    options, expected = OTHER_USES[use]
    monkeypatch.setattr("keras_ref.checks.used_rows.WORTHWHILE", 500)
    if "optimizer" in options:
        options = {"optimizer": options["optimizer"](0.01)}
    report = check_updates(Stepping(100, **options), IDS % 100, TARGETS, steps=1)
    assert not any("none of the data" in note for note in report.notes)
    assert (str(of_rows(report).verdict), of_rows(report).total) == (expected, 800)


@pytest.mark.sampled
def test_an_optimizer_of_keras_2_that_has_a_state(monkeypatch):
    """Its rows are not left out: which of its variables belong to them is not known."""
    monkeypatch.setattr("keras_ref.checks.used_rows.WORTHWHILE", 500)
    model = of_keras_2(100)
    model.optimizer.build(model.trainable_variables)
    report = check_updates(model, IDS % 100, TARGETS, steps=1)
    assert report.ok
    assert not any("none of the data" in note for note in report.notes)


def stepped(make):
    def holder(rows, **_):
        model = make(rows)
        return [], lambda: check_updates(model, IDS, TARGETS, steps=1)

    return holder


@pytest.mark.slow
@pytest.mark.parametrize("make", [looking_up, Stepping, of_keras_2])
def test_memory_does_not_grow_with_unused_rows(make):
    """Arrays of NumPy: less than twice what the weights grow by."""
    holder = stepped(make)
    peak_of_arrays(80_000, holder)
    assert peak_of_arrays(580_000, holder) - peak_of_arrays(80_000, holder) < 2 * 500_000 * 8 * 4


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is asked of Linux")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_memory_by_optimizer(name):
    """The bound of the chapter, whatever takes rows or weights together."""
    for peak, weights in measure(name):
        assert peak < FIXED + TIMES * weights


@pytest.mark.sampled
def test_memory_of_slopes():
    """Arrays of NumPy, of a step that takes all of 40,000 weights: 36 MB, 80 where all slopes are measured at once."""
    model, x, y = with_weights(40_000, "sgd")
    assert peak_of_arrays(0, lambda *_, **__: ([], lambda: check_updates(model, x, y, steps=1))) < 60e6
