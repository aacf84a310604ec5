"""Masking: which steps of a sequence count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np

from scratch.arrays import Array
from scratch.fields import Real, Shape
from scratch.layers.base import Layer, Size, Weights
from scratch.registry import layer


@layer
class Masking(Layer):
    """y = x, a step all of whose features equal mask_value being set to 0 and masked. Which steps those are is constant
    under differentiation (`held`).

    Shapes  x (batch, …, n)   →   y as x, mask (batch, …)
    Keras   Masking; mask_value is compared in the dtype of x
    Source  keras.io/api/layers/core_layers/masking
    """

    mask_value: Annotated[float, Real()] = 0.0
    stopped_per_sample: ClassVar[bool] = True

    def _counts(self, x: Array) -> Array:
        return (x.real != x.real.dtype.type(self.mask_value)).any(axis=-1)

    def held(self, weights: Weights, *inputs: Array, **call: Any) -> dict[str, Array]:
        """The steps that count."""
        return {"counts": self._counts(inputs[0])}

    def forward(self, weights: Weights, *inputs: Array, held: Mapping[str, Array] | None = None) -> Array:
        (x,) = inputs
        counts = (held or self.held(weights, x))["counts"]
        return np.where(counts[..., None], x, 0.0).astype(x.dtype)

    def compute_mask(self, *inputs: Array, mask: Array | None = None) -> Array:
        return self._counts(inputs[0])

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return (tuple(size(1, 3) for _ in range(size(2, 4))),)
