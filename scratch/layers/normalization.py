"""Normalization layers: subtract a mean, divide by a deviation, over some of the axes; then scale and shift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np

from scratch.arrays import Array, unit
from scratch.axes import Axes
from scratch.fields import Above, AtLeast, Shape, Size, is_integer
from scratch.layers.base import Layer, Response, Weights, shift_response
from scratch.registry import layer

Epsilon = Annotated[float, Above(0.0, small=(1e-3, 0.5))]


#: never axis 0, the batch, whose size is not fixed
Axis = Annotated[int, Axes(examples=(-1, 1, -2), but=(0,), many=False)]
OneOrMoreAxes = Annotated[int | tuple[int, ...], Axes(examples=(-1, 1, -2, (-1,), (1, 2), (-2, -1), (1, -1)), but=(0,))]


def many(axis: int | Sequence[int]) -> tuple[int, ...]:
    """Axes as a sorted tuple, the order that they have in the weights of Keras."""
    return (axis,) if is_integer(axis) else tuple(sorted(axis))  # type: ignore[arg-type, return-value]


def shape_with(axis: int | Sequence[int], size: Size) -> tuple[int, ...]:
    """A shape in which these axes exist, differ, and are not the batch."""
    axes = many(axis)
    rank = max(max(0, *axes) + 1 + max(0, *(-a for a in axes)), 2) + size(0, 1)
    return tuple(size(1, 3) for _ in range(rank))


def spread(weight: Array, axis: int | Sequence[int], rank: int) -> Array:
    """A weight whose axes are the given axes of x, transposed and reshaped so that it broadcasts over x."""
    places = [a % rank for a in many(axis)]
    shape = [1] * rank
    for place, length in zip(places, weight.shape, strict=True):
        shape[place] = length
    return weight.transpose(np.argsort(places)).reshape(shape)


def centred(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """x minus its mean over `axes`, and the mean of that squared: the biased variance."""
    difference = x - x.mean(axis=axes, keepdims=True)
    return difference, (difference * difference).mean(axis=axes, keepdims=True)


def normalise_by_rms(x: Array, axis: int | Sequence[int], epsilon: float) -> Array:
    """x / √(mean(x²) + ε), the mean over `axis`."""
    y: Array = x / np.sqrt((x * x).mean(axis=many(axis), keepdims=True) + epsilon)
    return y


def channel_response(features: Array) -> Response:
    """The response to a weight with one entry per channel: entry c adds features[..., c] to channel c."""
    channels = np.arange(features.shape[-1])
    return Response(np.moveaxis(features, -1, 0), channels, channels)


class Affine(Layer):
    """Base of the layers y = gamma · normalized(x) + beta, with gamma and beta along `axis`."""

    axis: int | tuple[int, ...]
    epsilon: float
    center: bool
    scale: bool

    def normalized(self, x: Array) -> Array:
        """x before gamma and beta."""
        raise TypeError(f"{type(self).__name__} must define `normalized`: write it in scratch/layers/normalization.py.")

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        shape = tuple(inputs[0][a] for a in many(self.axis))
        return {name: shape for name, used in (("gamma", self.scale), ("beta", self.center)) if used}

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        (x,) = inputs
        y = self.normalized(x)
        y = y * spread(weights["gamma"], self.axis, x.ndim) if "gamma" in weights else y
        return y + spread(weights["beta"], self.axis, x.ndim) if "beta" in weights else y

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return (shape_with(self.axis, size),)

    def responses(self, weights: Weights, name: str, *inputs: Array) -> Response | None:
        (x,) = inputs
        if [a % x.ndim for a in many(self.axis)] != [x.ndim - 1]:
            return None
        return shift_response(x.shape) if name == "beta" else channel_response(self.normalized(x))


@layer
class LayerNormalization(Affine):
    """y = (x - mean) / √(variance + ε) · gamma + beta, mean and biased variance of each sample over `axis`.

    Shapes  x (batch, …)   gamma, beta: the sizes of `axis`   →   y as x
    Keras   LayerNormalization; `rms_scaling` (deprecated there) omits mean and beta: x / √(mean(x²) + ε) · gamma, where
            Keras divides by the deviation from a mean that it does not take off
    Source  Ba, Kiros & Hinton 2016, eq. 3 (ε: keras.io); rms_scaling: Zhang & Sennrich 2019, eq. 4
    """

    axis: OneOrMoreAxes = -1
    epsilon: Epsilon = 1e-3
    center: bool = True
    scale: bool = True
    rms_scaling: bool = False

    def normalized(self, x: Array) -> Array:
        if self.rms_scaling:
            return normalise_by_rms(x, self.axis, self.epsilon)
        difference, variance = centred(x, many(self.axis))
        return difference / np.sqrt(variance + self.epsilon)

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        shape = tuple(inputs[0][a] for a in many(self.axis))
        scale, center = self.scale or self.rms_scaling, self.center and not self.rms_scaling
        return {name: shape for name, used in (("gamma", scale), ("beta", center)) if used}


@layer
class GroupNormalization(Affine):
    """y = (x - mean) / √(variance + ε) · gamma + beta, mean and biased variance of each sample over all places and one
    group of channels; `axis` is the channel axis, -1 groups means one group per channel.

    Shapes  x (batch, …)   gamma, beta (channels,)   →   y as x
    Keras   GroupNormalization
    Source  Wu & He 2018, eq. 1, 2, 7
    """

    groups: Literal[-1] | Annotated[int, AtLeast(1, small=(1, 3))] = 32
    axis: Axis = -1
    epsilon: Epsilon = 1e-3
    center: bool = True
    scale: bool = True

    def normalized(self, x: Array) -> Array:
        last = np.moveaxis(x, self.axis, -1)
        groups = last.shape[-1] if self.groups == -1 else self.groups
        if last.shape[-1] % groups:
            raise ValueError(
                f"The number of channels must be a multiple of `groups`. Received: {last.shape[-1]} channels, "
                f"groups={groups}. Change `groups` or `axis`."
            )
        y = last.reshape(*last.shape[:-1], groups, last.shape[-1] // groups)
        difference, variance = centred(y, tuple(a for a in range(1, y.ndim) if a != y.ndim - 2))
        return np.moveaxis((difference / np.sqrt(variance + self.epsilon)).reshape(last.shape), -1, self.axis)

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        shape = list(shape_with(self.axis, size))
        shape[self.axis] = size(1, 4) if self.groups == -1 else self.groups * size(1, 2)
        return (tuple(shape),)


@layer
class RMSNormalization(Layer):
    """y = x / √(mean(x²) + ε) · scale, the mean of each sample over `axis`, along which `scale` lies.

    Shapes  x (batch, …)   scale: the sizes of `axis`   →   y as x
    Keras   RMSNormalization
    Source  Zhang & Sennrich 2019, eq. 4 (ε: keras.io)
    """

    axis: OneOrMoreAxes = -1
    epsilon: Epsilon = 1e-6

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {"scale": tuple(inputs[0][a] for a in many(self.axis))}

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        (x,) = inputs
        return normalise_by_rms(x, self.axis, self.epsilon) * spread(weights["scale"], self.axis, x.ndim)

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return (shape_with(self.axis, size),)

    def responses(self, weights: Weights, name: str, *inputs: Array) -> Response | None:
        (x,) = inputs
        last = [a % x.ndim for a in many(self.axis)] == [x.ndim - 1]
        return channel_response(normalise_by_rms(x, self.axis, self.epsilon)) if last else None


@layer
class UnitNormalization(Layer):
    """y = x / max(|x|, 1e-12), the Euclidean norm of each sample over `axis`.

    Shapes  x (batch, …)   →   y as x
    Keras   UnitNormalization
    Source  keras.io/api/layers/normalization_layers/unit_normalization
    """

    axis: OneOrMoreAxes = -1

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return unit(inputs[0], self.axis, 1e-12)

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return (shape_with(self.axis, size),)
