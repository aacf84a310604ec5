"""Losses of probabilities and of their logits."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np

from scratch.domain import Between, Binary, Distribution, Domain, OneHot, Probability, Real, Shape, Size
from scratch.losses.base import EPSILON, Array, Loss, aligned, clip
from scratch.registry import loss

Smoothing = Annotated[float, Between(0.0, 1.0, small=(0.0, 0.5))]


@loss
class BinaryCrossentropy(Loss):
    """mean over `axis` of -t·log(p) - (1-t)·log(1-p), with t smoothed to t·(1-s) + s/2 and p kept in [ε, 1-ε];
    from logits z: max(z, 0) - z·t + log(1 + exp(-|z|)).

    Shapes  y_true, y_pred (batch, …, n)   →   (batch, …)
    Keras   BinaryCrossentropy; ε is keras.config.epsilon()
    Source  keras.io/api/losses/probabilistic_losses
    """

    from_logits: bool = False
    label_smoothing: Smoothing = 0.0
    axis: int = -1
    shortcut: ClassVar[str | None] = "sigmoid"

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        t, p = aligned(y_true, y_pred)
        t = t * (1 - self.label_smoothing) + self.label_smoothing / 2
        if self.from_logits:
            positive = p.real > 0
            values = np.where(positive, p, 0) - p * t + np.log1p(np.exp(np.where(positive, -p, p)))
        else:
            p = clip(p, EPSILON, 1 - EPSILON)
            values = -(t * np.log(p) + (1 - t) * np.log(1 - p))
        return values.mean(axis=self.axis)

    def domains(self) -> tuple[Domain, Domain]:
        return Binary(), Real() if self.from_logits else Probability()


@loss
class CategoricalCrossentropy(Loss):
    """-sum over `axis` of t·log(p), with t smoothed to t·(1-s) + s/n, p divided by its sum and kept in [ε, 1-ε];
    from logits z: log p = z - log(sum(exp(z))).

    Shapes  y_true, y_pred (batch, …, n)   →   (batch, …)
    Keras   CategoricalCrossentropy; ε is keras.config.epsilon()
    Source  keras.io/api/losses/probabilistic_losses
    """

    from_logits: bool = False
    label_smoothing: Smoothing = 0.0
    axis: int = -1
    shortcut: ClassVar[str | None] = "softmax"

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        t = y_true * (1 - self.label_smoothing) + self.label_smoothing / y_pred.shape[self.axis]
        if self.from_logits:
            shifted = y_pred - y_pred.real.max(axis=self.axis, keepdims=True)
            log_p = shifted - np.log(np.exp(shifted).sum(axis=self.axis, keepdims=True))
        else:
            log_p = np.log(clip(y_pred / y_pred.sum(axis=self.axis, keepdims=True), EPSILON, 1 - EPSILON))
        return -(t * log_p).sum(axis=self.axis)

    def shapes(self, size: Size) -> tuple[Shape, Shape]:
        shape = (size(1, 4), *(size(1, 3) for _ in range(size(0, 1))), size(2, 4))
        return shape, shape

    def domains(self) -> tuple[Domain, Domain]:
        return OneHot(), Real() if self.from_logits else Distribution()
