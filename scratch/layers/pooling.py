"""Pooling: the largest or the mean entry of moving windows, or of all places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scratch.arrays import Array
from scratch.fields import Shape, Size
from scratch.layers.base import Weights
from scratch.layers.families import Family
from scratch.layers.patches import DataFormat, One, Padding, Three, Two, channels_last, formatted, patches, restored
from scratch.registry import layer


def largest(x: Array, axis: int) -> Array:
    """The entry with the largest real part along `axis`, the first of equal ones."""
    place = np.expand_dims(x.real.argmax(axis), axis)
    return np.take_along_axis(x, place, axis).squeeze(axis)


class Pooling(Family):
    """Base of the pooling layers: channels are pooled one by one, and the output has no mask."""

    data_format: DataFormat

    def compute_mask(self, *inputs: Array, mask: Any = None) -> None:
        return None

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return (formatted(size(1, 3), self.sizes(size), size(1, 3), self.data_format),)

    def sizes(self, size: Size) -> list[int]:
        """Sizes of the spatial axes of an example."""
        return [size(1, 4) for _ in range(self.rank)]


# Moving windows ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MovingPooling(Pooling):
    """Base of the pooling layers with moving windows."""

    pool_size: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    padding: Padding = "valid"
    data_format: DataFormat = "channels_last"

    def windows(self, x: Array, fill: float) -> Array:
        """The windows of x (channels last), padded with `fill`: (batch, window…, cell in the window, channels)."""
        columns = patches(
            x,
            self.pool_size,
            strides=self.strides or self.pool_size,
            dilation=(1,) * self.rank,
            padding=self.padding,
            fill=fill,
        )
        return columns.reshape(*columns.shape[: self.rank + 1], -1, columns.shape[-1])

    def sizes(self, size: Size) -> list[int]:
        least = self.pool_size if self.padding == "valid" else (1,) * self.rank
        return [size(low, low + 3) for low in least]


class MaxPooling(MovingPooling):
    """y[b, o, c] = the largest of those x[b, o·stride + p, c], p in the window, that exist.

    "valid": windows inside x only; "same": ⌈size / stride⌉ windows, centred, the odd missing cell at the end.
    Shapes  x (batch, size…, n) of rank {rank} + 2   →   y (batch, size'…, n)
    Keras   MaxPooling{rank}D; strides=None means strides=pool_size
    Source  keras.io/api/layers/pooling_layers/max_pooling{rank}d
    """

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        x = channels_last(inputs[0], self.data_format)
        return restored(largest(self.windows(x, -np.inf), axis=-2), self.data_format)


class AveragePooling(MovingPooling):
    """y[b, o, c] = the mean of those x[b, o·stride + p, c], p in the window, that exist. Windows as for `MaxPooling`.

    Shapes  x (batch, size…, n) of rank {rank} + 2   →   y (batch, size'…, n)
    Keras   AveragePooling{rank}D; strides=None means strides=pool_size
    Source  keras.io/api/layers/pooling_layers/average_pooling{rank}d
    """

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        x = channels_last(inputs[0], self.data_format)
        count = self.windows(np.ones((1, *x.shape[1:-1], 1), x.real.dtype), 0.0).sum(axis=-2)
        return restored(self.windows(x, 0.0).sum(axis=-2) / count, self.data_format)


@layer
class MaxPooling1D(MaxPooling, rank=1):
    pool_size: One = (2,)
    strides: One | None = None


@layer
class MaxPooling2D(MaxPooling, rank=2):
    pool_size: Two = (2, 2)
    strides: Two | None = None


@layer
class MaxPooling3D(MaxPooling, rank=3):
    pool_size: Three = (2, 2, 2)
    strides: Three | None = None


@layer
class AveragePooling1D(AveragePooling, rank=1):
    pool_size: One
    strides: One | None = None


@layer
class AveragePooling2D(AveragePooling, rank=2):
    pool_size: Two
    strides: Two | None = None


@layer
class AveragePooling3D(AveragePooling, rank=3):
    pool_size: Three
    strides: Three | None = None


# All places --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GlobalPooling(Pooling):
    """Base of the pooling layers over all places."""

    data_format: DataFormat = "channels_last"
    keepdims: bool = False

    def places(self, x: Array) -> Array:
        """x as (batch, place, channels)."""
        last = channels_last(x, self.data_format)
        return last.reshape(len(last), -1, last.shape[-1])

    def with_axes(self, y: Array) -> Array:
        """y (batch, channels), with `keepdims` with spatial axes of size 1."""
        ones = (1,) * self.rank
        return restored(y.reshape(len(y), *ones, -1), self.data_format) if self.keepdims else y


class GlobalMaxPooling(GlobalPooling):
    """y[b, c] = the largest of x[b, :, c] over all places.

    Shapes  x (batch, size…, n) of rank {rank} + 2   →   y (batch, n), with `keepdims` (batch, 1…, n)
    Keras   GlobalMaxPooling{rank}D
    Source  keras.io/api/layers/pooling_layers/global_max_pooling{rank}d
    """

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return self.with_axes(largest(self.places(inputs[0]), axis=1))


class GlobalAveragePooling(GlobalPooling):
    """y[b, c] = the mean of x[b, :, c] over all places.

    Shapes  x (batch, size…, n) of rank {rank} + 2   →   y (batch, n), with `keepdims` (batch, 1…, n)
    Keras   GlobalAveragePooling{rank}D
    Source  keras.io/api/layers/pooling_layers/global_average_pooling{rank}d
    """

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return self.with_axes(self.places(inputs[0]).mean(axis=1))


@layer
class GlobalMaxPooling1D(GlobalMaxPooling, rank=1):
    pass


@layer
class GlobalMaxPooling2D(GlobalMaxPooling, rank=2):
    pass


@layer
class GlobalMaxPooling3D(GlobalMaxPooling, rank=3):
    pass


@layer
class GlobalAveragePooling1D(GlobalAveragePooling, rank=1):
    """y[b, c] = the mean of x[b, :, c] over the steps that the mask keeps, 0/0 where it keeps none.

    Shapes  x (batch, steps, n), mask (batch, steps)   →   y (batch, n), with `keepdims` (batch, 1, n)
    Keras   GlobalAveragePooling1D
    Source  keras.io/api/layers/pooling_layers/global_average_pooling1d
    """

    def forward(self, weights: Weights, *inputs: Array, mask: Any = None) -> Array:
        x = self.places(inputs[0])
        if mask is None:
            return self.with_axes(x.mean(axis=1))
        steps = np.asarray(mask, bool)[..., None]
        with np.errstate(invalid="ignore"):
            return self.with_axes(np.where(steps, x, 0).sum(axis=1) / steps.sum(axis=1).astype(x.real.dtype))


@layer
class GlobalAveragePooling2D(GlobalAveragePooling, rank=2):
    pass


@layer
class GlobalAveragePooling3D(GlobalAveragePooling, rank=3):
    pass
