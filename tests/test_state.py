"""After a check, whatever ends it, a model is bit for bit what it was: variables, seeds, slots, attributes, global
seeds.
"""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_function, check_gradients, check_layer, check_updates
from keras_ref.evaluation.keras_objects.keras_parts import list_layers, list_states
from keras_ref.evaluation.loss_function import LossFunction

X, Y = np.random.default_rng(0).normal(size=(4, 3)), np.random.default_rng(1).normal(size=(4, 2))
SEQUENCES = np.random.default_rng(2).normal(size=(4, 2, 2))


class Counting(keras.layers.Layer):
    """Counts its calls in a Keras variable, in a TensorFlow variable, in one inside a list, and in Python."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False, name="calls")
        self.raw = tf.Variable(2.0, name="raw")
        self.listed = [tf.Variable(1.0, name="listed")]
        self.python = 0

    def call(self, x):
        self.calls.assign_add(1)
        self.raw.assign_add(1.0)
        self.listed[0].assign(2 * self.listed[0])
        self.python += 1
        return x * tf.cast(self.raw, x.dtype) + tf.cast(self.listed[0], x.dtype)


def chain(*layers, x=X):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input(batch_shape=x.shape), *layers, keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
    model.train_on_batch(x, Y)
    return model, x


#: name → make() → (model, x): everything here writes something when it is called in training
STATEFUL = {
    "Dropout": lambda: chain(keras.layers.Dense(3), keras.layers.Dropout(0.5)),
    "GaussianNoise": lambda: chain(keras.layers.GaussianNoise(0.5)),
    "BatchNormalization": lambda: chain(keras.layers.BatchNormalization()),
    "SpectralNormalization": lambda: chain(keras.layers.SpectralNormalization(keras.layers.Dense(3))),
    "stateful GRU": lambda: chain(keras.layers.GRU(1, stateful=True, recurrent_dropout=0.5), x=SEQUENCES),
    "counters": lambda: chain(keras.layers.Dense(3), Counting()),
}


def raw_variables(model):
    return [
        v
        for layer in list_layers(model)
        for a in vars(layer).values()
        for v in (a if isinstance(a, list) else [a])
        if isinstance(v, tf.Variable)
    ]


def snapshot(model):
    """All that a check could have touched, in a form that can be compared."""
    variables = [
        *model.variables,
        *model.optimizer.variables,
        *model.metrics_variables,
        *list_states(model),
        *raw_variables(model),
    ]
    values = [(str(v.dtype), v.numpy().tobytes()) for v in variables]
    attributes = [
        (
            layer.name,
            {k: v for k, v in vars(layer).items() if isinstance(v, (int, float, str, bool, type(None)))},
            layer.dtype_policy.name,
            len(layer._losses),
        )
        for layer in list_layers(model)
    ]
    identity = [id(v) for v in variables] + [id(getattr(v, "_value", v)) for v in variables]
    compiled = [
        id(model.optimizer),
        id(model.loss),
        id(model.train_function),
        id(model._compile_loss),
        model.run_eagerly,
    ]
    shared = np.random.get_state()  # noqa: NPY002 (the state that everybody shares)
    seeds = random.getstate(), shared[1].tobytes(), shared[2], keras.config.floatx()
    return values, attributes, identity, compiled, seeds


@pytest.mark.sampled
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("name", STATEFUL)
def test_a_check_leaves_no_trace(name, training):
    model, x = STATEFUL[name]()
    before = snapshot(model)
    report = check_gradients(model, x, Y, training=training, oracles=("forward",), most=3)
    # the kernel that a training call overwrites is known to get another gradient:
    # spectral-normalization-gradient-ignores-sigma
    known = name == "SpectralNormalization" and training
    assert {v.name.rsplit("/", 1)[-1] for v in report.failures} == ({"kernel"} if known else set()), report.explain()
    assert snapshot(model) == before


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["Dropout", "BatchNormalization"])
def test_an_update_check_leaves_no_trace(name):
    model, x = STATEFUL[name]()
    before = snapshot(model)
    assert check_updates(model, x, Y, steps=2).ok
    assert snapshot(model) == before


#: where a check is cut off, and by what
CUTS = [
    *((method, KeyboardInterrupt, after) for method in ("gradient", "_run", "restore_values") for after in (0, 1)),
    *((method, error, 0) for method in ("losses", "refresh", "_traced") for error in (RuntimeError, AssertionError)),
]


@pytest.fixture(scope="module")
def interrupted():
    return chain(keras.layers.Dense(3), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5), Counting())


@pytest.mark.sampled
@pytest.mark.parametrize(("method", "error", "after"), CUTS, ids=lambda part: getattr(part, "__name__", str(part)))
def test_a_check_that_is_cut_off_leaves_no_trace(interrupted, monkeypatch, method, error, after):
    """Ctrl-C, an exception or a failing assertion in the middle, before or after the method has done its work."""
    model, x = interrupted
    before = snapshot(model)
    done, original = [0], getattr(LossFunction, method)

    def cut(self, *arguments, **options):
        done[0] += 1
        result = original(self, *arguments, **options)
        if done[0] > after:
            raise error("cut off")
        return result

    monkeypatch.setattr(LossFunction, method, cut)
    with pytest.raises(error, match="cut off"):
        check_gradients(model, x, Y, training=True, oracles=("forward",), most=2)
    monkeypatch.undo()
    assert snapshot(model) == before


def test_an_exception_inside_the_model_leaves_no_trace(interrupted):
    model, x = interrupted
    before = snapshot(model)
    with pytest.raises(ValueError):
        check_gradients(model, x, Y, loss=keras.losses.MeanSquaredError(reduction=None), training=True)
    with pytest.raises(ValueError):
        check_updates(model, x, Y[:, :1].repeat(3, axis=1))
    assert snapshot(model) == before


def test_a_function_with_a_counter():
    """Variables that a function writes, declared or not, are put back, and every evaluation starts from the same."""
    counter, weight = tf.Variable(1.0, dtype="float64"), tf.Variable([1.0, 2.0, 3.0])

    def function(x):
        counter.assign(counter * 2)
        return x * counter * tf.cast(weight, x.dtype)

    report = check_function(function, X, variables=[weight])
    assert report.ok and {v.name for v in report.verdicts} == {"Variable", "input"}, report.explain()
    assert counter.numpy() == 1.0 and weight.numpy().tolist() == [1.0, 2.0, 3.0] and weight.dtype == "float32"


def test_a_layer_draws_the_same_numbers_afterwards():
    keras.utils.set_random_seed(4)
    layer = keras.layers.Dropout(0.5, seed=1)
    layer(X, training=True)
    state = layer.seed_generator.state.numpy()
    assert check_layer(layer, X, training=True).ok
    np.testing.assert_array_equal(layer.seed_generator.state.numpy(), state)


def test_the_global_seed_generator():
    """keras.random without a seed draws from one generator for everything: it too stands where it stood."""
    keras.utils.set_random_seed(4)
    expected = keras.random.normal((2,)), keras.random.normal((2,))
    keras.utils.set_random_seed(4)
    first = keras.random.normal((2,))
    assert check_function(lambda x: x * keras.random.uniform((3,), dtype=x.dtype), X).ok
    np.testing.assert_array_equal(first, expected[0])
    np.testing.assert_array_equal(keras.random.normal((2,)), expected[1])


def test_a_layer_is_built_and_nothing_else():
    """An unbuilt layer gets its weights, and no call is counted."""
    layer = Counting(name="counting")
    report = check_layer(layer, X.astype("float32"))
    assert report.ok, report.explain()
    assert (layer.calls.numpy(), layer.raw.numpy(), layer.listed[0].numpy()) == (0, 2.0, 1.0)
