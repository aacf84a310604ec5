"""Variables that are read through a trace: a tf.function, a concrete function, a SavedModel, a TFSMLayer."""

import keras
import numpy as np
import pytest
import saved_kinds  # noqa: F401 (registers its kinds)
import tensorflow as tf
from model_kinds import KINDS

from keras_ref import check_function, check_gradients, check_layer, check_updates

X, Y = np.random.default_rng(0).normal(size=(4, 3)), np.random.default_rng(1).normal(size=(4, 3))


def squares(wrong):
    """w² with a backward pass of its own, which is `wrong` times too large."""

    @tf.custom_gradient
    def square(w):
        return w * w, lambda upstream: upstream * w * (2 * wrong)

    return square


class Traced(tf.Module):
    """Σ w² x through a tf.function; counts its calls and keeps a moving average."""

    def __init__(self, wrong=1.0, dtype="float64", **options):
        super().__init__()
        self.w = tf.Variable([1.0, -2.0, 0.5], dtype=dtype, name="w")
        self.calls, self.average = tf.Variable(0, name="calls"), tf.Variable(0.0, False, dtype=dtype, name="average")
        self.square, self.options = squares(wrong), options
        self.work = tf.function(self.untraced, **options)

    def untraced(self, x):
        self.calls.assign_add(1)
        average = tf.identity(self.average)
        self.average.assign(0.5 * average + 0.5)
        return self.square(tf.convert_to_tensor(self.w)) * x * (1 + average)

    def values(self):
        return [v.numpy().tobytes() for v in (self.w, self.calls, self.average)]


def as_function(module):
    return module.work


def called_before(module):
    module.work(tf.constant(X, module.w.dtype))
    return module.work


def concrete(module):
    return module.work.get_concrete_function(tf.TensorSpec([4, 3], module.w.dtype))


def helper(module):
    module.work(tf.constant(X, module.w.dtype))
    return lambda x: tf.sin(x) + module.work(x)


def nested(module):
    outer = tf.function(lambda x: module.work(x) + module.work(2 * x))
    outer(tf.constant(X, module.w.dtype))
    return outer


def only_eager(module):
    made = concrete(module)
    return lambda x: made(x) * len(x.numpy())


WAYS = (as_function, called_before, concrete, helper, nested, only_eager)


def some_slow(*values, fast):
    """Parameters of which all but those in `fast` are left to the slow run."""
    return [v if v in fast else pytest.param(v, marks=pytest.mark.slow) for v in values]


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("way", some_slow(*WAYS, fast=(called_before, concrete)), ids=lambda way: way.__name__)
def test_functions(way, dtype):
    for wrong in (1.0, 1.5):
        module = Traced(wrong, dtype)
        function = way(module)
        values, traces = module.values(), module.work.experimental_get_tracing_count()
        report = check_function(function, X, variables=[module.w])
        assert module.values() == values
        assert module.work.experimental_get_tracing_count() == traces
        found = {v.name: v.verdict for v in report.verdicts}
        assert found == {"input" if "input" in found else "x": "match", "w": "match" if wrong == 1 else "mismatch"}, (
            report.explain()
        )


@pytest.mark.sampled
@pytest.mark.parametrize("options", [{"jit_compile": True}, {"input_signature": [tf.TensorSpec([None, 3], "float32")]}])
def test_options_of_a_tf_function(options):
    for wrong in (1.0, 1.001):
        module = Traced(wrong, "float32", **options)
        if "jit_compile" in options:
            module.work = tf.function(lambda x, module=module: module.square(module.w + 0) * x, **options)
        called_before(module)
        report = check_function(module.work, X, variables=[module.w])
        assert report.ok == (wrong == 1.0), report.explain()
        assert not any("float32 inside" in note for note in report.notes)


class Layer(keras.layers.Layer):
    """w² x in a method that is a tf.function, which counts its calls in a Keras variable."""

    def __init__(self, wrong=1.0, **options):
        super().__init__(**options)
        self.square = squares(wrong)

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), initializer="ones", name="w")
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")
        self.inner = keras.layers.BatchNormalization(dtype=self.dtype_policy)
        self.inner.build(shape)

    @tf.function
    def work(self, x, training):
        self.calls.assign_add(1.0)
        return self.square(tf.convert_to_tensor(self.w)) * self.inner(x, training=training)

    def call(self, x, training=False):
        return self.work(x, training) * (1 + keras.ops.tanh(self.calls))

    def compute_output_shape(self, shape):
        return shape


def model_of(wrong, dtype="float32"):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([Layer(wrong, dtype=dtype, name="inside"), keras.layers.Dense(3)], name="net")
    model(X, training=True)
    model.compile("sgd", "mse")
    return model


OPTIONS = [{}, {"training": True}, {"effort": "fast"}]


@pytest.mark.sampled
@pytest.mark.parametrize("options", some_slow(*OPTIONS, fast=OPTIONS[1:]), ids=str)
@pytest.mark.parametrize("dtype", some_slow("float64", "float32", fast=("float32",)))
def test_methods_of_layers(dtype, options):
    for wrong in (1.0, 1.001):
        model = model_of(wrong, dtype)
        values = [v.numpy().tobytes() for v in model.variables]
        report = check_gradients(model, X, Y, **options)
        assert [v.numpy().tobytes() for v in model.variables] == values
        assert report.ok == (wrong == 1.0), report.explain()
        assert all(v.name.endswith("inside/w") for v in report.failures)


@pytest.mark.sampled
def test_updates_through_a_tf_function():
    model = model_of(1.0)
    values = [v.numpy().tobytes() for v in model.variables]
    assert check_updates(model, X, Y, steps=2).ok
    assert [v.numpy().tobytes() for v in model.variables] == values


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model exported twice, right and wrong by a factor."""
    places = {}
    for wrong in (1.0, 1.5):
        module = Traced(wrong, "float32")
        module.serve = tf.function(module.untraced, input_signature=[tf.TensorSpec([None, 3], "float32")])
        places[wrong] = str(tmp_path_factory.mktemp("saved"))
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=True)
        tf.saved_model.save(module, places[wrong], signatures={"serving_default": module.serve}, options=options)
    return places


@pytest.mark.sampled
@pytest.mark.parametrize("wrong", [1.0, 1.5])
def test_a_saved_model(saved, wrong):
    loaded = tf.saved_model.load(saved[wrong])
    values = [v.numpy().tobytes() for v in (loaded.w, loaded.calls, loaded.average)]
    for function in (loaded.serve, lambda x: tf.sin(loaded.serve(x))):
        report = check_function(function, X.astype("float32"), variables=[loaded.w])
        assert [v.verdict for v in report.verdicts if v.name == "w"] == ["match" if wrong == 1 else "mismatch"], report
        assert any("float32 inside" in note for note in report.notes), report.notes
    assert [v.numpy().tobytes() for v in (loaded.w, loaded.calls, loaded.average)] == values


@pytest.mark.sampled
@pytest.mark.parametrize("wrong", [1.0, 1.5])
def test_a_tfsm_layer(saved, wrong):
    layer = keras.layers.TFSMLayer(saved[wrong], call_endpoint="serve")
    values = [v.numpy().tobytes() for v in layer.variables]
    assert check_layer(layer, X.astype("float32")).ok == (wrong == 1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), layer, keras.layers.Dense(2)])
    report = check_gradients(model, X)
    assert {v.name for v in report.failures} == (
        {v.path for v in layer.trainable_variables if "w" in v.path} if wrong != 1 else set()
    ), report
    assert [v.numpy().tobytes() for v in layer.variables] == values


@pytest.mark.sampled
def test_a_saved_model_inside_a_model():
    """Its counter and its moving average are put back, though Keras knows nothing of them; that it trains none of its
    variables is said.
    """
    made = KINDS["a SavedModel inside a layer of a model"](0.0)
    module = made.model.layers[1].module
    state = [v.numpy().tobytes() for v in (module.w, module.calls, module.average)]
    report = check_gradients(made.model, made.x, made.y)
    assert report.ok, report.explain()
    assert any(note.startswith("w: a tf.Variable is no weight of a layer") for note in report.notes)
    assert [v.numpy().tobytes() for v in (module.w, module.calls, module.average)] == state
