"""Activation layers: ReLU and its variants, PReLU, and softmax with a mask."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from scratch.arrays import Array
from scratch.axes import Axis, AxisTuple, rank_for
from scratch.fields import AtLeast, Shape, Size
from scratch.layers.base import Layer, Response, Weights, activate
from scratch.registry import layer


class Elementwise(Layer):
    """Base of the layers of which each output entry depends on the input entry at the same place only."""

    @property
    def elementwise(self) -> bool:
        return True

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return ((size(1, 4), *(size(1, 3) for _ in range(size(0, 1))), size(1, 4)),)


@layer
class ReLU(Elementwise):
    """max_value where x ≥ max_value, x where threshold < x < max_value, else negative_slope · (x - threshold).

    Shapes  x any   →   y as x
    Keras   ReLU; at the threshold itself y is 0
    Source  keras.io/api/layers/activation_layers/relu
    """

    max_value: Annotated[float, AtLeast(0.0, small=(0.5, 2.0))] | None = None
    negative_slope: Annotated[float, AtLeast(0.0, small=(0.0, 1.0))] = 0.0
    threshold: Annotated[float, AtLeast(0.0, small=(0.0, 1.0))] = 0.0

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return activate(
            "relu",
            inputs[0],
            negative_slope=self.negative_slope,
            max_value=self.max_value,
            threshold=self.threshold,
        )


@layer
class LeakyReLU(Elementwise):
    """x where x > 0, else negative_slope · x.

    Shapes  x any   →   y as x
    Keras   LeakyReLU; its default slope is 0.3, that of the function `leaky_relu` 0.2
    Source  keras.io/api/layers/activation_layers/leaky_relu
    """

    negative_slope: Annotated[float, AtLeast(0.0, small=(0.0, 1.0))] = 0.3

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return activate("leaky_relu", inputs[0], negative_slope=self.negative_slope)


@layer
class ELU(Elementwise):
    """x where x > 0, else alpha · (exp(x) - 1).

    Shapes  x any   →   y as x
    Keras   ELU
    Source  Clevert et al. 2016; keras.io/api/layers/activation_layers/elu
    """

    alpha: Annotated[float, AtLeast(0.0, small=(0.25, 2.0))] = 1.0

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return activate("elu", inputs[0], alpha=self.alpha)


@layer
class PReLU(Elementwise):
    """x where x > 0, else alpha · x, with one alpha for each entry of a sample, shared along `shared_axes`.

    Shapes  x (batch, a, b, …)   alpha (a, b, …) with 1 for each shared axis   →   y as x
    Keras   PReLU; `shared_axes` count the batch as axis 0
    Source  He et al. 2015; keras.io/api/layers/activation_layers/prelu
    """

    shared_axes: Annotated[tuple[Any, ...], AxisTuple(low=1)] | None = None

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        shared = self.shared_axes or ()
        return {"alpha": tuple(1 if axis in shared else n for axis, n in enumerate(inputs[0]) if axis > 0)}

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        (x,) = inputs
        return np.where(x.real > 0, x, weights["alpha"] * x)

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        rank = max(2 + size(0, 1), rank_for(self.shared_axes))
        return ((size(1, 4), *(size(1, 3) for _ in range(rank - 1))),)

    def responses(self, weights: Weights, name: str, *inputs: Array) -> Response | None:
        (x,) = inputs
        alpha = weights["alpha"]
        if alpha.shape[-1] != x.shape[-1]:
            return None
        # one entry of alpha acts at its own place only: a feature is the negative part of x there, zero elsewhere
        places, channels = int(np.prod(alpha.shape[:-1])), alpha.shape[-1]
        here = np.eye(places, dtype=x.dtype).reshape(places, 1, 1, *alpha.shape[:-1])
        features = here * np.moveaxis(np.where(x.real > 0, 0, x), -1, 0)
        channel = np.tile(np.arange(channels), places)
        return Response(features.reshape(-1, *x.shape[:-1]), np.arange(places * channels), channel)


@layer
class Softmax(Layer):
    """exp(x) / Σ exp(x) along one axis or several together, over the entries that the mask keeps; the others are 0.

    Shapes  x any   mask that broadcasts to x   →   y as x
    Keras   Softmax; a mask that is not boolean keeps where it exceeds 0.5; masked entries count as x = -1e9
    Source  keras.io/api/layers/activation_layers/softmax
    """

    axis: Axis | Annotated[tuple[Any, ...], AxisTuple()] = -1

    def couples_batch(self, *, training: bool) -> bool:
        # an axis counted from the end, other than the last, may be the batch axis
        return any(axis == 0 or axis < -1 for axis in (self.axis if isinstance(self.axis, tuple) else (self.axis,)))

    def forward(self, weights: Weights, *inputs: Array, mask: Any = None) -> Array:
        (x,) = inputs
        if mask is None:
            return activate("softmax", x, axis=self.axis)
        kept = np.asarray(mask) > 0.5
        pairs = zip(kept.shape[::-1], x.shape[::-1], strict=False)
        if kept.ndim > x.ndim or any(own not in (1, size) for own, size in pairs):
            raise ValueError(
                f"The mask of Softmax must broadcast to its input. Received: mask {kept.shape}, input {x.shape}. "
                "Give the mask axes of size 1 where it lacks some."
            )
        y = activate("softmax", np.where(kept, x, -1e9).astype(x.dtype, copy=False), axis=self.axis)
        return np.where(kept, y, 0)

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        rank = max(2 + size(0, 1), rank_for(self.axis))
        # Keras warns about an axis of size 1, along which softmax is always 1
        return ((size(1 if not self.couples_batch(training=False) else 2, 3), *(size(2, 3) for _ in range(rank - 1))),)
