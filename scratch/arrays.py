"""Arrays: their type, and what definitions share: an epsilon, absolute values, bounds, lengths, indices, leaves."""

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

#: an array of float32, float64, complex128, integers or booleans
Array: TypeAlias = NDArray[Any]

#: keras.config.epsilon(), which keeps divisors and arguments of logarithms from 0 (keras.io/api/utils/config_utils)
EPSILON = 1e-7


def absolute(x: Array) -> Array:
    """|x|, where the real part decides the sign, so that a complex step stays on its branch."""
    return np.where(x.real < 0, -x, x)


def clip_below(x: Array, low: float) -> Array:
    """max(x, low) by the real part; what is not a number stays so."""
    return np.where(x.real < low, low, x).astype(x.dtype, copy=False)


def unit(x: Array, axis: int | tuple[int, ...], epsilon: float = EPSILON) -> Array:
    """x / max(|x|, ε) with the Euclidean length along `axis`, or several axes together: a vector of zeros stays so."""
    y: Array = x / np.sqrt(clip_below((x * x).sum(axis=axis, keepdims=True), epsilon**2))
    return y


def index_of(entry: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index of the entry that is at this place of a flattened array; () of a scalar."""
    return tuple(int(i) for i in np.unravel_index(int(entry), shape))


def leaves(values: Iterable[Any]) -> list[Any]:
    """The items of nested tuples and lists, in order."""
    return [leaf for value in values for leaf in (leaves(value) if isinstance(value, (tuple, list)) else [value])]
