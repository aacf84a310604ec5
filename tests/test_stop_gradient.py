"""What Keras stops the gradient of is held while the twin is nudged: renormalization's r and d, a spectral norm's
vectors, the steps that Masking leaves out.
"""

import keras
import numpy as np
import pytest
from support_sides import twin_sides

from keras_ref.checks.gradients import check_gradients
from keras_ref.translation.to_keras import mirror
from scratch.differences import UNIT
from scratch.gradient import Nudges, numeric_gradient
from scratch.layers.batch_normalization import BatchNormalization
from scratch.layers.core import Dense
from scratch.layers.masking import Masking
from scratch.layers.preprocessing import Normalization
from scratch.layers.recurrent import SimpleRNN
from scratch.layers.spectral import SpectralNormalization
from scratch.losses.regression import MeanSquaredError
from scratch.model import Model
from scratch.objective import Objective

X = np.array([[0.5, -1.25], [2.0, 0.375], [-0.875, 0.125], [1.5, 0.25]])
Y = np.array([[0.25, 1.0, -0.5], [1.0, 0.5, 0.75], [-1.0, 2.0, 0.125], [0.0, -0.25, 1.0]])
MODELS = {
    "renorm": [Dense(3), BatchNormalization(renorm=True)],
    "renorm-clipped": [
        Dense(3),
        BatchNormalization(renorm=True, renorm_clipping={"rmax": 8.0, "dmax": 8.0}),
        Dense(3, "tanh"),
    ],
    "spectral": [SpectralNormalization(Dense(3, "tanh"), 2), Dense(3)],
}


def drawn(model):
    """Weights of eighths, variances positive."""
    generator = np.random.default_rng(3)
    return {
        name: generator.integers(4, 16, shape) / 8
        if name.endswith(("variance", "stddev"))
        else generator.integers(-12, 12, shape) / 8 + 1 / 16
        for name, shape in model.weight_shapes.items()
    }


def held_slope(model, weights, name):
    """Slopes by complex steps through the definition, with what is held taken from the point."""
    objective, point = Objective.of(model, MeanSquaredError()), model.run(weights, X, training=True)
    slope = np.zeros(weights[name].shape)
    for i in np.ndindex(slope.shape):
        there = {**weights, name: weights[name].astype(complex)}
        there[name][i] += 1e-100j
        slope[i] = objective(there, X, Y, training=True, point=point).imag / 1e-100
    return slope


@pytest.mark.parametrize("case", MODELS)
def test_held_while_nudged(case):
    """The engine's slopes are those of the definition with r, d, u and v held, and not those with them moving."""
    model = Model.chain(MODELS[case], (2,))
    weights = drawn(model)
    found = numeric_gradient(model, weights, X, Y, loss=MeanSquaredError(), training=True)
    for name in model.trainable:
        held = held_slope(model, weights, name)
        # a complex step rounds as the forward pass does: a few dozen operations on numbers of the size of the slopes
        allowed = found[name].error + 64 * UNIT * max(1.0, np.abs(held).max())
        assert (np.abs(found[name].value - held) <= allowed).all(), name
    moving = Nudges(Objective.of(model, MeanSquaredError()), weights, X, Y, training=True)
    first = model.trainable[0]
    h = 1e-6
    there = {**weights, first: weights[first] + h}
    objective = Objective.of(model, MeanSquaredError())
    free = (objective(there, X, Y, training=True) - moving.base) / h
    # the truncation of this one difference is of the order of h
    assert abs(free - found[first].value.sum()) > 1000 * h, "held or not would be the same here"


@pytest.mark.parametrize("renorm_clipping", [None, {"rmax": 1.25, "rmin": 0.75, "dmax": 0.125}])
def test_renormalization_against_keras(renorm_clipping):
    """In training Keras's autodiff is the slope of the twin, whose r and d do not move."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((2,)),
        keras.layers.Dense(3),
        keras.layers.BatchNormalization(renorm=True, renorm_clipping=renorm_clipping),
        keras.layers.Dense(3),
    ]
    model = keras.Sequential(layers)
    for variable in model.variables:
        low = 0.5 if variable.name.endswith(("variance", "stddev")) else -1.0
        variable.assign(np.random.default_rng(len(variable.path)).uniform(low, 1.5, variable.shape))
    report = check_gradients(model, X, Y, loss="mse", training=True, oracles=("twin",))
    assert report.ok, report.explain()
    assert {v.verdict for v in report.verdicts} == {"match"}


def test_masked_steps_stay_masked():
    """A step that is masked is masked in every nudged loss: its slope is 0, as autodiff says."""
    model = Model.chain([Masking(0.5), SimpleRNN(2)], (3, 2))
    x = np.array([[[0.25, 1.0], [0.5, 0.5], [1.0, -0.5]], [[0.5, 0.5], [0.75, 0.5], [-1.0, 0.25]]])
    weights = drawn(model)
    with twin_sides(model, weights, [x]) as (oracle, autodiff):
        name = next(n for n in oracle.values if oracle.names[n].startswith("input:"))
        masked = np.flatnonzero((x == 0.5).all(-1).repeat(2))
        losses = oracle.losses(name, masked, np.full((1, len(masked)), 1e-3))
        np.testing.assert_array_equal(losses[0], oracle.base)
        np.testing.assert_array_equal(np.asarray(autodiff.gradient[name]).ravel()[masked], 0.0)


def test_moments_that_were_assigned_are_computed_with():
    """Keras's Normalization computes with what finalize_state makes of its variables: assigning them makes it anew."""
    model = Model.chain([Normalization()], (2,))
    weights = {
        "normalization/mean": np.array([0.5, 0.25]),
        "normalization/variance": np.array([4.0, 0.25]),
        "normalization/count": np.array(0.0),
    }
    np.testing.assert_array_equal(mirror(model, weights)(X), model.forward(weights, X))
