"""Pooling: the largest or the mean entry of moving windows, or of whole axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from scratch.arrays import Array
from scratch.fields import Shape
from scratch.layers.base import Layer, Size, Weights
from scratch.layers.patches import DataFormat, One, Padding, Three, Two, channels_last, formatted, patches, restored
from scratch.registry import layer


def largest(x: Array, axis: int) -> Array:
    """The entry with the largest real part along `axis`, the first of equal ones."""
    place = np.expand_dims(x.real.argmax(axis), axis)
    return np.take_along_axis(x, place, axis).squeeze(axis)


class Pooled(Layer):
    """What all pooling layers share: channels are kept apart and masks end here."""

    data_format: DataFormat
    rank: ClassVar[int]

    def compute_mask(self, *inputs: Array, mask: Any = None) -> None:
        return None

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return (formatted(size(1, 3), self.sizes(size), size(1, 3), self.data_format),)

    def sizes(self, size: Size) -> list[int]:
        return [size(1, 4) for _ in range(self.rank)]


# Moving windows ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moving(Pooled):
    """y[b, o, c] = the largest (Max) or the mean (Average) of those x[b, o·stride + p, c], p in the window, that exist.

    "valid": windows inside x only; "same": ⌈size / stride⌉ windows, centred, the odd missing cell at the end.
    Shapes  x (batch, size…, n)   →   y (batch, size'…, n)
    Keras   MaxPooling1D to 3D, AveragePooling1D to 3D; strides=None means strides=pool_size
    Source  keras.io/api/layers/pooling_layers
    """

    pool_size: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    padding: Padding = "valid"
    data_format: DataFormat = "channels_last"

    def windows(self, x: Array, fill: float) -> Array:
        """(batch, window…, cell in window, channels) of x, channels last; `fill` where no cell is."""
        columns = patches(x, self.pool_size, self.strides or self.pool_size, (1,) * self.rank, self.padding, fill)
        return columns.reshape(*columns.shape[: self.rank + 1], -1, columns.shape[-1])

    def sizes(self, size: Size) -> list[int]:
        least = self.pool_size if self.padding == "valid" else (1,) * self.rank
        return [size(low, low + 3) for low in least]


class MaxMoving(Moving):
    def forward(self, weights: Weights, *inputs: Array) -> Array:
        x = channels_last(inputs[0], self.data_format)
        return restored(largest(self.windows(x, -np.inf), axis=-2), self.data_format)


class MeanMoving(Moving):
    def forward(self, weights: Weights, *inputs: Array) -> Array:
        x = channels_last(inputs[0], self.data_format)
        real = self.windows(np.ones((1, *x.shape[1:-1], 1), x.real.dtype), 0.0).sum(axis=-2)
        return restored(self.windows(x, 0.0).sum(axis=-2) / real, self.data_format)


# Whole axes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Whole(Pooled):
    """y[b, c] = the largest (Max) or the mean (Average) of x[b, :, c] over all places; `keepdims` leaves sizes 1.

    Shapes  x (batch, size…, n)   →   y (batch, n) or (batch, 1…, n)
    Keras   GlobalMaxPooling1D to 3D, GlobalAveragePooling1D to 3D
    Source  keras.io/api/layers/pooling_layers
    """

    data_format: DataFormat = "channels_last"
    keepdims: bool = False

    def places(self, x: Array) -> Array:
        """(batch, place, channels) of x."""
        last = channels_last(x, self.data_format)
        return last.reshape(len(last), -1, last.shape[-1])

    def kept(self, y: Array) -> Array:
        """y (batch, channels), with axes of size 1 for the places where asked for."""
        ones = (1,) * self.rank
        return restored(y.reshape(len(y), *ones, -1), self.data_format) if self.keepdims else y


class MaxWhole(Whole):
    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return self.kept(largest(self.places(inputs[0]), axis=1))


class MeanWhole(Whole):
    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return self.kept(self.places(inputs[0]).mean(axis=1))


# The layers --------------------------------------------------------------------------------------------------------


@layer
class MaxPooling1D(MaxMoving):
    """The largest entry of windows moving over one axis (`Moving`).

    Keras   MaxPooling1D
    Source  keras.io/api/layers/pooling_layers/max_pooling1d
    """

    rank: ClassVar[int] = 1
    pool_size: One = (2,)
    strides: One | None = None


@layer
class MaxPooling2D(MaxMoving):
    """The largest entry of windows moving over two axes (`Moving`).

    Keras   MaxPooling2D
    Source  keras.io/api/layers/pooling_layers/max_pooling2d
    """

    rank: ClassVar[int] = 2
    pool_size: Two = (2, 2)
    strides: Two | None = None


@layer
class MaxPooling3D(MaxMoving):
    """The largest entry of windows moving over three axes (`Moving`).

    Keras   MaxPooling3D
    Source  keras.io/api/layers/pooling_layers/max_pooling3d
    """

    rank: ClassVar[int] = 3
    pool_size: Three = (2, 2, 2)
    strides: Three | None = None


@layer
class AveragePooling1D(MeanMoving):
    """The mean of windows moving over one axis (`Moving`).

    Keras   AveragePooling1D
    Source  keras.io/api/layers/pooling_layers/average_pooling1d
    """

    rank: ClassVar[int] = 1
    pool_size: One
    strides: One | None = None


@layer
class AveragePooling2D(MeanMoving):
    """The mean of windows moving over two axes (`Moving`).

    Keras   AveragePooling2D
    Source  keras.io/api/layers/pooling_layers/average_pooling2d
    """

    rank: ClassVar[int] = 2
    pool_size: Two
    strides: Two | None = None


@layer
class AveragePooling3D(MeanMoving):
    """The mean of windows moving over three axes (`Moving`).

    Keras   AveragePooling3D
    Source  keras.io/api/layers/pooling_layers/average_pooling3d
    """

    rank: ClassVar[int] = 3
    pool_size: Three
    strides: Three | None = None


@layer
class GlobalMaxPooling1D(MaxWhole):
    """The largest entry over one axis (`Whole`).

    Keras   GlobalMaxPooling1D
    Source  keras.io/api/layers/pooling_layers/global_max_pooling1d
    """

    rank: ClassVar[int] = 1


@layer
class GlobalMaxPooling2D(MaxWhole):
    """The largest entry over two axes (`Whole`).

    Keras   GlobalMaxPooling2D
    Source  keras.io/api/layers/pooling_layers/global_max_pooling2d
    """

    rank: ClassVar[int] = 2


@layer
class GlobalMaxPooling3D(MaxWhole):
    """The largest entry over three axes (`Whole`).

    Keras   GlobalMaxPooling3D
    Source  keras.io/api/layers/pooling_layers/global_max_pooling3d
    """

    rank: ClassVar[int] = 3


@layer
class GlobalAveragePooling1D(MeanWhole):
    """The mean over one axis (`Whole`), of the steps that a mask leaves; 0/0 where it leaves none.

    Keras   GlobalAveragePooling1D
    Source  keras.io/api/layers/pooling_layers/global_average_pooling1d
    """

    rank: ClassVar[int] = 1

    def forward(self, weights: Weights, *inputs: Array, mask: Any = None) -> Array:
        x = self.places(inputs[0])
        if mask is None:
            return self.kept(x.mean(axis=1))
        steps = np.asarray(mask, bool)[..., None]
        with np.errstate(invalid="ignore"):
            return self.kept(np.where(steps, x, 0).sum(axis=1) / steps.sum(axis=1).astype(x.real.dtype))


@layer
class GlobalAveragePooling2D(MeanWhole):
    """The mean over two axes (`Whole`).

    Keras   GlobalAveragePooling2D
    Source  keras.io/api/layers/pooling_layers/global_average_pooling2d
    """

    rank: ClassVar[int] = 2


@layer
class GlobalAveragePooling3D(MeanWhole):
    """The mean over three axes (`Whole`).

    Keras   GlobalAveragePooling3D
    Source  keras.io/api/layers/pooling_layers/global_average_pooling3d
    """

    rank: ClassVar[int] = 3
