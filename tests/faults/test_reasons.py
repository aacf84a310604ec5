"""What a check says of an error is decided by its type: precision is named only where precision can be the cause."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.autograph.core.ag_ctx import Status, control_status_ctx

from keras_ref import check_function, check_gradients, check_layer, check_updates
from keras_ref.errors import BadInput
from scratch.differences import scale_of
from scratch.layers.core import Dense
from scratch.nudging.linear_structure import find_mixing, find_responses

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


def raise_in(where, error):
    """A layer that raises in one way of running alone."""

    def fails():
        is_graph = not tf.executing_eagerly()
        return {"a trace": is_graph, "AutoGraph": is_graph and control_status_ctx().status == Status.ENABLED}[where]

    class Raising(keras.layers.Layer):
        is_ready = False  # Keras calls it when it is added to a model

        def build(self, shape):
            self.scale = self.add_weight(shape=(3,), initializer="ones", name="scale")

        def call(self, x):
            if self.is_ready and fails():
                raise error
            if self.is_ready and where == "AutoGraph" and not tf.executing_eagerly():
                float(x[0, 0])  # which a plain trace refuses
            return x * self.scale

    return Raising()


def raise_out_of_memory(_):
    raise MemoryError("too little")


IN_PART = {
    "a trace": lambda: raise_in("a trace", MemoryError("too little")),
    "AutoGraph": lambda: raise_in("AutoGraph", MemoryError("too little")),
    "of TensorFlow": lambda: raise_in("a trace", tf.errors.ResourceExhaustedError(None, None, "too little")),
    "Python that a graph calls": lambda: keras.layers.Lambda(
        lambda x: tf.ensure_shape(tf.py_function(raise_out_of_memory, [x], x.dtype), (2, 3)), output_shape=(3,)
    ),
}
VERBS = {
    "gradients": lambda layer, model: check_gradients(model, X, Y, oracles=("forward",), most=1),
    "updates": lambda layer, model: check_updates(model, X, Y, steps=1),
    "layer": lambda layer, model: check_layer(layer, X, oracles=("forward",), most=1),
    "function": lambda layer, model: check_function(layer, X, most=1),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("where", IN_PART)
def test_memory_that_does_not_suffice_in_one_way_of_running(where, verb):
    """It is no sign of code that runs only eagerly, or in one precision alone."""
    layer = IN_PART[where]()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    layer.build((None, 3))
    if verb in {"gradients", "updates"}:
        model.add(layer)
    layer.is_ready = True
    with pytest.raises(MemoryError, match="too little"):
        VERBS[verb](layer, model)


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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1e-300, 1.0, 1e160, 1e250, 5e307, 1.7e308])
@pytest.mark.parametrize("share", [0.125, 0.5])
def test_numbers_of_any_size_contradict_no_declaration(size, share):
    """A step beyond any number is no sign of a wrong declaration; a smaller one shows that it is right, or wrong."""

    class Boastful(Dense):
        def mixing(self, weights):
            return weights["kernel"] * 1.01

    weights = {"kernel": np.full((2, 3), share), "bias": np.zeros(3)}
    x = np.array([[size, size / 3], [size / 7, -size]])
    for layer in (Dense(3), Dense(3, "tanh")):
        assert find_responses(layer, weights, "kernel", x) is not None
        assert find_responses(layer, weights, "bias", x) is not None
        assert find_mixing(layer, weights, x) is not None
    with pytest.warns(RuntimeWarning, match="`mixing` of a layer must describe its forward pass"):
        assert find_mixing(Boastful(3), weights, x) is None


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_any_confirm_no_declaration():
    weights = {"kernel": np.full((2, 3), 4.0), "bias": np.ones(3)}
    x = np.full((2, 2), 1.7e308)
    assert find_responses(Dense(3), weights, "kernel", x) is None
    assert find_mixing(Dense(3), weights, x) is None


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("size", [1e150, 1e160, 1.7e308])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_large_data_are_no_warning(size, activation):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, activation, kernel_initializer="ones")])
    model.compile("sgd", "mse")
    report = check_gradients(model, np.array([[-size], [size / 2 if activation == "tanh" else -size]]), np.ones((2, 1)))
    found = [one.verdict.value for one in report.verdicts if one.oracle in {"forward", "twin"}]
    assert found == ["match"] * 6  # float32, in which the model trains, has no such numbers: that is a finding
