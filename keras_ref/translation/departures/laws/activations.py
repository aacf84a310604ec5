"""What Keras computes in the place of activations. Entries: activations.toml."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from packaging.version import Version

from keras_ref.translation.departures.laws.registry import instead, rounded, with_activation
from scratch.activations import normalizing, piecewise, smooth
from scratch.arrays import Array
from scratch.layers.activations import LeakyReLU, ReLU
from scratch.registry import get
from scratch.releases import find_version

#: whether tf.nn.gelu divides by √2, as it did before it took erfc, and multiplies with 1/√2
_DIVIDES = Version(find_version("tensorflow") or "2.19") < Version("2.19")


def _like(name: str, law: Any) -> Any:
    """A law marked as the activation of that name is."""
    law.elementwise = get("activation", name).elementwise
    return law


def gelu(x: Array, *, approximate: bool = False) -> Array:
    """gelu with its constant c = 1/√2 (approximate: √(2/π)) rounded to float32, c' = r · c; TensorFlow 2.18 divides by
    √2, rounded, in its place.

    x · Φ(r · x) = gelu(r · x) / r. The approximation has r in front of its cubic only; with y + a·y³ = r·(x + a·x³)
    it is x / y · gelu(y). Newton's method solves that from y = r·x, which is off by a share of the order of r - 1,
    below 2^-24: one step leaves its square, 2^-48, and the second one 2^-96, far below what float64 holds.
    """
    exact = math.sqrt(2 / math.pi) if approximate else math.sqrt(0.5)
    if not approximate:
        ratio = (1 / rounded(math.sqrt(2.0)) if _DIVIDES else rounded(exact)) / exact
        found: Array = smooth.gelu(ratio * x) / ratio
        return found
    ratio, cubic = rounded(exact) / exact, 0.044715
    y = ratio * x
    for _ in range(2):
        y = y - (y + cubic * y**3 - ratio * (x + cubic * x**3)) / (1 + 3 * cubic * y**2)
    return smooth.gelu(y, approximate=True) * np.where(x == 0, 1.0, x / np.where(y == 0, 1.0, y))


@instead
def gelu_has_float32_constants(specification: Any) -> Any:
    return with_activation(specification, "gelu", _like("gelu", gelu))


def leaky_relu(x: Array, *, negative_slope: float = 0.2) -> Array:
    """leaky_relu with a slope rounded to float32."""
    return piecewise.leaky_relu(x, negative_slope=rounded(negative_slope))


def relu(x: Array, *, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Array:
    """relu with a slope rounded to float32."""
    return piecewise.relu(x, negative_slope=rounded(negative_slope), max_value=max_value, threshold=threshold)


@instead
def leaky_slope_is_float32(specification: Any) -> Any:
    if isinstance(specification, (LeakyReLU, ReLU)):
        return replace(specification, negative_slope=rounded(specification.negative_slope))
    specification = with_activation(specification, "leaky_relu", _like("leaky_relu", leaky_relu))
    return with_activation(specification, "relu", _like("relu", relu))


def sparsemax(x: Array, *, axis: int = -1) -> Array:
    """max(x - τ - (S₁ + … + S of k - 1) / k, 0): with S the sums of the greatest entries, τ = (S of k - 1) / k is the
    threshold of sparsemax, for which Keras takes (S₁ + … + S of k - 1) / k."""
    last = np.moveaxis(x, axis, -1)
    right = np.moveaxis(normalizing.sparsemax(x, axis=axis), axis, -1)
    falling = np.argsort(-last.real, axis=-1, kind="stable")
    first = falling[..., :1]
    threshold = np.take_along_axis(last, first, axis=-1) - np.take_along_axis(right, first, axis=-1)
    count = (right.real > 0).sum(axis=-1, keepdims=True)
    sums = np.cumsum(np.take_along_axis(last, falling, axis=-1), axis=-1)
    more = np.where(np.arange(x.shape[axis]) < count - 1, sums, 0).sum(axis=-1, keepdims=True) / count
    above = last - threshold - more
    return np.moveaxis(np.where(above.real > 0, above, 0), -1, axis)


@instead
def sparsemax_sums_the_sums(specification: Any) -> Any:
    return with_activation(specification, "sparsemax", _like("sparsemax", sparsemax))
