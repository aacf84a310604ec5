"""The forms in which data come: sparse, ragged, data sets, frames, tensors of other libraries, strings, none at all."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_function, check_gradients, check_layer
from keras_ref.errors import BadInput
from keras_ref.inputs.arrays import convert_data

X, Y = np.random.default_rng(0).normal(size=(4, 3)), np.random.default_rng(1).normal(size=(4, 2))


@tf.custom_gradient
def wrong(x):
    return x * x, lambda upstream: upstream * x * 2.0001


def right(x):
    return x * x


def verdicts(report):
    return {v.name: v.verdict for v in report.verdicts}


SPARSE = tf.sparse.from_dense(np.array([[0.5, 0.0, 2.0], [0.0, -1.0, 0.0]]))
RAGGED = tf.ragged.constant([[0.5, 2.0], [1.0], [-1.0, 0.25, 3.0]], dtype=tf.float64)


@pytest.mark.parametrize("square", [right, wrong])
def test_sparse_and_ragged_inputs(square):
    kind = "match" if square is right else "mismatch"
    report = check_function(lambda s: tf.sparse.reduce_sum(s.with_values(square(s.values)), 1), SPARSE)
    assert verdicts(report) == {"input": kind}
    assert report.verdicts[0].total == 3
    report = check_function(lambda r: tf.reduce_sum(r.with_flat_values(square(r.flat_values)), 1), RAGGED)
    assert verdicts(report) == {"input": kind}
    assert report.verdicts[0].total == 6
    assert verdicts(check_function(tf.sin, RAGGED)) == {"input": "match"}  # ragged results too


def test_a_model_of_a_sparse_input():
    model = keras.Sequential([keras.Input((3,), sparse=True), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    report = check_gradients(model, tf.cast(SPARSE, "float32"), Y[:2])
    assert report.ok and set(verdicts(report).values()) == {"match"}, report.explain()
    assert verdicts(report)["input"] == "match"


def net():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")], name="net")
    model.compile("sgd", "mse")
    return model


def test_data_sets():
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(2)
    one, both = convert_data(dataset), convert_data(dataset, batches=5)
    np.testing.assert_array_equal(one.x, X[:2])
    np.testing.assert_array_equal(both.x, X)
    np.testing.assert_array_equal(both.y, Y)
    assert both.sample_weight is None
    assert check_gradients(net(), dataset, batches=2).ok
    with pytest.raises(BadInput, match="must hold the targets"):
        check_gradients(net(), dataset, Y)


class Pairs(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, i):
        return X[2 * i : 2 * i + 2], Y[2 * i : 2 * i + 2], np.array([1.0, 2.0])


def test_a_keras_data_set():
    data = convert_data(Pairs(), batches=2)
    np.testing.assert_array_equal(data.sample_weight, [1, 2, 1, 2])
    assert check_gradients(net(), Pairs()).ok


class Frame:
    """What pandas and polars frames have."""

    def __init__(self, array):
        self.array = array

    def to_numpy(self):
        return self.array


class Foreign:
    """What tensors of torch have; `__array__` alone, as arrays of JAX do, where detached."""

    def __init__(self, array):
        self.array = array

    def detach(self):
        return self

    def cpu(self):
        return self

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype=dtype)


@pytest.mark.parametrize("form", [Frame, Foreign])
def test_frames_and_foreign_tensors(form):
    assert check_gradients(net(), form(X), form(Y)).ok
    assert check_layer(keras.layers.Dense(2), form(X)).ok
    assert verdicts(check_function(wrong, form(X))) == {"input": "mismatch"}


def test_strings_through_a_lookup():
    lookup = keras.layers.StringLookup(vocabulary=["a", "b", "c"])
    words = np.array([["a", "b"], ["c", "c"], ["b", "z"], ["a", "a"]])
    inputs = keras.Input((2,), dtype="string")
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(keras.layers.Embedding(4, 3)(lookup(inputs))))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    report = check_gradients(model, tf.constant(words), Y)
    assert report.ok and len(report.verdicts) >= 3, report.explain()
    assert any("string has no gradient" in note for note in report.notes)


def test_masks_of_minus_infinity_are_held():
    mask = np.where(np.tri(3) > 0, 0.0, -np.inf)
    report = check_function(lambda scores, mask: tf.nn.softmax(scores + mask), X[:3], mask)
    assert verdicts(report) == {"input:scores": "match"}
    assert any("input:mask: an infinity has no gradient" in note for note in report.notes)


def test_labels_that_are_missing():
    model = net()

    def loss(y, p):
        known = tf.math.is_finite(y)
        return tf.reduce_sum(tf.where(known, (tf.where(known, y, 0) - p) ** 2, 0))

    model.compile("sgd", loss)
    y = Y.copy()
    y[0, 1] = np.nan
    report = check_gradients(model, X, y)
    assert report.ok, report.explain()


def loss_of(square, variable):
    return tf.function(lambda: tf.reduce_sum(square(variable + 0)))


@pytest.mark.sampled
def test_functions_without_inputs():
    for square in (right, wrong):
        v = tf.Variable([1.0, 2.0], name="v")
        loss = loss_of(square, v)
        loss()
        report = check_function(loss, variables=[v])
        assert verdicts(report) == {"v": "match" if square is right else "mismatch"}


def test_a_module():
    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.w = tf.Variable([[1.0], [2.0], [0.5]], name="w")

        @tf.function
        def __call__(self, x):
            return tf.tanh(x @ self.w)

    module = Module()
    report = check_function(module, X.astype("float32"), variables=module.trainable_variables)
    assert set(verdicts(report).values()) == {"match"} and len(report.verdicts) == 2


def test_models_without_weights():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Softmax()])
    assert verdicts(check_gradients(model, X)) == {"input": "match"}
    frozen = net()
    frozen.trainable = False
    assert set(verdicts(check_gradients(frozen, X, Y))) == {"input"}
    with pytest.raises(BadInput, match="must have trainable weights"):
        check_gradients(model, X, wrt=("weights",))
