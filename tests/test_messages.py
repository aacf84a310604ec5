"""Bad input: the rule, what was received, what to do; whole texts, and nothing of the user's changed."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_function, check_gradients, check_layer, check_updates, mirror
from keras_ref.inputs.data import require_finite_weights
from keras_ref.translation.from_keras import reflect
from scratch.calls import Call
from scratch.layers.core import Dense
from scratch.model import Model
from scratch.objective import Objective
from scratch.registry import get
from scratch.training import fit

X, Y = np.arange(12.0).reshape(4, 3) / 8, np.arange(8.0).reshape(4, 2) / 8


def model(loss="mse"):
    keras.utils.set_random_seed(1)
    m = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2, name="dense")], name="mine")
    m.compile(optimizer="sgd", loss=loss)
    return m


TWIN = Model.chain([Dense(2)], (3,))
WEIGHTS = {"dense/kernel": np.ones((3, 2)), "dense/bias": np.zeros(2)}


def with_nan_weight():
    m = model()
    m.layers[0].kernel.assign(np.array([[1, 2], [3, np.nan], [5, 6]]))
    return m


class Own(keras.Model):
    def __init__(self, loss):
        super().__init__(name="own")
        self.inner = keras.layers.Dense(2, name="inner")
        self(X)
        self.compile(optimizer="sgd", loss=loss)

    def call(self, x):
        return self.inner(x)


def own(loss="mse"):
    return Own(loss)


def nan_inside():
    m = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2), keras.layers.Lambda(lambda x: tf.math.log(-1 - x * x))], name="mine"
    )
    m.compile(loss="mse")
    return m


CASES = {
    "wrong input shape": (
        lambda: check_gradients(model(), X[:, :2], Y),
        "Input 'x' must have shape (any, 3). Received: (4, 2). Reshape the data or change the model's input shape.",
    ),
    "NaN in the data": (
        lambda: check_gradients(model(), np.where(X[1, 1] == X, np.nan, X), Y),
        "`x` must be finite. Received: nan at index (1, 1). Clean the data first.",
    ),
    "infinity in the targets": (
        lambda: check_gradients(model(), X, np.where(Y[2, 0] == Y, np.inf, Y)),
        "`y` must be finite. Received: inf at index (2, 0). Clean the data first.",
    ),
    "NaN in the weights": (
        lambda: check_gradients(with_nan_weight(), X, Y),
        "Weight 'mine/dense/kernel' must be finite. Received: nan at index (1, 1). Correct the value.",
    ),
    "empty batch": (
        lambda: check_gradients(model(), X[:0], Y[:0]),
        "`x` must hold at least one sample. Received: an empty batch of shape (0, 3). Pass data.",
    ),
    "words for data": (
        lambda: check_gradients(model(), np.array([["a", "b", "c"]]), Y),
        "`x` must be numbers. Received: dtype <U1. Convert it to floats or integers.",
    ),
    "different numbers of samples": (
        lambda: check_gradients(model(), X, Y[:3]),
        "`x` and `y` must have the same number of samples. Received: [3, 4]. Pass matching batches.",
    ),
    "no weights": (
        lambda: check_gradients(
            keras.Sequential([keras.Input((3,)), keras.layers.Flatten()], name="bare"), X, wrt=("weights",)
        ),
        (
            "A model must have trainable weights to be checked. Received: 'bare', which has none. Check its inputs "
            "with check_gradients and wrt=('inputs',), or a model with weights."
        ),
    ),
    "unbuilt": (
        lambda: require_finite_weights(keras.Sequential([keras.layers.Dense(2)], name="raw")),
        "A model must be built. Received: 'raw', unbuilt. Call it once on data, or give it an Input.",
    ),
    "not compiled": (
        lambda: check_gradients(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)], name="loose"), X, Y),
        (
            "A model must have a loss when targets are given. Received: 'loose', not compiled, and loss=None. Compile "
            "it with a loss, or pass loss=."
        ),
    ),
    "no optimizer": (
        lambda: check_updates(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)], name="loose"), X, Y),
        (
            "A model must have an optimizer for its updates to be checked. Received: 'loose', not compiled. Compile "
            "it, or pass optimizer= and loss=."
        ),
    ),
    "no such variable": (
        lambda: check_gradients(model(), X, Y, variables="encoder/*"),
        (
            "`variables` must match at least one variable. Received: 'encoder/*', where there are mine/dense/kernel, "
            "mine/dense/bias, input. Correct the pattern."
        ),
    ),
    "too few steps": (
        lambda: check_updates(model(), X, Y, steps=0),
        "`steps` must be at least 1. Received: steps=0. Pass the number of training steps to compare.",
    ),
    "a loss that is a vector": (
        lambda: check_gradients(model(loss=keras.losses.MeanSquaredError(reduction=None)), X, Y),
        "A loss must be a scalar. Received: shape (4,). Reduce it, with a mean or a sum over the batch.",
    ),
    "data that do not fit a subclassed model": (
        lambda: check_gradients(own(), X[:, :2], Y),
        (
            "A subject must run on the data it is checked on. Received: ValueError: Exception encountered when "
            "calling Own.call(). Input 0 with name 'None' of layer 'inner' is incompatible with the layer: expected "
            "axis -1 of input shape to hav… Call it on them by itself first."
        ),
    ),
    "targets that do not fit": (
        lambda: check_gradients(own(), X, np.ones((4, 3))),
        (
            "A subject must run on the data it is checked on. Received: InvalidArgumentError: Incompatible shapes: "
            "[4,3] vs. [4,2]. Call it on them by itself first."
        ),
    ),
    "targets that do not fit an update": (lambda: check_updates(own(), X, np.ones((4, 3))), None),
    "labels out of range": (
        lambda: check_gradients(model(loss="sparse_categorical_crossentropy"), X, np.array([0, 1, 2, 0])),
        (
            "`y` must hold classes from 0 to 1, which the output has. Received: 2 at index (2,). Correct the labels, "
            "or widen the output."
        ),
    ),
    "labels out of range of an update": (
        lambda: check_updates(model(loss="sparse_categorical_crossentropy"), X, np.array([[0], [1], [-1], [0]])),
        (
            "`y` must hold classes from 0 to 1, which the output has. Received: -1 at index (2, 0). Correct the "
            "labels, or widen the output."
        ),
    ),
    "labels out of range, subclassed": (
        lambda: check_gradients(
            own(keras.losses.SparseCategoricalCrossentropy(from_logits=True)), X, np.array([0, 1, 2, 0])
        ),
        (
            "A subject must run on the data it is checked on. Received: InvalidArgumentError: Received a label value "
            "of 2 which is outside the valid range of [0, 2). Label values: 0 1 2 0. Call it on them by itself first."
        ),
    ),
    "NaN in the forward pass": (
        lambda: check_gradients(nan_inside(), X, Y),
        (
            "The loss must be finite before its gradient can be checked. Received: nan from the forward pass of "
            "'mine'. Look at the forward pass, the data and the weights first."
        ),
    ),
    "infinity in a forward pass": (
        lambda: check_function(tf.math.log, np.array([1.0, 0.0])),
        (
            "The loss must be finite before its gradient can be checked. Received: inf from the forward pass of "
            "'log'. Look at the forward pass, the data and the weights first."
        ),
    ),
    "an order of three": (
        lambda: check_gradients(model(), X, Y, order=3),
        "`order` must be one of 1, 2. Received: 3. Choose one of them.",
    ),
    "an unknown mode": (
        lambda: check_function(tf.sin, X, modes=("xla",)),
        "`modes` must be one of eager, function, jit_compile. Received: 'xla'. Choose one of them.",
    ),
    "an unknown expectation": (
        lambda: check_layer(keras.layers.Dense(1), X, expect={"*": "wrong"}),
        "`expect` must be one of surrogate, stop_gradient. Received: 'wrong'. Choose one of them.",
    ),
    "a mode that does not compile": (
        lambda: check_function(lambda x: tf.py_function(tf.sin, [x], x.dtype), X, modes=("jit_compile",)),
        None,
    ),
    "a class without weight": (
        lambda: check_gradients(model(), X, np.array([0, 1, 1, 0]), class_weight={0: 1.0}),
        "`class_weight` must have a weight for every class of `y`. Received: none for [1]. Add them.",
    ),
    "class and sample weights": (
        lambda: check_gradients(
            model(), X, np.array([0, 1, 1, 0]), class_weight={0: 1.0, 1: 2.0}, sample_weight=np.ones(4)
        ),
        (
            "`class_weight` must come with one target and no sample_weight. Received: sample_weight too. Pass "
            "sample_weight=, one weight a sample."
        ),
    ),
    "a function for a layer": (
        lambda: check_layer(tf.sin, X),
        "`layer` must be a Keras layer. Received: function. Pass a layer, or a function to check_function.",
    ),
    "a number for a function": (
        lambda: check_function(3, X),
        "`function` must be callable. Received: int. Pass a function of tensors.",
    ),
    "nothing to call with": (
        lambda: check_function(tf.sin),
        (
            "A check must have at least one array to call with. Received: none. Pass the inputs after the layer or "
            "function."
        ),
    ),
    "nothing but integers": (
        lambda: check_function(lambda i: tf.cast(i, "float64"), np.array([1, 2])),
        (
            "A check must have a float input or a variable to differentiate by. Received: int64. Pass floats, or "
            "variables."
        ),
    ),
    "an integer output": (
        lambda: check_function(tf.argmax, X),
        (
            "An output must be a float for a gradient to reach it. Received: int64 from 'argmax_v2'. Check a function "
            "whose result is a float."
        ),
    ),
    "a data set and targets": (
        lambda: check_gradients(model(), tf.data.Dataset.from_tensors((X, Y)), Y),
        (
            "`x` must hold the targets and weights itself where it is a data set. Received: a _TensorDataset and `y` "
            "or `sample_weight`. Leave them out, or pass arrays."
        ),
    ),
    "NaN in an input": (
        lambda: check_layer(keras.layers.Dense(1), np.full((2, 3), np.nan)),
        "`inputs` must be finite. Received: nan at index (0, 0). Clean the data first.",
    ),
    "a function that fails": (
        lambda: check_function(lambda x: x / (1 // 0), X),
        (
            "A subject must run on the data it is checked on. Received: ZeroDivisionError: integer division or modulo "
            "by zero. Call it on them by itself first."
        ),
    ),
    "an index out of range": (
        lambda: check_layer(keras.layers.Embedding(3, 2), np.array([[0, 5]])),
        (
            "A subject must run on the data it is checked on. Received: InvalidArgumentError: Exception encountered "
            "when calling Embedding.call(). indices[0,1] = 5 is not in [0, 3) Arguments received by Embedding.call(): "
            "• inputs=tf.Tensor(shape=(1, 2),… Call it on them by itself first."
        ),
    ),
    "an operation without gradient": (
        lambda: check_function(lambda x: tf.raw_ops.Bincount(arr=[0, 1], size=3, weights=x[0, :2]), X),
        (
            "Autodiff must have a gradient for every operation. Received: gradient registry has no entry for: "
            "Bincount. Write one with tf.custom_gradient, or stop it with tf.stop_gradient."
        ),
    ),
    "a weight too many": (
        lambda: mirror(TWIN, WEIGHTS | {"extra": np.ones(1)}),
        (
            "The weights must be those of the model (2). Received: 3, missing none, unknown ['extra']. Pass one array "
            "for each name."
        ),
    ),
    "a weight of the wrong shape": (
        lambda: mirror(TWIN, WEIGHTS | {"dense/bias": np.ones(3)}),
        "Weight 'dense/bias' must have shape (2,). Received: (3,). Reshape it or change the layer.",
    ),
    "integer weights": (
        lambda: mirror(TWIN, WEIGHTS | {"dense/bias": np.zeros(2, int)}),
        "Weight 'dense/bias' must be float32 or float64. Received: int64. Convert it with .astype('float64').",
    ),
    "float16 weights": (
        lambda: mirror(TWIN, WEIGHTS | {"dense/bias": np.zeros(2, np.float16)}),
        "Weight 'dense/bias' must be float32 or float64. Received: float16. Convert it with .astype('float64').",
    ),
    "infinite weights": (
        lambda: mirror(TWIN, WEIGHTS | {"dense/bias": np.array([0, np.inf])}),
        "Weight 'dense/bias' must be finite. Received: inf at index (1,). Correct the value.",
    ),
    "an illegal field": (
        lambda: Dense(0),
        "`units` of Dense must be an integer, at least 1. Received: units=0. Pass a legal value.",
    ),
    "an unknown activation": (
        lambda: Dense(2, "rilu"),
        "`activation` of Dense must be a registered activation. Received: activation='rilu'. Pass a legal value.",
    ),
    "an unknown layer": (lambda: get("layer", "Dens"), None),
    "a call of nothing": (
        lambda: Model({"x": (None, 3)}, {}, (Call("dense", ("x",), ("y",)),), ("y",)),
        (
            "A call must name a layer of the model. Received: 'dense', where the layers are none. Add the layer or "
            "correct the name."
        ),
    ),
    "tensors out of order": (
        lambda: Model({"x": (None, 3)}, {"d": Dense(2)}, (Call("d", ("z",), ("y",)),), ("y",)),
        "A call of 'd' must take tensors made before it. Received: z. Reorder the calls or correct the name.",
    ),
    "too few losses": (
        lambda: Objective.of(TWIN, ("MeanSquaredError",) * 2),
        (
            "There must be one loss per output. Received: 2 for 1 outputs. Pass a sequence of losses (None where an "
            "output has none)."
        ),
    ),
    "a batch size of nothing": (
        lambda: fit(TWIN, WEIGHTS, X, Y, loss="MeanSquaredError", batch_size=0),
        "`batch_size` must be a positive integer. Received: 0. Pass 1 or more, or None for all.",
    ),
    "negative epochs": (
        lambda: fit(TWIN, WEIGHTS, X, Y, loss="MeanSquaredError", epochs=-1),
        "`epochs` must be a whole number, at least 0. Received: epochs=-1. Pass 1, say.",
    ),
    "a model without twin": (lambda: reflect(Sub(name="sub")), None),
}


class Sub(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.built = True

    def call(self, x):
        return x


@pytest.mark.sampled
@pytest.mark.parametrize("name", CASES)
def test_message(name):
    call, text = CASES[name]
    kept = X.copy(), Y.copy(), {n: w.copy() for n, w in WEIGHTS.items()}
    with pytest.raises((ValueError, LookupError)) as caught:
        call()
    if text is None:
        assert all(part in str(caught.value) for part in (" must ", "Received: ", ". ")), caught.value
    else:
        # the line of the user's code that raised is named too
        assert re.sub(r" \([^ ]*test_messages\.py:\d+\)", "", str(caught.value)) == text
    np.testing.assert_array_equal((X, *WEIGHTS.values())[0], kept[0])
    np.testing.assert_array_equal(Y, kept[1])
    for n, w in WEIGHTS.items():
        np.testing.assert_array_equal(w, kept[2][n])


@pytest.mark.sampled
def test_a_check_changes_nothing_of_the_model():
    """Weights, moving averages, seeds, optimizer slots, compile state: bit-identical, also after an exception."""
    keras.utils.set_random_seed(2)
    m = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, "relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2),
        ]
    )
    m.compile(optimizer="adam", loss="mse")
    m.fit(X, Y, epochs=2, verbose=0)
    before = [(v.dtype, v.numpy().copy()) for v in [*m.variables, *m.optimizer.variables, *m.metrics_variables]]
    kept = (m.loss, m.optimizer, m.train_function, m.dtype_policy.name, m.layers[0].dtype_policy.name)
    assert check_gradients(m, X, Y).ok
    assert check_updates(m, X, Y, steps=2).subject
    with pytest.raises(ValueError):
        check_gradients(m, X, Y, loss=keras.losses.MeanSquaredError(reduction="none"))
    after = [(v.dtype, v.numpy().copy()) for v in [*m.variables, *m.optimizer.variables, *m.metrics_variables]]
    assert len(before) == len(after)
    for (dtype, value), (dtype_now, now) in zip(before, after, strict=True):
        assert dtype == dtype_now
        np.testing.assert_array_equal(value, now)
    assert kept == (m.loss, m.optimizer, m.train_function, m.dtype_policy.name, m.layers[0].dtype_policy.name)
    assert keras.config.floatx() == "float32"
