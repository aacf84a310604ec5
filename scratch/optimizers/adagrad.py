"""Optimizers that divide by the root of a sum or a moving average of squared gradients."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from scratch.arrays import Array
from scratch.fields import Above, AtLeast, Between
from scratch.optimizers.base import Decay, Epsilon, LearningRate, Optimizer, Slots, Strength
from scratch.registry import optimizer
from scratch.schedules import Schedule


@optimizer
class Adagrad(Optimizer):
    """a ← a + g²;  w ← w - η·g / √(a + ε);  a starts at initial_accumulator_value.

    Keras   Adagrad (ε inside the root; the paper starts a at 0)
    Source  Duchi et al. 2011, figure 1 (diagonal)
    """

    learning_rate: LearningRate = 0.001
    initial_accumulator_value: Strength = 0.1
    epsilon: Epsilon = 1e-7

    def slots(self, weight: Array) -> dict[str, Array]:
        return {"accumulator": np.full_like(weight, self.initial_accumulator_value)}

    def update(
        self, weight: Array, gradient: Array, slots: Slots, *, rate: float, iterations: int
    ) -> tuple[Array, dict[str, Array]]:
        total = slots["accumulator"] + gradient**2
        return weight - rate * gradient / np.sqrt(total + self.epsilon), {"accumulator": total}


@optimizer
class Adadelta(Optimizer):
    """a ← ρ·a + (1-ρ)g²;  d = -√(s + ε)/√(a + ε)·g;  s ← ρ·s + (1-ρ)d²;  w ← w + η·d

    Keras   Adadelta; a is called accumulated_grad, s accumulated_delta_var; η = 1 in the paper
    Source  Zeiler 2012, algorithm 1
    """

    learning_rate: LearningRate = 0.001
    rho: Decay = 0.95
    epsilon: Epsilon = 1e-7

    def slots(self, weight: Array) -> dict[str, Array]:
        return {"accumulated_grad": np.zeros_like(weight), "accumulated_delta_var": np.zeros_like(weight)}

    def update(
        self, weight: Array, gradient: Array, slots: Slots, *, rate: float, iterations: int
    ) -> tuple[Array, dict[str, Array]]:
        squares = self.rho * slots["accumulated_grad"] + (1 - self.rho) * gradient**2
        moves = slots["accumulated_delta_var"]
        delta = -np.sqrt(moves + self.epsilon) / np.sqrt(squares + self.epsilon) * gradient
        moves = self.rho * moves + (1 - self.rho) * delta**2
        return weight + rate * delta, {"accumulated_grad": squares, "accumulated_delta_var": moves}


@optimizer
class RMSprop(Optimizer):
    """v ← ρ·v + (1-ρ)g²;  w ← w - η·g / √(v + ε);  centered: v - ḡ² in place of v, with ḡ ← ρ·ḡ + (1-ρ)g;
    with momentum μ: m ← μ·m + η·g/√(…), w ← w - m.

    Keras   RMSprop (ε inside the root, although its page calls it the "epsilon hat" of Kingma & Ba, which is outside)
    Source  Hinton 2012, lecture 6e; centered: Graves 2013, equations 38 to 45
    """

    learning_rate: LearningRate = 0.001
    rho: Decay = 0.9
    momentum: Annotated[float, Between(0.0, 1.0, small=(0.0, 0.99))] = 0.0
    epsilon: Epsilon = 1e-7
    centered: bool = False

    def slots(self, weight: Array) -> dict[str, Array]:
        names = ["velocity"] + ["momentum"] * (self.momentum > 0) + ["average_gradient"] * self.centered
        return {name: np.zeros_like(weight) for name in names}

    def update(
        self, weight: Array, gradient: Array, slots: Slots, *, rate: float, iterations: int
    ) -> tuple[Array, dict[str, Array]]:
        new = {"velocity": self.rho * slots["velocity"] + (1 - self.rho) * gradient**2}
        spread = new["velocity"]
        if self.centered:
            new["average_gradient"] = self.rho * slots["average_gradient"] + (1 - self.rho) * gradient
            spread = spread - new["average_gradient"] ** 2
        step = rate * gradient / np.sqrt(spread + self.epsilon)
        if self.momentum > 0:
            step = new["momentum"] = self.momentum * slots["momentum"] + step
        return weight - step, new


@optimizer
class Ftrl(Optimizer):
    """n' = n + g²;  z ← z + g + 2·s·w - (n'ᵖ - nᵖ)/η·w;
    w ← 0 where |z| ≤ λ₁, else (sign(z)·λ₁ - z) / ((β + n'ᵖ)/η + λ₂)
    with p = -learning_rate_power, s the shrinkage; n, z start at initial_accumulator_value and 0.

    Keras   Ftrl; n is called accumulator, z linear; it takes 2·λ₂ where its page and the paper take λ₂, and divides
            0 by 0 where n' and z are 0; n is computed without the shrinkage
    Source  McMahan et al. 2013, algorithm 1; keras.io/api/optimizers/ftrl
    """

    learning_rate: Annotated[float, Above(0.0, small=(0.01, 0.5))] | Schedule = 0.001
    learning_rate_power: Annotated[float, Between(-100.0, 0.0, small=(-1.0, 0.0))] = -0.5
    initial_accumulator_value: Strength = 0.1
    l1_regularization_strength: Strength = 0.0
    l2_regularization_strength: Strength = 0.0
    l2_shrinkage_regularization_strength: Strength = 0.0
    beta: Annotated[float, AtLeast(0.0, small=(0.0, 1.0))] = 0.0

    def slots(self, weight: Array) -> dict[str, Array]:
        return {"accumulator": np.full_like(weight, self.initial_accumulator_value), "linear": np.zeros_like(weight)}

    def update(
        self, weight: Array, gradient: Array, slots: Slots, *, rate: float, iterations: int
    ) -> tuple[Array, dict[str, Array]]:
        power, l1 = -self.learning_rate_power, self.l1_regularization_strength
        total = slots["accumulator"] + gradient**2
        scaled = total**power
        shrunk = gradient + 2 * self.l2_shrinkage_regularization_strength * weight
        z = slots["linear"] + shrunk - (scaled - slots["accumulator"] ** power) / rate * weight
        new = self.solution(z, (self.beta + scaled) / rate, l1, self.l2_regularization_strength)
        return new, {"accumulator": total, "linear": z}

    def solution(self, z: Array, curvature: Array, l1: float, l2: float) -> Array:
        """The minimum of z·w + λ₁|w| + (curvature + λ₂)/2·w²."""
        inside = np.abs(z) <= l1
        return np.where(inside, 0, (np.sign(z) * l1 - z) / np.where(inside, 1, curvature + l2)).astype(z.dtype)
