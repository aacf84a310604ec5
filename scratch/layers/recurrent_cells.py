"""Recurrent cells: layers that compute one step of a recurrence.

    forward(weights, x, *states) → (y, *new states)

The layers in recurrent.py run a cell along time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np

from scratch.arrays import Array
from scratch.fields import AtLeast, Between, Domain, Shape, Size
from scratch.layers.base import Layer, Weights, activate
from scratch.naming import make_default_names, weights_of
from scratch.registry import layer, names

Draw = Mapping[str, Array] | None
Rate = Annotated[float, Between(0.0, 1.0, small=(0.0, 0.5))]


@dataclass(frozen=True)
class KeepsShape(Domain):
    """The name of a registered activation whose output has the shape of its input, which states require."""

    @property
    def examples(self) -> tuple[str, ...]:
        """All legal names."""
        return tuple(name for name in names("activation") if self.holds(name))

    @property
    def rule(self) -> str:
        return "must be a registered activation that needs no arguments and keeps the shape of its input"

    def holds(self, value: Any) -> bool:
        if not isinstance(value, str) or value not in names("activation"):
            return False
        try:
            return activate(value, np.zeros((2, 2))).shape == (2, 2)
        except TypeError:  # an argument is missing
            return False


Activation = Annotated[str, KeepsShape()]


class Cell(Layer):
    """One step of a recurrence: forward(weights, x, *states) → (output, *new states)."""

    #: False for a layer that runs a cell along time: it inherits the cell's fields, but is not a cell
    one_step: ClassVar[bool] = True

    def state_shapes(self, x: Shape) -> tuple[Shape, ...]:
        """Shape of every state, for one step of the input of shape x (batch, …)."""
        raise TypeError(f"{type(self).__name__} must define `state_shapes`: write it in scratch/layers/.")

    def output_shape(self, x: Shape) -> Shape:
        """Shape of the output: that of the first state."""
        return self.state_shapes(x)[0]


@dataclass(frozen=True)
class CellOf(Domain):
    """A cell, or with `many` a sequence of cells; for one cell, a sequence stands for its stack, as in Keras."""

    many: bool = False

    @property
    def examples(self) -> tuple[Any, ...]:
        """Legal values: every kind of cell, and stacks of them."""
        gru, lstm = GRUCell(2, reset_after=False, use_bias=False), LSTMCell(1)
        stacks = (
            (LSTMCell(2),),
            (lstm, GRUCell(2)),
            (GRUCell(2), GRUCell(1)),
            (StackedRNNCells((gru, lstm)), LSTMCell(2)),
        )
        return (
            stacks if self.many else (SimpleRNNCell(2, activation="relu"), LSTMCell(2), gru, StackedRNNCells(stacks[1]))
        )

    @property
    def rule(self) -> str:
        return "must be one or more cells" if self.many else "must be a cell"

    def holds(self, value: Any) -> bool:
        several = isinstance(value, (tuple, list))
        cells = value if several else (value,)
        return (several or not self.many) and len(cells) > 0 and all(isinstance(c, Cell) and c.one_step for c in cells)

    def normalise(self, value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return tuple(value) if self.many else StackedRNNCells(tuple(value))
        return value


def kept(name: str, rate: float, *, training: bool, draw: Draw, gates: int) -> Array | None:
    """The entries that the dropout `name` keeps, (gates, batch, …), the same at all steps; None without dropout.

    A first axis of 1 is one mask for all gates. Raises: ValueError in training without a draw.
    """
    if not training or rate == 0:
        return None
    if rate == 1:
        return np.zeros((gates, 1), bool)
    if draw is None or name not in draw:
        raise ValueError(
            f"`{name}` in training must be given its random array. Received: {name}={rate} and no such array. "
            f"Pass draw={{{name!r}: array}}, non-zero where an entry is kept."
        )
    mask = np.asarray(draw[name]) != 0
    return np.broadcast_to(mask, (gates, *mask.shape[1:]))


def gated(product: Any, x: Array, kernel: Array, keep: Array | None, rate: float) -> Array:
    """product(x, kernel), where each gate of the kernel is applied to x with its own dropout mask over 1 - rate."""
    if keep is None:
        y: Array = product(x, kernel)
        return y
    scale = 1 / (1 - rate) if rate < 1 else 0.0
    parts = np.split(kernel, len(keep), axis=-1)
    return np.concatenate([product(x * mask * scale, part) for mask, part in zip(keep, parts, strict=True)], axis=-1)


@dataclass(frozen=True)
class UnitCell(Cell):
    """Base of the cells with `units` numbers per state; the last axis of a weight holds the gates one after the other.

    In training, `dropout` masks the input of the kernel and `recurrent_dropout` that of the recurrent kernel; kept
    entries are scaled by 1 / (1 - rate). Draws are (1 or gates, batch, …), non-zero where kept, the same at all steps.
    """

    units: Annotated[int, AtLeast(1)]
    activation: Activation = "tanh"
    use_bias: bool = True
    dropout: Rate = 0.0
    recurrent_dropout: Rate = 0.0
    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1
    masks_per_gate: ClassVar[bool] = True

    def state_shapes(self, x: Shape) -> tuple[Shape, ...]:
        return ((x[0], self.units),) * self.states

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        width = self.gates * self.units
        shapes: dict[str, Shape] = {"kernel": (inputs[0][-1], width), "recurrent_kernel": (self.units, width)}
        return shapes | ({"bias": (width,)} if self.use_bias else {})

    def draw_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        # Keras draws one mask for each gate if the state has dropout too, else one for all gates.
        count = self.gates if self.recurrent_dropout and self.masks_per_gate else 1
        shapes = {"dropout": inputs[0], "recurrent_dropout": self.state_shapes(inputs[0])[0]}
        return {name: (count, *shape) for name, shape in shapes.items() if 0 < getattr(self, name) < 1}

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        x = (size(1, 3), size(1, 3))
        return x, *self.state_shapes(x)

    def of_input(self, x: Array, weights: Weights, *, training: bool, draw: Draw) -> Array:
        """x · kernel for all gates, with dropout."""
        keep = kept("dropout", self.dropout, training=training, draw=draw, gates=self.gates)
        return gated(np.matmul, x, kernel=weights["kernel"], keep=keep, rate=self.dropout)

    def of_state(self, h: Array, weights: Weights, *, training: bool, draw: Draw) -> Array:
        """h · recurrent_kernel for all gates, with dropout."""
        rate = self.recurrent_dropout
        keep = kept("recurrent_dropout", rate, training=training, draw=draw, gates=self.gates)
        return gated(np.matmul, h, kernel=weights["recurrent_kernel"], keep=keep, rate=rate)


@layer
class SimpleRNNCell(UnitCell):
    """h' = activation(x · kernel + h · recurrent_kernel + bias);   y = h'

    Shapes  x (batch, n)   h (batch, units)   kernel (n, units)   recurrent_kernel (units, units)   →   y, h'
    Keras   SimpleRNNCell
    Source  Elman 1990, Finding structure in time; keras.io/api/layers/recurrent_layers/simple_rnn
    """

    masks_per_gate: ClassVar[bool] = False

    def forward(self, weights: Weights, *inputs: Array, training: bool = False, draw: Draw = None) -> Any:
        x, h = inputs
        z = self.of_input(x, weights, training=training, draw=draw)
        z = z + self.of_state(h, weights, training=training, draw=draw)
        y = activate(self.activation, z + weights["bias"] if self.use_bias else z)
        return y, y


@layer
class LSTMCell(UnitCell):
    """i, f, g, o = the four blocks of x · kernel + h · recurrent_kernel + bias;   s = recurrent_activation
    c' = s(f) · c + s(i) · activation(g);   h' = s(o) · activation(c');   y = h'

    Shapes  x (batch, n)   h, c (batch, units)   kernel (n, 4·units)   bias (4·units,)   →   y, h', c'
    Keras   LSTMCell (gates in the order i, f, c, o)
    Source  Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000 (forget gate), no peepholes
    """

    recurrent_activation: Activation = "sigmoid"
    gates: ClassVar[int] = 4
    states: ClassVar[int] = 2

    def forward(self, weights: Weights, *inputs: Array, training: bool = False, draw: Draw = None) -> Any:
        x, h, c = inputs
        z = self.of_input(x, weights, training=training, draw=draw)
        z = z + self.of_state(h, weights, training=training, draw=draw)
        return lstm(self, np.split(z + weights["bias"] if self.use_bias else z, 4, axis=-1), c)


def lstm(cell: Any, gates: Sequence[Array], c: Array) -> tuple[Array, Array, Array]:
    """y, h', c' of an LSTM step from its gates i, f, g, o before activation and its state c."""
    i, f, g, o = gates
    s = cell.recurrent_activation
    c = activate(s, f) * c + activate(s, i) * activate(cell.activation, g)
    h = activate(s, o) * activate(cell.activation, c)
    return h, h, c


@layer
class GRUCell(UnitCell):
    """z = s(xₖ + hₖ), r = s(xₖ + hₖ) with s = recurrent_activation;   h' = z · h + (1 - z) · candidate;   y = h'
    candidate = activation(xₖ + r · hₖ) if reset_after else activation(xₖ + (r · h) · recurrent_kernelₖ)

    xₖ is block k (z, r, candidate) of x · kernel + bias[0], hₖ that of h · recurrent_kernel + bias[1].
    Shapes  x (batch, n)   h (batch, units)   kernel (n, 3·units)   bias (2, 3·units) if reset_after else (3·units,)
    Keras   GRUCell
    Source  Cho et al. 2014, section 2.3 (reset_after=False); keras.io/api/layers/recurrent_layers/gru
    """

    recurrent_activation: Activation = "sigmoid"
    reset_after: bool = True
    gates: ClassVar[int] = 3

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        shapes = super().weight_shapes(*inputs)
        return shapes | ({"bias": (2, *shapes["bias"])} if self.use_bias and self.reset_after else {})

    def forward(self, weights: Weights, *inputs: Array, training: bool = False, draw: Draw = None) -> Any:
        x, h = inputs
        of_x = self.of_input(x, weights, training=training, draw=draw)
        of_h = self.of_state(h, weights, training=training, draw=draw)
        if self.use_bias:
            bias = weights["bias"] if self.reset_after else (weights["bias"], 0.0)
            of_x, of_h = of_x + bias[0], of_h + bias[1]
        (x_z, x_r, x_c), (h_z, h_r, h_c) = np.split(of_x, 3, axis=-1), np.split(of_h, 3, axis=-1)
        z, r = activate(self.recurrent_activation, x_z + h_z), activate(self.recurrent_activation, x_r + h_r)
        if self.reset_after:
            candidate = activate(self.activation, x_c + r * h_c)
        else:
            h_c = np.split(self.of_state(r * h, weights, training=training, draw=draw), 3, axis=-1)[2]
            candidate = activate(self.activation, x_c + h_c)
        h = z * h + (1 - z) * candidate
        return h, h


@layer
class StackedRNNCells(Cell):
    """Cells of which each has the output of the one before as its input: y, and the states of all cells in order.

    The names of weights and draws begin with that of their cell: "lstm_cell/kernel", "lstm_cell_1/kernel", …
    Shapes  x (batch, n), the states of the first cell, of the second, …   →   y, the new states in the same order
    Keras   StackedRNNCells, where states are nested, one list for each cell
    Source  keras.io/api/layers/recurrent_layers/stacked_rnn_cell
    """

    cells: Annotated[tuple[Cell, ...], CellOf(many=True)]

    @cached_property
    def named(self) -> dict[str, Cell]:
        """The cells by name."""
        return dict(zip(make_default_names(self.cells), self.cells, strict=True))

    def _inputs(self, x: Shape) -> Iterator[tuple[str, Cell, Shape]]:
        for name, cell in self.named.items():
            yield name, cell, x
            x = cell.output_shape(x)

    def state_shapes(self, x: Shape) -> tuple[Shape, ...]:
        return tuple(shape for _, cell, own in self._inputs(x) for shape in cell.state_shapes(own))

    def output_shape(self, x: Shape) -> Shape:
        return [cell.output_shape(own) for _, cell, own in self._inputs(x)][-1]

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        shapes = {name: cell.weight_shapes(own) for name, cell, own in self._inputs(inputs[0])}
        return {f"{name}/{part}": shape for name, parts in shapes.items() for part, shape in parts.items()}

    def draw_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        shapes = {name: cell.draw_shapes(own) for name, cell, own in self._inputs(inputs[0])}
        return {f"{name}/{part}": shape for name, parts in shapes.items() for part, shape in parts.items()}

    def forward(self, weights: Weights, *inputs: Array, training: bool = False, draw: Draw = None) -> Any:
        y, *states = inputs
        new: list[Array] = []
        for name, cell in self.named.items():
            count = len(cell.state_shapes(y.shape))
            own, states = states[:count], states[count:]
            context = {"training": training, "draw": weights_of(draw or {}, name)}
            y, *after = cell.forward(weights_of(weights, name), y, *own, **context)
            new.extend(after)
        return y, *new

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        x = self.cells[0].input_shapes(size)[0]
        return x, *self.state_shapes(x)
