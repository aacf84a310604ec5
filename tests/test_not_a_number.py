"""What is not a number stays so in scratch where it does in Keras: a bound or a choice must not hide it."""

import keras
import numpy as np
import pytest

from keras_ref.coverage.examples import ARGUMENTS
from keras_ref.translation.to_keras import mirror_object
from scratch.registry import every, get

X = np.array([[np.nan, 1.0, 2.0, 3.0], [0.5, -1.0, np.nan, 4.0]])
#: layers of which an entry may bound or choose, with their inputs
LAYERS = {
    "ReLU": ({"max_value": 1.0, "negative_slope": 0.125}, [X]),
    "Maximum": ({}, [X, np.zeros_like(X)]),
    "Maximum behind": ({}, [np.zeros_like(X), X]),
    "Minimum": ({}, [X, np.zeros_like(X)]),
    "UnitNormalization": ({}, [X]),
    "Dot": ({"axes": 1, "normalize": True}, [X, X]),
    "Normalization": ({"mean": 0.5, "variance": 2.0, "axis": None}, [X]),
}
LOSSES = ("CosineSimilarity", "Hinge", "Huber", "KLDivergence", "BinaryCrossentropy", "MeanSquaredLogarithmicError")


def agree(ours, keras_value):
    assert np.isnan(np.asarray(keras_value)).any()
    assert np.array_equal(np.isnan(ours), np.isnan(np.asarray(keras_value)))


@pytest.mark.parametrize(
    "name", [name for name in every("activation") if not name.startswith(("hard_shrink", "soft_shrink", "threshold"))]
)
def test_activations(name):
    """Left out are those that Keras makes a number, too: shrinking and thresholds."""
    own = getattr(keras.activations, name, None) or getattr(keras.ops, name)
    with np.errstate(all="ignore"):
        agree(get("activation", name)(X, **ARGUMENTS.get(name, {})), own(X, **ARGUMENTS.get(name, {})))


@pytest.mark.parametrize("case", LAYERS)
def test_layers(case):
    keywords, inputs = LAYERS[case]
    spec = get("layer", case.split()[0])(**keywords)
    own = mirror_object(spec, dtype="float64")
    agree(spec.forward({}, *inputs), own(inputs if len(inputs) > 1 else inputs[0]))


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name):
    spec = get("loss", name)(reduction="none")
    agree(spec(np.ones_like(X), X), mirror_object(spec, dtype="float64")(np.ones_like(X), X))


def test_spectrograms():
    """A frame with what is not a number has no magnitude: the bound below the logarithm was in its place."""
    spec = get("layer", "STFTSpectrogram")("log", 4, 4, 4)
    signal = np.arange(8.0).reshape(1, 8, 1)
    signal[0, 1] = np.nan
    found = spec.forward(spec.kernels(), signal)
    assert np.isnan(found[0, 0]).all()
    assert np.isfinite(found[0, 1]).all()


def test_shares_of_a_length():
    """Of a vector with an entry that is not a number no entry has a direction."""
    assert np.isnan(get("regularizer", "OrthogonalRegularizer")(0.5)(X))
