"""Parts of a model off by rounding to float32: what a layer or loss may give that computes in it, one roll of the dice.

    y' = y·(1 + u·s) + u·(x at random places)·s,   y = part(x·(1 + u·s))      every s is +1 or -1 at random, and fixed

u is a unit in the last place of float32 for each of the terms that a part adds up along its longest axis (and for each
of the places that it counts along it). The second term moves entries whose own weight is 0, beside those that have one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from scratch.arrays import Array
from scratch.fields import Shape
from scratch.layers.base import Layer, Weights
from scratch.losses.base import Loss
from scratch.objective import Objective

#: one unit in the last place of float32: rounding to nearest errs by half of it
UNIT32 = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Roll:
    """Random signs and places that are the same in every call."""

    seed: int

    def signs(self, shape: tuple[int, ...]) -> Array:
        """+1 and -1: all up in the first roll, all down in the second, then patterns."""
        if self.seed < 2:
            return np.full(shape, 1.0 - 2 * self.seed)
        return np.random.default_rng((self.seed, 1, *shape)).choice([-1.0, 1.0], shape)

    def off(self, x: Array, unit: float) -> Array:
        """x with every entry off by units of itself."""
        return x * (1 + unit * self.signs(x.shape)) if x.dtype.kind in "fc" else x

    def strangers(self, x: Array, shape: tuple[int, ...]) -> Array:
        """For each entry of an output of this shape an entry of the same sample of x, with a random sign."""
        generator = np.random.default_rng((self.seed, 2, *shape))
        places = generator.integers(0, max(x[0].size, 1), shape)
        samples = np.arange(len(x)).reshape(-1, *(1,) * (len(shape) - 1))
        found: Array = x.reshape(len(x), -1)[samples, places] * generator.choice([-1.0, 1.0], shape)
        return found


def unit_of(x: Array) -> float:
    """What rounding to float32 may come to in a part that takes x, as a share of its largest terms."""
    return UNIT32 * max(x.shape, default=1)


class RoundedLayer(Layer):
    """A layer of one input whose output is off by rounding. It takes whatever its layer takes."""

    def __init__(self, part: Any, roll: Roll) -> None:
        self.part, self.roll = part, roll
        self.accepts = part.accepts  # type: ignore[misc]

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        shapes: dict[str, Shape] = self.part.weight_shapes(*inputs)
        return shapes

    def couples_batch(self, training: bool) -> bool:
        return bool(self.part.couples_batch(training))

    def compute_mask(self, *inputs: Array, mask: Any = None) -> Any:
        return self.part.compute_mask(*inputs, mask=mask)

    def forward(self, weights: Weights, *inputs: Array, **call: Any) -> Array:
        (x,) = inputs
        unit = unit_of(x)
        y = self.part.forward(weights, self.roll.off(x, unit), **call)
        if x.dtype.kind not in "fc" or x.ndim != y.ndim:
            return self.roll.off(y, unit)
        return self.roll.off(y, unit) + unit * self.roll.strangers(x, y.shape)


@dataclass(frozen=True, kw_only=True)
class RoundedLoss(Loss):
    """A loss whose values are off by rounding: by units of themselves, and of every entry of the prediction."""

    part: Any
    roll: Roll

    @cached_property
    def _law(self) -> Loss:
        law: Loss = self.part
        return law

    @property
    def couples_batch(self) -> bool:
        return self._law.couples_batch

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        unit = unit_of(y_pred)
        values = self.roll.off(self._law.per_sample(y_true, self.roll.off(y_pred, unit)), unit)
        strangers = (self.roll.signs(y_pred.shape) * y_pred).reshape(len(y_pred), -1).sum(axis=-1)
        return values + unit * strangers.reshape(-1, *(1,) * (values.ndim - 1)) if values.ndim else values

    def valid(self, y_true: Array, y_pred: Array) -> Array | None:
        return self._law.valid(y_true, y_pred)


def with_rounded_parts(objective: Objective, parts: Iterable[str], seed: int) -> Objective:
    """The objective with these layers (by name) and losses (“loss 0”, …) off by rounding, in the roll of that seed."""
    roll, parts = Roll(seed), set(parts)
    model = objective.model
    layers = {name: RoundedLayer(one, roll) if name in parts else one for name, one in model.layers.items()}
    losses = tuple(
        RoundedLoss(part=one, roll=roll, reduction=one.reduction) if one is not None and f"loss {i}" in parts else one
        for i, one in enumerate(objective.losses)
    )
    return replace(objective, model=replace(model, layers=layers), losses=losses)
