"""Constraints: functions that map a weight to an allowed one after each update.

ε, which prevents a division by 0, makes every length a little smaller too: by a factor 1 - ε/length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from scratch.arrays import EPSILON, Array
from scratch.axes import Axes
from scratch.fields import AtLeast, Between
from scratch.registry import constraint

Axis = Annotated[int | tuple[int, ...], Axes(examples=(0, 1, 2, 3))]
Length = Annotated[float, AtLeast(0.0, small=(0.0, 2.0))]


@dataclass(frozen=True)
class Constraint:
    """Base of the constraints: a subclass decorated with `@constraint` defines `__call__`."""

    def __call__(self, weight: Array) -> Array:
        """The weight that takes the place of `weight`, with its shape and dtype.

        Raises: TypeError in a class that defines none.
        """
        raise TypeError(f"{type(self).__name__} must define `__call__`: write it in scratch/constraints.py.")


def lengths(weight: Array, axis: Any) -> Array:
    """Euclidean lengths along an axis, which is kept with size 1."""
    y: Array = np.sqrt(np.sum(weight * weight, axis=axis, keepdims=True))
    return y


@constraint
class MaxNorm(Constraint):
    """w · min(‖w‖, max_value) / (ε + ‖w‖), ‖w‖ along `axis`.    Source  keras.io/api/layers/constraints"""

    max_value: Length = 2
    axis: Axis = 0

    def __call__(self, weight: Array) -> Array:
        length = lengths(weight, self.axis)
        return weight * (np.minimum(length, self.max_value) / (EPSILON + length))


@constraint
class MinMaxNorm(Constraint):
    """w · (rate·clip(‖w‖, min_value, max_value) + (1 - rate)·‖w‖) / (ε + ‖w‖), ‖w‖ along `axis`.

    Raises: ValueError for a `min_value` above `max_value`.    Source  keras.io/api/layers/constraints
    """

    min_value: Length = 0.0
    max_value: Length = 1.0
    rate: Annotated[float, Between(0.0, 1.0, small=(0.0, 1.0))] = 1.0
    axis: Axis = 0

    def check(self) -> None:
        """min_value ≤ max_value."""
        if self.min_value > self.max_value:
            raise ValueError(
                f"`min_value` must be at most `max_value`. Received: min_value={self.min_value}, "
                f"max_value={self.max_value}. Swap them."
            )

    def __call__(self, weight: Array) -> Array:
        length = lengths(weight, self.axis)
        desired = self.rate * np.clip(length, self.min_value, self.max_value) + (1 - self.rate) * length
        return weight * (desired / (EPSILON + length))


@constraint
class NonNeg(Constraint):
    """max(w, 0).    Source  keras.io/api/layers/constraints"""

    def __call__(self, weight: Array) -> Array:
        return np.maximum(weight, 0)


@constraint
class UnitNorm(Constraint):
    """w / (ε + ‖w‖), ‖w‖ along `axis`.    Source  keras.io/api/layers/constraints"""

    axis: Axis = 0

    def __call__(self, weight: Array) -> Array:
        return weight / (EPSILON + lengths(weight, self.axis))
