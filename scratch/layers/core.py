"""Core layers: Dense, Activation, Flatten."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np

from scratch.arrays import Array
from scratch.fields import AtLeast, Shape, Size
from scratch.layers.base import Activation as ActivationName
from scratch.layers.base import Layer, Response, Weights, activate, shift_response
from scratch.registry import get, layer


@layer
class Dense(Layer):
    """y = activation(x · kernel + bias)

    Shapes  x (batch, …, n)   kernel (n, units)   bias (units,)   →   y (batch, …, units)
    Keras   Dense
    Source  Neural Networks with Keras Cookbook, chapter 1
    """

    units: Annotated[int, AtLeast(1)]
    activation: ActivationName = "linear"
    use_bias: bool = True

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {"kernel": (inputs[0][-1], self.units)}
        return shapes | ({"bias": (self.units,)} if self.use_bias else {})

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        y = inputs[0] @ weights["kernel"]
        return activate(self.activation, y + weights["bias"] if self.use_bias else y)

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        middle = tuple(size(1, 3) for _ in range(size(0, 1)))
        return ((size(1, 4), *middle, size(1, 4)),)

    def responses(self, weights: Weights, name: str, *inputs: Array) -> Response:
        (x,) = inputs
        if name == "bias":
            return shift_response((*x.shape[:-1], self.units))
        feature, channel = np.divmod(np.arange(x.shape[-1] * self.units), self.units)
        return Response(np.moveaxis(x, -1, 0), feature, channel)

    def mixing(self, weights: Weights) -> Array:
        """The matrix by which the last axis of x is multiplied; only a bias and the activation follow."""
        return weights["kernel"]


@layer
class Activation(Layer):
    """y = activation(x), entry by entry (softmax: along the last axis).

    Shapes  x any   →   y as x
    Keras   Activation
    Source  keras.io/api/layers/core_layers/activation
    """

    activation: ActivationName

    @property
    def elementwise(self) -> bool:
        return bool(get("activation", self.activation).elementwise)

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return activate(self.activation, inputs[0])

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return ((size(1, 4), size(2, 4)),)


@layer
class Flatten(Layer):
    """y = x with all axes but the batch made one, in C order; "channels_first" first moves axis 1 to the end.

    Shapes  x (batch, a, b, …)   →   y (batch, a·b·…)
    Keras   Flatten
    Source  keras.io/api/layers/reshaping_layers/flatten
    """

    data_format: Literal["channels_last", "channels_first"] = "channels_last"

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        (x,) = inputs
        if self.data_format == "channels_first" and x.ndim > 1:
            x = np.moveaxis(x, 1, -1)
        return x.reshape(len(x), math.prod(x.shape[1:]))

    def compute_mask(self, *inputs: Array, mask: Any = None) -> None:
        return None

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return ((size(1, 3), *(size(1, 3) for _ in range(size(1, 3)))),)
