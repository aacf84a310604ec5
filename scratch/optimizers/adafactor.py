"""Adafactor: squared gradients are stored as their row and column means."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from scratch.arrays import Array
from scratch.fields import Above, Between
from scratch.optimizers.base import LearningRate, Optimizer, Slots
from scratch.registry import optimizer
from scratch.schedules import Schedule


def rms(x: Array) -> Array:
    """√(mean of x²)"""
    result: Array = np.sqrt(np.mean(x * x))
    return result


@optimizer
class Adafactor(Optimizer):
    """β = 1 - k^beta_2_decay;  s = g² + ε₁;  rank ≥ 2: r ← β·r + (1-β)·(mean of s over the last axis), c likewise over
    the one before, v = (r/mean of r) × c;  else v ← β·v + (1-β)·s.
    u = g/√v;  w ← w - max(ε₂, rms(w))·ρ·u / max(1, rms(u)/clip_threshold);  ρ = min(η, 1/√k) if relative_step and η
    is a number, else ρ = η.

    Keras   Adafactor; it takes the minimum always, so that relative_step changes nothing; v is called velocity
    Source  Shazeer & Stern 2018, algorithms 4, 5; relative_step: keras.io/api/optimizers/adafactor
    """

    learning_rate: LearningRate = 0.001
    beta_2_decay: Annotated[float, Between(-10.0, 0.0, open_high=True, small=(-1.0, -0.1))] = -0.8
    epsilon_1: Annotated[float, Above(0.0, small=(1e-30, 1e-3))] = 1e-30
    epsilon_2: Annotated[float, Above(0.0, small=(1e-4, 1e-1))] = 1e-3
    clip_threshold: Annotated[float, Above(0.0, small=(0.1, 2.0))] = 1.0
    relative_step: bool = True

    def slots(self, weight: Array) -> dict[str, Array]:
        new = {"velocity": np.zeros_like(weight)}
        if weight.ndim >= 2:
            new["r"], new["c"] = np.zeros_like(weight[..., 0]), np.zeros_like(weight[..., 0, :])
        return new

    def relative(self, rate: float, k: int) -> float:
        """ρ of update k."""
        adjusted = self.relative_step and not isinstance(self.learning_rate, Schedule)
        return min(rate, k**-0.5) if adjusted else rate

    def update(
        self, weight: Array, gradient: Array, slots: Slots, *, rate: float, iterations: int
    ) -> tuple[Array, dict[str, Array]]:
        k = iterations + 1
        beta, squares = 1 - k**self.beta_2_decay, gradient**2 + self.epsilon_1
        if weight.ndim >= 2:
            r = beta * slots["r"] + (1 - beta) * squares.mean(axis=-1)
            c = beta * slots["c"] + (1 - beta) * squares.mean(axis=-2)
            v = (r / r.mean(axis=-1, keepdims=True))[..., :, None] * c[..., None, :]
            new = {"r": r, "c": c, "velocity": v}
        else:
            v = beta * slots["velocity"] + (1 - beta) * squares
            new = {"velocity": v}
        u = gradient / np.sqrt(v)
        size = np.maximum(self.epsilon_2, rms(weight)) * self.relative(rate, k)
        return weight - size * u / np.maximum(1.0, rms(u) / self.clip_threshold), new
