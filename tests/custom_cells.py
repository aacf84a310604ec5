"""Twins of the cells that Keras's own tests define: RNN has to run any cell, and these are recorded.

They are not registered: nothing but the recorded cases knows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras_ref.translation.exceptions import reflects
from scratch.arrays import Array
from scratch.fields import Shape
from scratch.layers.base import Weights
from scratch.layers.recurrent_cells import Cell, Draw


@dataclass(frozen=True)
class OneStateRNNCell(Cell):
    """y = h' = x · kernel + h · recurrent_kernel"""

    units: int
    kernels: ClassVar[tuple[str, ...]] = ("recurrent_kernel",)

    def state_shapes(self, x: Shape) -> tuple[Shape, ...]:
        return ((x[0], self.units),) * len(self.kernels)

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {"kernel": (inputs[0][-1], self.units)} | dict.fromkeys(self.kernels, (self.units, self.units))

    def forward(self, weights: Weights, *inputs: Array, training: bool = False, draw: Draw = None) -> Any:
        x, *states = inputs
        y = x @ weights["kernel"] + states[0] @ weights["recurrent_kernel"]
        return y, y


@dataclass(frozen=True)
class TwoStatesRNNCell(OneStateRNNCell):
    """hᵢ' = x · kernel + h₁ · recurrent_kernelᵢ for i = 1, 2;   y = h₁' + h₂'"""

    kernels: ClassVar[tuple[str, ...]] = ("recurrent_kernel_1", "recurrent_kernel_2")

    def forward(self, weights: Weights, *inputs: Array, training: bool = False, draw: Draw = None) -> Any:
        x, *states = inputs
        new = [x @ weights["kernel"] + states[0] @ weights[name] for name in self.kernels]
        return new[0] + new[1], *new


@dataclass(frozen=True)
class RNNCellWithDropout(OneStateRNNCell):
    """OneStateRNNCell, in training x and h times masks that are the same in all steps"""

    dropout: float
    recurrent_dropout: float

    def draw_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {"dropout": (1, *inputs[0]), "recurrent_dropout": (1, *self.state_shapes(inputs[0])[0])}

    def forward(self, weights: Weights, *inputs: Array, training: bool = False, draw: Draw = None) -> Any:
        masks = {name: draw[name][0] / (1 - getattr(self, name)) for name in draw} if training and draw else {}
        x, h = (
            array * masks.get(name, 1.0) for name, array in zip(("dropout", "recurrent_dropout"), inputs, strict=True)
        )
        return super().forward(weights, x, h)


@reflects("RNNCellWithDropout")
def with_dropout(keras_layer: Any) -> RNNCellWithDropout:
    """The twin of keras/src/layers/rnn/dropout_rnn_cell_test.py's cell."""
    return RNNCellWithDropout(keras_layer.units, keras_layer.dropout, keras_layer.recurrent_dropout)


@reflects("OneStateRNNCell")
def one_state(keras_layer: Any) -> OneStateRNNCell:
    """The twin of keras/src/layers/rnn/rnn_test.py's cell."""
    return OneStateRNNCell(keras_layer.units)


@reflects("TwoStatesRNNCell")
def two_states(keras_layer: Any) -> TwoStatesRNNCell:
    """The twin of keras/src/layers/rnn/rnn_test.py's cell, which reads the first state twice."""
    return TwoStatesRNNCell(keras_layer.units)
