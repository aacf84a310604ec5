"""check_layer and check_function: what they take, and the verdicts that real code needs."""

import functools
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from planting import PLANTED, wrong

import keras_ref
from keras_ref import check_function, check_gradients, check_layer

X = np.random.default_rng(0).normal(size=(3, 2))
SEQUENCES = np.random.default_rng(1).normal(size=(2, 3, 2))
MATRIX = np.array([[2.0, 0.3, 0.1], [0.3, 1.0, 0.2], [0.1, 0.2, 3.0]])


def verdicts(report):
    return {(v.name, v.oracle): v.verdict for v in report.verdicts}


def reasons(report):
    return {v.name: v.reason for v in report.verdicts}


#: name → (function, its inputs)
FUNCTIONS = {
    "two inputs": (tf.matmul, (X, X.T)),
    "a nested input": (lambda pair: pair["a"] * pair["b"][0], ({"a": X, "b": [X + 1]},)),
    "several outputs": (lambda x: (tf.sin(x), {"sum": tf.reduce_sum(x**2)}), (X,)),
    "integers": (tf.gather, (X, np.array([0, 2, 2]))),
    "a number": (lambda x, power: x**power, (X**2 + 1, 3.0)),
    "complex inside": (lambda x: tf.abs(tf.signal.fft(tf.cast(x, tf.complex128))), (X,)),
    "complex outside": (lambda x: tf.signal.fft(tf.cast(x, tf.complex128)), (X,)),
    "a loop": (lambda x: tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * x), (0, x))[1], (X,)),
    "a loss": (keras.losses.Huber(), (X, X + 0.3)),
    "a partial": (functools.partial(tf.nn.softmax, axis=0), (X,)),
    "Keras operations": (lambda x: keras.ops.logsumexp(x, axis=-1), (X,)),
    "an integer output beside": (lambda x: tf.math.top_k(x, 1), (X,)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    function, inputs = FUNCTIONS[name]
    report = check_function(function, *inputs)
    assert report.ok and {v.oracle for v in report.verdicts} == {"forward"}, report.explain()


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["two inputs", "a number", "a loss", "Keras operations"])
def test_functions_with_a_planted_error(name):
    function, inputs = FUNCTIONS[name]
    report = check_function(wrong(function), *inputs)
    assert not report.ok and {v.verdict for v in report.failures} == {"mismatch"}, report.explain()


def test_cotangents_are_random():
    """An all-ones cotangent cannot tell a transposed backward pass from a right one."""

    @tf.custom_gradient
    def turned(x):
        return x * 2, lambda upstream: tf.reverse(upstream, [0]) * 2

    assert verdicts(check_function(turned, X)) == {("input", "forward"): "mismatch"}
    assert verdicts(check_function(lambda x: tf.reduce_sum(turned(x)), X)) == {("input", "forward"): "match"}


def test_variables_are_checked():
    kernel, bias = tf.Variable(np.ones((2, 2)), name="kernel"), keras.Variable(np.zeros(2), name="bias")

    def function(x):
        return tf.tanh(x @ kernel + tf.cast(bias.value, x.dtype))

    assert verdicts(check_function(function, X, variables=[kernel, bias])) == dict.fromkeys(
        [("kernel", "forward"), ("bias", "forward"), ("input", "forward")], "match"
    )
    report = check_function(
        lambda x: wrong(tf.matmul)(x, tf.convert_to_tensor(kernel)) + tf.cast(bias.value, x.dtype),
        X,
        variables=[kernel, bias],
    )
    assert verdicts(report) == {
        ("kernel", "forward"): "mismatch",
        ("bias", "forward"): "match",
        ("input", "forward"): "mismatch",
    }


#: name → (layer, inputs, arguments of its call)
LAYERS = {
    "Dense": (lambda: keras.layers.Dense(2, "tanh"), (X,), {}),
    "mask": (lambda: keras.layers.LSTM(2), (SEQUENCES,), {"mask": np.array([[1, 1, 0], [1, 0, 0]], bool)}),
    "initial_state": (
        lambda: keras.layers.GRU(2, return_state=True),
        (SEQUENCES,),
        {"initial_state": [SEQUENCES[:, 0]]},
    ),
    "training": (keras.layers.BatchNormalization, (X,), {"training": True}),
    "dropout": (lambda: keras.layers.Dropout(0.5, seed=1), (X,), {"training": True}),
    "a list of inputs": (keras.layers.Multiply, ([X, X + 1],), {}),
    "inputs by position": (lambda: keras.layers.MultiHeadAttention(1, 2), (SEQUENCES, SEQUENCES + 1), {}),
    "integers": (lambda: keras.layers.Embedding(4, 2), (np.array([[0, 1, 1]]),), {}),
    "activity regularizer": (
        lambda: keras.layers.Dense(2, activity_regularizer="l2", kernel_regularizer="l1"),
        (X,),
        {},
    ),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    """Unbuilt, by both oracles."""
    make, inputs, arguments = LAYERS[name]
    keras.utils.set_random_seed(2)
    report = check_layer(make(), *inputs, **arguments)
    assert report.ok and {v.oracle for v in report.verdicts} == {"forward", "twin"}, report.explain()


class Squared(keras.layers.Layer):
    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), name="gain")

    def call(self, x):
        return wrong(lambda x, g: x * x * g)(x, tf.convert_to_tensor(self.gain))


class Late(keras.layers.Layer):
    """A layer whose build() makes a layer, which is built in the first call."""

    def build(self, shape):
        self.dense = keras.layers.Dense(shape[-1], name="dense")
        self.built = True

    def call(self, x):
        return x * self.dense(x)


@pytest.mark.parametrize("built", [False, True])
def test_layers_that_are_built_in_the_first_call(built):
    """They were refused: their weights cannot be made while the layer around them computes in float64."""
    layer = Late(name="late")
    if built:
        layer.build(X.shape)
    report = check_layer(layer, X)
    assert report.ok and {v.name for v in report.verdicts} == {"late/dense/kernel", "late/dense/bias", "input"}


def test_a_layer_with_a_planted_error():
    report = check_layer(Squared(name="squared"), X)
    assert verdicts(report) == {("squared/gain", "forward"): "mismatch", ("input", "forward"): "mismatch"}


ODD_KEYS = {len: True, ("a", 1): [], "layer": keras.layers.Dense(2)}
ODD_KEYS["itself"] = ODD_KEYS


def test_containers_that_a_function_uses_may_have_any_keys():
    """Keys that cannot be sorted, a container inside itself: layers are found all the same, and compute in float64."""

    def function(x):
        return ODD_KEYS["layer"](x)

    ODD_KEYS["layer"](X)
    report = check_function(function, X, variables=ODD_KEYS["layer"].trainable_variables)
    assert report.ok and not any("float32 inside" in note for note in report.notes), report.notes


def test_a_layer_keeps_no_trace_of_its_twin():
    layer = keras.layers.Dense(2)
    layer(X)
    nodes = len(layer._inbound_nodes)
    assert check_layer(layer, X).ok and len(layer._inbound_nodes) == nodes


# Why None -------------------------------------------------------------------------------------------------------------


class OnlyInTraining(keras.layers.Layer):
    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), name="gain")
        self.unused = self.add_weight(shape=(1,), name="unused")

    def call(self, x, training=False):
        return x * self.gain if training else 2 * x


STOPPED = lambda x: tf.stop_gradient(x) * 2  # noqa: E731 (its line is in the report)
NONE = {
    "round": (tf.round, "disconnected", "not differentiable: Round (Round)"),
    "argmax": (lambda x: tf.cast(tf.argmax(x, -1), x.dtype), "disconnected", "not differentiable: ArgMax (ArgMax)"),
    "a comparison": (lambda x: tf.cast(x > 0, x.dtype), "disconnected", "not differentiable: Greater (Greater)"),
    "an index": (
        lambda x: tf.gather(tf.range(9.0), tf.cast(tf.abs(x), tf.int32)),
        "disconnected",
        "not differentiable: Cast (Cast)",
    ),
    "numpy": (
        lambda x: tf.reshape(tf.numpy_function(np.sin, [x], x.dtype), x.shape),
        "mismatch",
        "autodiff gives None where the loss moves: not differentiable: PyFunc (PyFunc)",
    ),
    "stop_gradient": (
        STOPPED,
        "mismatch",
        (
            f"stop_gradient (StopGradient) in line {STOPPED.__code__.co_firstlineno} of test_functions.py cuts a path "
            "to the loss; the gradient agrees with slopes that hold its value. If that is meant, say "
            "expect={'input': 'stop_gradient'}, or --expect 'input=stop_gradient'"
        ),
    ),
    "unused": (lambda x: tf.ones(2, x.dtype), "disconnected", "not connected to the loss"),
}


@pytest.mark.parametrize("name", NONE)
def test_why_autodiff_gives_none(name):
    function, verdict, reason = NONE[name]
    report = check_function(function, X)
    assert (verdicts(report), reasons(report)) == ({("input", "forward"): verdict}, {"input": reason}), report.explain()


def test_py_function_has_a_gradient():
    assert check_function(lambda x: tf.py_function(tf.sin, [x], x.dtype), X).ok


def test_connected_only_in_training():
    report = check_layer(OnlyInTraining(name="only"), X)
    assert {k: v for k, v in reasons(report).items() if v} == {
        "only/gain": "connected to the loss only in training",
        "only/unused": "not connected to the loss",
    }
    report = check_layer(OnlyInTraining(name="only"), X, training=True)
    assert verdicts(report) == {
        ("only/gain", "forward"): "match",
        ("only/unused", "forward"): "disconnected",
        ("input", "forward"): "match",
    }


# Not a number ---------------------------------------------------------------------------------------------------------


def test_the_where_trap():
    """The branch that is not taken has an infinite slope: 0 · inf is nan in autodiff, the loss knows nothing of it."""
    report = check_function(lambda x: tf.where(x > 2, tf.math.log(x), x), np.array([4.0, 0.0, 3.0]))
    assert verdicts(report) == {("input", "forward"): "nan"}, report.explain()
    assert (
        reasons(report)["input"] == "the loss is finite; SelectV2 (SelectV2) hides a branch whose own derivative is not"
    )


# What is not a function -----------------------------------------------------------------------------------------------

DRAWING = {
    "tf.random": lambda x: x * tf.random.uniform((2,), dtype=x.dtype),
    "Python's random": lambda x: x * random.random(),
    "NumPy's random": lambda x: x * np.random.random(),  # noqa: NPY002 (the state that functions share)
}


@pytest.mark.parametrize("name", DRAWING)
def test_nondeterminism(name):
    report = check_function(DRAWING[name], X)
    assert verdicts(report) == {("input", "forward"): "nondeterministic"} and not report.ok
    assert report.verdicts[0].reason.endswith(" at the same point")


def test_keras_random_is_deterministic():
    """Its seed is a variable, which is put back before every evaluation."""
    assert check_function(lambda x: x * keras.random.uniform((2,), dtype=x.dtype), X).ok


# Modes ----------------------------------------------------------------------------------------------------------------


def test_a_loss_that_depends_on_the_mode():
    report = check_function(lambda x: x * (2.0 if tf.executing_eagerly() else 3.0), X)
    assert verdicts(report) == {("input", "forward"): "mode-dependent"}
    assert (
        report.verdicts[0].reason.startswith("the loss itself is ")
        and " in mode eager and " in report.verdicts[0].reason
    )


class Moody(keras.layers.Layer):
    """Its backward pass is wrong in graphs alone."""

    def call(self, x):
        @tf.custom_gradient
        def squared(x):
            return x * x, lambda upstream: upstream * x * (2.0 if tf.executing_eagerly() else 2.0 + 2 * PLANTED)

        return squared(x)


def test_a_gradient_that_depends_on_the_mode():
    report = check_layer(Moody(), X, modes=("eager", "function", "jit_compile"))
    assert verdicts(report) == {
        ("input", "forward"): "match",
        ("input", "function"): "mode-dependent",
        ("input", "jit_compile"): "mode-dependent",
    }
    assert verdicts(check_layer(Moody(), X, modes=("function",))) == {("input", "forward"): "mismatch"}


def test_what_does_not_compile_is_said():
    report = check_function(lambda x: tf.py_function(tf.sin, [x], x.dtype), X, modes=("eager", "jit_compile"))
    assert verdicts(report) == {("input", "forward"): "match", ("input", "jit_compile"): "undecided"} and not report.ok
    assert report.failures[0].reason.startswith("it does not compile: Detected unsupported operations")


# Triangles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [tf.linalg.cholesky, lambda m: tf.linalg.cholesky(tf.stack([m, 2 * m])), tf.linalg.logdet],
    ids=["cholesky", "batch", "logdet"],
)
def test_functions_that_read_one_triangle(function):
    report = check_function(function, MATRIX)
    assert report.ok, report.explain()
    assert (report.verdicts[0].verdict, report.verdicts[0].reason) == (
        "symmetrized",
        (
            "the function does not read the upper triangle, and autodiff spreads the slope over both; along symmetric "
            "changes they agree"
        ),
    )
    assert report.notes == (f"input: {report.verdicts[0].reason}.",)


def test_a_planted_error_in_a_triangle_is_found():
    report = check_function(wrong(tf.linalg.cholesky), MATRIX)
    assert verdicts(report) == {("input", "forward"): "mismatch"}


def test_a_lost_triangle_elsewhere_is_found():
    """Spreading the slope over both triangles is no excuse where nothing takes the matrix for symmetric."""

    @tf.custom_gradient
    def lower(m):
        return tf.linalg.band_part(m, -1, 0), lambda upstream: (upstream + tf.transpose(upstream)) / 2

    assert verdicts(check_function(lower, MATRIX)) == {("input", "forward"): "mismatch"}


# Surrogates -----------------------------------------------------------------------------------------------------------


@tf.custom_gradient
def straight_through(x):
    return tf.round(x * 4) / 4, lambda upstream: upstream


class Plain(keras.layers.Layer):
    def call(self, x):
        return straight_through(x)


@keras_ref.surrogate
class Declared(Plain):
    pass


def quantized(layer, **options):
    keras.utils.set_random_seed(4)
    m = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(2, name="a"), layer, keras.layers.Dense(2, name="b")], name="m"
    )
    return verdicts(check_gradients(m, X, oracles=("forward",), **options))


@pytest.mark.sampled
def test_surrogates():
    """Declared on the class, everything upstream is meant to differ, and everything downstream is checked as ever."""
    upstream = [("m/a/kernel", "forward"), ("m/a/bias", "forward"), ("input", "forward")]
    downstream = {("m/b/kernel", "forward"): "match", ("m/b/bias", "forward"): "match"}
    assert quantized(Declared()) == dict.fromkeys(upstream, "surrogate") | downstream
    assert quantized(Plain()) == dict.fromkeys(upstream, "mismatch") | downstream
    expect = {"m/a/*": "surrogate", "input": "surrogate"}
    assert quantized(Plain(), expect=expect) == dict.fromkeys(upstream, "surrogate") | downstream


@pytest.mark.parametrize("shape", [(), (2,)], ids=str)
def test_a_variable_named_as_an_input_takes_no_place_of_the_input(shape):
    """Of the same shape the gradient of the variable was not compared, in silence."""
    v = tf.Variable(np.full(shape, 2.0), name="input")
    report = check_function(lambda x: tf.reduce_sum(wrong(tf.square)(v + 0.0) * x), X[0], variables=[v])
    assert verdicts(report) == {("variable:input", "forward"): "mismatch", ("input", "forward"): "match"}
