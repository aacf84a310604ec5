"""Regularizers: what a weight, or the output of a layer, adds to the loss; in float32, float64 and complex128."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from scratch.arrays import Array, absolute, unit
from scratch.fields import AtLeast
from scratch.registry import regularizer

Factor = Annotated[float, AtLeast(0.0, small=(0.0, 1.0))]


@dataclass(frozen=True)
class Regularizer:
    """Base of the regularizers: a subclass decorated with `@regularizer` defines `__call__`."""

    def __call__(self, x: Array) -> Any:
        """The penalty, a scalar in the dtype of x, which has any shape. Raises: TypeError in a class without one."""
        raise TypeError(f"{type(self).__name__} must define `__call__`: write it in scratch/regularizers.py.")


@regularizer
class L1(Regularizer):
    """l1 · Σ|x|.    Source  keras.io/api/layers/regularizers"""

    l1: Factor = 0.01

    def __call__(self, x: Array) -> Any:
        return self.l1 * np.sum(absolute(x))


@regularizer
class L2(Regularizer):
    """l2 · Σx² (no ½).    Source  keras.io/api/layers/regularizers"""

    l2: Factor = 0.01

    def __call__(self, x: Array) -> Any:
        return self.l2 * np.sum(x * x)


@regularizer
class L1L2(Regularizer):
    """l1 · Σ|x| + l2 · Σx².    Source  keras.io/api/layers/regularizers"""

    l1: Factor = 0.0
    l2: Factor = 0.0

    def __call__(self, x: Array) -> Any:
        return self.l1 * np.sum(absolute(x)) + self.l2 * np.sum(x * x)


@regularizer
class OrthogonalRegularizer(Regularizer):
    """factor · mean of |uᵢ·uⱼ| over the pairs i < j of rows (or columns) u of x, each divided by its length; 0 for a
    single row.

    Keras   OrthogonalRegularizer, with the absolute value of the dot product; a length below ε counts as ε; a single
            row gives 0/0 = NaN there
    Source  keras.io/api/layers/regularizers
    """

    factor: Factor = 0.01
    mode: Literal["rows", "columns"] = "rows"

    def __call__(self, x: Array) -> Any:
        if x.ndim != 2:
            raise ValueError(
                f"OrthogonalRegularizer takes a matrix. Received: an array of shape {x.shape}. "
                "Regularize a kernel of rank 2."
            )
        rows = x if self.mode == "rows" else x.T
        directions = unit(rows, 1)
        first, second = np.triu_indices(len(rows), 1)
        total = np.sum(absolute(directions @ directions.T)[first, second])
        return self.factor * total / max(len(first), 1)
