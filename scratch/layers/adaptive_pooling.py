"""Adaptive pooling: the largest or the mean entry of a given number of bins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from scratch.arrays import Array
from scratch.layers.base import Weights
from scratch.layers.patches import DataFormat, One, Three, Two, channels_last, restored
from scratch.layers.pooling import Pooled, largest
from scratch.registry import layer


@dataclass(frozen=True)
class Bins(Pooled):
    """y[b, o, c] = the largest (Max) or the mean (Average) of x[b, i, c] over ⌊o·n/m⌋ ≤ i < ⌈(o + 1)·n/m⌉ on each axis,

    n being its size and m its output size: bins of equal width n/m that share the cells on their borders.
    Shapes  x (batch, size…, n)   →   y (batch, output_size…, n)
    Keras   AdaptiveMaxPooling1D to 3D, AdaptiveAveragePooling1D to 3D
    Source  keras.io/api/layers/pooling_layers; the bins are those of torch.nn.AdaptiveAvgPool2d, its model
    """

    output_size: tuple[int, ...]
    data_format: DataFormat = "channels_last"

    def pooled(self, x: Array, axis: int) -> Array:
        """One bin, its axis gone."""
        raise TypeError(f"{type(self).__name__} gives no pooled: write its law in scratch/layers/adaptive_pooling.py.")

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        y = channels_last(inputs[0], self.data_format)
        for axis, m in enumerate(self.output_size, start=1):
            n = y.shape[axis]
            edges = [(o * n // m, -(-(o + 1) * n // m)) for o in range(m)]
            bins = [self.pooled(y[(slice(None),) * axis + (slice(*edge),)], axis) for edge in edges]
            y = np.stack(bins, axis)
        return restored(y, self.data_format)


class MaxBins(Bins):
    def pooled(self, x: Array, axis: int) -> Array:
        return largest(x, axis)


class MeanBins(Bins):
    def pooled(self, x: Array, axis: int) -> Array:
        return x.mean(axis=axis)


@layer
class AdaptiveMaxPooling1D(MaxBins):
    """The largest entry of bins over one axis (`Bins`).

    Keras   AdaptiveMaxPooling1D
    Source  keras.io/api/layers/pooling_layers/adaptive_max_pooling1d
    """

    rank: ClassVar[int] = 1
    output_size: One


@layer
class AdaptiveMaxPooling2D(MaxBins):
    """The largest entry of bins over two axes (`Bins`).

    Keras   AdaptiveMaxPooling2D
    Source  keras.io/api/layers/pooling_layers/adaptive_max_pooling2d
    """

    rank: ClassVar[int] = 2
    output_size: Two


@layer
class AdaptiveMaxPooling3D(MaxBins):
    """The largest entry of bins over three axes (`Bins`).

    Keras   AdaptiveMaxPooling3D
    Source  keras.io/api/layers/pooling_layers/adaptive_max_pooling3d
    """

    rank: ClassVar[int] = 3
    output_size: Three


@layer
class AdaptiveAveragePooling1D(MeanBins):
    """The mean of bins over one axis (`Bins`).

    Keras   AdaptiveAveragePooling1D
    Source  keras.io/api/layers/pooling_layers/adaptive_average_pooling1d
    """

    rank: ClassVar[int] = 1
    output_size: One


@layer
class AdaptiveAveragePooling2D(MeanBins):
    """The mean of bins over two axes (`Bins`).

    Keras   AdaptiveAveragePooling2D
    Source  keras.io/api/layers/pooling_layers/adaptive_average_pooling2d
    """

    rank: ClassVar[int] = 2
    output_size: Two


@layer
class AdaptiveAveragePooling3D(MeanBins):
    """The mean of bins over three axes (`Bins`).

    Keras   AdaptiveAveragePooling3D
    Source  keras.io/api/layers/pooling_layers/adaptive_average_pooling3d
    """

    rank: ClassVar[int] = 3
    output_size: Three
