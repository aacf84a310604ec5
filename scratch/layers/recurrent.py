"""Recurrent layers: a cell applied to the steps of a sequence, one after the other.

    y₁, s₁ = cell(x₁, s₀)    y₂, s₂ = cell(x₂, s₁)    …

LSTM is `Recurrent` with `LSTMCell`, and so on; recurrent_cells.py holds the cells.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np

from scratch.arrays import Array, leaves
from scratch.fields import Shape, Size
from scratch.layers.base import Layer, Weights
from scratch.layers.recurrent_cells import Cell, CellOf, Draw, GRUCell, LSTMCell, SimpleRNNCell
from scratch.naming import weights_of
from scratch.registry import layer


def flat(states: Any) -> tuple[Array, ...]:
    """States, given as an array or as (nested) sequences of arrays, as a tuple in order; None is left out."""
    return tuple(state for state in leaves((states,)) if state is not None)


def held(valid: Array, new: Array, old: Array) -> Array:
    """`new` where the mask `valid` is True, else `old`; the mask has the first axes of both."""
    return np.where(valid.reshape(valid.shape + (1,) * (new.ndim - valid.ndim)), new, old)


@dataclass(frozen=True, kw_only=True)
class Recurrent(Layer):
    """Base of the layers that run a cell (`law`) along axis 1, from the last step to the first with `go_backwards`.

    A masked step keeps the states and repeats the output before it (zeros before the first output). The output is that
    of the last step, or with `return_sequences` those of all steps in the order they are taken (masked ones are zeros
    with `zero_output_for_mask`); with `return_state` the last states follow. The first states are zeros, or given as
    inputs after x, or as initial_state=. A stateful layer is given those of its last call, which `updates` returns.
    `unroll` changes nothing.
    """

    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    stateful: bool = False
    unroll: bool = False
    zero_output_for_mask: bool = False
    one_step: ClassVar[bool] = False
    #: prefix of the names of the cell's weights and draws
    prefix: ClassVar[str] = ""
    #: the class of the cell; the layer has its fields too
    runs: ClassVar[type[Any]] = Cell

    @cached_property
    def law(self) -> Any:
        """The cell."""
        return self.runs(**{field.name: getattr(self, field.name) for field in fields(self.runs)})

    def state_shapes(self, x: Shape) -> tuple[Shape, ...]:
        """Shape of every state for a sequence of shape x (batch, time, …)."""
        shapes: tuple[Shape, ...] = self.law.state_shapes((x[0], *x[2:]))
        return shapes

    def output_shape(self, x: Shape) -> Shape:
        """Shape of the output, or of the sequence of outputs, for a sequence of shape x (batch, time, …)."""
        batch, *rest = self.law.output_shape((x[0], *x[2:]))
        return (batch, x[1], *rest) if self.return_sequences else (batch, *rest)

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        x = inputs[0]
        return {self.prefix + name: shape for name, shape in self.law.weight_shapes((x[0], *x[2:])).items()}

    def draw_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        x = inputs[0]
        return {self.prefix + name: shape for name, shape in self.law.draw_shapes((x[0], *x[2:])).items()}

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        step, *states = self.law.input_shapes(size)
        return (step[0], size(1, 3), *step[1:]), *(states if size(0, 1) else ())

    def scan(
        self,
        weights: Weights,
        *inputs: Array,
        initial_state: Any = None,
        training: bool = False,
        mask: Any = None,
        draw: Draw = None,
    ) -> tuple[Array, Array, tuple[Array, ...]]:
        """The last output, all outputs, the last states."""
        x, *states = inputs
        own, drawn = (weights_of(table or {}, self.prefix[:-1]) if self.prefix else table for table in (weights, draw))
        shapes: Any = self.state_shapes(x.shape)
        states = list(flat(initial_state)) or states or [np.zeros(shape, x.dtype) for shape in shapes]
        valid = mask[0] if isinstance(mask, (tuple, list)) else mask
        if valid is not None:
            valid = np.asarray(valid).astype(bool).reshape(x.shape[:2])
        if self.go_backwards:
            x, valid = x[:, ::-1], None if valid is None else valid[:, ::-1]
        outputs: list[Array] = []
        for t in range(x.shape[1]):
            y, *new = self.law.forward(own, x[:, t], *states, training=training, draw=drawn)
            if valid is not None:
                y = held(valid[:, t], y, outputs[-1] if outputs else np.zeros_like(y))
                new = [held(valid[:, t], after, before) for after, before in zip(new, states, strict=True)]
            outputs.append(y)
            states = new
        sequence = np.stack(outputs, axis=1)
        if self.zero_output_for_mask and valid is not None:
            sequence = held(valid, sequence, np.zeros_like(sequence))
        return outputs[-1], sequence, tuple(states)

    def forward(
        self,
        weights: Weights,
        *inputs: Array,
        initial_state: Any = None,
        training: bool = False,
        mask: Any = None,
        draw: Draw = None,
    ) -> Any:
        last, sequence, states = self.scan(
            weights, *inputs, initial_state=initial_state, training=training, mask=mask, draw=draw
        )
        y = sequence if self.return_sequences else last
        return (y, *states) if self.return_state else y

    def updates(self, weights: Weights, *inputs: Array, **call: Any) -> dict[str, Array]:
        if not self.stateful:
            return {}
        return {f"state_{i}": state for i, state in enumerate(self.scan(weights, *inputs, **call)[2])}

    def compute_mask(self, *inputs: Array, mask: Any = None) -> Any:
        mask = mask[0] if isinstance(mask, (tuple, list)) else mask
        if mask is None or not self.return_sequences:
            return None
        # The mask has the order of the outputs, which is the order in which the steps are taken.
        return np.asarray(mask)[:, ::-1] if self.go_backwards else mask


@layer
class RNN(Recurrent):
    """Any cell run along time; a sequence of cells stands for `StackedRNNCells` of them.

    Shapes  x (batch, time, …), the states   →   y (batch, …) or (batch, time, …), the states if `return_state`
    Keras   RNN
    Source  keras.io/api/layers/recurrent_layers/rnn
    """

    cell: Annotated[Any, CellOf()]
    prefix: ClassVar[str] = "cell/"

    @property
    def law(self) -> Any:
        """The cell."""
        return self.cell


@layer
class SimpleRNN(Recurrent, SimpleRNNCell):
    """SimpleRNNCell run along time: hₜ = activation(xₜ · kernel + hₜ₋₁ · recurrent_kernel + bias)

    Shapes  x (batch, time, n), h₀ (batch, units)   →   y (batch, units) or (batch, time, units), h if `return_state`
    Keras   SimpleRNN
    Source  keras.io/api/layers/recurrent_layers/simple_rnn
    """

    runs: ClassVar[type[Any]] = SimpleRNNCell


@layer
class LSTM(Recurrent, LSTMCell):
    """LSTMCell run along time.

    Shapes  x (batch, time, n), h₀, c₀ (batch, units)   →   y (batch, units) or (batch, time, units), h, c
    Keras   LSTM
    Source  keras.io/api/layers/recurrent_layers/lstm
    """

    runs: ClassVar[type[Any]] = LSTMCell


@layer
class GRU(Recurrent, GRUCell):
    """GRUCell run along time.

    Shapes  x (batch, time, n), h₀ (batch, units)   →   y (batch, units) or (batch, time, units), h if `return_state`
    Keras   GRU
    Source  keras.io/api/layers/recurrent_layers/gru
    """

    runs: ClassVar[type[Any]] = GRUCell
