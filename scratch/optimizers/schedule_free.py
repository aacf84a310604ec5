"""Schedule-free optimizers: the gradient is taken at an interpolation of an iterate and its average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np

from scratch.arrays import Array
from scratch.fields import AtLeast, Between
from scratch.optimizers.base import Decay, Epsilon, LearningRate, Optimizer, Slots, State, Weights
from scratch.registry import optimizer


@optimizer
class ScheduleFreeAdamW(Optimizer):
    """The weights are y = (1-β₁)z + β₁x.  v ← β₂v + (1-β₂)g², γ = η·min(1, k/warmup_steps):
    z' = z - γ·g/(√(v/(1-β₂ᵏ)) + ε) - γ·λ·y;  x' = (1-c)x + c·z' with c = γ²/Σγ²;  y' = (1-β₁)z' + β₁x'.
    x, the weights after training, is the average (y - (1-β₁)z)/β₁, which finalize returns.

    Keras   ScheduleFreeAdamW; z is called momentum. There x is recovered with z' in place of z, so that β₁ cancels
            and y is the mean of the z's; λ decays y alone; c = 1/k during the warm-up too; under fit z starts at 0
    Source  Defazio et al. 2024, algorithm 1; γ without √(1-β₂ᵏ), v/(1-β₂ᵏ) in the root: the authors' repository
    """

    learning_rate: LearningRate = 0.0025
    beta_1: Annotated[float, Between(0.0, 1.0, open_low=True, open_high=True, small=(0.5, 0.95))] = 0.9
    beta_2: Decay = 0.999
    epsilon: Epsilon = 1e-8
    warmup_steps: Annotated[int, AtLeast(0, small=(0, 4))] = 0

    def slots(self, weight: Array) -> dict[str, Array]:
        return {"momentum": weight.copy(), "velocity": np.zeros_like(weight)}

    def shared(self) -> dict[str, float]:
        return {"weight_sum": 0.0}

    def warm(self, rate: float, iterations: int) -> float:
        """γ: the learning rate, which grows linearly during the warm-up."""
        return rate * min(1.0, (iterations + 1) / self.warmup_steps) if self.warmup_steps else rate

    def advance(self, shared: Mapping[str, float], *, rate: float, iterations: int) -> dict[str, float]:
        return {"weight_sum": shared["weight_sum"] + self.warm(rate, iterations) ** 2}

    def update(
        self,
        weight: Array,
        gradient: Array,
        slots: Slots,
        *,
        rate: float,
        iterations: int,
        weight_decay: float = 0.0,
        shared: Mapping[str, float] = {},
    ) -> tuple[Array, dict[str, Array]]:
        gamma, total = self.warm(rate, iterations), shared["weight_sum"]
        v = self.beta_2 * slots["velocity"] + (1 - self.beta_2) * gradient**2
        root = np.sqrt(v / (1 - self.beta_2 ** (iterations + 1))) + self.epsilon
        z = slots["momentum"] - gamma * (gradient / root + weight_decay * weight)
        c = gamma**2 / total if total else 0.0
        x = (1 - c) * self.averaged(weight, slots["momentum"]) + c * z
        return (1 - self.beta_1) * z + self.beta_1 * x, {"momentum": z, "velocity": v}

    def averaged(self, weight: Array, z: Array) -> Array:
        """x, from y and z."""
        return (weight - (1 - self.beta_1) * z) / self.beta_1

    def finalize(self, weights: Weights, state: State, *, paths: Mapping[str, str] | None = None) -> dict[str, Array]:
        """The averages x (with `use_ema` the moving averages of y)."""
        averages = {name: self.averaged(weights[name], own["momentum"]) for name, own in state.slots.items()}
        return super().finalize({**weights, **averages}, state)
