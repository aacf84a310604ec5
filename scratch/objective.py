"""The objective of training: the losses of the outputs of a model, and its regularization losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from scratch import registry
from scratch.arrays import Array
from scratch.layers.base import Weights
from scratch.layers.recurrent import Recurrent
from scratch.layers.recurrent_cells import Cell
from scratch.losses.base import Loss
from scratch.model import Model, Run


def as_loss(loss: Loss | str) -> Loss:
    """A loss given as an object or by its registered name."""
    return registry.get("loss", loss)() if isinstance(loss, str) else loss


@dataclass(frozen=True)
class Objective:
    """weights ↦ Σ loss_weight · loss(y, model(x)) + regularization: a scalar.

    `losses` and `loss_weights` belong to the outputs of the model, in order; a loss may be None. The loss of an output
    that ends in the activation that the loss can take logits of (binary and categorical crossentropy) is computed from
    the logits, as in Keras: by the same definition, without the clipping that prevents log(0).
    """

    model: Model
    losses: tuple[Loss | None, ...]
    loss_weights: tuple[float, ...] = ()

    @classmethod
    def of(cls, model: Model, loss: Any, loss_weights: Sequence[float] = ()) -> Objective:
        """The objective of one `loss` or a sequence of them, as objects or names, each times its loss weight.

        Raises: ValueError if their number is not that of the outputs, or a name is not registered.
        """
        losses = tuple(loss) if isinstance(loss, (tuple, list)) else (loss,)
        if len(losses) != len(model.outputs):
            raise ValueError(
                f"There must be one loss per output. Received: {len(losses)} for {len(model.outputs)} outputs. "
                "Pass a sequence of losses (None where an output has none)."
            )
        return cls(model, tuple(None if one is None else as_loss(one) for one in losses), tuple(loss_weights))

    @cached_property
    def resolved(self) -> Objective:
        """The same objective with crossentropies computed from logits where the graph allows it."""
        model, losses = self.model, list(self.losses)
        for i, (tensor, loss) in enumerate(zip(model.outputs, losses, strict=True)):
            call = next((c for c in model.calls if tensor in c.outputs), None)
            if loss is None or loss.shortcut is None or call is None:
                continue
            layer = model.layers[call.layer]
            alone = sum(c.layer == call.layer for c in model.calls) == 1 and model.outputs.count(tensor) == 1
            alone = alone and not any(tensor in c.inputs for c in model.calls)
            if alone and call.layer not in model.activity and find_tagged_activation(layer) == loss.shortcut:
                model = replace(model, layers={**model.layers, call.layer: replace(layer, activation="linear")})  # type: ignore[type-var]
                losses[i] = replace(loss, from_logits=True)  # type: ignore[call-arg]
        return Objective(model, tuple(losses), self.loss_weights)

    def __call__(self, weights: Weights, x: Any, y: Any, *, sample_weight: Any = None, **options: Any) -> Array:
        """The loss, a scalar.

        weights, x      as `Model.run` takes them, whose `options` may follow (training, draws, masks)
        y               targets, batch first: of one output an array, of several a sequence, or a mapping by their names
        sample_weight   the same, one weight for each sample

        Raises: ValueError where the inputs are not those of the model, targets or sample weights not one for each of
        its outputs, or sample weights do not fit the loss's values.
        """
        objective = self.resolved
        run = objective.model.run(weights, x, **options)
        return objective.of_run(run, weights, y, sample_weight=sample_weight)

    def of_run(self, run: Run, weights: Weights, y: Any, *, sample_weight: Any = None) -> Array:
        """The loss of a forward pass `run`, a scalar; `weights` are those that it ran with.

        `y` and `sample_weight` are as for a call of the objective. Raises: ValueError where these are not one for each
        output, or sample weights do not fit the loss's values.
        """
        targets, shares = (list_per_output(given, self.model.outputs) for given in (y, sample_weight))
        scales = self.loss_weights or (1.0,) * len(self.losses)
        total: Array = self.penalty(run, weights)
        for tensor, loss, target, share, scale in zip(
            self.model.outputs, self.losses, targets, shares, scales, strict=True
        ):
            if loss is not None:
                total = total + scale * loss(
                    np.asarray(target), run.tensors[tensor], sample_weight=share, mask=run.masks[tensor]
                )
        return total

    def penalty(self, run: Run, weights: Weights) -> Any:
        """The losses of the regularizers of weights and of activities, a scalar.

        Those of activities, which are outputs of the forward pass `run`, are divided by the batch size.
        """
        total: Any = 0.0
        for name, regularizer in self.model.regularizers.items():
            total = total + regularizer(weights[name])
        for name, regularizer in self.model.activity.items():
            for call in self.model.calls:
                if call.layer == name:
                    output = run.tensors[call.outputs[0]]
                    total = total + regularizer(output) / len(output)
        return total


def find_tagged_activation(layer: Any) -> str | None:
    """The activation of a layer, where Keras keeps the logits of its output."""
    if isinstance(layer, (Recurrent, Cell)):
        return None  # their activation acts inside the recurrence
    activation = getattr(layer, "activation", None)
    return activation if activation in ("sigmoid", "softmax") else None


def list_per_output(value: Any, names: Sequence[str]) -> tuple[Any, ...]:
    """The value of each output: that of a single one, or a sequence in order, or a mapping by `names`; None for all.

    Raises: ValueError where there is not one for each of the outputs.
    """
    if value is None:
        return (None,) * len(names)
    if isinstance(value, Mapping):
        if set(value) == set(names):
            return tuple(value[name] for name in names)
        received = ", ".join(map(str, value)) or "none"
    elif len(names) == 1:
        is_inside = isinstance(value, (tuple, list)) and len(value) == 1 and np.ndim(value[0]) > 0
        return (value[0] if is_inside else value,)
    else:
        found = tuple(value)
        if len(found) == len(names):
            return found
        received = f"{len(found)}"
    raise ValueError(
        f"Targets and sample weights must be one for each output ({', '.join(names)}). Received: {received}. Pass a "
        "sequence in this order, or a mapping by these names."
    )
