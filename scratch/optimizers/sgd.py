"""Gradient descent with momentum, and Lion, which takes the sign of a momentum."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from scratch.arrays import Array
from scratch.fields import Between
from scratch.optimizers.base import Decay, LearningRate, Optimizer, Slots
from scratch.registry import optimizer


@optimizer
class SGD(Optimizer):
    """w ← w - η·g;  with momentum μ: v ← μ·v - η·g, w ← w + v;  Nesterov: w ← w + μ·v - η·g with the new v.

    Keras   SGD (the learning rate is inside the velocity)
    Source  keras.io/api/optimizers/sgd; Sutskever et al. 2013, equations 3 and 4
    """

    learning_rate: LearningRate = 0.01
    momentum: Annotated[float, Between(0.0, 1.0, small=(0.0, 0.99))] = 0.0
    nesterov: bool = False

    def slots(self, weight: Array) -> dict[str, Array]:
        return {"momentum": np.zeros_like(weight)} if self.momentum else {}

    def update(
        self, weight: Array, gradient: Array, slots: Slots, *, rate: float, iterations: int
    ) -> tuple[Array, dict[str, Array]]:
        if not self.momentum:
            return weight - rate * gradient, {}
        velocity = self.momentum * slots["momentum"] - rate * gradient
        step = self.momentum * velocity - rate * gradient if self.nesterov else velocity
        return weight + step, {"momentum": velocity}


@optimizer
class Lion(Optimizer):
    """w ← w - η·sign(β₁m + (1-β₁)g), then m ← β₂m + (1-β₂)g;  sign(0) = 0.

    Keras   Lion
    Source  Chen et al. 2023, algorithm 2 (its weight decay is the shared one)
    """

    learning_rate: LearningRate = 0.001
    beta_1: Annotated[float, Between(0.0, 1.0, open_low=True, small=(0.1, 0.99))] = 0.9
    beta_2: Decay = 0.99

    def slots(self, weight: Array) -> dict[str, Array]:
        return {"momentum": np.zeros_like(weight)}

    def update(
        self, weight: Array, gradient: Array, slots: Slots, *, rate: float, iterations: int
    ) -> tuple[Array, dict[str, Array]]:
        m = slots["momentum"]
        step = np.sign(self.beta_1 * m + (1 - self.beta_1) * gradient)
        return weight - rate * step, {"momentum": self.beta_2 * m + (1 - self.beta_2) * gradient}
