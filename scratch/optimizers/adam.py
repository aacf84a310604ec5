"""Adam and its relatives: first and second moments of the gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np

from scratch.domain import Above, Between
from scratch.optimizers.base import Array, LearningRate, Optimizer
from scratch.registry import optimizer

Decay = Annotated[float, Between(0.0, 1.0, open_high=True, small=(0.0, 0.999))]
Epsilon = Annotated[float, Above(0.0, small=(1e-8, 1e-3))]


@optimizer
class Adam(Optimizer):
    """m ← β₁m + (1-β₁)g;  v ← β₂v + (1-β₂)g²;  w ← w - η·√(1-β₂ᵏ)/(1-β₁ᵏ) · m / (√v + ε)
    amsgrad: the running maximum of v in place of v.

    Keras   Adam; ε is the "epsilon hat" of the paper, outside the bias correction
    Source  Kingma & Ba 2014, algorithm 1 and the paragraph before section 2.1; Reddi et al. 2018 (amsgrad)
    """

    learning_rate: LearningRate = 0.001
    beta_1: Decay = 0.9
    beta_2: Decay = 0.999
    epsilon: Epsilon = 1e-7
    amsgrad: bool = False

    def slots(self, weight: Array) -> dict[str, Array]:
        names = ("momentum", "velocity", "velocity_hat") if self.amsgrad else ("momentum", "velocity")
        return {name: np.zeros_like(weight) for name in names}

    def update(
        self, weight: Array, gradient: Array, slots: Mapping[str, Array], *, rate: float, iterations: int
    ) -> tuple[Array, dict[str, Array]]:
        k = iterations + 1
        m = self.beta_1 * slots["momentum"] + (1 - self.beta_1) * gradient
        v = self.beta_2 * slots["velocity"] + (1 - self.beta_2) * gradient**2
        new = {"momentum": m, "velocity": v}
        if self.amsgrad:
            v = new["velocity_hat"] = np.maximum(slots["velocity_hat"], v)
        correction = np.sqrt(1 - self.beta_2**k) / (1 - self.beta_1**k)
        return weight - rate * correction * m / (np.sqrt(v) + self.epsilon), new
