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
from scratch.losses.base import Loss
from scratch.losses.probabilistic import BinaryCrossentropy
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


class OfTheLogitsOfProbabilities(Loss):
    """A loss of logits, which are taken from probabilities as they are, without a clip."""

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        law: Any = super()
        binary = isinstance(self, BinaryCrossentropy) or type(self).__name__.startswith("Binary")
        return law.per_sample(y_true, np.log(y_pred / (1 - y_pred)) if binary else np.log(y_pred))


@instead_in_model
def unrolled_sigmoid_keeps_its_logits(objective: Objective) -> Objective:
    """A crossentropy of logits on the output of an unrolled SimpleRNN that ends in a sigmoid or a softmax."""
    losses: list[Any] = list(objective.losses)
    for i, (output, loss) in enumerate(zip(objective.model.outputs, losses, strict=True)):
        name = next((call.layer for call in objective.model.calls if output in call.outputs), None)
        last = None if name is None else objective.model.layers[name]
        if isinstance(last, SimpleRNN) and last.unroll and last.activation == getattr(loss, "shortcut", None):
            losses[i] = altered(replace(loss, from_logits=True), OfTheLogitsOfProbabilities)
    return replace(objective, losses=tuple(losses))
