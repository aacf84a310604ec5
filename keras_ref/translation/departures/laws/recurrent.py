"""What Keras computes in the place of recurrent layers. Entries: recurrent.toml."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from keras_ref.translation.departures.laws.registry import altered, instead, instead_in_model
from scratch.arrays import Array
from scratch.layers.base import Weights
from scratch.layers.recurrent import Recurrent, SimpleRNN, held
from scratch.layers.wrappers import Bidirectional
from scratch.objective import Objective


def _valid(mask: Any, x: Array) -> Array | None:
    """The mask of a sequence, (batch, time), of booleans."""
    mask = mask[0] if isinstance(mask, (tuple, list)) else mask
    return None if mask is None else np.asarray(mask).astype(bool).reshape(x.shape[:2])


def _with_output(found: Any, change: Any) -> Any:
    """What a recurrent layer returned, with a change made to its output."""
    return (change(found[0]), *found[1:]) if isinstance(found, tuple) else change(found)


class ZeroesTheWrongSteps(Recurrent):
    """Outputs in the order taken, zeroed by a mask in the order of the input."""

    def forward(self, weights: Weights, *inputs: Array, mask: Any = None, **call: Any) -> Any:
        if not (self.zero_output_for_mask and self.unroll and self.go_backwards and self.return_sequences):
            return super().forward(weights, *inputs, mask=mask, **call)
        kept = replace(self, zero_output_for_mask=False)
        found, valid = kept.forward(weights, *inputs, mask=mask, **call), _valid(mask, inputs[0])
        return found if valid is None else _with_output(found, lambda y: held(valid, y, np.zeros_like(y)))


@instead
def unrolled_backwards_zeros_the_wrong_steps(layer: Any) -> Any:
    if isinstance(layer, Bidirectional):
        own = replace(layer, layer=altered(layer.layer, ZeroesTheWrongSteps))
        other = layer.backward_layer
        return own if other is None else replace(own, backward_layer=altered(other, ZeroesTheWrongSteps))
    return altered(layer, ZeroesTheWrongSteps)


class ZeroesASingleOutput(Recurrent):
    """The one output, zeros where the last step taken is masked."""

    def forward(self, weights: Weights, *inputs: Array, mask: Any = None, **call: Any) -> Any:
        found, valid = super().forward(weights, *inputs, mask=mask, **call), _valid(mask, inputs[0])
        if valid is None or self.return_sequences:
            return found
        last = valid[:, 0] if self.go_backwards else valid[:, -1]
        return _with_output(found, lambda y: held(last, y, np.zeros_like(y)))


@instead
def zeros_for_mask_without_sequences(layer: Any) -> Any:
    return altered(layer, ZeroesASingleOutput)


class KeepsTheForwardMask(Recurrent):
    """A sequence in reverse, with the mask of the sequence as it came."""

    def compute_mask(self, *inputs: Array, mask: Any = None) -> Any:
        mask = mask[0] if isinstance(mask, (tuple, list)) else mask
        return mask if self.return_sequences else None


@instead
def backwards_outputs_keep_the_forward_mask(layer: Any) -> Any:
    return altered(layer, KeepsTheForwardMask)


@instead
def dropout_of_everything_drops_nothing(layer: Any) -> Any:
    rates = {name: getattr(layer, name) for name in ("dropout", "recurrent_dropout")}
    return replace(layer, **{name: 0.0 if rate == 1 else rate for name, rate in rates.items()})


class ReturnsItsLogits(Recurrent):
    """The last step's output before its activation."""

    def forward(self, weights: Weights, *inputs: Array, initial_state: Any = None, **call: Any) -> Any:
        own: Any = self
        x, *states = inputs
        if own.activation == "linear":
            return super().forward(weights, *inputs, initial_state=initial_state, **call)
        first, last = (x[:, 1:], x[:, :1]) if self.go_backwards else (x[:, :-1], x[:, -1:])
        if first.shape[1]:
            before = super().scan(weights, first, *states, initial_state=initial_state, **call)
            states, initial_state = [], before[2]
        return replace(own, activation="linear").forward(weights, last, *states, initial_state=initial_state, **call)


@instead_in_model
def unrolled_sigmoid_keeps_its_logits(objective: Objective) -> Objective:
    """A crossentropy of logits on an unrolled SimpleRNN that would end in a sigmoid or a softmax; without masks."""
    layers, losses = dict(objective.model.layers), list[Any](objective.losses)
    for i, (output, loss) in enumerate(zip(objective.model.outputs, losses, strict=True)):
        name = next((call.layer for call in objective.model.calls if output in call.outputs), None)
        last = None if name is None else layers[name]
        if not isinstance(last, SimpleRNN) or not last.unroll or last.return_sequences or last.return_state:
            continue
        if name is not None and last.activation == getattr(loss, "shortcut", None):
            layers[name] = altered(last, ReturnsItsLogits)
            losses[i] = replace(loss, from_logits=True)
    return replace(objective, model=replace(objective.model, layers=layers), losses=tuple(losses))
