"""Regression losses: the mean over the last axis of a function of target and prediction."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np

from scratch.arrays import EPSILON, Array, absolute, clip_below
from scratch.fields import Above, Domain, Positive
from scratch.losses.base import Loss, aligned
from scratch.registry import loss


class MeanOfEntries(Loss):
    """Base of the losses that are the mean over the last axis of `entry`, a function of a target and a prediction."""

    def entry(self, y_true: Array, y_pred: Array) -> Array:
        """The value for each pair of entries."""
        raise TypeError(f"{type(self).__name__} must define `entry`: write it in scratch/losses/.")

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        values: Array = self.entry(*aligned(y_true, y_pred)).mean(axis=-1)
        return values


@loss
class MeanSquaredError(MeanOfEntries):
    """mean over the last axis of (y_true - y_pred)²

    Shapes  y_true, y_pred (batch, …, n)   →   (batch, …)
    Keras   MeanSquaredError
    Source  Neural Networks with Keras Cookbook, chapter 1
    """

    def entry(self, y_true: Array, y_pred: Array) -> Array:
        return (y_true - y_pred) ** 2


@loss
class MeanAbsoluteError(MeanOfEntries):
    """mean over the last axis of |y_true - y_pred|

    Shapes  y_true, y_pred (batch, …, n)   →   (batch, …)
    Keras   MeanAbsoluteError
    Source  keras.io/api/losses/regression_losses
    """

    def entry(self, y_true: Array, y_pred: Array) -> Array:
        return absolute(y_true - y_pred)


@loss
class MeanAbsolutePercentageError(MeanOfEntries):
    """100 · mean over the last axis of |y_true - y_pred| / max(|y_true|, ε)

    Shapes  y_true, y_pred (batch, …, n)   →   (batch, …)
    Keras   MeanAbsolutePercentageError; ε is keras.config.epsilon()
    Source  keras.io/api/losses/regression_losses
    """

    def entry(self, y_true: Array, y_pred: Array) -> Array:
        return 100 * absolute(y_true - y_pred) / clip_below(absolute(y_true), EPSILON)


@loss
class MeanSquaredLogarithmicError(MeanOfEntries):
    """mean over the last axis of (log(y_true + 1) - log(y_pred + 1))², where values below ε count as ε

    Shapes  y_true, y_pred (batch, …, n)   →   (batch, …)
    Keras   MeanSquaredLogarithmicError; ε is keras.config.epsilon()
    Source  keras.io/api/losses/regression_losses
    """

    def entry(self, y_true: Array, y_pred: Array) -> Array:
        values: Array = (np.log(clip_below(y_true, EPSILON) + 1) - np.log(clip_below(y_pred, EPSILON) + 1)) ** 2
        return values

    def domains(self) -> tuple[Domain, Domain]:
        return Positive(), Positive()


@loss
class Huber(MeanOfEntries):
    """mean over the last axis of e²/2 where |e| ≤ delta, else delta·|e| - delta²/2, of the errors e = y_pred - y_true

    Shapes  y_true, y_pred (batch, …, n)   →   (batch, …)
    Keras   Huber
    Source  Huber 1964; keras.io/api/losses/regression_losses
    """

    delta: Annotated[float, Above(0.0, small=(0.25, 2.0))] = 1.0

    def entry(self, y_true: Array, y_pred: Array) -> Array:
        error = absolute(y_pred - y_true)
        return np.where(error.real <= self.delta, error**2 / 2, self.delta * error - self.delta**2 / 2)


@loss
class LogCosh(MeanOfEntries):
    """mean over the last axis of log(cosh(e)) = |e| + log(1 + exp(-2|e|)) - log(2), of e = y_pred - y_true

    Shapes  y_true, y_pred (batch, …, n)   →   (batch, …)
    Keras   LogCosh
    Source  keras.io/api/losses/regression_losses
    """

    def entry(self, y_true: Array, y_pred: Array) -> Array:
        error = absolute(y_pred - y_true)
        values: Array = error + np.log1p(np.exp(-2 * error)) - math.log(2)
        return values


@loss
class Poisson(MeanOfEntries):
    """mean over the last axis of y_pred - y_true · log(y_pred + ε)

    Shapes  y_true, y_pred (batch, …, n)   →   (batch, …)
    Keras   Poisson; ε is keras.config.epsilon()
    Source  keras.io/api/losses/probabilistic_losses
    """

    def entry(self, y_true: Array, y_pred: Array) -> Array:
        values: Array = y_pred - y_true * np.log(y_pred + EPSILON)
        return values

    def domains(self) -> tuple[Domain, Domain]:
        return Positive(), Positive()
