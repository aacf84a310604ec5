"""What a check says of an error is decided by its type: precision is named only where precision can be the cause."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_gradients
from keras_ref.errors import BadInput
from scratch.differences import scale_of

X, Y = np.arange(6.0).reshape(2, 3) / 8, np.ones((2, 3))


class Refusing(keras.layers.Layer):
    """Raises an error in float64, whatever it says of it."""

    def __init__(self, error):
        super().__init__(name="refusing")
        self.error = error

    def build(self, shape):
        self.scale = self.add_weight(shape=(3,), initializer="ones", name="scale")

    def call(self, x):
        if self.compute_dtype == "float64":
            raise self.error
        return x * self.scale


def model_of(error):
    model = keras.Sequential([keras.Input((3,)), Refusing(error)], name="mine")
    model.compile(loss="mse")
    return model


OF_PRECISION = [
    TypeError("no kernel"),
    ValueError("two dtypes"),
    NotImplementedError("not for these"),
    tf.errors.InvalidArgumentError(None, None, "not for these"),
    tf.errors.NotFoundError(None, None, "no kernel"),
]
OF_ANYTHING_ELSE = [
    KeyError("float64"),
    ZeroDivisionError("float64 does not run"),
    OSError("a file in float64"),
    RuntimeError("dtype float64 is not supported"),
]


@pytest.mark.sampled
@pytest.mark.parametrize("error", OF_PRECISION, ids=repr)
def test_what_precision_can_cause_is_checked_in_the_precision_it_has(error):
    report = check_gradients(model_of(error), X, Y, oracles=("forward",), most=1)
    assert any("it does not run in float64" in note for note in report.notes)


@pytest.mark.parametrize("error", OF_ANYTHING_ELSE, ids=repr)
def test_anything_else_is_what_it_is(error):
    with pytest.raises(BadInput, match=f"Received: {type(error).__name__}: "):
        check_gradients(model_of(error), X, Y, oracles=("forward",), most=1)


def test_memory_that_does_not_suffice():
    with pytest.raises(MemoryError):
        check_gradients(model_of(MemoryError("float64 needs twice as much")), X, Y, oracles=("forward",), most=1)


def dense(activation="tanh"):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, activation)])
    model.compile("sgd", "mse")
    return model


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("size", [1e160, 1e200, 1.7e308])
def test_numbers_whose_squares_are_beyond_any(size):
    """The step of a weight is measured in its own size, not in an overflow."""
    exponents = np.minimum(np.round(np.log2([size, size * 0.79056942])), 1023)
    assert np.array_equal(scale_of(np.array([size, size / 2])), np.exp2(exponents))


def test_complex_data_of_a_model_that_takes_real_ones():
    """What such a model makes of them is Keras's; that there is no twin is said, and is no error of gradtwin's."""
    report = check_gradients(dense(), np.full((1, 1), 1j), np.ones((1, 1)))
    assert "No twin: A twin takes real inputs. Received: a complex one." in report.notes
