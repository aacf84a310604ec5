"""Muon: matrices are updated by an orthogonalised momentum, all other weights by AdamW."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np

from scratch.arrays import Array
from scratch.fields import AtLeast, Between, Domain, Real
from scratch.optimizers.adam import adam_step, moments
from scratch.optimizers.base import Decay, Epsilon, LearningRate, Optimizer, Slots, Strength
from scratch.registry import optimizer


@dataclass(frozen=True)
class Patterns(Domain):
    """A tuple of regular expressions."""

    @property
    def rule(self) -> str:
        return "must be a sequence of regular expressions"

    def holds(self, value: Any) -> bool:
        if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(v, str) for v in value):
            return False
        return all(_compiles(v) for v in value)

    def normalise(self, value: Any) -> tuple[str, ...]:
        return tuple(value)


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


@optimizer
class Muon(Optimizer):
    """m ← μ·m + g;  G = g + μ·m (nesterov) or m;  w ← w - η·(λ·w + O·√max(rows, columns)·rms_rate), where
    O = ns_steps times X ← aX + (bA + cA²)X, A = XXᵀ, from G/(‖G‖ + 1e-7), transposed while G is tall.
    Weights that are not matrices, or whose path has "embedding" in it or matches one of exclude_layers: AdamW with
    η·adam_lr_ratio.

    Keras   Muon; it decays the weights of its AdamW by η·λ, without the ratio
    Source  Jordan et al. 2024 (Muon, the cited implementation); Liu et al. 2025, equations 2 to 4 (decay, rms_rate)
    """

    learning_rate: LearningRate = 0.001
    adam_beta_1: Decay = 0.9
    adam_beta_2: Decay = 0.999
    adam_weight_decay: Strength | None = 0.004
    epsilon: Epsilon = 1e-7
    weight_decay: Strength | None = field(default=0.004, kw_only=True)
    exclude_layers: Annotated[tuple[Any, ...], Patterns()] = ()
    exclude_embeddings: bool = True
    muon_a: Annotated[float, Real(small=(3.3, 3.45))] = 3.4445
    muon_b: Annotated[float, Real(small=(-4.8, -4.7))] = -4.7750
    muon_c: Annotated[float, Real(small=(1.9, 2.03))] = 2.0315
    adam_lr_ratio: Annotated[float, AtLeast(0.0, small=(0.1, 2.0))] = 1
    momentum: Annotated[float, Between(0.0, 1.0, small=(0.0, 0.99))] = 0.95
    ns_steps: Annotated[int, AtLeast(0, small=(1, 5))] = 5
    nesterov: bool = True
    rms_rate: Annotated[float, AtLeast(0.0, small=(0.1, 1.0))] | None = 0.2

    def uses_adam(self, path: str, weight: Array) -> bool:
        """Whether a weight is updated by AdamW."""
        called = self.exclude_embeddings and "embedding" in path.lower()
        return weight.ndim != 2 or called or any(re.search(pattern, path) for pattern in self.exclude_layers)

    def slots_of(self, path: str, weight: Array) -> dict[str, Array]:
        names = ("momentum", "velocity") if self.uses_adam(path, weight) else ("momentum",)
        return {name: np.zeros_like(weight) for name in names}

    def decay_of(self, path: str, weight: Array) -> float:
        return (self.adam_weight_decay if self.uses_adam(path, weight) else self.weight_decay) or 0.0

    def update(
        self,
        weight: Array,
        gradient: Array,
        slots: Slots,
        *,
        rate: float,
        iterations: int,
        path: str = "",
        weight_decay: float = 0.0,
    ) -> tuple[Array, dict[str, Array]]:
        if self.uses_adam(path, weight):
            m, v = moments(gradient, slots, self.adam_beta_1, self.adam_beta_2)
            step = adam_step(
                m, v, k=iterations + 1, beta_1=self.adam_beta_1, beta_2=self.adam_beta_2, epsilon=self.epsilon
            )
            kept = weight - weight * weight_decay * self.adam_decay_rate(rate)
            return kept - rate * self.adam_lr_ratio * step, {"momentum": m, "velocity": v}
        m = self.momentum * slots["momentum"] + gradient
        step = self.orthogonal(gradient + self.momentum * m if self.nesterov else m)
        if self.rms_rate is not None:
            step = step * (math.sqrt(max(weight.shape)) * self.rms_rate)
        return weight - weight * weight_decay * rate - rate * step, {"momentum": m}

    def adam_decay_rate(self, rate: float) -> float:
        """The learning rate of AdamW's weight decay: AdamW's own."""
        return rate * self.adam_lr_ratio

    def orthogonal(self, matrix: Array) -> Array:
        """The matrix with its singular values brought near 1 (Newton-Schulz, quintic)."""
        tall = matrix.shape[0] > matrix.shape[1]
        x = matrix.T if tall else matrix
        x = x / (np.sqrt(np.sum(x * x)) + 1e-7)
        for _ in range(self.ns_steps):
            a = x @ x.T
            x = self.muon_a * x + (self.muon_b * a + self.muon_c * (a @ a)) @ x
        result: Array = x.T if tall else x
        return result
