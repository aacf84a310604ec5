"""Transposed convolution: every input cell adds its multiple of a kernel to the output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from scratch.arrays import Array
from scratch.fields import AtLeast, Integers, Shape, Size
from scratch.layers.base import Activation, Response, Weights, shift_response
from scratch.layers.convolution import Kernelled
from scratch.layers.patches import (
    DataFormat,
    One,
    Padding,
    Rate1,
    Rate2,
    Rate3,
    Three,
    Two,
    cells,
    channels_last,
    channels_of,
    extents,
    windows,
)
from scratch.registry import layer

Extra1 = Annotated[tuple[int, ...], Integers(1, low=0, small=(0, 2))] | None
Extra2 = Annotated[tuple[int, ...], Integers(2, low=0, small=(0, 2))] | None
Extra3 = Annotated[tuple[int, ...], Integers(3, low=0, small=(0, 2))] | None


def spread(x: Array, kernel: Array, strides: Sequence[int], dilation: Sequence[int], sizes: Sequence[int]) -> Array:
    """The transpose, at x, of the convolution that maps arrays of `sizes` to arrays like x: (batch, size…, filters).

    The cells that this convolution would pad are cut off, half of them (rounded down) first.
    """
    *places, filters, inputs = kernel.shape
    full = [(n - 1) * s + span for n, s, span in zip(x.shape[1:-1], strides, extents(places, dilation), strict=True)]
    front = [max(long - size, 0) // 2 for long, size in zip(full, sizes, strict=True)]
    room = [max(long, before + size) for long, before, size in zip(full, front, sizes, strict=True)]
    y = np.zeros((len(x), *room, filters), np.result_type(x, kernel))
    inner = y[(slice(None), *map(slice, full))]
    view = windows(inner, places, strides, dilation, writeable=True)
    pieces = (x @ kernel.reshape(-1, inputs).T).reshape(*x.shape[:-1], *places, filters)
    for place in cells(places):
        view[place] += pieces[place]
    return y[(slice(None), *(slice(before, before + size) for before, size in zip(front, sizes, strict=True)))]


@dataclass(frozen=True)
class Transposed(Kernelled):
    """y[b, i·stride + p·dilation - front, f] = activation(Σ over such i, p, and c: x[b, i, c] · kernel[p, f, c]
    + bias[f]): the transpose of the convolution with this kernel and padding that maps the sizes of y to those of x.

    With k = (kernel - 1)·dilation + 1, y has (size - 1)·stride + r cells: "valid": r = k + output_padding, by default
    max(k, stride), front = 0; "same": r = k mod 2 + output_padding, by default stride, front = what "same" pads first.
    Shapes  x (batch, size…, n) of rank {rank} + 2   kernel (k…, filters, n)   bias (filters,)
            →   y (batch, size'…, filters)
    Keras   Conv{rank}DTranspose
    Source  keras.io/api/layers/convolution_layers/convolution{rank}d_transpose; Dumoulin & Visin 2016, chapter 4
    """

    filters: Annotated[int, AtLeast(1)]
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: Padding = "valid"
    output_padding: tuple[int, ...] | None = None
    data_format: DataFormat = "channels_last"
    dilation_rate: tuple[int, ...] = (1,)
    activation: Activation = "linear"
    use_bias: bool = True

    def check(self) -> None:
        """There is a convolution of which this is the transpose."""
        super().check()
        for extra, stride, span in zip(self.output_padding or (), self.strides, self.spans, strict=False):
            if extra >= stride:
                raise ValueError(
                    "`output_padding` must be less than `strides`. "
                    f"Received: output_padding={self.output_padding}, strides={self.strides}. Lower output_padding."
                )
            if self.padding == "same" and extra == 0 and span % 2 == 0:
                raise ValueError(
                    "`output_padding` must be at least 1 where padding='same' and the kernel is even: no convolution "
                    f"gives the input's size otherwise. Received: output_padding={self.output_padding}. Raise it."
                )

    @property
    def spans(self) -> tuple[int, ...]:
        """Cells from the first to the last that the dilated kernel covers, on each axis."""
        return extents(self.kernel_size, self.dilation_rate)

    def output_sizes(self, sizes: Sequence[int]) -> list[int]:
        """Sizes of the output for these sizes of the input."""
        rest = self.output_padding or (None,) * self.rank
        if self.padding == "valid":
            tails = [
                k + (max(s - k, 0) if e is None else e) for k, s, e in zip(self.spans, self.strides, rest, strict=True)
            ]
        else:
            tails = [s if e is None else k % 2 + e for k, s, e in zip(self.spans, self.strides, rest, strict=True)]
        return [(n - 1) * s + tail for n, s, tail in zip(sizes, self.strides, tails, strict=True)]

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        channels = channels_of(inputs[0], self.data_format)
        return self.with_bias({"kernel": (*self.kernel_size, self.filters, channels)}, self.filters)

    def spread(self, x: Array, kernel: Array) -> Array:
        """`spread` of an input in the layer's data format, channels last."""
        last = channels_last(x, self.data_format)
        return spread(
            last, kernel, strides=self.strides, dilation=self.dilation_rate, sizes=self.output_sizes(last.shape[1:-1])
        )

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return self.finished(self.spread(inputs[0], weights["kernel"]), weights)

    def sizes(self, size: Size) -> list[int]:
        return [size(1, 3) for _ in range(self.rank)]

    def responses(self, weights: Weights, name: str, *inputs: Array) -> Response | None:
        if self.data_format == "channels_first":
            return None
        (x,) = inputs
        if name == "bias":
            return shift_response((len(x), *self.output_sizes(x.shape[1:-1]), self.filters))
        places, channels = math.prod(self.kernel_size), x.shape[-1]
        # One filter for each pair of place and input channel, which adds that channel to that place only.
        single = np.eye(places * channels, dtype=x.dtype).reshape(places, channels, -1).swapaxes(1, 2)
        features = self.spread(x, single.reshape(*self.kernel_size, -1, channels))
        place, channel, part = np.indices((places, self.filters, channels)).reshape(3, -1)
        return Response(np.moveaxis(features, -1, 0), place * channels + part, channel)


@layer
class Conv1DTranspose(Transposed, rank=1):
    kernel_size: One
    strides: One = (1,)
    output_padding: Extra1 = None
    dilation_rate: Rate1 = (1,)


@layer
class Conv2DTranspose(Transposed, rank=2):
    kernel_size: Two
    strides: Two = (1, 1)
    output_padding: Extra2 = None
    dilation_rate: Rate2 = (1, 1)


@layer
class Conv3DTranspose(Transposed, rank=3):
    kernel_size: Three
    strides: Three = (1, 1, 1)
    output_padding: Extra3 = None
    dilation_rate: Rate3 = (1, 1, 1)
