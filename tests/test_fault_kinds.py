"""Cousins of reported faults: for each kind of fault inputs that no report has, and what a check must say of them.

A row is a kind (numbered as the project numbered them), a check, and the verdicts that are right, by closed forms: of
each variable or input by its name, or of all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_function
from keras_ref.reports.verdict import Report

ROW = np.array([0.3, -0.7, 0.5])
ZEROS = np.zeros(4)
RIGHT = frozenset(("match", "kink"))


@dataclass(frozen=True)
class Cousin:
    """A check, and the verdicts that are right: of all, or by name; `fails`: that the report as a whole does."""

    check: Callable[[], Report]
    verdicts: frozenset[str] | dict[str, frozenset[str]]
    fails: bool
    note: str = ""


COUSINS: dict[str, Cousin] = {}


def _row(kind: int, what: str, check: Callable[[], Report], **expected: Any) -> None:
    COUSINS[f"{kind} {what}"] = Cousin(check, **expected)


def right(kind: int, what: str, function: Callable[..., Any], *inputs: Any, note: str = "", **options: Any) -> None:
    """A function whose gradients are right."""
    check = lambda: check_function(function, *inputs, **options)  # noqa: E731 (one row of a table)
    _row(kind, what, check, verdicts=RIGHT, fails=False, note=note)


def wrong(kind: int, what: str, function: Callable[..., Any], *inputs: Any, says: str = "mismatch") -> None:
    """A function whose first input's gradient is wrong: `says`, or undecided where float64 does not carry it."""
    check = lambda: check_function(function, *inputs)  # noqa: E731
    _row(kind, what, check, verdicts={"input": frozenset(says.split())}, fails=True)


def off(forward: Callable[[Any], Any], slope: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`forward` with a slope of its own."""
    return tf.custom_gradient(lambda x: (forward(x), lambda upstream: upstream * slope(x)))


cube = off(lambda x: x**3, lambda x: 1.5 * x**2)
tanh_off = off(tf.tanh, lambda x: 1.001 * (1 - tf.tanh(x) ** 2))
sum_ = tf.reduce_sum

# 1. steepness is no noise
wrong(1, "beside log(relu(0) + 1e-9)", lambda x, z: sum_(cube(x)) + tf.math.log(tf.nn.relu(sum_(z)) + 1e-9), ROW, ZEROS)
wrong(1, "beside sqrt(s² + 1e-14)", lambda x, z: sum_(tanh_off(x)) + sum_(tf.sqrt(z**2 + 1e-14)), ROW, ZEROS)
wrong(1, "beside features of 1e6", lambda x, z: sum_(tanh_off(x)) + sum_(tf.sin(z)) * 1e6, ROW, 1e-6 * ROW)
right(
    1, "a zero row normalized by 1e-12", lambda x: x / tf.sqrt(sum_(x**2, -1, keepdims=True) + 1e-12), np.zeros((2, 3))
)
right(1, "Tversky with an absent class", lambda p: (0 * p + 1e-7) / (0 * p + 0.3 * p + 1e-7), np.zeros(3))
# 2. rounding on the scale of what cancels
right(2, "1 - exp(-x) at 1e-12", lambda x: 1 - tf.exp(-x), np.array([1e-12, 3e-9]))
right(2, "log(cosh(x)) at 1e-7", lambda x: tf.math.log(tf.cosh(x)), np.array([1e-7, -2e-7]))
right(2, "sqrt(1 + x) - 1 at 1e-10", lambda x: tf.sqrt(1 + x) - 1, np.array([1e-10]))
right(2, "selu at -3e-9", tf.nn.selu, np.array([-3e-9]))
right(
    2,
    "a confident softmax",
    lambda z: keras.losses.categorical_crossentropy(np.eye(3), 90 * z, from_logits=True),
    np.eye(3),
)
# 3. noise is measured where it is used
for seed in range(3):
    right(
        3,
        f"celu(3) of zeros, seed {seed}",
        lambda x: keras.ops.celu(x, 0.5) + keras.ops.elu(x, 3.0),
        np.zeros(2),
        seed=seed,
    )
# 4. autodiff's own rounding
right(4, "-log(1 / (1 + exp(-x))) at 38", lambda x: -tf.math.log(1 / (1 + tf.exp(-x))), np.array([36.5, 38.0]))
right(4, "log(1 + exp(-x²))", lambda x: tf.math.log(1 + tf.exp(-(x**2))), np.array([6.01, 6.2]))
right(4, "a backward pass in float32", off(tf.sin, lambda x: tf.cast(tf.cast(tf.cos(x), tf.float32), tf.float64)), ROW)
# 5. a match is sharp
wrong(5, "exp × (-4) beside 1e10", lambda x: 1e10 + off(tf.exp, lambda x: -4 * tf.exp(x))(x), np.array([-20.0]))
wrong(5, "0 / 0 with a slope of 5", off(lambda v: tf.math.divide_no_nan(v, v * 0), lambda v: 0 * v + 5), ROW)
wrong(5, "tanh at 25 with a slope of 1e-3", off(tf.tanh, lambda x: 0 * x + 1e-3), np.array([25.0]))
# 6. isolated points
wrong(6, "-1e3 at 0 alone", off(tf.tanh, lambda x: tf.where(x == 0, -1e3, 1 - tf.tanh(x) ** 2)), np.array([0.0, 0.5]))
wrong(
    6, "0 at the middle of softplus", off(tf.nn.softplus, lambda x: tf.where(x == 0, 0.0, tf.sigmoid(x))), np.zeros(2)
)
wrong(
    6,
    "hypot with 1 each at a tie",
    off(lambda v: tf.sqrt(v**2 + 1), lambda v: tf.where(v == 1, 1.0, v / tf.sqrt(v**2 + 1))),
    np.ones(2),
)
right(6, "|x| at 0", tf.abs, np.zeros(2))
right(6, "a maximum of equal numbers", lambda x: tf.reduce_max(x, -1), np.ones((2, 3)))
right(
    6,
    "a fresh network on the kink",
    lambda x, w: tf.nn.relu(x @ w) @ np.ones((3, 2)),
    np.ones((2, 3)),
    np.zeros((3, 3)),
)
# 9. NaN and infinite gradients
wrong(9, "sqrt(|x|) at 0", lambda x: tf.sqrt(tf.abs(x)), np.array([0.0, 1.0]), says="nan")
wrong(9, "a norm of zeros", tf.norm, np.zeros(3), says="nan")
wrong(
    9,
    "where(x > 0, 1 / x, 0) at 0",
    lambda x: tf.where(x > 0, 1 / x, 0.0 * x),
    np.array([0.0, 2.0]),
    says="nan",
)
# 11. what jumps because a decision flips
right(
    11,
    "a mean over what is not 0",
    lambda x: sum_(x, 1) / sum_(tf.cast(tf.reduce_any(x != 0, -1, keepdims=True), x.dtype), 1),
    np.array([[[1.0, 2], [0, 0]]]),
)
right(11, "the entry that is largest", lambda x: tf.gather(x, tf.argmax(x)) * 2, np.array([1.0, 3.0, 2.0]))
right(11, "a gate x == 0", lambda x: tf.where(x == 0, 0.0, tf.exp(x)), np.array([0.0, 0.5]))
# 13. what runs only eagerly


def _reads(x):
    return x**2 if x.numpy().size else x


def _loops(x):
    total = 0.0 * x
    for value in x.numpy().shape:
        total += x**value
    return total


right(13, "numpy() of an input", _reads, ROW, note="runs only eagerly")
right(13, "a loop over a shape by numpy", _loops, ROW, note="runs only eagerly")
# 16. where autodiff itself raises
for what, matrix in (("of rank 1", np.array([[1.0, 2.0], [2.0, 4.0]])), ("of zeros", np.zeros((2, 2)))):
    wrong(16, f"det of a matrix {what}", tf.linalg.det, matrix, says="nan")


@pytest.mark.sampled
@pytest.mark.parametrize("name", COUSINS)
def test_cousin(name):
    cousin = COUSINS[name]
    report = cousin.check()
    verdicts = {v.name.partition(":")[0]: str(v.verdict) for v in reversed(report.verdicts)}
    expected = cousin.verdicts if isinstance(cousin.verdicts, dict) else dict.fromkeys(verdicts, cousin.verdicts)
    assert all(verdicts[n] in right for n, right in expected.items()), report.explain()
    assert report.ok is not cousin.fails
    assert not cousin.note or any(cousin.note in note for note in report.notes), report.notes
