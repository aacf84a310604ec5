"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np

from scratch.domain import Between
from scratch.optimizers.base import Array, LearningRate, Optimizer
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
        self, weight: Array, gradient: Array, slots: Mapping[str, Array], *, rate: float, iterations: int
    ) -> tuple[Array, dict[str, Array]]:
        if not self.momentum:
            return weight - rate * gradient, {}
        velocity = self.momentum * slots["momentum"] - rate * gradient
        step = self.momentum * velocity - rate * gradient if self.nesterov else velocity
        return weight + step, {"momentum": velocity}
