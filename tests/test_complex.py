"""Complex variables and inputs: real and imaginary parts, in TensorFlow's convention."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_function, check_gradients, check_layer

Z = np.array([0.3 + 2j, -1.1 + 0.7j])
CONVENTION = "∂L/∂a + i ∂L/∂b"


def square_of_modulus(real=1.0, imaginary=1.0):
    """|z|², its gradient 2z with its two parts wrong by factors."""

    @tf.custom_gradient
    def square(z):
        def gradient(upstream):
            return tf.cast(upstream, z.dtype) * tf.complex(2 * real * tf.math.real(z), 2 * imaginary * tf.math.imag(z))

        return tf.math.real(z * tf.math.conj(z)), gradient

    return square


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", ["complex128", "complex64"])
@pytest.mark.parametrize("wrong", [{}, {"real": 1.0001}, {"imaginary": 500.0}, {"imaginary": 1 + 1e-6}], ids=str)
def test_variables(wrong, dtype):
    variable, square = tf.Variable(Z.astype(dtype)), square_of_modulus(**wrong)
    before = variable.numpy().tobytes()
    report = check_function(lambda x: square(variable) + x**2, np.array([1.0, 2.0]), variables=[variable])
    found = {v.name: v for v in report.verdicts}
    assert found["input"].verdict == "match"
    assert found["Variable"].verdict == ("mismatch" if wrong else "match"), report
    assert not wrong or found["Variable"].worst[-1] == ("imaginary" in wrong)
    assert found["Variable"].total == 4
    assert any(CONVENTION in note for note in report.notes)
    assert variable.numpy().tobytes() == before


@pytest.mark.parametrize("wrong", [{}, {"imaginary": 1 + 1e-6}], ids=str)
@pytest.mark.parametrize("dtype", ["complex128", "complex64"])
def test_inputs(wrong, dtype):
    report = check_function(square_of_modulus(**wrong), Z.astype(dtype))
    assert [v.verdict for v in report.verdicts] == ["mismatch" if wrong else "match"], report


@pytest.mark.parametrize("options", [{"modes": ("eager", "function")}, {"order": 2}, {"forward_mode": True}], ids=str)
def test_holomorphic(options):
    report = check_function(lambda z: tf.exp(z) * tf.signal.fft(z) + tf.math.log(z), Z, **options)
    assert report.ok, report.explain()
    assert all(v.verdict == "match" for v in report.verdicts)


class Phases(keras.layers.Layer):
    """Rotates features, with complex weights that Keras does not track."""

    def build(self, shape):
        self.z = tf.Variable(tf.complex([0.6, 0.1, -0.2], [0.8, 1.0, 0.3]), name="z")
        self.kernel = self.add_weight(shape=(shape[-1],), initializer="ones", name="kernel")

    def call(self, x):
        rotated = tf.complex(x, x * self.kernel) * tf.cast(
            self.z, "complex128" if x.dtype == "float64" else "complex64"
        )
        return tf.abs(tf.signal.fft(rotated))


@pytest.mark.sampled
def test_layers_and_models():
    x = np.random.default_rng(0).normal(size=(4, 3))
    assert check_layer(Phases(), x).ok
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), Phases(), keras.layers.Dense(2)])
    for options in ({}, {"effort": "fast"}):
        report = check_gradients(model, x, np.ones((4, 2)), loss="mse", **options)
        assert report.ok, report.explain()
