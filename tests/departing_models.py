"""A small model for each known departure that may show in a gradient, and the arrays to check it with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from keras_ref import check_gradients
from keras_ref.reports.verdict import Report
from keras_ref.translation.to_keras import mirror, mirror_loss
from scratch.arrays import Array
from scratch.layers.activations import LeakyReLU
from scratch.layers.adaptive_pooling import AdaptiveAveragePooling1D
from scratch.layers.base import Layer
from scratch.layers.convolution import Conv2D, Conv3D
from scratch.layers.convolutional_recurrent import ConvLSTM3D
from scratch.layers.core import Dense
from scratch.layers.einsum import EinsumDense
from scratch.layers.images import AutoContrast, CenterCrop, Resizing
from scratch.layers.masking import Masking
from scratch.layers.merging import Add
from scratch.layers.multi_head_attention import GroupQueryAttention, MultiHeadAttention
from scratch.layers.normalization import LayerNormalization, RMSNormalization
from scratch.layers.pooling import AveragePooling3D, MaxPooling3D
from scratch.layers.preprocessing import Normalization, Rescaling
from scratch.layers.recurrent import GRU, LSTM, SimpleRNN
from scratch.layers.resampling import UpSampling2D
from scratch.layers.transposed import Conv3DTranspose
from scratch.layers.wrappers import Bidirectional, TimeDistributed
from scratch.losses.base import Loss
from scratch.losses.ctc import CTC
from scratch.losses.focal import CategoricalFocalCrossentropy
from scratch.losses.probabilistic import BinaryCrossentropy, CategoricalCrossentropy
from scratch.losses.segmentation import Dice, Tversky
from scratch.model import Call, Model


def generic(*shape: int, start: float = 1.0) -> Array:
    """An array without ties or zeros."""
    return np.sin(start + 1.7 * np.arange(int(np.prod(shape)))).reshape(shape)


@dataclass(frozen=True, eq=False)
class Departing:
    """A model of layers in a row (of one that merges several inputs: on all of them), in which an entry shows.

    id    the entry
    by    what proves it: "value", "bound" or "place"; of one that comes with another, what proves both; "rounding":
          there is nothing to prove, since what float32 does to the gradient is measured in its graph
    """

    id: str
    by: str
    layers: Sequence[Layer]
    x: Any
    loss: Loss | None = None
    y: Array | None = None
    sample_weight: Array | None = None
    training: bool = False
    #: whether it shows in a check: not where Keras rounds to its default float type, which is float64 for that time
    in_checks: bool = True

    @property
    def inputs(self) -> list[Array]:
        """The arrays of all inputs."""
        return list(self.x) if isinstance(self.x, list) else [self.x]

    @property
    def masked(self) -> bool:
        """Whether values of the input make a mask, which has no slope."""
        return isinstance(self.layers[0], Masking)

    @cached_property
    def model(self) -> Model:
        """The twin."""
        if len(self.inputs) == 1:
            return Model.chain(self.layers, self.x.shape[1:])
        names = [f"x{i}" for i in range(len(self.inputs))]
        (merge,) = self.layers
        shapes = {name: (None, *x.shape[1:]) for name, x in zip(names, self.inputs, strict=True)}
        return Model(shapes, {"merge": merge}, (Call("merge", tuple(names), ("y",)),), ("y",))

    @cached_property
    def weights(self) -> dict[str, Array]:
        """Generic weights, variances positive."""
        return {
            name: abs(generic(*shape, start=k)) if name.endswith("variance") else generic(*shape, start=2.0 + k)
            for k, (name, shape) in enumerate(self.model.weight_shapes.items())
        }

    def check(self, **options: Any) -> Report:
        """The check of Keras's model by its twin."""
        loss = None if self.loss is None else mirror_loss(self.loss, dtype="float32")
        built = mirror(self.model, self.weights, dtype="float32")
        wanted = ("weights",) * bool(self.weights) + ("inputs",) * (not self.masked)
        options = {"oracles": ("twin",), "wrt": wanted, **options}
        return check_gradients(
            built, self.x, self.y, loss=loss, sample_weight=self.sample_weight, training=self.training, **options
        )


STEPS = generic(2, 3, 1) * [[[1], [1], [0]], [[1], [1], [1]]]
SHIFTED = generic(1, 3, 1, 1, 1)
THREE = {"strides": (3, 3, 3), "padding": "same"}
SIGMOID = Dense(3, "sigmoid")

CASES = (
    Departing(
        "adaptive-bins-are-counted-in-float32",
        "value",
        [AdaptiveAveragePooling1D(4097)],
        np.arange(4098.0).reshape(1, -1, 1),
        in_checks=False,
    ),
    Departing("sparsemax-sums-the-sums", "value", [Dense(4, "sparsemax")], generic(2, 3) / 4),
    Departing("gelu-has-float32-constants", "value", [Dense(3, "gelu"), Dense(2)], generic(2, 3)),
    Departing("gelu-has-float32-constants", "value", [LSTM(1, "gelu")], generic(1, 2, 1)),
    Departing("gelu-has-float32-constants", "value", [TimeDistributed(Dense(2, "gelu"))], generic(2, 2, 2)),
    Departing("leaky-slope-is-float32", "value", [Dense(3, "leaky_relu"), Dense(2)], generic(2, 3)),
    Departing("leaky-slope-is-float32", "value", [Dense(3), LeakyReLU(0.3), Dense(2)], generic(2, 3)),
    Departing("tversky-swaps-alpha-and-beta", "value", [SIGMOID], generic(2, 3), Tversky(0.25, 0.75), np.eye(2, 3)),
    Departing(
        "logits-of-another-activation",
        "value",
        [Dense(3, "softmax")],
        generic(2, 3),
        BinaryCrossentropy(),
        np.eye(2, 3),
    ),
    Departing(
        "logits-of-another-activation", "value", [SIGMOID], generic(2, 3), CategoricalCrossentropy(), np.eye(2, 3)
    ),
    Departing(
        "smoothing-counts-the-last-axis",
        "value and place",
        [Dense(3)],
        generic(2, 4, 2),
        CategoricalCrossentropy(label_smoothing=0.5, axis=1, from_logits=True),
        np.repeat(np.eye(4, 3)[None], 2, axis=0),
    ),
    Departing(
        "focal-alphas-lie-on-the-last-axis",
        "value",
        [Dense(3, "sigmoid")],
        generic(2, 3, 2),
        CategoricalFocalCrossentropy(alpha=(0.25, 0.75, 0.5), axis=1),
        np.repeat(np.eye(3)[[1, 1, 2]][None], 2, axis=0),
    ),
    Departing(
        "focal-alphas-are-float32",
        "value",
        [Dense(3, "softmax")],
        generic(2, 3),
        CategoricalFocalCrossentropy(alpha=(0.1, 0.7, 0.3)),
        np.eye(2, 3),
    ),
    Departing(
        "weighted-mean-of-one-value-does-not-divide",
        "value",
        [SIGMOID],
        generic(1, 3),
        Dice(reduction="mean_with_sample_weight"),
        np.eye(1, 3),
        np.array([3.0]),
    ),
    Departing(
        "ops-add-takes-a-column-for-a-bias",
        "value",
        [EinsumDense("abc,cd->abd", (2, 2), bias_axes="b")],
        generic(2, 2, 3),
    ),
    Departing(
        "ops-add-takes-a-column-for-a-bias", "value", [MultiHeadAttention(2, 1)], [generic(2, 2, 3), generic(2, 3, 3)]
    ),
    Departing("ops-add-takes-a-column-for-a-bias", "value", [Add()], [generic(1, 2, 2), generic(1, 2, 1)]),
    Departing(
        "ops-add-takes-a-column-for-a-bias",
        "value",
        [Conv2D(2, (1, 1), groups=2, data_format="channels_first", activation="tanh")],
        generic(2, 2, 2, 2),
        in_checks=False,
    ),
    Departing(
        "three-dimensional-windows-shift", "value", [Dense(1), Conv3D(1, (1, 1, 1), **THREE)], SHIFTED, in_checks=False
    ),
    Departing("three-dimensional-windows-shift", "value", [ConvLSTM3D(1, (1, 1, 1), **THREE)], SHIFTED[:, None]),
    Departing(
        "bicubic-weights-come-from-a-table",
        "value",
        [Dense(2), UpSampling2D((1, 3), interpolation="bicubic")],
        generic(1, 2, 4, 1),
    ),
    Departing(
        "interpolation-computes-in-float32",
        "rounding",
        [Dense(2), UpSampling2D((2, 3), interpolation="bilinear")],
        generic(1, 2, 4, 1),
    ),
    Departing("interpolation-computes-in-float32", "rounding", [Dense(2), Resizing(3, 5)], generic(1, 2, 4, 1)),
    Departing("interpolation-computes-in-float32", "rounding", [Dense(2), CenterCrop(3, 5)], generic(1, 2, 4, 1)),
    Departing("ctc-computes-in-float32", "bound", [Dense(4)], generic(2, 4, 3), CTC(), np.array([[1, 2], [3, 0]])),
    Departing(
        "three-dimensional-pooling-in-float64",
        "rounding",
        [Dense(2), AveragePooling3D((2, 1, 2))],
        generic(1, 4, 2, 2, 1),
    ),
    Departing(
        "three-dimensional-pooling-in-float64", "rounding", [Dense(2), MaxPooling3D((2, 1, 2))], generic(1, 4, 2, 2, 1)
    ),
    Departing(
        "rms-normalization-scales-along-the-last-axis", "value", [RMSNormalization(axis=1), Dense(2)], generic(2, 3, 3)
    ),
    Departing(
        "layer-normalization-rms-divides-by-the-deviation",
        "value",
        [LayerNormalization(rms_scaling=True), Dense(2)],
        generic(2, 3),
    ),
    Departing(
        "layer-normalization-scrambles-gamma-of-mixed-axes",
        "value",
        [LayerNormalization(axis=(1, -1)), Dense(2)],
        generic(2, 2, 3),
    ),
    Departing(
        "multi-head-attention-scale-is-float32",
        "value",
        [MultiHeadAttention(2, 3, dropout=0.5)],
        [generic(2, 2, 3), generic(2, 3, 3)],
        in_checks=False,
    ),
    Departing(
        "multi-head-attention-scale-is-float32",
        "value",
        [GroupQueryAttention(3, 2, 1, 0.5)],
        [generic(2, 2, 3), generic(2, 3, 3)],
        in_checks=False,
    ),
    Departing(
        "preprocessing-numbers-are-float32", "value", [Rescaling(0.1, 0.3), Dense(2)], generic(2, 3), in_checks=False
    ),
    Departing(
        "preprocessing-numbers-are-float32", "value", [Normalization(mean=0.3, variance=0.7), Dense(2)], generic(2, 3)
    ),
    Departing(
        "auto-contrast-channels-first", "value", [AutoContrast(data_format="channels_first")], generic(2, 2, 3, 2)
    ),
    Departing("dropout-of-everything-drops-nothing", "value", [LSTM(1, dropout=1.0)], generic(1, 2, 1), training=True),
    Departing(
        "unrolled-backwards-zeros-the-wrong-steps",
        "value",
        [Masking(), GRU(1, return_sequences=True, go_backwards=True, unroll=True, zero_output_for_mask=True)],
        STEPS,
    ),
    Departing(
        "unrolled-backwards-zeros-the-wrong-steps",
        "value",
        [Masking(), Bidirectional(SimpleRNN(1, return_sequences=True, unroll=True, zero_output_for_mask=True))],
        STEPS,
    ),
    Departing("zeros-for-mask-without-sequences", "value", [Masking(), LSTM(1, zero_output_for_mask=True)], STEPS),
    Departing(
        "backwards-outputs-keep-the-forward-mask",
        "value",
        [Masking(), GRU(1, return_sequences=True, go_backwards=True), LSTM(1)],
        STEPS,
    ),
    Departing(
        "unrolled-sigmoid-keeps-its-logits",
        "value",
        [SimpleRNN(1, "sigmoid", unroll=True)],
        40 * generic(1, 1, 2),  # so sure that the clip shows, and wrong, so that the slope is not tiny
        BinaryCrossentropy(),
        np.array([[0.0]]),
    ),
    Departing(
        "three-dimensional-transpose-loses-its-gradient",
        "place",
        [Dense(1), Conv3DTranspose(1, (1, 1, 1), **THREE)],
        generic(1, 2, 1, 1, 1),
    ),
    Departing(
        "auto-contrast-of-one-pixel-has-no-gradient",
        "place",
        [AutoContrast(value_range=(0, 1))],
        np.full((1, 1, 1, 1), 7.0),
    ),
)
