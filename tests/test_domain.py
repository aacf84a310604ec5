"""Functions with a domain: an operation that raises at a nudged point makes the loss NaN there, and no more."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_function, check_gradients
from keras_ref.errors import BadInput
from keras_ref.evaluation.nudged_losses.domain import losses_in_domain


def positive(function, eagerly=False):
    def of(x):
        if eagerly:
            x.numpy()
        with tf.control_dependencies([tf.debugging.assert_positive(x)]):
            return function(x)

    return of


@tf.custom_gradient
def wrong(x):
    return x * x, lambda upstream: upstream * x * 2.0001


#: name → (function, point, the verdict)
FUNCTIONS = {
    "inside": (positive(tf.math.log), [0.5, 2.0], "match"),
    "close to the border": (positive(tf.math.log), [1e-9, 2.0], "match"),
    "a kink": (positive(lambda x: tf.nn.relu(x - 1.0)), [1.0, 2.0], "kink"),
    "a wrong gradient": (positive(wrong), [0.5, 2.0], "mismatch"),
    "a wrong gradient, only eagerly": (positive(wrong, eagerly=True), [1e-9, 2.0], "mismatch"),
    "only eagerly": (positive(tf.math.log, eagerly=True), [1e-9, 2.0], "match"),
    "a factorization": (
        lambda m: tf.linalg.cholesky(m + tf.transpose(m)),
        [[1.0, 0.9999999], [0.9999999, 1.0]],
        "match",
    ),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    function, point, verdict = FUNCTIONS[name]
    report = check_function(function, np.array(point))
    assert [v.verdict for v in report.verdicts] == [verdict], report.explain()


@pytest.mark.parametrize("effort", ["full", "fast"])
def test_models(effort):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, positive(tf.math.log), name="logs")])
    model.layers[0].set_weights([np.eye(2), np.array([1e-7, 1.0])])
    x = np.array([[1e-6, 1.0], [0.5, 2.0]])
    report = check_gradients(model, x, effort=effort)
    assert report.ok, report.explain()


def test_the_point_itself_must_lie_in_the_domain():
    with pytest.raises(BadInput, match="must run on the data"):
        check_function(positive(tf.math.log), np.array([-1.0, 2.0]))


def test_points_that_raise_are_found_by_halves():
    calls = []

    def evaluate(indices):
        calls.append(len(indices))
        if 3 in indices:
            raise tf.errors.InvalidArgumentError(None, None, "out of domain")
        return indices * 2.0

    found = losses_in_domain(evaluate, np.arange(8), given=np.zeros(8, bool))
    np.testing.assert_array_equal(found, [0, 2, 4, np.nan, 8, 10, 12, 14])
    assert calls == [8, 4, 2, 2, 1, 1, 4]
