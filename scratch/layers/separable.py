"""Depthwise convolution; separable convolution, which is a depthwise one followed by one over channels only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import Annotated

import numpy as np

from scratch.arrays import Array
from scratch.fields import AtLeast, Shape
from scratch.layers.base import Activation, Response, Weights, shift_response
from scratch.layers.convolution import Few, Kernelled
from scratch.layers.patches import DataFormat, One, Padding, Rate1, Rate2, Two, cells, channels_of
from scratch.registry import layer


def each_channel(columns: Array, kernel: Array) -> Array:
    """The product of patches (…, k…, n) and a kernel (k…, n, m), channel by channel: (…, n·m).

    Channel i·m + j of the result is channel i of the patches times filter j of that channel.
    """
    *sizes, inputs, multiplier = kernel.shape
    filters = kernel.reshape(-1, inputs, multiplier)
    terms = (columns[place][..., None] * filter_ for place, filter_ in zip(cells(sizes), filters, strict=True))
    y: Array = reduce(np.add, terms).reshape(*columns.shape[: 1 - kernel.ndim], -1)
    return y


class ByChannel(Kernelled):
    """Base of depthwise and separable convolution, which unlike plain convolution allow strides with dilation."""

    depth_multiplier: int

    def check(self) -> None:
        """Strides and dilation go together."""

    def kernel_shape(self, x: Shape) -> Shape:
        """Shape of the depthwise kernel for an input of shape x."""
        return (*self.kernel_size, channels_of(x, self.data_format), self.depth_multiplier)


@dataclass(frozen=True)
class Depthwise(ByChannel):
    """y[b, o, i·m + j] = activation(Σ over places p of x[b, o·stride + p·dilation, i] · kernel[p, i, j] + bias)

    Shapes  x (batch, size…, n) of rank {rank} + 2   kernel (k…, n, m)   bias (n·m,)   →   y (batch, size'…, n·m),
            m = depth_multiplier
    Keras   DepthwiseConv{rank}D
    Source  keras.io/api/layers/convolution_layers/depthwise_convolution{rank}d
    """

    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: Padding = "valid"
    depth_multiplier: Few = 1
    data_format: DataFormat = "channels_last"
    dilation_rate: tuple[int, ...] = (1,)
    activation: Activation = "linear"
    use_bias: bool = True

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        kernel = self.kernel_shape(inputs[0])
        return self.with_bias({"kernel": kernel}, kernel[-1] * kernel[-2])  # type: ignore[operator]

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return self.finished(each_channel(self.columns(inputs[0]), weights["kernel"]), weights)

    def responses(self, weights: Weights, name: str, *inputs: Array) -> Response | None:
        if self.data_format == "channels_first":
            return None
        columns = self.columns(inputs[0])
        lead, channels = columns.shape[: self.rank + 1], columns.shape[-1] * self.depth_multiplier
        if name == "bias":
            return shift_response((*lead, channels))
        feature, filter_ = np.divmod(np.arange(math.prod(self.kernel_size) * channels), self.depth_multiplier)
        channel = feature % columns.shape[-1] * self.depth_multiplier + filter_
        return Response(np.moveaxis(columns.reshape(*lead, -1), -1, 0), feature, channel)


@layer
class DepthwiseConv1D(Depthwise, rank=1):
    kernel_size: One
    strides: One = (1,)
    dilation_rate: Rate1 = (1,)


@layer
class DepthwiseConv2D(Depthwise, rank=2):
    kernel_size: Two
    strides: Two = (1, 1)
    dilation_rate: Rate2 = (1, 1)


@dataclass(frozen=True)
class Separable(ByChannel):
    """y = activation(depthwise(x, depthwise_kernel) · pointwise_kernel + bias), the product over channels.

    Shapes  x (batch, size…, n) of rank {rank} + 2   depthwise_kernel (k…, n, m)   pointwise_kernel (1…, n·m, filters)
            bias (filters,)   →   y (batch, size'…, filters), m = depth_multiplier
    Keras   SeparableConv{rank}D
    Source  keras.io/api/layers/convolution_layers/separable_convolution{rank}d; Chollet 2017, "Xception"
    """

    filters: Annotated[int, AtLeast(1)]
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: Padding = "valid"
    data_format: DataFormat = "channels_last"
    dilation_rate: tuple[int, ...] = (1,)
    depth_multiplier: Few = 1
    activation: Activation = "linear"
    use_bias: bool = True

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        kernel = self.kernel_shape(inputs[0])
        mixing = (*(1,) * self.rank, kernel[-1] * kernel[-2], self.filters)  # type: ignore[operator]
        return self.with_bias({"depthwise_kernel": kernel, "pointwise_kernel": mixing}, self.filters)

    def mixed(self, weights: Weights, x: Array) -> Array:
        """The output of the depthwise convolution, which the pointwise kernel is multiplied with."""
        return each_channel(self.columns(x), weights["depthwise_kernel"])

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        kernel = weights["pointwise_kernel"]
        return self.finished(self.mixed(weights, inputs[0]) @ kernel.reshape(kernel.shape[-2:]), weights)

    def responses(self, weights: Weights, name: str, *inputs: Array) -> Response | None:
        if self.data_format == "channels_first" or name == "depthwise_kernel":
            return None
        mixed = self.mixed(weights, inputs[0])
        if name == "bias":
            return shift_response((*mixed.shape[:-1], self.filters))
        feature, channel = np.divmod(np.arange(mixed.shape[-1] * self.filters), self.filters)
        return Response(np.moveaxis(mixed, -1, 0), feature, channel)


@layer
class SeparableConv1D(Separable, rank=1):
    kernel_size: One
    strides: One = (1,)
    dilation_rate: Rate1 = (1,)


@layer
class SeparableConv2D(Separable, rank=2):
    kernel_size: Two
    strides: Two = (1, 1)
    dilation_rate: Rate2 = (1, 1)
