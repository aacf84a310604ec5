"""Kinks: one test sits on each, and in every decade of distance from 1e-3 to 1e-12; the right gradient passes, a wrong
one does not.
"""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref.comparison.entries.entrywise import compare_entries
from keras_ref.comparison.sources.autodiff import Autodiff
from keras_ref.comparison.sources.oracles import Oracle
from keras_ref.reports.reasons import Reason
from scratch.differences import UNIT

DISTANCES = (0.0, *(10.0**-k for k in range(3, 13)))


def median_of(x):
    return tf.sort(x, axis=-1)[..., tf.shape(x)[-1] // 2]


#: name → (function of a vector, points that lie exactly on its kink)
KINKED = {
    "relu": (tf.nn.relu, [0.0, 0.7, -0.3]),
    "leaky_relu": (lambda x: tf.nn.leaky_relu(x, 0.25), [0.0, 0.7, -0.3]),
    "abs": (tf.abs, [0.0, 0.7, -0.3]),
    "max pooling": (lambda x: tf.nn.max_pool1d(tf.reshape(x, (1, 4, 1)), 2, 2, "VALID"), [0.5, 0.5, -0.3, 0.2]),
    "hinge": (lambda x: tf.maximum(1.0 - x, 0.0), [1.0, 0.7, 1.3]),
    "clip": (lambda x: tf.clip_by_value(x, -1.0, 1.0), [1.0, -1.0, 0.3]),
    "mean absolute error": (lambda x: tf.abs(x - 0.25), [0.25, 0.7, -0.3]),
    "hard_sigmoid": (keras.activations.hard_sigmoid, [3.0, -3.0, 0.4]),
    "median": (median_of, [0.5, 0.5, -0.3]),
    "sort": (lambda x: tf.sort(x, axis=-1) * tf.constant([1.0, 2.0, 4.0], tf.float64), [0.5, 0.5, -0.3]),
    "opposed relus": (lambda x: tf.nn.relu(x) - 0.25 * tf.nn.relu(-x), [0.0, 0.7, -0.3]),
    "symmetric batch": (lambda x: tf.nn.relu(x[0] + x[1]) - tf.nn.relu(x[1] - x[0]), [0.0, 0.0, -0.3]),
}


def scalar(function, x):
    """The function under a fixed irregular cotangent, plus something smooth."""
    y = tf.reshape(tf.cast(function(x), tf.float64), (-1,))
    return tf.tensordot(y, tf.constant(np.cos(np.arange(y.shape[0]) + 0.5)), 1) + tf.reduce_sum(x**2) / 7


@functools.cache
def traced(function, size):
    """Losses at many points, and the gradient at one: traced once for each function."""

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = scalar(function, x)
        return tape.gradient(loss, x)

    many = tf.function(
        lambda xs: tf.map_fn(lambda x: scalar(function, x), xs),
        input_signature=[tf.TensorSpec((None, size), tf.float64)],
    )
    return many, tf.function(gradient)


class Point(Oracle):
    """The smallest oracle: a TensorFlow function of one vector."""

    name = "forward"

    def __init__(self, function, at, *, wrong=None):
        self.function, self.wrong = function, wrong
        self.values = {"x": np.asarray(at, dtype=float)}
        self.many, self.gradient = traced(function, len(at))
        self.base = float(self.many(self.values["x"][None])[0])
        self.noise = 4 * UNIT * max(abs(self.base), 1.0)

    def losses(self, name, entries, offsets):
        points = np.tile(self.values["x"], (*offsets.shape, 1))
        i, j = np.indices(offsets.shape)
        points[i, j, entries[j]] = points[i, j, entries[j]] + offsets
        return self.many(points.reshape(-1, points.shape[-1])).numpy().reshape(offsets.shape)

    def directional(self, direction, steps):
        return self.many(self.values["x"] + np.multiply.outer(steps, direction["x"])).numpy()

    def moved(self, values):
        return Point(self.function, values["x"], wrong=self.wrong)

    def autodiff(self, values=None):
        gradient = self.gradient(tf.constant((values or self.values)["x"])).numpy()
        if self.wrong is not None:
            entry, factor = self.wrong
            gradient[entry] *= factor
        return Autodiff(
            gradient={"x": gradient},
            at=self.autodiff,
            measure_rounding=lambda: {"x": 16 * UNIT * np.abs(gradient)},
        )


@pytest.mark.sampled
@pytest.mark.parametrize("distance", DISTANCES, ids=str)
@pytest.mark.parametrize("name", KINKED)
def test_the_right_gradient_passes(name, distance):
    function, kink = KINKED[name]
    for side in (1.0, -1.0) if distance else (1.0,):
        at = np.array(kink)
        at[0] += side * distance
        point = Point(function, at)
        verdict = compare_entries(point, "x", autodiff=point.autodiff())
        assert not verdict.failed, verdict.explain()
        if distance:  # off the kink, however little, the derivative is unique: found, and compared
            moved = compare_entries(point, "x", autodiff=point.autodiff(), entries=np.array([0]))
            assert moved.verdict == "match", moved.explain()


@pytest.mark.sampled
@pytest.mark.parametrize("distance", [0.0, 1e-3, 1e-6, 1e-9], ids=str)
@pytest.mark.parametrize("name", KINKED)
def test_a_wrong_entry_beside_the_kink_is_found_and_named(name, distance):
    """One smooth entry wrong by 1e-6 of itself, while another sits on (or near) the kink."""
    function, kink = KINKED[name]
    at = np.array(kink)
    at[0] += distance
    entry = len(at) - 1
    point = Point(function, at, wrong=(entry, 1 + 1e-6))
    verdict = compare_entries(point, "x", autodiff=point.autodiff())
    assert (verdict.verdict, verdict.worst) == ("mismatch", (entry,)), verdict.explain()


@pytest.mark.parametrize("name", KINKED)
def test_a_wrong_entry_on_the_kink_is_found(name):
    """On the kink itself a convention is no fault, but a gradient that is wrong beside the kink too is one."""
    function, kink = KINKED[name]
    point = Point(function, kink, wrong=(0, 1.001))
    assert compare_entries(point, "x", autodiff=point.autodiff()).verdict == "mismatch"


def test_kinks_on_both_sides_at_1e_9():
    """The slope between two kinks a billionth away on either side is found, with the error that noise leaves it."""

    def function(x):
        return tf.nn.relu(x - 1e-9) - 3 * tf.nn.relu(-x - 1e-9) + 0.4 * x

    point = Point(function, [0.0, 0.7])
    verdict = compare_entries(point, "x", autodiff=point.autodiff())
    assert verdict.verdict == "match", verdict.explain()
    wrong = Point(function, [0.0, 0.7], wrong=(0, 1.001))
    assert compare_entries(wrong, "x", autodiff=wrong.autodiff()).verdict == "mismatch"


def test_a_jump_is_undecided_with_the_reason():
    point = Point(lambda x: tf.where(x > 0, x + 1.0, x), [0.0, 0.7])
    verdict = compare_entries(point, "x", autodiff=point.autodiff())
    assert (verdict.verdict, verdict.worst, verdict.reason) == ("undecided", (0,), "the loss jumps at the point")
    assert verdict.reason_code is Reason.JUMP


def test_left_right_and_central_are_shown():
    point = Point(tf.abs, [0.0, 0.7])
    verdict = compare_entries(point, "x", autodiff=point.autodiff())
    slope = np.cos(0.5)
    assert verdict.verdict == "kink"
    assert verdict.left == pytest.approx(-slope) and verdict.right == pytest.approx(slope)
    assert "left -8.775826e-01, right +8.775826e-01" in verdict.explain()
