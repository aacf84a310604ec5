"""Convolutional recurrence: an LSTM whose linear maps are convolutions, over one, two or three axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from scratch.arrays import Array
from scratch.fields import AtLeast, Shape, Size
from scratch.layers.base import Weights
from scratch.layers.convolution import convolved
from scratch.layers.families import Family
from scratch.layers.patches import (
    DataFormat,
    One,
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
from scratch.layers.recurrent import Recurrent
from scratch.layers.recurrent_cells import Activation, Cell, Draw, Rate, gated, kept, lstm
from scratch.registry import layer

GATES = 4


@dataclass(frozen=True)
class ConvLSTMCell(Cell):
    """LSTMCell with convolutions (∗) for products: i, f, g, o = the blocks of x ∗ kernel + h ∗ recurrent_kernel + bias

    The input is convolved with strides, dilation_rate and padding; h with strides and dilation 1 and padding "same".
    In training each gate has its own dropout masks.
    Shapes  x (batch, size…, n)   h, c (batch, size'…, filters)   kernel (k…, n, 4·filters)   →   y, h', c' as h
    Source  Shi et al. 2015, Convolutional LSTM Network, equation 3, without the peepholes W·c, as Keras documents
    """

    filters: Annotated[int, AtLeast(1)]
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: Literal["valid", "same"] = "valid"
    data_format: DataFormat = "channels_last"
    dilation_rate: tuple[int, ...] = (1,)
    activation: Activation = "tanh"
    recurrent_activation: Activation = "sigmoid"
    use_bias: bool = True
    dropout: Rate = 0.0
    recurrent_dropout: Rate = 0.0

    def check(self) -> None:
        """Strides and dilation do not go together."""
        refuse_strided_dilation(self.strides, self.dilation_rate)

    def state_shapes(self, x: Shape) -> tuple[Shape, ...]:
        last = x[1:-1] if self.data_format == "channels_last" else x[2:]
        spans = extents(self.kernel_size, self.dilation_rate)
        if self.padding == "same":
            spans = (1,) * len(spans)
        sizes = [(n - span) // s + 1 for n, span, s in zip(last, spans, self.strides, strict=True)]  # type: ignore[operator]
        return (formatted(x[0], sizes, self.filters, self.data_format),) * 2  # type: ignore[arg-type]

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        width, channels = GATES * self.filters, channels_of(inputs[0], self.data_format)
        shapes = {"kernel": (*self.kernel_size, channels, width)}
        shapes["recurrent_kernel"] = (*self.kernel_size, self.filters, width)
        return shapes | ({"bias": (width,)} if self.use_bias else {})

    def draw_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        shapes = {"dropout": inputs[0], "recurrent_dropout": self.state_shapes(inputs[0])[0]}
        return {name: (GATES, *shape) for name, shape in shapes.items() if 0 < getattr(self, name) < 1}

    def forward(self, weights: Weights, *inputs: Array, training: bool = False, draw: Draw = None) -> Any:
        x, h, c = inputs
        ones = (1,) * len(self.kernel_size)

        def of_input(x: Array, kernel: Array) -> Array:
            x = channels_last(x, self.data_format)
            return convolved(
                patches(x, self.kernel_size, strides=self.strides, dilation=self.dilation_rate, padding=self.padding),
                kernel,
            )

        def of_state(h: Array, kernel: Array) -> Array:
            return convolved(
                patches(
                    channels_last(h, self.data_format), self.kernel_size, strides=ones, dilation=ones, padding="same"
                ),
                kernel,
            )

        keep = kept("dropout", self.dropout, training=training, draw=draw, gates=GATES)
        rate = self.recurrent_dropout
        keep_h = kept("recurrent_dropout", rate, training=training, draw=draw, gates=GATES)
        z = gated(of_input, x, kernel=weights["kernel"], keep=keep, rate=self.dropout)
        z = z + gated(of_state, h, kernel=weights["recurrent_kernel"], keep=keep_h, rate=rate)
        z = z + weights["bias"] if self.use_bias else z
        # The data format is restored before any activation: a softmax is along the last axis of that format.
        return lstm(self, [restored(gate, self.data_format) for gate in np.split(z, GATES, axis=-1)], c)

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        spans = extents(self.kernel_size, self.dilation_rate)
        sizes = [size(low, low + 2) for low in (spans if self.padding == "valid" else (1,) * len(spans))]
        x = formatted(size(1, 2), sizes, size(1, 2), self.data_format)
        return x, *self.state_shapes(x)


class ConvLSTM(Recurrent, ConvLSTMCell, Family):
    """ConvLSTMCell run along time: an LSTM whose products are {rank}D convolutions.

    Shapes  x (batch, time, size…, n) of rank {rank} + 3, h₀, c₀ (batch, size'…, filters)
            →   y (batch, size'…, filters) or (batch, time, size'…, filters), h, c if `return_state`
    Keras   ConvLSTM{rank}D
    Source  keras.io/api/layers/recurrent_layers/conv_lstm{rank}d; Shi et al. 2015, equation 3
    """

    runs: ClassVar[type[Any]] = ConvLSTMCell


@layer
class ConvLSTM1D(ConvLSTM, rank=1):
    kernel_size: One
    strides: One = (1,)
    dilation_rate: Rate1 = (1,)


@layer
class ConvLSTM2D(ConvLSTM, rank=2):
    kernel_size: Two
    strides: Two = (1, 1)
    dilation_rate: Rate2 = (1, 1)


@layer
class ConvLSTM3D(ConvLSTM, rank=3):
    kernel_size: Three
    strides: Three = (1, 1, 1)
    dilation_rate: Rate3 = (1, 1, 1)
