"""The pytest plugin, through pytester: fixtures pass, fail with six lines, and cost nothing where they are not used."""

import sys

MODEL = """
import keras, numpy as np, pytest, tensorflow as tf

def model():
    keras.utils.set_random_seed(1)
    m = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "tanh", name="dense")])
    m.compile(optimizer="sgd", loss="mse")
    return m

X, Y = np.arange(12.0).reshape(4, 3) / 8, np.arange(8.0).reshape(4, 2) / 8
"""
QUIET = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", "-W", "ignore")


def test_fixtures_pass_and_return_the_report(pytester):
    pytester.makepyfile(
        MODEL
        + """
def test_gradients(check_gradients):
    assert check_gradients(model(), X, Y).ok

def test_updates(check_updates):
    assert check_updates(model(), X, Y, steps=2).ok
"""
    )
    pytester.runpytest_inprocess(*QUIET).assert_outcomes(passed=2)


def test_a_finding_fails_with_six_lines_and_no_stack(pytester):
    pytester.makepyfile(
        MODEL
        + """
@tf.custom_gradient
def doubled(x):
    return x * 2.0, lambda upstream: upstream * 2.001

class Doubled(keras.layers.Layer):
    def call(self, x):
        return doubled(x)

def test_wrong(check_gradients):
    m = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense"), Doubled()])
    m.compile(loss="mse")
    check_gradients(m, X, Y)
"""
    )
    result = pytester.runpytest_inprocess(*QUIET, "--gradtwin-seed", "7")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "verdict    mismatch: *dense/kernel, by the oracle 'forward'",
            "worst at   *of 6 compared entries",
            "autodiff   *GradientTape, eager",
            "numeric    *Keras's own forward pass, differenced",
            "differ by  *allowed*= truncation*+ rounding*",
            "replay     pytest *test_wrong* --gradtwin-seed 7",
        ]
    )
    assert "Traceback" not in result.stdout.str() and "def test_wrong" not in result.stdout.str()


def test_importing_the_plugin_loads_neither_tensorflow_nor_hypothesis(pytester):
    code = "import sys, keras_ref.plugin, scratch; print([m for m in ('tensorflow', 'keras', 'hypothesis', 'numpy') if m in sys.modules])"
    result = pytester.run(sys.executable, "-c", code)
    assert result.outlines == ["[]"]
