"""Upsampling layers: cells repeated, or interpolated by a kernel."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from scratch.arrays import Array
from scratch.fields import AtLeast, Shape, Size
from scratch.layers.base import Weights
from scratch.layers.families import Family
from scratch.layers.interpolation import resized
from scratch.layers.patches import DataFormat, Three, Two, channels_last, formatted, restored
from scratch.registry import layer

Factor = Annotated[int, AtLeast(1, small=(1, 3))]


def repeated(x: Array, size: tuple[int, ...]) -> Array:
    """x with every cell of axis i + 1 repeated size[i] times."""
    for axis, times in enumerate(size, start=1):
        x = np.repeat(x, times, axis)
    return x


class UpSampling(Family):
    """y[b, o, c] = x[b, ⌊o / size⌋, c] on each axis: every cell `size` times.

    Shapes  x (batch, n…, channels) of rank {rank} + 2   →   y (batch, n·size…, channels)
    Keras   UpSampling{rank}D
    Source  keras.io/api/layers/reshaping_layers/up_sampling{rank}d
    """

    size: Any
    data_format: DataFormat

    @property
    def factors(self) -> tuple[int, ...]:
        """One factor for each axis; the member over one axis holds a number."""
        return (self.size,) if self.rank == 1 else self.size

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return restored(repeated(channels_last(inputs[0], self.data_format), self.factors), self.data_format)

    def compute_mask(self, *inputs: Array, mask: Any = None) -> None:
        return None

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        largest = 3 if self.rank == 3 else 4
        return (formatted(size(1, 3), [size(1, largest) for _ in range(self.rank)], size(1, 3), self.data_format),)


@layer
class UpSampling1D(UpSampling, rank=1):
    size: Factor = 2
    data_format: ClassVar[DataFormat] = "channels_last"  # type: ignore[misc]


@layer
class UpSampling2D(UpSampling, rank=2):
    """y = x enlarged `size` times: cells repeated ("nearest"), or on each axis in turn y[o] = Σᵢ w(o, i)·x[i] with
    w(o, i) = K((o + 1/2) / size - (i + 1/2)) / Σⱼ K(…j…), K the kernel of `interpolation`, i and j cells of x.

    Shapes  x (batch, rows, columns, n)   →   y (batch, rows·size[0], columns·size[1], n)
    Keras   UpSampling2D, without antialiasing, which an enlargement does not need
    Source  keras.io/api/layers/reshaping_layers/up_sampling2d; Keys 1981; Duchon 1979
    """

    size: Two = (2, 2)
    data_format: DataFormat = "channels_last"
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"] = "nearest"

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        if self.interpolation == "nearest":
            return super().forward(weights, *inputs)
        x = channels_last(inputs[0], self.data_format)
        rows, columns = (n * factor for n, factor in zip(x.shape[1:3], self.size, strict=True))
        return restored(resized(x, rows, columns, interpolation=self.interpolation), self.data_format)


@layer
class UpSampling3D(UpSampling, rank=3):
    size: Three = (2, 2, 2)
    data_format: DataFormat = "channels_last"
