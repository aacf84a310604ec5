"""Unused rows of an embedding cost nothing in training steps either: Keras's, a model's own, and those of Keras 2."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from everything import changes, everything
from memory import FIXED, OPTIMIZERS, TIMES, measure, with_weights
from test_unused_rows import IDS, TARGETS, looking_up, of_rows, peak_of_arrays

from keras_ref import check_updates
from keras_ref.comparison.steps.optimizer_step import steps_rows_alone
from keras_ref.translation.from_keras import reflect_object
from scratch.constraints import MaxNorm

#: optimizers, and whether their steps treat every row of an embedding by itself
LAWS = {
    "adam": (lambda: keras.optimizers.Adam(0.01), True),
    "sgd": (lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True, clipvalue=0.1), True),
    "a norm of all gradients": (lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.5), True),
    "averages": (lambda: keras.optimizers.Adagrad(0.01, use_ema=True, gradient_accumulation_steps=2), True),
    "scaled": (lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.RMSprop(0.01)), True),
    "means of rows": (lambda: keras.optimizers.Adafactor(0.01), False),
    "a norm of weights": (lambda: keras.optimizers.Lamb(0.01), False),
}


@pytest.mark.parametrize("name", LAWS)
def test_whose_steps_treat_rows_alone(name):
    make, expected = LAWS[name]
    assert steps_rows_alone(reflect_object(make(), "optimizer"), path="model/rows/embeddings") is expected


@pytest.mark.parametrize(("constraint", "expected"), [(MaxNorm(1.0, axis=1), True), (MaxNorm(1.0, axis=0), False)])
def test_constraints_that_treat_rows_alone(constraint, expected):
    law = reflect_object(keras.optimizers.SGD(1.0), "optimizer")
    assert steps_rows_alone(law, path="rows", constraint=constraint) is expected


def trained(optimizer=None):
    """A model with an embedding whose optimizer remembers something of every row."""
    model = looking_up()
    model.compile(optimizer=optimizer or keras.optimizers.Adam(0.01), loss="mse")
    model.train_on_batch(np.array([[7, 9, 70_000], [1, 2, 3]]), TARGETS)
    g = np.random.default_rng(0)
    for slot in model.optimizer.variables:
        if tuple(slot.shape) == (80_000, 8):
            slot.assign(np.abs(g.normal(size=slot.shape)) / 8)
    return model


class Moving(keras.optimizers.SGD):
    """Moves every row as it should, and those without a gradient by a millionth more."""

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, learning_rate)
        if isinstance(gradient, tf.IndexedSlices):
            unused = tf.reduce_all(tf.convert_to_tensor(gradient) == 0, axis=-1, keepdims=True)
            variable.assign_add(tf.cast(unused, variable.dtype) * 1e-6 * variable)


Moving.__module__, Moving.__name__ = keras.optimizers.SGD.__module__, "SGD"


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
    layers = pytest.importorskip("tf_keras", reason="needs gradtwin[keras2]").layers
    sys.modules["tf_keras"].utils.set_random_seed(0)
    last = [layers.Flatten(), layers.Dense(1, name="dense")]
    model = sys.modules["tf_keras"].Sequential([layers.Embedding(rows, 8, input_length=3, name="rows"), *last])
    model.compile(optimizer, "mse")
    return model


@pytest.mark.sampled
@pytest.mark.parametrize("make", [trained, Stepping, Twice, of_keras_2])
def test_steps_leave_unused_rows_out(make):
    """All but examples, which the optimizer moves by what it remembers of them."""
    model = make()
    model.optimizer.build(model.trainable_variables) if make in {Stepping, Twice} else None
    variables = [*model.variables, *(() if make is of_keras_2 else model.optimizer.variables)]
    before, arrays = everything(model), [one.numpy() for one in variables]
    report = check_updates(model, IDS, TARGETS, steps=2)
    assert changes(before, everything(model)) == []
    assert all((one.numpy() == array).all() for one, array in zip(variables, arrays, strict=True))
    assert report.ok
    assert report.notes[0] == (
        f"{of_rows(report).name}: 79,995 of 80,000 rows are used by none of the data. The loss does not depend on "
        "them, and autodiff gives them no gradient: all take the same step, which was compared on 8 of them; the "
        "others were left out."
    )
    assert (of_rows(report).compared, of_rows(report).total) == (13 * 8, 640_000)


@pytest.mark.sampled
@pytest.mark.parametrize("make", [trained, lambda optimizer: Stepping(optimizer=optimizer)], ids=["fit", "own step"])
def test_an_optimizer_that_moves_unused_rows_otherwise(monkeypatch, make):
    """The examples show it."""
    monkeypatch.setattr(keras.optimizers, "SGD", Moving)
    verdict = of_rows(check_updates(make(Moving(0.01)), IDS, TARGETS, steps=1))
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
