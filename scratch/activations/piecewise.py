"""Piecewise activations, made of straight lines and parabolas.

Where two pieces meet their values are equal, unless the docstring says which piece holds there.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from scratch.arrays import Array
from scratch.fields import AtLeast, Real
from scratch.registry import activation

Slope = Annotated[float, Real(small=(0.0, 1.0))]
Threshold = Annotated[float, AtLeast(0.0, small=(0.0, 1.0))]


def pieces(x: Array, *rules: tuple[Array, Array | float], otherwise: Array | float) -> Array:
    """The value of the first rule (condition, value) whose condition holds, entry by entry.

    The result has the dtype of x, and is of floats where x is of integers.
    """
    (condition, value), *others = reversed(rules)
    values = np.where(condition, value, otherwise)
    for condition, value in others:
        values = np.where(condition, value, values)
    return values.astype(x.dtype if x.dtype.kind in "fc" else float, copy=False)


@activation
def linear(x: Array) -> Array:
    """y = x. Source: keras.io/api/layers/activations"""
    return x


@activation
def relu(
    x: Array,
    *,
    negative_slope: Slope = 0.0,
    max_value: Annotated[float, AtLeast(0.0, small=(0.5, 2.0))] | None = None,
    threshold: Annotated[float, Real(small=(0.0, 1.0))] = 0.0,
) -> Array:
    """x above the threshold, clipped to [0, max_value] if that is given; else negative_slope · (x - threshold).

    By default max(x, 0). Source: keras.io/api/layers/activations
    """
    below = negative_slope * (x - threshold) if negative_slope else 0.0
    if max_value is None:
        passed: Array | float = x
    else:
        passed = pieces(x, (x.real > max_value, max_value), (x.real < 0, 0.0), otherwise=x)
    return pieces(x, (x.real <= threshold, below), otherwise=passed)


@activation
def relu6(x: Array) -> Array:
    """min(max(x, 0), 6). Source: keras.io/api/layers/activations"""
    return relu(x, max_value=6.0)


@activation
def leaky_relu(x: Array, *, negative_slope: Slope = 0.2) -> Array:
    """x above 0, negative_slope · x below. Source: keras.io/api/layers/activations"""
    return pieces(x, (x.real > 0, x), otherwise=negative_slope * x)


@activation
def hard_tanh(x: Array) -> Array:
    """min(max(x, -1), 1). Source: keras.io/api/layers/activations"""
    return pieces(x, (x.real < -1, -1.0), (x.real > 1, 1.0), otherwise=x)


@activation
def hard_sigmoid(x: Array) -> Array:
    """min(max((x + 3) / 6, 0), 1). Source: Howard et al. 2019"""
    return relu6(x + 3) / 6


@activation
def hard_silu(x: Array) -> Array:
    """x · hard_sigmoid(x): 0 below -3, x above 3, x (x + 3) / 6 between. Source: Howard et al. 2019"""
    return x * hard_sigmoid(x)


@activation
def hard_swish(x: Array) -> Array:
    """x · hard_sigmoid(x): another name of hard_silu. Source: Howard et al. 2019"""
    return hard_silu(x)


@activation
def hard_shrink(x: Array, *, threshold: Threshold = 0.5) -> Array:
    """x where |x| > threshold, else 0: a jump at ±threshold, where the value is 0.

    Source: keras.io/api/layers/activations
    """
    return pieces(x, (x.real > threshold, x), (x.real < -threshold, x), otherwise=0.0)


@activation
def soft_shrink(x: Array, *, threshold: Threshold = 0.5) -> Array:
    """x - threshold above it, x + threshold below -threshold, 0 between. Source: keras.io/api/layers/activations"""
    return pieces(x, (x.real > threshold, x - threshold), (x.real < -threshold, x + threshold), otherwise=0.0)


@activation
def threshold(x: Array, *, threshold: Annotated[float, Real()], default_value: Annotated[float, Real()]) -> Array:
    """x where x > threshold, else default_value: a jump at the threshold, where the value is default_value.

    Source: keras.io/api/layers/activations
    """
    return pieces(x, (x.real > threshold, x), otherwise=default_value)


@activation
def sparse_plus(x: Array) -> Array:
    """0 up to -1, (x + 1)² / 4 between, x from 1 on. Source: keras.io/api/layers/activations"""
    return pieces(x, (x.real <= -1, 0.0), (x.real < 1, (x + 1) ** 2 / 4), otherwise=x)


@activation
def sparse_sigmoid(x: Array) -> Array:
    """min(max((x + 1) / 2, 0), 1). Source: Blondel, Martins, Niculae 2019"""
    return pieces(x, (x.real <= -1, 0.0), (x.real >= 1, 1.0), otherwise=(x + 1) / 2)
