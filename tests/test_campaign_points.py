"""Kinds of points that find what others do not: shapes, unwritten memory, symmetry, the edge of a domain."""

from types import SimpleNamespace

import numpy as np
import pytest

from keras_ref.campaign import claims, run
from keras_ref.campaign.exact_check import ExactOperation
from keras_ref.campaign.points import KINDS, make_points
from keras_ref.campaign.run import check_operation


@pytest.mark.parametrize("kind", KINDS)
def test_points_are_of_one_kind(kind):
    """All points of a kind have the types of the generic one, and are the same for the same seed."""
    table, again = KINDS[kind](np.random.default_rng(3)), KINDS[kind](np.random.default_rng(3))
    for name, value in table.items():
        assert type(value) is type(table["generic"])
        np.testing.assert_array_equal(value, again[name])


def test_points_of_two_arguments():
    found = dict(make_points(("vector", "segments"), 0))
    assert {"generic", "equal", "zeros in argument 0", "equal in argument 1"} <= set(found)
    assert all(len(arguments) == 2 for arguments in found.values())
    data, chosen = found["nothing chosen"]
    assert data.size and not chosen.size
    two = dict(make_points(("vector", "vector"), 0))
    first, second = two["zeros in argument 1 beside whole numbers"]
    assert first[0] == 1 and not second.any()
    assert [a.size for a in two["one number in argument 0"]] == [1, 4]


def test_a_gradient_of_another_shape():
    import tensorflow as tf

    @tf.custom_gradient
    def scaled(x, factor):
        return x * factor, lambda upstream: (upstream * factor, tf.reduce_sum(upstream * x))

    operation = ExactOperation(scaled, seed=0)
    found = list(operation.entries([np.array([0.5, 1.5]), np.array([2.0, 3.0])]))
    assert [(entry.argument, entry.kind) for entry in found] == [(1, "wrong shape"), (0, "match"), (0, "match")]


def test_memory_is_filled_before_a_gradient_is_taken():
    """What a kernel leaves unwritten shows as that number in some of many tries: nobody decides which memory it gets.

    TensorFlow 2.21 has such a kernel. Where a release has none, the finding gets a `fixed_in`, and this test another.
    """
    import tensorflow as tf

    no_rows, found = np.zeros(0, np.int64), []
    for _ in range(20):
        x = tf.constant(np.ones(64))
        claims._fill_memory(SimpleNamespace(parts=[x]))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(tf.sparse.segment_mean(x, no_rows, no_rows))
        found.append(np.asarray(tape.gradient(y, x)))
    assert any((slopes == claims.LEFT).any() for slopes in found)


def test_memory_that_a_kernel_leaves_unwritten(monkeypatch):
    """Of no chosen rows the gradient is 0; TensorFlow's kernel may return what memory held (126444)."""
    monkeypatch.setattr(
        run, "make_points", lambda kinds, seed: [p for p in make_points(kinds, seed) if "chosen" in p[0]]
    )
    result = check_operation("tensorflow.sparse.segment_mean")
    assert {(one.point, one.kind, one.numeric) for one in result.accusations} <= {("nothing chosen", "mismatch", 0.0)}
    assert result.counts.get("first order: match", 0) + result.counts.get("first order: mismatch", 0) == 4


def test_an_even_function_has_no_slope_at_zero():
    """The Kaiser window is even in beta; a release in which it is so is accused of nothing."""
    import tensorflow as tf

    window = lambda beta: tf.signal.kaiser_window(6, tf.constant(beta, tf.float64), dtype=tf.float64)  # noqa: E731
    even = np.allclose(window(-0.5), window(0.5))
    result = check_operation("tensorflow.signal.kaiser_window")
    assert {one.claim for one in result.accusations} == (set() if even else {"symmetry"})
    assert {one.point for one in result.accusations} == (set() if even else {"generic", "zeros in argument 1"})


def test_incomplete_gamma_on_the_other_side_of_zero():
    """1 - exp(-x) for a shape of 1, for a negative x too: the slope at 0 is taken from both sides."""
    import mpmath

    from keras_ref.evaluation.many_digits.exact_special import NUMBERS

    with mpmath.workdps(60):
        for x in map(mpmath.mpf, ("-1e-15", "-0.5", "0", "0.5")):
            assert abs(NUMBERS["Igamma"](mpmath.mpf(1), x) + mpmath.expm1(-x)) < mpmath.mpf(10) ** -58
