"""Probabilistic losses, of probabilities or of their logits."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np

from scratch.activations.normalizing import log_softmax
from scratch.activations.smooth import falling
from scratch.arrays import EPSILON, Array
from scratch.axes import Axis
from scratch.fields import Between, Binary, Distribution, Domain, Index, OneHot, Probability, Real, Shape, Size
from scratch.losses.base import Loss, aligned, clip, shape_with
from scratch.registry import loss

Smoothing = Annotated[float, Between(0.0, 1.0, small=(0.0, 0.5))]
#: the axis of the classes; in examples the last one, along which one-hot targets and distributions are drawn
ClassAxis = Annotated[int, Between(-8, 7, small=(-1, -1))]


class AlongAxis(Loss):
    """Base of the losses along a field `axis`; where that may be the batch axis, samples are coupled."""

    @property
    def couples_batch(self) -> bool:
        return self.axis == 0 or self.axis < -1  # type: ignore[attr-defined, no-any-return]

    def shapes(self, size: Size) -> tuple[Shape, Shape]:
        shape = shape_with(size, self.axis, smallest=2)  # type: ignore[attr-defined]
        return shape, shape


def labels(y_true: Array, y_pred: Array) -> Array:
    """Class numbers as integers, without a last axis of size 1.

    Raises: ValueError where a class is not one of y_pred's.
    """
    if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1:
        y_true = y_true[..., 0]
    classes = y_true.astype(int)
    if classes.size and not 0 <= classes.min() <= classes.max() < y_pred.shape[-1]:
        raise ValueError(
            f"Labels must be classes of the prediction, 0 to {y_pred.shape[-1] - 1}. "
            f"Received: labels from {classes.min()} to {classes.max()}. Correct the labels or the number of classes."
        )
    return classes


def of_label(values: Array, classes: Array) -> Array:
    """The entries along the last axis at the given classes, for every sample."""
    return np.take_along_axis(values, classes[..., None], axis=-1)[..., 0]


def binary_entropy(t: Array, p: Array, *, from_logits: bool) -> Array:
    """-t·log(p) - (1-t)·log(1-p), p clipped to [ε, 1-ε]; from logits z, log(1 + exp(z)) - z·t."""
    if from_logits:
        # softplus(z) written out, its small part added last: added to z first it would be rounded away
        entropy: Array = np.where(p.real > 0, p, 0) - p * t + np.log1p(np.exp(falling(p)))
    else:
        p = clip(p, EPSILON, 1 - EPSILON)
        entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p))
    return entropy


@loss
class BinaryCrossentropy(AlongAxis):
    """mean over `axis` of -t·log(p) - (1-t)·log(1-p), with t smoothed to t·(1-s) + s/2 and p clipped to [ε, 1-ε];
    from logits z: log(1 + exp(z)) - z·t.

    Shapes  y_true, y_pred (batch, …, n)   →   (batch, …)
    Keras   BinaryCrossentropy; ε is keras.config.epsilon()
    Source  keras.io/api/losses/probabilistic_losses
    """

    from_logits: bool = False
    label_smoothing: Smoothing = 0.0
    axis: Axis = -1

    @property
    def shortcut(self) -> str | None:
        return "sigmoid"

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        t, p = aligned(y_true, y_pred)
        t = t * (1 - self.label_smoothing) + self.label_smoothing / 2
        values: Array = binary_entropy(t, p, from_logits=self.from_logits).mean(axis=self.axis)
        return values

    def domains(self) -> tuple[Domain, Domain]:
        return Binary(), Real() if self.from_logits else Probability()


@loss
class CategoricalCrossentropy(AlongAxis):
    """-Σ over `axis` of t·log(p), with t smoothed to t·(1-s) + s/n, p divided by its sum and clipped to [ε, 1-ε];
    from logits z: log p = z - log(Σ exp(z)).

    Shapes  y_true, y_pred (batch, …, n)   →   (batch, …)
    Keras   CategoricalCrossentropy; ε is keras.config.epsilon()
    Source  keras.io/api/losses/probabilistic_losses
    """

    from_logits: bool = False
    label_smoothing: Smoothing = 0.0
    axis: ClassAxis = -1

    @property
    def shortcut(self) -> str | None:
        return "softmax"

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        t, p = aligned(y_true, y_pred)
        t = t * (1 - self.label_smoothing) + self.label_smoothing / p.shape[self.axis]
        if self.from_logits:
            log_p = log_softmax(p, axis=self.axis)
        else:
            log_p = np.log(clip(p / p.sum(axis=self.axis, keepdims=True), EPSILON, 1 - EPSILON))
        values: Array = -(t * log_p).sum(axis=self.axis)
        return values

    def domains(self) -> tuple[Domain, Domain]:
        return OneHot(), Real() if self.from_logits else Distribution()


@loss
class SparseCategoricalCrossentropy(Loss):
    """-log(p_c), c being the class in y_true: p clipped to [ε, 1-ε], then divided by its sum; from logits,
    log p = z - log(Σ exp(z)). Where c is `ignore_class` the value is 0 and does not count in a mean.

    Shapes  y_true (batch, …) or (batch, …, 1)   y_pred (batch, …, n)   →   (batch, …)
    Keras   SparseCategoricalCrossentropy; ε is keras.config.epsilon(); TensorFlow has axis -1 only
    Source  keras.io/api/losses/probabilistic_losses
    """

    from_logits: bool = False
    ignore_class: Annotated[int, Real(small=(-1, 2))] | None = None
    axis: Literal[-1] = -1

    @property
    def shortcut(self) -> str | None:
        return "softmax"

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        t, p = aligned(y_true, y_pred)
        counts = self._counts(t)
        classes = labels(np.where(counts, t, 0), p)
        logits = p if self.from_logits else np.log(clip(p, EPSILON, 1 - EPSILON))
        return np.where(counts.reshape(classes.shape), -of_label(log_softmax(logits), classes), 0)

    def _counts(self, y_true: Array) -> Array:
        return np.ones(y_true.shape, bool) if self.ignore_class is None else y_true != self.ignore_class

    def valid(self, y_true: Array, y_pred: Array) -> Array | None:
        if self.ignore_class is None:
            return None
        t, p = aligned(y_true, y_pred)
        return self._counts(t).reshape(p.shape[:-1])

    def shapes(self, size: Size) -> tuple[Shape, Shape]:
        shape = shape_with(size, smallest=3)
        return shape[:-1] + (1,) * size(0, 1), shape

    def domains(self) -> tuple[Domain, Domain]:
        return Index(3), Real() if self.from_logits else Distribution()


@loss
class CategoricalGeneralizedCrossEntropy(Loss):
    """(1 - p_c^q) / q, c being the class in y_true

    Shapes  y_true (batch,) or (batch, 1)   y_pred (batch, n)   →   (batch,)
    Keras   CategoricalGeneralizedCrossEntropy
    Source  Zhang, Sabuncu 2018; keras.io/api/losses/probabilistic_losses
    """

    q: Annotated[float, Between(0.0, 1.0, open_low=True, open_high=True, small=(0.25, 0.75))] = 0.5

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        t, p = aligned(y_true, y_pred)
        return (1 - of_label(p, labels(t, p)) ** self.q) / self.q

    def shapes(self, size: Size) -> tuple[Shape, Shape]:
        batch = size(1, 4)
        return (batch,), (batch, size(3, 5))

    def domains(self) -> tuple[Domain, Domain]:
        return Index(3), Probability()


@loss
class KLDivergence(Loss):
    """Σ over the last axis of t·log(t / p), t and p clipped to [ε, 1]

    Shapes  y_true, y_pred (batch, …, n)   →   (batch, …)
    Keras   KLDivergence; ε is keras.config.epsilon()
    Source  keras.io/api/losses/probabilistic_losses
    """

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        t, p = (clip(x, EPSILON, 1.0) for x in aligned(y_true, y_pred))
        values: Array = (t * np.log(t / p)).sum(axis=-1)
        return values

    def shapes(self, size: Size) -> tuple[Shape, Shape]:
        shape = shape_with(size, smallest=2)
        return shape, shape

    def domains(self) -> tuple[Domain, Domain]:
        return Distribution(), Distribution()
