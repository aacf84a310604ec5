"""Explanations of wrong gradients are tried on whatever numbers there are."""

import numpy as np
import pytest
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


EIGHTHS = st.integers(-64, 64).map(lambda k: k / 8)


@given(
    right=st.tuples(*[EIGHTHS] * 6).filter(lambda g: np.count_nonzero(g) > 1).map(lambda g: np.reshape(g, (2, 3))),
    factor=st.floats(-10, 10).map(lambda c: float(f"{c:.7g}")).filter(lambda c: abs(c - 1) > 1e-6),
    bias=EIGHTHS.filter(bool).map(lambda g: np.array([g])),
)
def test_any_factor_of_several_entries_is_named(right, factor, bias):
    """What has a name of its own is told by that; the factor of one gradient explains another, of one entry, too."""
    found = Gradients(
        wrong={"w": right * factor, "b": bias * factor},
        right={"w": right, "b": bias},
        allowed={"w": 1e-12, "b": 1e-12},
    )
    cause = explain_gradients(found)
    assert cause is not None and cause.explains == {"w", "b"}
    if cause.name == "any_factor":
        assert cause.words == f"it is the right gradient × {factor:.7g}"


def test_a_factor_of_one_entry_explains_nothing():
    """Any number is another one times something."""
    right = np.array([[0.0, 0.25], [0.0, 0.0]])
    found = Gradients(wrong={"w": right * 1.37}, right={"w": right}, allowed={"w": 1e-12})
    assert explain_gradients(found) is None


@pytest.mark.parametrize(
    ("factor", "allowed", "shown"), [(1.01, 1e-12, "1.01"), (1.000001, 1e-12, "1.000001"), (0.3712345, 1e-4, "0.3712")]
)
def test_a_factor_is_shown_with_its_certain_digits(factor, allowed, shown):
    right = np.array([1.0, -3.0, 0.5])
    cause = explain_gradients(Gradients(wrong={"w": right * factor}, right={"w": right}, allowed={"w": allowed}))
    assert cause is not None and cause.words == f"it is the right gradient × {shown}"
