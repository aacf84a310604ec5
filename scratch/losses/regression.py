"""Losses of differences between numbers."""

from __future__ import annotations

import numpy as np

from scratch.losses.base import Array, Loss, aligned
from scratch.registry import loss


@loss
class MeanSquaredError(Loss):
    """mean over the last axis of (y_true - y_pred)²

    Shapes  y_true, y_pred (batch, …, n)   →   (batch, …)
    Keras   MeanSquaredError
    Source  Neural Networks with Keras Cookbook, chapter 1
    """

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        y_true, y_pred = aligned(y_true, y_pred)
        return np.mean((y_true - y_pred) ** 2, axis=-1)
