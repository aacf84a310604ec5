"""Focal crossentropies: values that are nearly right have a small weight, (1 - p)^gamma (Lin et al. 2018)."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from scratch.activations.normalizing import softmax
from scratch.activations.smooth import sigmoid
from scratch.arrays import EPSILON, Array
from scratch.axes import Axis
from scratch.fields import (
    AtLeast,
    Between,
    Binary,
    Distribution,
    Domain,
    Numbers,
    OneHot,
    Probability,
    Real,
    Shape,
    Size,
)
from scratch.losses.base import aligned, clip, shape_with
from scratch.losses.probabilistic import AlongAxis, ClassAxis, Smoothing, binary_entropy
from scratch.registry import loss

Gamma = Annotated[float, AtLeast(0.0, small=(0.0, 3.0))]
Alpha = Annotated[float, AtLeast(0.0, small=(0.0, 1.0))]
#: one for each class
Alphas = Annotated[tuple[Any, ...], Numbers(low=0.0, examples=((0.25, 0.75), (0.5, 0.125, 1.0)))]


@loss
class BinaryFocalCrossentropy(AlongAxis):
    """mean over `axis` of (1 - p_t)^gamma · crossentropy(t, p), p_t = t·p + (1-t)·(1-p), t smoothed as in
    BinaryCrossentropy; balanced, times t·alpha + (1-t)·(1-alpha). From logits z: p = sigmoid(z).

    Shapes  y_true, y_pred (batch, …, n)   →   (batch, …)
    Keras   BinaryFocalCrossentropy; p is clipped to [ε, 1-ε] in the crossentropy of probabilities only
    Source  Lin et al. 2018, equations 2 to 5; keras.io/api/losses/probabilistic_losses
    """

    apply_class_balancing: bool = False
    alpha: Annotated[float, Between(0.0, 1.0)] = 0.25
    gamma: Gamma = 2.0
    from_logits: bool = False
    label_smoothing: Smoothing = 0.0
    axis: Axis = -1

    @property
    def shortcut(self) -> str | None:
        # with from_logits=True Keras applies the sigmoid to the output of a sigmoid layer too
        return None if self.from_logits else "sigmoid"

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        t, p = aligned(y_true, y_pred)
        t = t * (1 - self.label_smoothing) + self.label_smoothing / 2
        values = binary_entropy(t, p, from_logits=self.from_logits)
        if self.from_logits:
            p = sigmoid(p)
        values = values * (1 - (t * p + (1 - t) * (1 - p))) ** self.gamma
        if self.apply_class_balancing:
            values = values * (t * self.alpha + (1 - t) * (1 - self.alpha))
        result: Array = values.mean(axis=self.axis)
        return result

    def domains(self) -> tuple[Domain, Domain]:
        return Binary(), Real() if self.from_logits else Probability()


@loss
class CategoricalFocalCrossentropy(AlongAxis):
    """Σ over `axis` of -alpha · (1 - p)^gamma · t·log(p), with one alpha for all classes or one for each, t smoothed
    as in CategoricalCrossentropy, p divided by its sum and clipped to [ε, 1-ε]. From logits z: p = softmax(z).

    Shapes  y_true, y_pred (batch, …, n)   →   (batch, …)
    Keras   CategoricalFocalCrossentropy; ε is keras.config.epsilon()
    Source  Lin et al. 2018, equation 5; keras.io/api/losses/probabilistic_losses
    """

    alpha: Alpha | Alphas = 0.25
    gamma: Gamma = 2.0
    from_logits: bool = False
    label_smoothing: Smoothing = 0.0
    axis: ClassAxis = -1

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        t, p = aligned(y_true, y_pred)
        t = t * (1 - self.label_smoothing) + self.label_smoothing / p.shape[self.axis]
        if self.from_logits:
            p = softmax(p, axis=self.axis)
        p = clip(p / p.sum(axis=self.axis, keepdims=True), EPSILON, 1 - EPSILON)
        values = -((1 - p) ** self.gamma) * t * np.log(p)
        alpha = np.asarray(self.alpha, p.real.dtype)
        result: Array = (np.moveaxis(values, self.axis, -1) * alpha).sum(axis=-1)
        return result

    def shapes(self, size: Size) -> tuple[Shape, Shape]:
        sizes = list(shape_with(size, self.axis, smallest=2))
        if isinstance(self.alpha, tuple):
            sizes[self.axis] = len(self.alpha)
        return tuple(sizes), tuple(sizes)

    def domains(self) -> tuple[Domain, Domain]:
        return OneHot(), Real() if self.from_logits else Distribution()
