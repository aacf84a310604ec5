"""Losses by columns are those of whole forward passes, to rounding, for whatever reads the variable."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import keras
import numpy as np
import pytest

from keras_ref import check_gradients
from keras_ref.checks.checked_loss import list_untrained, make_model_loss
from keras_ref.evaluation.changed_state.float64 import in_float64
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.evaluation.nudged_losses import column_losses, stacked_losses
from keras_ref.evaluation.nudged_losses.column_losses import Block, ColumnLosses
from keras_ref.evaluation.nudged_losses.remote_losses import GraphLosses

layers = keras.layers
GENERATOR = np.random.default_rng(3)


def drawn(*shape):
    return GENERATOR.normal(size=shape)


def chain(shape, *parts, loss="mse", dtype="float32"):
    model = keras.Sequential([keras.Input(shape, dtype=dtype), *parts])
    model.compile(loss=loss)
    return model


def classifier():
    parts = (layers.Dense(6, "swish", kernel_regularizer="l2"), layers.Dense(4, "softmax"))
    return chain((3,), *parts, loss="categorical_crossentropy"), drawn(5, 3), np.eye(4)[[0, 1, 2, 3, 1]]


def attention():
    x = keras.Input((4, 6))
    h = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 3)(x, x))
    model = keras.Model(x, layers.Dense(2)(layers.Dense(5, "gelu")(h)))
    model.compile(loss="mse")
    return model, drawn(3, 4, 6), drawn(3, 4, 2)


def residual():
    x = keras.Input((4,))
    h = layers.Dense(4, "relu")(x)
    model = keras.Model(x, layers.Dense(2)(layers.Add()([h, layers.Dense(4, "selu")(h), x])))
    model.compile(loss="huber")
    return model, drawn(6, 4), drawn(6, 2)


def convolutions():
    first = layers.Conv2D(4, 2, activation="tanh", padding="same", strides=2)
    parts = (first, layers.MaxPooling2D(2), layers.Conv2D(3, 2, dilation_rate=1), layers.GlobalAveragePooling2D())
    return chain((8, 8, 2), *parts, layers.Dense(2)), drawn(2, 8, 8, 2), drawn(2, 2)


def volumes():
    parts = (layers.Conv3D(2, 2, activation="elu"), layers.Flatten(), layers.Dense(2))
    return chain((3, 3, 3, 2), *parts), drawn(2, 3, 3, 3, 2), drawn(2, 2)


def words():
    parts = (layers.Embedding(9, 3), layers.Conv1D(4, 2, activation="leaky_relu"), layers.Flatten(), layers.Dense(2))
    return chain((5,), *parts, dtype="int32"), GENERATOR.integers(0, 9, (4, 5)), drawn(4, 2)


def normalized():
    parts = (layers.Dense(5), layers.BatchNormalization(), layers.LayerNormalization(), layers.PReLU(), layers.Dense(2))
    return chain((3,), *parts), drawn(4, 3), drawn(4, 2)


def shared():
    x, layer = keras.Input((4,)), layers.Dense(4, "tanh")
    model = keras.Model(x, layer(layer(x)))
    model.compile(loss="mse")
    return model, drawn(3, 4), drawn(3, 4)


def recurrent():
    return chain((3, 2), layers.LSTM(3), layers.Dense(2)), drawn(2, 3, 2), drawn(2, 2)


def scaled():
    """A weight without axes beside the others."""

    class Scale(layers.Layer):
        def build(self, shape):
            self.factor = self.add_weight(shape=(), initializer="ones", name="factor")

        def call(self, x):
            return self.factor * x

    return chain((3,), layers.Dense(5, "tanh"), Scale(), layers.Dense(2)), drawn(4, 3), drawn(4, 2)


#: models in which every variable is read in a way that is known
KNOWN = (classifier, attention, residual, convolutions, volumes, words, normalized)
#: models in which whole forward passes are taken for these variables: one is used twice, others in a loop
UNKNOWN = {
    shared: ("/kernel", "/bias"),
    recurrent: ("lstm_cell/kernel", "recurrent_kernel", "lstm_cell/bias"),
}


@contextmanager
def loss_of(model, x, y):
    """The loss of a model as a function of its weights, in float64."""
    with in_float64(model):
        found = make_model_loss(model, Data(x, y), training=False)
        trained = list(model.trainable_variables)
        yield LossFunction(found.loss, variables=trained, state=list_untrained(model, trained), data=found.data)


def both_ways(loss, name, count=24):
    """Losses at random nudges of a variable: by columns (None where there are none), and by whole forward passes."""
    value, start = loss.values[name], loss._offsets[name]
    entries = GENERATOR.integers(0, value.size, count)
    flat = loss._flatten(loss.values)
    targets = flat[entries + start] + GENERATOR.normal(size=count) * 10.0 ** GENERATOR.integers(-6, 0, count)
    whole = loss._run(loss.values, steps=np.zeros(count), entries=entries + start, targets=targets)
    columns = ColumnLosses.of(loss._traced(), loss._find_tensors()[name])
    if columns is None:
        return None, whole
    return columns(entries, targets - flat[entries + start], loss._make_point(loss.values)), whole


@pytest.mark.sampled
@pytest.mark.parametrize("make", KNOWN)
def test_values(make):
    """Losses by columns are those of whole forward passes, for every variable."""
    with loss_of(*make()) as loss:
        for name in loss.variables:
            ours, whole = both_ways(loss, name)
            assert ours is not None, name
            assert (np.abs(ours - whole) <= 2 * loss.noise() * (1 + np.abs(whole))).all(), name
            assert np.ptp(whole) > 1e3 * loss.noise() or name.endswith("key/bias"), name  # a softmax has no use for it


@pytest.mark.parametrize("make", UNKNOWN)
def test_unknown_routes(make):
    """Where the way of a variable is not known there are no columns."""
    with loss_of(*make()) as loss:
        names = [n for n in loss.variables if n.endswith(UNKNOWN[make])]
        assert names
        for name in names:
            assert both_ways(loss, name)[0] is None


@pytest.mark.sampled
@pytest.mark.parametrize("make", [residual, words, scaled])
def test_verdicts(make, monkeypatch):
    """A check finds the same by either way, and counts as many forward passes."""
    reports = []
    for worth in (0, np.inf):
        monkeypatch.setattr(stacked_losses, "WORTH", worth)
        keras.utils.set_random_seed(1)
        GENERATOR.bit_generator.state = np.random.default_rng(5).bit_generator.state
        reports.append(check_gradients(*make(), oracles=("forward",), wrt=("weights",), effort="full"))
    ours, whole = reports
    assert ours.ok
    for one, other in zip(ours.verdicts, whole.verdicts, strict=True):
        assert (one.verdict, one.compared) == (other.verdict, other.compared)
        assert abs(one.numeric - one.autodiff) <= one.visible <= 10 * other.visible


@pytest.mark.sampled
def test_wrong_columns(monkeypatch):
    """Columns that do not fit the forward pass are not used: the check finds what it finds without them."""
    moves = Block.columns
    used = []

    def wrong(self):
        used.append(True)
        return {name: column + 1e-3 if column.dtype.is_floating else column for name, column in moves(self).items()}

    monkeypatch.setattr(stacked_losses, "WORTH", 0)
    monkeypatch.setattr(column_losses.Block, "columns", wrong)
    report = check_gradients(*residual(), oracles=("forward",), wrt=("weights",), effort="full")
    assert used
    assert report.ok, report


def test_columns_that_cannot_be_compared(monkeypatch):
    """Where the noise of the loss is not known, columns are not relied on: nothing says how far they may be off."""
    moves = Block.columns

    def wrong(self):
        return {name: column + 1e-3 if column.dtype.is_floating else column for name, column in moves(self).items()}

    monkeypatch.setattr(stacked_losses, "WORTH", 0)
    monkeypatch.setattr(column_losses.Block, "columns", wrong)
    with loss_of(chain((2,), layers.Dense(3), layers.Dense(1)), np.ones((4, 2)), np.ones((4, 1))) as loss:
        (name, *_) = loss.variables
        noise = loss.noise()
        monkeypatch.setattr(type(loss), "noise", lambda *_, **__: np.nan)
        found = loss.losses(name, np.arange(6), np.full((1, 6), 1e-3))
        monkeypatch.setattr(stacked_losses, "WORTH", np.inf)
        whole = loss.losses(name, np.arange(6), np.full((1, 6), 1e-3))
    assert (np.abs(found - whole) <= 2 * noise).all()


def test_overflow(monkeypatch):
    """An update of rank one of what is infinite is not a number, where the forward pass may be finite."""

    class Reciprocal(layers.Layer):
        def call(self, x):
            return keras.ops.exp(-1.0 / x)

    model = chain((2,), layers.Dense(3, use_bias=False), Reciprocal(), layers.Dense(1))
    x, y = np.array([[0.0, 0.0], [1.0, 2.0]]), np.ones((2, 1))
    monkeypatch.setattr(stacked_losses, "WORTH", 0)
    with loss_of(model, x, y) as loss:
        (name, *_) = loss.variables
        entries, offsets = np.arange(6), np.full((1, 6), 1e-3)
        by_columns = loss.losses(name, entries, offsets)
        monkeypatch.setattr(stacked_losses, "WORTH", np.inf)
        whole = loss.losses(name, entries, offsets)
        assert np.isfinite(whole).all()
        assert (np.abs(by_columns - whole) <= 2 * loss.noise()).all()


@pytest.mark.sampled
def test_workers(monkeypatch):
    """Workers compute the same bits by columns, from the graph alone."""
    monkeypatch.setattr(stacked_losses, "WORTH", 0)
    monkeypatch.setattr(stacked_losses, "CALL", 1)
    asked = []
    in_worker = GraphLosses.__call__
    monkeypatch.setattr(GraphLosses, "__call__", lambda self, *block: asked.append(self) or in_worker(self, *block))
    with loss_of(*residual()) as loss, ThreadPoolExecutor(1) as pool:
        for name, value in loss.values.items():
            entries, offsets = np.arange(value.size), np.array([[1e-3], [-1e-3]]) * np.ones(value.size)
            alone = loss.losses(name, entries, offsets)
            loss.executor = pool
            assert np.array_equal(loss.losses(name, entries, offsets), alone)
            loss.executor = None
    assert any(job.variable is not None for job in asked)
