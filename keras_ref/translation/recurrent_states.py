"""States of recurrent layers and cells: nested in Keras, a list for each cell, and one flat sequence in scratch."""

from __future__ import annotations

from typing import Any

import keras


def nest_states(layer: Any) -> list[Any]:
    """The nested structure in which a recurrent layer, a Bidirectional or a cell takes its states, a 0 for each."""
    if isinstance(layer, keras.layers.Bidirectional):
        return nest_states(layer.forward_layer) + nest_states(layer.backward_layer)
    cell = getattr(layer, "cell", layer)
    if isinstance(cell, keras.layers.StackedRNNCells):
        return [nest_states(part) for part in cell.cells]
    # A cell of ConvLSTM gives -1 for its state_size; it has two states.
    return [0, 0] if cell.state_size == -1 else [0] * (1 if isinstance(cell.state_size, int) else len(cell.state_size))


def split_arguments(layer: Any, tensors: list[Any]) -> tuple[list[Any], dict[str, Any]]:
    """(positional, keyword) arguments of a call on x and states in order; without states Keras starts from zeros."""
    x, *states = tensors
    if not states:
        return [x], {}
    nested = keras.tree.pack_sequence_as(nest_states(layer), states)
    return ([x, nested], {}) if not hasattr(layer, "return_sequences") else ([x], {"initial_state": nested})


def takes_states(layer: Any) -> bool:
    """Whether a Keras layer is recurrent: a layer along time, or a cell."""
    return isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional)) or hasattr(layer, "state_size")
