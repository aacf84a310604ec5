"""What every optimizer is: a pure step from (weights, gradients, state) to (weights, state)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np

from scratch.domain import AtLeast

Array = np.ndarray
Weights = Mapping[str, Array]
LearningRate = Annotated[float, AtLeast(0.0, small=(0.0, 0.5))]
Momentum = Annotated[float, AtLeast(0.0, small=(0.0, 0.99))]


@dataclass(frozen=True)
class State:
    """Everything an optimizer remembers: completed steps, and one dictionary of slots per weight."""

    iterations: int = 0
    slots: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)


class Optimizer:
    """Base of the optimizers: a subclass decorated with `@optimizer` gives `slots` and `update`."""

    def rate(self, iterations: int) -> float:
        """The learning rate of the step that follows `iterations` completed ones."""
        rate: Any = self.learning_rate  # type: ignore[attr-defined]
        return rate(iterations) if callable(rate) else rate

    def slots(self, weight: Array) -> dict[str, Array]:
        """What is remembered of one weight before the first step."""
        return {}

    def update(
        self, weight: Array, gradient: Array, slots: Mapping[str, Array], *, rate: float, iterations: int
    ) -> tuple[Array, dict[str, Array]]:
        """One step of one weight: its new value and its new slots."""
        raise TypeError(f"{type(self).__name__} gives no update: write its law in scratch/optimizers/.")

    def init(self, weights: Weights) -> State:
        """The state before the first step."""
        return State(0, {name: self.slots(weight) for name, weight in weights.items()})

    def step(self, weights: Weights, gradients: Weights, state: State) -> tuple[dict[str, Array], State]:
        """All weights, updated together. Weights without a gradient stay as they are."""
        rate = self.rate(state.iterations)
        new_weights, new_slots = dict(weights), dict(state.slots)
        for name, gradient in gradients.items():
            new_weights[name], new_slots[name] = self.update(
                weights[name], gradient, state.slots[name], rate=rate, iterations=state.iterations
            )
        return new_weights, State(state.iterations + 1, new_slots)
