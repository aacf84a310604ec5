"""Where a function has a derivative an accusation stands; where it has none nothing is accused."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_ref.campaign.differentiability import has_meeting_kinks, is_differentiable
from keras_ref.campaign.exact_check import ExactOperation
from keras_ref.comparison.exact_slopes import ExactLoss
from keras_ref.evaluation.many_digits.exact_graph import Graph


@pytest.mark.parametrize("power", [0.25, 0.5, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("seed", range(3))
def test_powers_at_zero(power, seed):
    """|x|^p has the slope 0 at 0 for p > 1, and none for p <= 1."""
    assert is_differentiable(lambda v: tf.abs(v) ** power, [np.zeros(3)], seed=seed) == (power > 1)


def test_what_has_no_slope_at_a_flat_point_or_is_no_number():
    zeros = np.zeros((3, 3))
    assert is_differentiable(tf.linalg.det, [zeros]) and is_differentiable(lambda v: 0.0 * v, [zeros])
    assert not is_differentiable(lambda v: tf.linalg.svd(v, compute_uv=False), [zeros])
    assert not is_differentiable(tf.sign, [zeros])
    assert not is_differentiable(lambda v: v / v, [zeros])
    assert not is_differentiable(lambda v: tf.where(tf.norm(v) > 1e-6, np.inf, tf.norm(v)), [zeros])


def exact_loss(function, *arguments):
    specs = [tf.TensorSpec(a.shape, a.dtype) for a in arguments]
    return ExactLoss(Graph(tf.function(function, autograph=False).get_concrete_function(*specs)), arguments)


LENGTH = exact_loss(lambda v: tf.sqrt(tf.reduce_sum(v * v)), np.zeros(3))
CLIPPED = exact_loss(lambda v: tf.minimum(tf.maximum(v[0], v[1]), v[2]), np.zeros(3))


@given(
    st.floats(-290.0, 150.0),
    st.lists(st.sampled_from([0.0, 1.0, -2.0, 3e-8, 1e4]), min_size=2, max_size=2),
)
def test_kinks_of_any_size(exponent, others):
    """The length of a vector bends at 0 alone, however short it is; clip(x, x, x) has no derivative for any x."""
    size = 10.0**exponent
    away = ExactLoss(LENGTH.graph, [size * np.array([1.5, *others])])
    assert not has_meeting_kinks(away, 0, 0)
    assert has_meeting_kinks(ExactLoss(CLIPPED.graph, [np.full(3, size)]), 0, 0)


def test_numbers_of_many_sizes():
    """The step is small beside the smallest number, and has its digits beside the largest one."""
    assert not has_meeting_kinks(ExactLoss(LENGTH.graph, [np.array([1e-300, 1e-300, 0.0])]), 0, 1)
    spread = exact_loss(lambda v: tf.reduce_sum(tf.abs(v)), np.zeros(3))
    assert not has_meeting_kinks(ExactLoss(spread.graph, [np.array([1e150, 1e-150, 1.0])]), 0, 0)
    assert has_meeting_kinks(LENGTH, 0, 0)


def test_a_gradient_that_is_lost_next_to_zero_is_accused():
    """|z| has slopes of any size of z (tf.abs takes them for 0 below 1e-154), and atan2 has them at 1e-300."""
    z = np.array([3e-170 + 4e-170j])
    assert {e.kind for e in ExactOperation(tf.abs, 0).entries([z])} <= {"mismatch", "match"}
    tiny = np.array([1e-300])
    kinds = {e.kind for e in ExactOperation(tf.math.atan2, 0).entries([tiny, tiny])}
    assert kinds <= {"nan", "match"}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", ["unsorted_segment_max", "unsorted_segment_min"])
def test_a_segment_without_rows_has_the_extreme_of_its_precision(name, dtype):
    """TensorFlow's documentation: the smallest (largest) value of the numeric type."""
    operation = ExactOperation(lambda v: getattr(tf.math, name)(v, [0, 0, 2], 4), 0, dtype)
    kinds = [e.kind for e in operation.entries([np.array([0.5, -0.25, 2.0])])]
    assert kinds == ["match"] * 3
