"""Upsampling: repetition, and interpolation by a kernel."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np

from scratch.arrays import Array
from scratch.fields import AtLeast, Shape
from scratch.layers.base import Layer, Size, Weights
from scratch.layers.patches import DataFormat, Three, Two, channels_last, formatted, restored
from scratch.registry import layer

Factor = Annotated[int, AtLeast(1, small=(1, 3))]


def triangle(t: Array) -> Array:
    """1 - |t| within one cell (linear interpolation)."""
    return np.maximum(1 - np.abs(t), 0)


def cubic(t: Array) -> Array:
    """Keys 1981, equation 15 (a = -1/2), within two cells."""
    t = np.abs(t)
    near, far = (1.5 * t - 2.5) * t * t + 1, ((2.5 - 0.5 * t) * t - 4) * t + 2
    return np.where(t < 1, near, np.where(t < 2, far, 0))


def lanczos(t: Array, lobes: int) -> Array:
    """sinc(t)·sinc(t / lobes) within `lobes` cells (Duchon 1979)."""
    return np.where(np.abs(t) < lobes, np.sinc(t) * np.sinc(t / lobes), 0)


KERNELS = {
    "bilinear": triangle,
    "bicubic": cubic,
    "lanczos3": lambda t: lanczos(t, 3),
    "lanczos5": lambda t: lanczos(t, 5),
}


def interpolation_matrix(kernel: str, size: int, factor: int) -> Array:
    """(size · factor, size): row o weighs the cells around the place (o + 1/2) / factor, cell i lying at i + 1/2.

    Rows are divided by their sums, so that a constant stays one at the edges, where part of the kernel meets no cell.
    """
    place = (np.arange(size * factor)[:, None] + 0.5) / factor
    weights = KERNELS[kernel](place - (np.arange(size) + 0.5))
    return weights / weights.sum(axis=1, keepdims=True)


def interpolated(x: Array, matrix: Array, axis: int) -> Array:
    return np.moveaxis(np.tensordot(matrix.astype(x.real.dtype), x, (1, axis)), 0, axis)


def repeated(x: Array, size: tuple[int, ...]) -> Array:
    """Every cell of axis i + 1 of x, size[i] times."""
    for axis, times in enumerate(size, start=1):
        x = np.repeat(x, times, axis)
    return x


class Enlarging(Layer):
    """What the upsampling layers share: masks end here."""

    def compute_mask(self, *inputs: Array, mask: Any = None) -> None:
        return None


@layer
class UpSampling1D(Enlarging):
    """y[b, o, c] = x[b, ⌊o / size⌋, c]: every step, `size` times.

    Shapes  x (batch, steps, n)   →   y (batch, steps·size, n)
    Keras   UpSampling1D
    Source  keras.io/api/layers/reshaping_layers/up_sampling1d
    """

    size: Factor = 2

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return repeated(inputs[0], (self.size,))

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return ((size(1, 3), size(1, 4), size(1, 3)),)


@layer
class UpSampling2D(Enlarging):
    """y = x enlarged `size` times: cells repeated ("nearest"), or on each axis in turn y[o] = Σᵢ w(o, i)·x[i] with
    w(o, i) = K((o + 1/2) / size - (i + 1/2)) / Σⱼ K(…j…), K the kernel of `interpolation`, i and j cells of x.

    Shapes  x (batch, rows, columns, n)   →   y (batch, rows·size[0], columns·size[1], n)
    Keras   UpSampling2D; no antialiasing, which enlarging does not need
    Source  keras.io/api/layers/reshaping_layers/up_sampling2d; Keys 1981; Duchon 1979
    """

    size: Two = (2, 2)
    data_format: DataFormat = "channels_last"
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"] = "nearest"

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        y = channels_last(inputs[0], self.data_format)
        if self.interpolation == "nearest":
            return restored(repeated(y, self.size), self.data_format)
        for axis, factor in enumerate(self.size, start=1):
            y = interpolated(y, interpolation_matrix(self.interpolation, y.shape[axis], factor), axis)
        return restored(y, self.data_format)

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return (formatted(size(1, 3), (size(1, 4), size(1, 4)), size(1, 3), self.data_format),)


@layer
class UpSampling3D(Enlarging):
    """y[b, o, c] = x[b, ⌊o / size⌋, c] on each of three axes.

    Shapes  x (batch, a, b, c, n)   →   y (batch, a·size[0], b·size[1], c·size[2], n)
    Keras   UpSampling3D
    Source  keras.io/api/layers/reshaping_layers/up_sampling3d
    """

    size: Three = (2, 2, 2)
    data_format: DataFormat = "channels_last"

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return restored(repeated(channels_last(inputs[0], self.data_format), self.size), self.data_format)

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return (formatted(size(1, 3), (size(1, 3), size(1, 3), size(1, 3)), size(1, 3), self.data_format),)
