"""What the reports of tests/recall.py are made of: a record, and derivatives in plain TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@dataclass(frozen=True, kw_only=True)
class Report:
    """One public report.

    thread     "tensorflow 127226", or several numbers of one fault
    function   what it is about, of arguments of these `kinds` (keras_ref/campaign/points.py)
    options    of check_function: what the report is about
    live       (what TensorFlow says, the closed form) at the reporter's point; None where it was not run, for `reason`
    points     names of points: only there an accusation is about the report ((): everywhere)
    operation  what the campaign has for it, "" where it has nothing: it is asked where check_function finds nothing
    refusal    words of the sentence in which a missing derivative is refused
    reason     why it was not run, or why it is missed
    """

    thread: str
    name: str
    function: Callable[..., Any] = tf.identity
    kinds: tuple[str, ...] = ("vector",)
    options: dict[str, Any] = field(default_factory=dict)
    live: Callable[[], tuple[Any, Any]] | None = None
    points: tuple[str, ...] = ()
    operation: str = ""
    refusal: str = ""
    reason: str = ""

    @classmethod
    def of(
        cls, thread: str, name: str, function: Callable[..., Any] = tf.identity, live: Any = None, **more: Any
    ) -> Report:
        """A report, with what every one has first."""
        return cls(thread=thread, name=name, function=function, live=live, **more)

    @classmethod
    def at(
        cls,
        thread: str,
        name: str,
        function: Callable[..., Any],
        *point: Any,
        gives: Any,
        by: Callable[..., Any] | None = None,
        **more: Any,
    ) -> Report:
        """A report on a derivative of the function itself (by default the gradient), and what it should be."""
        return cls.of(thread, name, function, lambda: ((by or gradient)(function, *point), gives), **more)


def gradient(function: Callable[..., Any], *arguments: Any, wrt: int = 0) -> Any:
    """Autodiff's gradient of the sum by one argument, NaN where there is none."""
    given = [tf.convert_to_tensor(a, None if np.iscomplexobj(a) else tf.float64) for a in arguments]
    with tf.GradientTape() as tape:
        tape.watch(given)
        y = tf.reduce_sum(function(*given))
    found = tape.gradient(y, given[wrt])
    return math.nan if found is None else found


def slope_of(function: Callable[..., Any], wrt: int = 0) -> Callable[..., Any]:
    """The function's gradient by one argument, as a function."""

    def slope(*arguments: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            y = tf.reduce_sum(function(*arguments))
        return tape.gradient(y, arguments[wrt], unconnected_gradients="zero")

    return slope


def second(function: Callable[..., Any], *arguments: Any) -> Any:
    """The gradient of the sum of the first derivatives, both by the first argument."""
    return gradient(slope_of(function), *arguments)


def third(function: Callable[..., Any], *arguments: Any) -> Any:
    """The same once more."""
    return gradient(slope_of(slope_of(function)), *arguments)


def tangent_of(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """The function's slope along ones in forward mode, as a function."""

    def tangent(x: Any) -> Any:
        with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as forward:
            y = function(x)
        return forward.jvp(y, unconnected_gradients="zero")

    return tangent


def forward(function: Callable[..., Any], x: Any) -> Any:
    """The sum's slope along ones in forward mode, NaN where there is none."""
    x = tf.constant(x, tf.float64)
    with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
        y = tf.reduce_sum(function(x))
    found = accumulator.jvp(y)
    return math.nan if found is None else found


def twice_forward(function: Callable[..., Any], x: Any) -> Any:
    """The second slope along ones of the sum, by forward mode over forward mode."""
    return forward(tangent_of(lambda x: tf.reduce_sum(function(x))), x)


def real(function: Callable[..., Any]) -> Callable[..., Any]:
    """The real part of a function of complex numbers, by the parts of each: z = a + ib."""
    return lambda *parts: tf.math.real(function(*map(tf.complex, parts[::2], parts[1::2])))


def imaginary_slope(function: Callable[..., Any], y: float) -> Any:
    """The slope of Re f(x, y + 2i) by the imaginary part of x, at x = 0.5 + 0.25i."""

    def of_first(a: Any, b: Any) -> Any:
        return real(function)(
            a, b, tf.fill(a.shape, tf.constant(y, a.dtype)), tf.fill(a.shape, tf.constant(2.0, a.dtype))
        )

    return gradient(of_first, 0.5, 0.25, wrt=1)


def of_image(thread: str, function: Callable[[Any, float], Any], amount: float) -> Report:
    """A report on an adjustment of images that has no gradient, where that of the sum is 1."""
    pixel = np.full((1, 1, 1, 3), [0.2, 0.5, 0.7])
    name = f"tf.image.{function.__name__}"
    return Report.at(
        thread, name, lambda x: function(x, amount), pixel, gives=1.0, kinds=IMAGES, refusal="has no entry for"
    )


def cube(x: Any) -> Any:
    m = tf.identity(x)
    return (m * m) * m


def bump(x: Any) -> Any:
    return (1 - tf.exp(-(x - 1))) ** 2


def softplus_by_choice(x: Any) -> Any:
    return tf.where(x > 20, x, tf.math.log1p(tf.exp(x)))


def crossentropy(x: Any) -> Any:
    return tf.nn.softmax_cross_entropy_with_logits(tf.one_hot([0] * x.shape[0], x.shape[1], dtype=x.dtype), x)


def recomposed(x: Any) -> Any:
    s, u, v = tf.linalg.svd(x)
    return u @ tf.linalg.diag(s) @ tf.transpose(v)


def squared_determinant(x: Any) -> Any:
    return tf.linalg.det(x) ** 2


def similarity(x: Any) -> Any:
    return tf.image.ssim_multiscale(x, 1 - x, 1.0, power_factors=(0.5, 0.5), filter_size=2)


def focal(z: Any) -> Any:
    y = tf.one_hot([0] * z.shape[0], z.shape[1], dtype=z.dtype)
    return keras.losses.binary_focal_crossentropy(y, z, from_logits=True, gamma=0.0)


def crossentropy_of_nothing(z: Any) -> Any:
    return keras.losses.categorical_crossentropy(tf.zeros_like(z), keras.ops.softmax(z))


SECOND, FORWARD, DIGITS = {"order": 2}, {"forward_mode": True}, {"digits": True}
TWO, LOGITS, PAIR = ("vector", "vector"), ("logits",), ("complex vector", "complex vector")
IMAGES, MATRIX, COMPLEX = ("images",), ("matrix",), ("complex vector",)
WEIGHTS = np.array([[1.0, 2.0], [3.0, 4.0]])
S = 1.7580993408473768  # selu's λα


def _silu_second(x: float) -> float:
    s = 1 / (1 + math.exp(-x))
    return s * (1 - s) * (2 + x * (1 - 2 * s))
