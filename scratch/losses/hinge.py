"""Hinge losses: how far a prediction is from the right side with a margin of 1."""

from __future__ import annotations

import numpy as np

from scratch.arrays import Array, clip_below
from scratch.fields import Domain, OneHot, Real, Shape, Signs, Size
from scratch.losses.base import Loss, aligned, shape_with
from scratch.losses.regression import MeanOfEntries
from scratch.registry import loss


def signs(y_true: Array) -> Array:
    """Labels as -1 and 1: where all are 0 or 1, 0 stands for -1; other labels stay as they are."""
    return 2 * y_true - 1 if np.isin(y_true, (0, 1)).all() else y_true


@loss
class Hinge(MeanOfEntries):
    """mean over the last axis of max(1 - y_true · y_pred, 0), y_true being -1 or 1 (or all 0 or 1)

    Shapes  y_true, y_pred (batch, …, n)   →   (batch, …)
    Keras   Hinge
    Source  keras.io/api/losses/hinge_losses
    """

    def entry(self, y_true: Array, y_pred: Array) -> Array:
        return clip_below(1 - signs(y_true) * y_pred, 0.0)

    def domains(self) -> tuple[Domain, Domain]:
        return Signs(), Real()


@loss
class SquaredHinge(Hinge):
    """mean over the last axis of max(1 - y_true · y_pred, 0)², y_true being -1 or 1 (or all 0 or 1)

    Shapes  y_true, y_pred (batch, …, n)   →   (batch, …)
    Keras   SquaredHinge
    Source  keras.io/api/losses/hinge_losses
    """

    def entry(self, y_true: Array, y_pred: Array) -> Array:
        return super().entry(y_true, y_pred) ** 2


@loss
class CategoricalHinge(Loss):
    """max(wrong - right + 1, 0), wrong = max((1 - y_true) · y_pred), right = Σ y_true · y_pred, along the last axis

    Shapes  y_true, y_pred (batch, …, n)   →   (batch, …)
    Keras   CategoricalHinge; the maximum includes the right class, with the value 0
    Source  keras.io/api/losses/hinge_losses
    """

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        t, p = aligned(y_true, y_pred)
        others = (1 - t) * p
        first = np.expand_dims(others.real.argmax(axis=-1), -1)
        wrong = np.take_along_axis(others, first, axis=-1)[..., 0]
        return clip_below(wrong - (t * p).sum(axis=-1) + 1, 0.0)

    def shapes(self, size: Size) -> tuple[Shape, Shape]:
        shape = shape_with(size, smallest=2)
        return shape, shape

    def domains(self) -> tuple[Domain, Domain]:
        return OneHot(), Real()
