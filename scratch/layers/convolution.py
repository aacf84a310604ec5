"""Convolution over one, two or three axes, in groups; the base of all layers with a moving kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from scratch.arrays import Array
from scratch.fields import AtLeast, Shape, Size
from scratch.layers.base import Activation, Response, Weights, activate, shift_response
from scratch.layers.families import Family
from scratch.layers.patches import (
    DataFormat,
    One,
    Padding,
    Rate1,
    Rate2,
    Rate3,
    Three,
    Two,
    channels_last,
    channels_of,
    extents,
    formatted,
    patches,
    refuse_strided_dilation,
    restored,
)
from scratch.registry import layer

Few = Annotated[int, AtLeast(1, small=(1, 2))]


def convolved(columns: Array, kernel: Array, groups: int = 1) -> Array:
    """The product of patches (…, k…, n) and a kernel (k…, n/groups, filters): (…, filters).

    One matrix product for each group of channels.
    """
    *places, inputs, filters = kernel.shape
    lead = columns.shape[: -len(places) - 1]
    parts = columns.reshape(math.prod(lead), math.prod(places), groups, inputs)
    rows = np.moveaxis(parts, 2, 0).reshape(groups, math.prod(lead), math.prod(places) * inputs)
    matrices = kernel.reshape(math.prod(places) * inputs, groups, filters // groups).swapaxes(0, 1)
    return (rows @ matrices).swapaxes(0, 1).reshape(*lead, filters)


class Kernelled(Family):
    """Base of the families with a kernel that moves over the input: shapes, bias, data format, activation."""

    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    dilation_rate: tuple[int, ...]
    padding: str
    data_format: DataFormat
    activation: str
    use_bias: bool

    def check(self) -> None:
        """Strides and dilation do not go together."""
        refuse_strided_dilation(self.strides, self.dilation_rate)

    def columns(self, x: Array) -> Array:
        """The patches of x that the kernel is multiplied with, channels last."""
        last = channels_last(x, self.data_format)
        return patches(last, self.kernel_size, strides=self.strides, dilation=self.dilation_rate, padding=self.padding)

    def finished(self, y: Array, weights: Weights) -> Array:
        """activation(y + bias) in the layer's data format, along whose last axis a softmax is taken."""
        y = y + weights["bias"] if self.use_bias else y
        return activate(self.activation, restored(y, self.data_format))

    def with_bias(self, shapes: dict[str, Shape], channels: int) -> dict[str, Shape]:
        """The weight shapes with that of the bias, where the layer has one."""
        return shapes | ({"bias": (channels,)} if self.use_bias else {})

    def compute_mask(self, *inputs: Array, mask: object = None) -> None:
        return None

    def sizes(self, size: Size) -> list[int]:
        """Sizes of an input that holds at least one window."""
        least = extents(self.kernel_size, self.dilation_rate) if self.padding == "valid" else (1,) * self.rank
        return [size(low, low + 3) for low in least]

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return (formatted(size(1, 3), self.sizes(size), size(1, 3), self.data_format),)


@dataclass(frozen=True)
class Convolution(Kernelled):
    """y[b, o, f] = activation(Σ over places p, channels c: x[b, o·stride + p·dilation, c] · kernel[p, c, f] + bias[f])

    with zeros outside x ("same": ⌈size / stride⌉ outputs, the odd zero at the end; "causal", over one axis: all zeros
    first). Of g groups, the filters of group i see the i-th of g equal parts of the channels only.
    Shapes  x (batch, size…, n) of rank {rank} + 2   kernel (k…, n/g, filters)   bias (filters,)
            →   y (batch, size'…, filters)
    Keras   Conv{rank}D (cross-correlation: the kernel is not flipped)
    Source  keras.io/api/layers/convolution_layers/convolution{rank}d; Dumoulin & Visin 2016; causal: van den Oord 2016
    """

    filters: Annotated[int, AtLeast(1)]
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: Padding = "valid"
    data_format: DataFormat = "channels_last"
    dilation_rate: tuple[int, ...] = (1,)
    groups: Few = 1
    activation: Activation = "linear"
    use_bias: bool = True

    def check(self) -> None:
        """Groups of filters have one size."""
        super().check()
        if self.filters % self.groups:
            raise ValueError(
                f"`filters` must be a multiple of `groups`. Received: filters={self.filters}, groups={self.groups}. "
                "Change one of them."
            )

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        channels = channels_of(inputs[0], self.data_format)
        if channels % self.groups:
            raise ValueError(
                "The input channels must be a multiple of `groups`. "
                f"Received: {channels} channels, groups={self.groups}. Change one of them."
            )
        return self.with_bias({"kernel": (*self.kernel_size, channels // self.groups, self.filters)}, self.filters)

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return self.finished(convolved(self.columns(inputs[0]), weights["kernel"], self.groups), weights)

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return (formatted(size(1, 3), self.sizes(size), self.groups * size(1, 3), self.data_format),)

    def responses(self, weights: Weights, name: str, *inputs: Array) -> Response | None:
        if self.data_format == "channels_first":
            return None
        columns = self.columns(inputs[0])
        lead = columns.shape[: self.rank + 1]
        if name == "bias":
            return shift_response((*lead, self.filters))
        features = columns.reshape(*lead, -1)
        places, parts = math.prod(self.kernel_size), columns.shape[-1] // self.groups
        place, part, channel = np.indices((places, parts, self.filters)).reshape(3, -1)
        group = channel // (self.filters // self.groups)
        return Response(np.moveaxis(features, -1, 0), (place * self.groups + group) * parts + part, channel)


@layer
class Conv1D(Convolution, rank=1):
    kernel_size: One
    strides: One = (1,)
    padding: Literal["valid", "same", "causal"] = "valid"  # type: ignore[assignment]
    dilation_rate: Rate1 = (1,)


@layer
class Conv2D(Convolution, rank=2):
    kernel_size: Two
    strides: Two = (1, 1)
    dilation_rate: Rate2 = (1, 1)


@layer
class Conv3D(Convolution, rank=3):
    kernel_size: Three
    strides: Three = (1, 1, 1)
    dilation_rate: Rate3 = (1, 1, 1)
