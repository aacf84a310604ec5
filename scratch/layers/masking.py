"""Masking: mark the steps of a sequence that are to be skipped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np

from scratch.arrays import Array
from scratch.fields import Real, Shape, Size
from scratch.layers.base import Layer, Weights
from scratch.registry import layer


@layer
class Masking(Layer):
    """y = x, with steps whose features all equal mask_value set to 0 and masked.

    The choice of these steps is constant under differentiation (`stopped`).

    Shapes  x (batch, …, n)   →   y as x, mask (batch, …)
    Keras   Masking; mask_value is compared in the dtype of x
    Source  keras.io/api/layers/core_layers/masking
    """

    mask_value: Annotated[float, Real()] = 0.0
    stopped_per_sample: ClassVar[bool] = True

    def _kept(self, x: Array) -> Array:
        y: Array = (x.real != x.real.dtype.type(self.mask_value)).any(axis=-1)
        return y

    def stopped(self, weights: Weights, *inputs: Array, **call: Any) -> dict[str, Array]:
        """The steps that are kept."""
        return {"kept": self._kept(inputs[0])}

    def forward(self, weights: Weights, *inputs: Array, stopped: Mapping[str, Array] | None = None) -> Array:
        (x,) = inputs
        kept = (stopped or self.stopped(weights, x))["kept"]
        return np.where(kept[..., None], x, 0.0).astype(x.dtype)

    def compute_mask(self, *inputs: Array, mask: Array | None = None) -> Array:
        return self._kept(inputs[0])

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return (tuple(size(1, 3) for _ in range(size(2, 4))),)
