"""Errors in a backward pass: a sentence that names the user's code, or a verdict where autodiff itself is at fault."""

import pathlib
from pathlib import Path

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_ref
from keras_ref import check_function, check_gradients, check_layer, check_updates
from keras_ref.errors import BadInput, is_of_user
from keras_ref.reports.verdict import Kind, Reason

X = np.random.default_rng(0).normal(size=(3, 4))
Y = np.random.default_rng(1).normal(size=(3, 1))
SINGULAR = np.array([[1.0, 2.0], [2.0, 4.0]])


def _raise(error):
    raise error


#: what a backward pass does with the upstream gradient → what the message says of it
BACKWARD = {
    "an error of its own": (lambda up: _raise(RuntimeError("not written yet")), "RuntimeError: not written yet."),
    "a key that is not there": (lambda up: {}["nothing"], "KeyError: nothing."),
    "a lookup": (lambda up: _raise(LookupError("no such table")), "LookupError: no such table."),
    "an assertion": (lambda up: _raise(AssertionError("asserted")), "AssertionError: asserted."),
    "a type error": (lambda up: up + "text" + None, "Error: "),
    "too many": (lambda up: (up, up), "expected to return 1 gradients, but returned 2 instead."),
    "shapes that do not fit": (lambda up: tf.matmul(up, up), "Matrix size-incompatible"),
    "TensorFlow's own error": (lambda up: tf.linalg.inv(0 * up[:2, :2]), "Input is not invertible."),
    "text": (lambda up: "text", "returns a gradient of dtype string for its argument 0"),
    "another dtype": (lambda up: tf.cast(up, "float16"), "returns a gradient of dtype float16 for its argument 0"),
    "another shape": (
        tf.transpose,
        "returns a gradient of shape (2, 3) for its argument 0, of shape (3, 2)",
    ),
}


class Own(keras.layers.Layer):
    """2·x with a backward pass of its own."""

    def __init__(self, backward, **options):
        super().__init__(**options)
        self.backward = backward

    def call(self, x):
        @tf.custom_gradient
        def doubled(x):
            def by_hand(upstream):
                return self.backward(upstream)

            return 2.0 * x, by_hand

        return doubled(x)


def model_of(backward):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), Own(backward), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


@pytest.mark.sampled
@pytest.mark.parametrize("verb", ["eager", "function", "updates"])
@pytest.mark.parametrize("name", BACKWARD)
def test_the_message_names_the_place(name, verb):
    backward, said = BACKWARD[name]
    model = model_of(backward)
    with pytest.raises(BadInput) as error:  # noqa: PT012 (one call, by either verb)
        if verb == "updates":
            check_updates(model, X, Y)
        else:
            check_gradients(model, X, Y, modes=(verb,))
    message = str(error.value)
    assert message.startswith(
        "A backward pass must run, with one gradient of the shape and dtype of each input. Received: "
    )
    assert message.endswith("Correct the backward pass there; the forward pass runs.")
    assert said in message and "of test_backward_errors.py" in message, message


@tf.custom_gradient
def broadcast(a, b):
    return a + b, lambda upstream: (upstream, upstream)


@tf.custom_gradient
def transposed(a, b):
    return tf.matmul(a, b), lambda up: (tf.matmul(up, b, transpose_b=True), tf.matmul(up, a, transpose_a=True))


@pytest.mark.parametrize(
    ("function", "other", "shapes"),
    [
        (broadcast, X[0], "(3, 4) for values of shape (4,)"),
        (transposed, X.T[:, :2], "(2, 4) for values of shape (4, 2)"),
    ],
)
def test_another_shape_of_a_whole_gradient_is_a_mismatch(function, other, shapes):
    report = check_function(function, X, other)
    right, wrong = report.verdicts
    assert (right.verdict, wrong.verdict, wrong.reason_code) == (Kind.MATCH, Kind.MISMATCH, Reason.WRONG_SHAPE)
    assert wrong.reason == f"autodiff gives a gradient of shape {shapes}"
    assert wrong.counts == {"mismatch": wrong.total} and np.isfinite(wrong.numeric)


#: functions that are finite where TensorFlow's own gradient raises
RAISING = {
    "det of a singular matrix": (tf.linalg.det, SINGULAR),
    "det of zeros": (tf.linalg.det, np.zeros((3, 3))),
    "det in a product": (lambda x: x * tf.linalg.det(x), SINGULAR),
    "a batch with one singular matrix": (tf.linalg.det, np.stack([SINGULAR, np.eye(2)])),
}


@pytest.mark.parametrize("mode", ["eager", "function"])
@pytest.mark.parametrize("name", RAISING)
def test_where_autodiff_itself_raises(name, mode):
    function, at = RAISING[name]
    report = check_function(function, at, modes=(mode,))
    (verdict,) = report.verdicts
    assert (verdict.verdict, verdict.reason_code, report.ok) == (Kind.NAN, Reason.AUTODIFF_RAISES, False)
    assert verdict.reason == "the loss is finite, and autodiff itself raises: Input is not invertible."
    assert verdict.compared == at.size


def test_only_what_raises_is_named():
    report = check_function(lambda x, y: tf.linalg.det(x) + tf.reduce_sum(y**2), SINGULAR, X)
    assert [v.verdict for v in report.verdicts] == [Kind.NAN, Kind.MATCH]


class Determinant(keras.layers.Layer):
    def build(self, shape):
        self.w = self.add_weight(shape=(2, 2), initializer="ones", name="w")

    def call(self, x):
        return x * (1.0 + tf.linalg.det(tf.convert_to_tensor(self.w)))


@pytest.mark.parametrize("effort", ["full", "fast"])
def test_a_weight_at_which_autodiff_raises(effort):
    report = check_layer(Determinant(), X, effort=effort)
    found = {v.name.rpartition("/")[2]: v.reason_code for v in report.failures}
    assert found == {"w": Reason.AUTODIFF_RAISES}


def test_an_operation_without_gradient():
    with pytest.raises(BadInput) as error:
        check_function(lambda x: tf.raw_ops.DenseBincount(input=tf.range(4), size=4, weights=x), X[0])
    assert str(error.value).startswith(
        "Autodiff must have a gradient for every operation. Received: gradient registry has no"
    )


@pytest.mark.parametrize(
    ("file", "is_theirs"),
    [
        (__file__, True),
        (hypothesis.__file__, True),  # a library that they chose
        ("<stdin>", True),
        ("<string>", True),  # python -c
        ("<frozen importlib._bootstrap>", False),
        ("<__array_function__ internals>", False),
        (pathlib.__file__, False),
        (np.__file__, False),
        (tf.__file__, False),
        (keras_ref.__file__, False),
    ],
    ids=lambda given: f"{Path(given).parent.name} {Path(given).stem}" if isinstance(given, str) else None,
)
def test_whose_code_a_file_is(file, is_theirs, tmp_path):
    """By whatever link it is reached."""
    assert is_of_user(file) == is_theirs
    if Path(file).exists():
        (tmp_path / "link").symlink_to(Path(file).parent)
        assert is_of_user(str(tmp_path / "link" / Path(file).name)) == is_theirs
