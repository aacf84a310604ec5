"""What Keras computes in the place of layers without a recurrence. Entries: layers.toml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from keras_ref.translation.departures.laws.registry import altered, instead, rounded
from scratch.arrays import Array
from scratch.layers.adaptive_pooling import AdaptivePooling
from scratch.layers.base import Layer, Response, Weights, activate
from scratch.layers.convolution import Kernelled
from scratch.layers.einsum import EinsumDense
from scratch.layers.images import AutoContrast, Resizing
from scratch.layers.interpolation import KERNELS
from scratch.layers.merging import Average, Merge
from scratch.layers.multi_head_attention import Projected
from scratch.layers.normalization import Affine, LayerNormalization, RMSNormalization, centred, many
from scratch.layers.patches import extents
from scratch.layers.preprocessing import Normalization, Rescaling
from scratch.layers.resampling import UpSampling2D
from scratch.registry import Variant

# keras.ops.add takes a column for a bias ------------------------------------------------------------------------------


def keras_add(first: Array, second: Array) -> Array:
    """keras.ops.add: a second summand with one size n above 1 is a bias along the last axis of the first if that has
    size n, else along axis 1 if that has; every other sum is the usual one."""
    long = [n for n in second.shape if n > 1]
    if len(long) != 1 or first.ndim < 2 or long[0] not in (first.shape[1], first.shape[-1]):
        return first + second
    behind = 0 if first.shape[-1] == long[0] else first.ndim - 2
    return first + second.reshape(*long, *(1,) * behind)


class AddsItsBiasAlongAnotherAxis(Kernelled):
    """A convolution of channels first whose bias, (filters, 1, …), is added by keras.ops.add."""

    def finished(self, y: Array, weights: Weights) -> Array:
        if not self.use_bias:
            return super().finished(y, weights)
        own: Any = self
        y = replace(own, use_bias=False, activation="linear").finished(y, {})
        return activate(self.activation, keras_add(y, weights["bias"].reshape(1, -1, *(1,) * (y.ndim - 2))))


class EinsumAddsItsBiasAlongAnotherAxis(EinsumDense):
    """An EinsumDense whose bias is added by keras.ops.add."""

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        if self.bias_axes is None:
            return super().forward(weights, *inputs)
        y = replace(self, bias_axes=None, activation="linear").forward(weights, *inputs)
        return activate(self.activation, keras_add(y, weights["bias"]))

    def responses(self, weights: Weights, name: str, *inputs: Array) -> Any:
        return None if name == "bias" else super().responses(weights, name, *inputs)


class ProjectionsAddTheirBiasAlongAnotherAxis(Projected):
    """Attention whose projections add their biases by keras.ops.add."""

    def project(self, x: Array, weights: Weights, name: str, axes: int = 1) -> Array:
        without = {part: weight for part, weight in weights.items() if part != f"{name}/bias"}
        return keras_add(super().project(x, without, name, axes), weights[f"{name}/bias"])


class MergesByKerasAdd(Merge):
    """A sum or mean of inputs that are added by keras.ops.add, which looks at the size of the batch too."""

    def couples_batch(self, training: bool) -> bool:
        return True

    def merged(self, inputs: Sequence[Array], masks: Sequence[Array | None]) -> Array:
        total = reduce(keras_add, inputs)
        return total / len(inputs) if isinstance(self, Average) else total


@instead
def ops_add_takes_a_column_for_a_bias(layer: Any) -> Any:
    laws = {
        Merge: MergesByKerasAdd,
        EinsumDense: EinsumAddsItsBiasAlongAnotherAxis,
        Projected: ProjectionsAddTheirBiasAlongAnotherAxis,
        Kernelled: AddsItsBiasAlongAnotherAxis,
    }
    return next(altered(layer, law) for of, law in laws.items() if isinstance(layer, of))


# Windows --------------------------------------------------------------------------------------------------------------


class StartsBesideTheFirstCell(Layer):
    """Windows over the last three spatial axes that begin where a negative padding puts them.

    "same" padding is max((windows - 1) · stride + extent - size, 0), half of it in front. Without the maximum, half of
    a negative number of cells is cut off in front. The rest behind the last window is never looked at.
    """

    def _shifted(self, x: Array) -> Array:
        own: Any = self
        size = getattr(own, "kernel_size", None) or own.pool_size
        spans = extents(size, getattr(own, "dilation_rate", (1, 1, 1)))
        first = x.ndim - 3 - (own.data_format == "channels_last")
        for axis, (span, stride) in enumerate(zip(spans, own.strides or size, strict=True), start=first):
            missing = (-(-x.shape[axis] // stride) - 1) * stride + span - x.shape[axis]
            x = x[(slice(None),) * axis + (slice(max(-missing, 0) // 2, None),)]
        return x

    def forward(self, weights: Weights, *inputs: Array, **call: Any) -> Any:
        return super().forward(weights, self._shifted(inputs[0]), *inputs[1:], **call)

    def responses(self, weights: Weights, name: str, *inputs: Array) -> Response | None:
        return super().responses(weights, name, self._shifted(inputs[0]), *inputs[1:])


@instead
def three_dimensional_windows_shift(layer: Any) -> Any:
    return altered(layer, StartsBesideTheFirstCell)


class CountsBinsInFloat32(AdaptivePooling):
    """Bins whose ends are computed in float32.

    Keras pools with two windows, of ⌈n/m⌉ cells and of one more, at every cell, lays the results one behind the other
    and takes those that the bins ask for. What is out of range of the first is one of the second.
    """

    def edges(self, n: int, m: int) -> list[tuple[int, int]]:
        cells, bins = np.float32(n), np.float32(m)
        starts = np.floor(np.arange(m, dtype=np.float32) * cells / bins).astype(int)
        ends = np.ceil(np.arange(1, m + 1, dtype=np.float32) * cells / bins).astype(int)
        starts, ends = np.minimum(starts, n - 1), np.minimum(ends, n)
        small = -(-n // m)
        count = max(1, n - small + 1)
        places = starts + np.where(ends - starts == small + 1, count, 0)
        return [(int(p), int(p) + small) if p < count else (int(p) - count, int(p) - count + small + 1) for p in places]


@instead
def adaptive_bins_are_counted_in_float32(layer: Any) -> Any:
    return altered(layer, CountsBinsInFloat32)


#: steps of TensorFlow's table of bicubic weights (resize_bicubic_op.cc: kTableSize)
TABLE = 1024


def tabled_cubic(t: Array) -> Array:
    """The kernel of "bicubic" at the nearest place of the table."""
    return KERNELS["bicubic"](np.rint(t * TABLE) / TABLE)


@instead
def bicubic_weights_come_from_a_table(layer: UpSampling2D | Resizing) -> Any:
    return replace(layer, interpolation=Variant.of("bicubic", tabled_cubic))  # type: ignore[arg-type]


# Axes -----------------------------------------------------------------------------------------------------------------


class ScalesAlongTheLastAxis(RMSNormalization):
    """A scale that goes with the entries of the last axis, whatever `axis` is."""

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        ones = {"scale": np.ones_like(weights["scale"])}
        return super().forward(ones, *inputs) * weights["scale"]

    def responses(self, weights: Weights, name: str, *inputs: Array) -> Any:
        return None


@instead
def rms_normalization_scales_along_the_last_axis(layer: RMSNormalization) -> Any:
    return altered(layer, ScalesAlongTheLastAxis)


class DividesByTheDeviation(LayerNormalization):
    """rms_scaling with the deviation from the mean in the place of the root mean square."""

    def normalized(self, x: Array) -> Array:
        return x / np.sqrt(centred(x, many(self.axis))[1] + self.epsilon)


@instead
def layer_normalization_rms_divides_by_the_deviation(layer: LayerNormalization) -> Any:
    return altered(layer, DividesByTheDeviation)


class ReshapesGammaAndBeta(Affine):
    """gamma and beta reshaped to the axes in the order of x, where they would have to be transposed."""

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        order = np.argsort([a % inputs[0].ndim for a in many(self.axis)])

        def reshaped(weight: Array) -> Array:
            return weight.reshape([weight.shape[i] for i in order]).transpose(np.argsort(order))

        return super().forward({name: reshaped(weight) for name, weight in weights.items()}, *inputs)


@instead
def layer_normalization_scrambles_gamma_of_mixed_axes(layer: LayerNormalization) -> Any:
    return altered(layer, ReshapesGammaAndBeta)


@instead
def auto_contrast_channels_first(layer: AutoContrast) -> AutoContrast:
    return replace(layer, data_format="channels_last")


# Numbers in float32 ---------------------------------------------------------------------------------------------------


class ScaledInFloat32(Projected):
    """Attention whose 1/√size is rounded to float32."""

    @property
    def scale(self) -> float:
        return float(rounded(super().scale))


@instead
def multi_head_attention_scale_is_float32(layer: Projected) -> Any:
    return altered(layer, ScaledInFloat32)


@instead
def preprocessing_numbers_are_float32(layer: Rescaling | Normalization) -> Any:
    if isinstance(layer, Rescaling):
        return replace(layer, scale=rounded(layer.scale), offset=rounded(layer.offset))
    return replace(layer, mean=rounded(layer.mean), variance=rounded(layer.variance))
