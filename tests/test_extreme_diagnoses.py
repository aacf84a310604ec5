"""Explanations of wrong gradients are tried on whatever numbers there are."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keras_ref.comparison.diagnoses.table import Gradients, explain_gradients

NUMBERS = st.sampled_from([0.0, -0.0, 5e-324, 1e-310, 1e-200, 1.0, -3.0, 1e155, -1e300, 1.7e308])
ARRAYS = st.tuples(*[NUMBERS] * 4).map(lambda numbers: np.reshape(numbers, (2, 2)))


@given(wrong=ARRAYS, right=ARRAYS, weights=ARRAYS)
def test_explaining_never_raises(wrong, right, weights):
    found = Gradients(
        wrong={"w": wrong}, right={"w": right}, allowed={"w": 1e-12}, weights={"w": weights}, samples=4, outputs=2
    )
    cause = explain_gradients(found)
    assert cause is None or cause.explains == {"w"}


@given(right=ARRAYS, factor=st.sampled_from([3.0, -7.0, 1 / 5]))
def test_a_whole_factor_is_named_at_any_size(right, factor):
    with np.errstate(over="ignore"):
        wrong = right * factor
    if not np.isfinite(wrong).all() or not (np.abs(right).max() * 1e-9 > 1e-300):
        return
    found = Gradients(wrong={"w": wrong}, right={"w": right}, allowed={"w": 1e-12 * np.abs(right).max()})
    cause = explain_gradients(found)
    assert cause is not None and cause.words.startswith("it is the right gradient")


@given(power=st.sampled_from([5, 10, 15]))
def test_a_loss_scale_is_named_before_a_whole_factor(power):
    """2^10 is a whole number too: what has a name is told by it."""
    right = np.array([[1.0, -3.0], [0.5, 2.0]])
    found = Gradients(wrong={"w": right * 2**power}, right={"w": right}, allowed={"w": 1e-12})
    cause = explain_gradients(found)
    assert cause is not None and cause.words.endswith("scaled by the loss scale")
