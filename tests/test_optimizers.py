"""Every registered optimizer against Keras: one step from the same state with the same gradient, and what is refused.

A new optimizer is tested because it exists. Where Keras departs from a law, departures.toml has to say so, and Keras's
step has to be that of the law with just those departures (as_keras), to rounding.
"""

from dataclasses import replace

import keras
import numpy as np
import optimizer_cases as cases
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from keras_ref import departures
from keras_ref.checks import check_updates
from keras_ref.mirror import mirrored
from keras_ref.mirrors.optimizers import as_keras, excluded_from_weight_decay
from keras_ref.reflect import reflected
from scratch import registry
from scratch.optimizers.adam import Adam, Nadam
from scratch.optimizers.sgd import SGD
from scratch.optimizers.wrappers import LossScaleOptimizer, MultiOptimizer

STEPS = 3


def is_law(spec, before, gradients, after, **how):
    """Whether Keras's step is the law's, or its whole difference a named departure. Raises: AssertionError."""
    lines = cases.departing(spec, before, gradients, after, **how)
    if not lines:
        return True
    assert cases.named(spec), ("Keras departs from the law, and no departure says so", lines)
    left = cases.departing(as_keras(spec), before, gradients, after, **how)
    assert not left, ("the departures do not explain all of it", cases.named(spec), left)
    return False


def keras_step(optimizer, spec, gradients):
    """One step of Keras. A loss scale cannot divide a sparse gradient, a departure: then the same gradient, dense."""
    try:
        cases.apply(optimizer, gradients)
    except TypeError as error:
        assert "IndexedSlices" in str(error) and cases.named(spec), error
        assert any(part.loss_scale_factor for part in departures.parts(spec) if hasattr(part, "loss_scale_factor")), error
        cases.apply(optimizer, cases.dense(gradients))


@pytest.mark.parametrize("name", cases.OPTIMIZERS)
@given(data=st.data())
def test_step(name, data):
    """From Keras's own state and with the same gradient, weights and slots are those of the law."""
    spec = data.draw(cases.optimizers((name,)), label="specification")
    how = {"constrained": data.draw(st.booleans(), label="constrained"), "exclude": data.draw(st.sampled_from((None, "bias")), label="exclude")}
    given_gradients = [data.draw(cases.gradients(spec)) for _ in range(STEPS)]
    taken = data.draw(st.sampled_from((0, 0, 1, 9, 1000)), label="steps taken")
    with cases.keras_optimizer(spec, weights=data.draw(cases.points()), **how) as optimizer:
        assert excluded_from_weight_decay(optimizer, cases.PATHS) == cases.excluded(how["exclude"])
        cases.advance(optimizer, taken)
        for gradients in given_gradients:
            before = cases.moment(optimizer)
            keras_step(optimizer, spec, gradients)
            is_law(spec, before, gradients, cases.moment(optimizer), **how)


@pytest.mark.parametrize("name", cases.OPTIMIZERS)
@given(data=st.data())
def test_beginning(name, data):
    """State before the first step, exclusion and the way back from Keras are those of the specification."""
    spec = data.draw(cases.optimizers((name,)), label="specification")
    weights = data.draw(cases.points())
    with cases.keras_optimizer(spec, weights=weights) as optimizer:
        ours, theirs = cases.flat(cases.Moment(weights, spec.init(weights))), cases.flat(cases.moment(optimizer))
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[n], theirs[n]) for n in ours)
