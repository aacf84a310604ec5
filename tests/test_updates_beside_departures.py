"""Training steps of models in which Keras is known to depart from a definition: the step itself is right."""

import keras
import numpy as np
import pytest

from keras_ref.checks.updates import check_updates

DRAW = np.random.default_rng(0).normal
X, Y = DRAW(size=(3, 4)).astype(np.float32), DRAW(size=(3, 2)).astype(np.float32)
DEPARTING = {
    "gelu": lambda: [keras.layers.Dense(5, "gelu")],
    "gelu, approximately": lambda: [
        keras.layers.Dense(5, lambda x: keras.activations.gelu(x, approximate=True)),
        keras.layers.Dense(4, "gelu"),
    ],
    "a slope of 0.2": lambda: [keras.layers.Dense(5), keras.layers.LeakyReLU(negative_slope=0.2)],
    "behind a recurrence": lambda: [
        keras.layers.Dense(4, "gelu"),
        keras.layers.Reshape((2, 2)),
        keras.layers.SimpleRNN(3),
    ],
    "before a normalization": lambda: [keras.layers.Dense(5, "gelu"), keras.layers.LayerNormalization()],
}


def built(name, optimizer="adam"):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), *DEPARTING[name](), keras.layers.Dense(2)])
    model.compile(loss="mse", optimizer=optimizer)
    return model


@pytest.mark.sampled
@pytest.mark.parametrize("name", DEPARTING)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_right(name, optimizer):
    report = check_updates(built(name, optimizer), X, Y, steps=2)
    assert report.ok, report.explain()
    assert not any("departs" in note and "slopes of Keras's own" not in note for note in report.notes)


@pytest.mark.sampled
def test_the_report_says_so():
    notes = " ".join(check_updates(built("gelu"), X, Y, steps=1).notes)
    assert "gelu-has-float32-constants" in notes and "slopes of Keras's own forward pass" in notes


@pytest.mark.parametrize("name", ["gelu", "a slope of 0.2"])
def test_what_no_departure_explains_is_a_mismatch(name, monkeypatch):
    """A Dense of Keras's that is off by a ten-thousandth, in a model where another layer departs."""
    model, right = built(name), keras.layers.Dense.call
    monkeypatch.setattr(keras.layers.Dense, "call", lambda self, x, training=None: right(self, x) * (1 + 1e-4))
    report = check_updates(model, X, Y, steps=1)
    assert "mismatch" in {v.verdict for v in report.failures}, report
