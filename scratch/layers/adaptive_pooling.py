"""Adaptive pooling: the largest or the mean entry of a given number of bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scratch.arrays import Array
from scratch.layers.base import Weights
from scratch.layers.patches import DataFormat, One, Three, Two, channels_last, restored
from scratch.layers.pooling import Pooling, largest
from scratch.registry import layer


@dataclass(frozen=True)
class AdaptivePooling(Pooling):
    """Base of the pooling layers over bins: bin o of m on an axis of n cells holds ⌊o·n/m⌋ ≤ i < ⌈(o + 1)·n/m⌉.

    Bins have equal widths n/m and share the cells on their borders.
    """

    output_size: tuple[int, ...]
    data_format: DataFormat = "channels_last"

    def pooled(self, x: Array, axis: int) -> Array:
        """One number for the cells of a bin along `axis`, which is removed."""
        raise TypeError(f"{type(self).__name__} must define `pooled`: write it in scratch/layers/adaptive_pooling.py.")

    def edges(self, n: int, m: int) -> list[tuple[int, int]]:
        """First cell, and cell behind the last one, of each of m bins on an axis of n cells."""
        return [(o * n // m, -(-(o + 1) * n // m)) for o in range(m)]

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        y = channels_last(inputs[0], self.data_format)
        for axis, m in enumerate(self.output_size, start=1):
            edges = self.edges(y.shape[axis], m)
            bins = [self.pooled(y[(slice(None),) * axis + (slice(*edge),)], axis) for edge in edges]
            y = np.stack(bins, axis)
        return restored(y, self.data_format)


class AdaptiveMaxPooling(AdaptivePooling):
    """y[b, o, c] = the largest of x[b, i, c] over the cells i of bin o, ⌊o·n/m⌋ ≤ i < ⌈(o + 1)·n/m⌉ on each axis.

    Shapes  x (batch, n…, channels) of rank {rank} + 2, m = output_size   →   y (batch, m…, channels)
    Keras   AdaptiveMaxPooling{rank}D
    Source  keras.io/api/layers/pooling_layers/adaptive_max_pooling{rank}d; the bins: torch.nn.AdaptiveMaxPool2d
    """

    def pooled(self, x: Array, axis: int) -> Array:
        return largest(x, axis)


class AdaptiveAveragePooling(AdaptivePooling):
    """y[b, o, c] = the mean of x[b, i, c] over the cells i of bin o, ⌊o·n/m⌋ ≤ i < ⌈(o + 1)·n/m⌉ on each axis.

    Shapes  x (batch, n…, channels) of rank {rank} + 2, m = output_size   →   y (batch, m…, channels)
    Keras   AdaptiveAveragePooling{rank}D
    Source  keras.io/api/layers/pooling_layers/adaptive_average_pooling{rank}d; the bins: torch.nn.AdaptiveAvgPool2d
    """

    def pooled(self, x: Array, axis: int) -> Array:
        mean: Array = x.mean(axis=axis)
        return mean


@layer
class AdaptiveMaxPooling1D(AdaptiveMaxPooling, rank=1):
    output_size: One


@layer
class AdaptiveMaxPooling2D(AdaptiveMaxPooling, rank=2):
    output_size: Two


@layer
class AdaptiveMaxPooling3D(AdaptiveMaxPooling, rank=3):
    output_size: Three


@layer
class AdaptiveAveragePooling1D(AdaptiveAveragePooling, rank=1):
    output_size: One


@layer
class AdaptiveAveragePooling2D(AdaptiveAveragePooling, rank=2):
    output_size: Two


@layer
class AdaptiveAveragePooling3D(AdaptiveAveragePooling, rank=3):
    output_size: Three
