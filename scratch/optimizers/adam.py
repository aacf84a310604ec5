"""Adam and its variants: first and second moments of the gradient.

In all of them k counts updates from 1, m and v start at 0, m ← β₁m + (1-β₁)g and v ← β₂v + (1-β₂)g².
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

import numpy as np

from scratch.arrays import Array
from scratch.optimizers.base import Decay, Epsilon, LearningRate, Optimizer, Slots, Strength
from scratch.registry import optimizer


def moments(gradient: Array, slots: Slots, beta_1: float, beta_2: float) -> tuple[Array, Array]:
    """The new m and v."""
    m = beta_1 * slots["momentum"] + (1 - beta_1) * gradient
    return m, beta_2 * slots["velocity"] + (1 - beta_2) * gradient**2


def adam_step(m: Array, v: Array, k: int, beta_1: float, beta_2: float, epsilon: float) -> Array:
    """√(1-β₂ᵏ)/(1-β₁ᵏ) · m / (√v + ε̂): the step of Adam in units of the learning rate."""
    return math.sqrt(1 - beta_2**k) / (1 - beta_1**k) * m / (np.sqrt(v) + epsilon)


@optimizer
class Adam(Optimizer):
    """w ← w - η·√(1-β₂ᵏ)/(1-β₁ᵏ) · m / (√v + ε);  amsgrad: the running maximum of v in place of v.

    Keras   Adam; ε is the "epsilon hat" of the paper, outside the bias correction
    Source  Kingma & Ba 2014, algorithm 1 and the paragraph before section 2.1; Reddi et al. 2018, algorithm 2
            (amsgrad; the paper has no bias correction, Keras keeps Adam's)
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
        self, weight: Array, gradient: Array, slots: Slots, *, rate: float, iterations: int
    ) -> tuple[Array, dict[str, Array]]:
        m, v = moments(gradient, slots, self.beta_1, self.beta_2)
        new = {"momentum": m, "velocity": v}
        if self.amsgrad:
            v = new["velocity_hat"] = np.maximum(slots["velocity_hat"], v)
        return weight - rate * adam_step(
            m, v, k=iterations + 1, beta_1=self.beta_1, beta_2=self.beta_2, epsilon=self.epsilon
        ), new


@optimizer
class AdamW(Adam):
    """Adam with the shared decoupled weight decay, w ← w - η·λ·w before the update, switched on.

    Keras   AdamW; λ is multiplied by the learning rate (in the paper by its schedule alone)
    Source  Loshchilov & Hutter 2019, algorithm 2
    """

    weight_decay: Strength = field(default=0.004, kw_only=True)


@optimizer
class Adamax(Optimizer):
    """u ← max(β₂u, |g|);  w ← w - η/(1-β₁ᵏ) · m / (u + ε)

    Keras   Adamax; u is called norm
    Source  Kingma & Ba 2014, algorithm 2; ε: keras.io/api/optimizers/adamax
    """

    learning_rate: LearningRate = 0.001
    beta_1: Decay = 0.9
    beta_2: Decay = 0.999
    epsilon: Epsilon = 1e-7

    def slots(self, weight: Array) -> dict[str, Array]:
        return {"momentum": np.zeros_like(weight), "norm": np.zeros_like(weight)}

    def update(
        self, weight: Array, gradient: Array, slots: Slots, *, rate: float, iterations: int
    ) -> tuple[Array, dict[str, Array]]:
        m = self.beta_1 * slots["momentum"] + (1 - self.beta_1) * gradient
        u = np.maximum(self.beta_2 * slots["norm"], np.abs(gradient))
        return weight - rate / (1 - self.beta_1 ** (iterations + 1)) * m / (u + self.epsilon), {
            "momentum": m,
            "norm": u,
        }


@optimizer
class Nadam(Optimizer):
    """μₖ = β₁(1 - 0.96^(k/250)/2), Pₖ = μ₁·…·μₖ;  w ← w - η·m̂ / (√(v/(1-β₂ᵏ)) + ε) with
    m̂ = μₖ₊₁·m/(1 - Pₖ₊₁) + (1 - μₖ)·g/(1 - Pₖ).

    Keras   Nadam; it takes 0.96ᵏ, a warm-up 250 times as fast, and calls ε the "epsilon hat" of Kingma & Ba
    Source  Dozat 2015, algorithm 2, whose ε this is, and its experiments (the sequence μ)
    """

    learning_rate: LearningRate = 0.001
    beta_1: Decay = 0.9
    beta_2: Decay = 0.999
    epsilon: Epsilon = 1e-7
    #: the updates that the exponent of 0.96 counts as one
    warming: ClassVar[float] = 250.0

    def mu(self, k: int) -> float:
        """The momentum of update k."""
        return float(self.beta_1 * (1 - 0.5 * 0.96 ** (k / self.warming)))

    def slots(self, weight: Array) -> dict[str, Array]:
        return {"momentum": np.zeros_like(weight), "velocity": np.zeros_like(weight)}

    def shared(self) -> dict[str, float]:
        return {"u_product": 1.0}

    def advance(self, shared: Mapping[str, float], *, rate: float, iterations: int) -> dict[str, float]:
        return {"u_product": shared["u_product"] * self.mu(iterations + 1)}

    def update(
        self,
        weight: Array,
        gradient: Array,
        slots: Slots,
        *,
        rate: float,
        iterations: int,
        shared: Mapping[str, float] = {},
    ) -> tuple[Array, dict[str, Array]]:
        k, product = iterations + 1, shared["u_product"]
        now, soon = self.mu(k), self.mu(k + 1)
        m, v = moments(gradient, slots, self.beta_1, self.beta_2)
        ahead = soon / (1 - product * soon) * m + (1 - now) / (1 - product) * gradient
        step = ahead / (np.sqrt(v / (1 - self.beta_2**k)) + self.epsilon)
        return weight - rate * step, {"momentum": m, "velocity": v}


@optimizer
class Lamb(Optimizer):
    """r = m̂ / (√v̂ + ε) + λ·w with m̂ = m/(1-β₁ᵏ), v̂ = v/(1-β₂ᵏ);  w ← w - η·‖w‖/‖r‖·r  (ratio 1 where a norm is 0).

    Keras   Lamb; it decays the weight before, outside r, so that the trust ratio does not depend on λ
    Source  You et al. 2020, algorithm 2 with φ(z) = z
    """

    learning_rate: LearningRate = 0.001
    beta_1: Decay = 0.9
    beta_2: Decay = 0.999
    epsilon: Epsilon = 1e-7

    def slots(self, weight: Array) -> dict[str, Array]:
        return {"momentum": np.zeros_like(weight), "velocity": np.zeros_like(weight)}

    def update(
        self,
        weight: Array,
        gradient: Array,
        slots: Slots,
        *,
        rate: float,
        iterations: int,
        weight_decay: float = 0.0,
    ) -> tuple[Array, dict[str, Array]]:
        k = iterations + 1
        m, v = moments(gradient, slots, self.beta_1, self.beta_2)
        r = m / (1 - self.beta_1**k) / (np.sqrt(v / (1 - self.beta_2**k)) + self.epsilon) + weight_decay * weight
        length, step = np.sqrt(np.sum(weight * weight)), np.sqrt(np.sum(r * r))
        ratio = length / step if length > 0 and step > 0 else 1.0
        return weight - rate * ratio * r, {"momentum": m, "velocity": v}
