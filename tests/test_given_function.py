"""The function that is checked is the one that is given: in its precision, with its quantization, as it runs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_function, check_gradients, check_layer

X = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
Y = np.random.default_rng(1).normal(size=(3, 2))
OTHER = "in float64 it is another function"

#: name → a function that computes something else in float64
DEPENDING = {
    "on the dtype": lambda x: x * x if x.dtype == tf.float32 else x * x * x,
    "on Keras's floatx": lambda x: x * x if keras.config.floatx() == "float32" else x * x * x,
    "on Keras's dtype policy": lambda x: x * x if keras.config.dtype_policy().name == "float32" else x * x * x,
    "on a machine constant": lambda x: x * x * tf.math.log(tf.cast(np.finfo(x.dtype.as_numpy_dtype).eps, x.dtype)),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", DEPENDING)
def test_functions_of_their_precision(name):
    function = DEPENDING[name]

    @tf.custom_gradient
    def wrong(x):
        return tf.identity(x), lambda upstream: upstream * 1.5

    report = check_function(function, X)
    assert report.ok and any(OTHER in note for note in report.notes), report.explain()
    report = check_function(lambda x: wrong(function(x)), X)
    assert [v.verdict for v in report.verdicts] == ["mismatch"], report
    report = check_function(function, X.astype(float))  # given in float64, that is the function
    assert report.ok and not any(OTHER in note for note in report.notes), report.explain()


def test_a_function_of_the_mode():
    report = check_function(lambda x: x * x if tf.executing_eagerly() else x**3, X)
    assert [v.verdict for v in report.verdicts] == ["mode-dependent"]


def quantized(mode, layer=None):
    keras.utils.set_random_seed(0)
    layer = layer or keras.layers.Dense(4, "tanh")
    layers = [keras.layers.Dense(5, name="before"), layer, keras.layers.Dense(2, name="after")]
    model = keras.Sequential([keras.Input((6,)), *layers], name="net")
    layer.quantize(mode)
    model.compile("sgd", "mse")
    return model, layer


#: mode of quantization → whether what the layer is called on is rounded
STAIRCASE = {"int8": True, "int4": False, "float8": True}


@pytest.mark.sampled
@pytest.mark.parametrize("mode", STAIRCASE)
def test_quantized_layers(mode):
    model, layer = quantized(mode)
    values = [(v.dtype, v.numpy().tobytes()) for v in model.variables]
    policy, before = layer.dtype_policy, model(X).numpy()
    report = check_gradients(model, X, Y, most=6)
    verdicts = {v.name: v.verdict for v in report.verdicts}
    upstream = "surrogate" if STAIRCASE[mode] else "match"
    assert report.ok and not any(OTHER in note for note in report.notes), report.explain()
    assert {verdicts["net/before/kernel"], verdicts["input"]} == {upstream}
    assert verdicts[f"net/{layer.name}/bias"] == verdicts["net/after/kernel"] == "match"
    assert layer.dtype_policy is policy
    assert [(v.dtype, v.numpy().tobytes()) for v in model.variables] == values
    np.testing.assert_array_equal(model(X).numpy(), before)


@pytest.mark.sampled
@pytest.mark.parametrize("mode", STAIRCASE)
def test_errors_beside_quantization(mode):
    @tf.custom_gradient
    def wrong(x):
        return tf.tanh(x), lambda upstream: upstream * (1 - tf.tanh(x) ** 2) * 1.0001

    model, layer = quantized(mode, keras.layers.Dense(4, wrong))
    report = check_gradients(model, X, Y, most=6)
    assert f"net/{layer.name}/bias" in {v.name for v in report.failures}, report


@pytest.mark.sampled
def test_a_quantized_layer_alone():
    _, layer = quantized("int8")
    report = check_layer(layer, X[:, :5])
    assert [v.verdict for v in report.verdicts] == ["match", "surrogate"]


@pytest.mark.sampled
def test_lora_beside_a_quantized_kernel():
    model, layer = quantized("int8")
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(np.ones((2, 4)))
    verdicts = {v.name: v.verdict for v in check_gradients(model, X, Y).verdicts}
    assert {verdicts[v.path] for v in layer.trainable_variables} == {"match"}
