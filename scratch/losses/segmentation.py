"""Segmentation losses: the overlap of two regions."""

from __future__ import annotations

from typing import Annotated

from scratch.arrays import EPSILON, Array
from scratch.axes import AxisOrAxes
from scratch.fields import AtLeast, Binary, Domain, Probability, Shape, Size
from scratch.losses.base import Loss, aligned, shape_with
from scratch.registry import loss

Weight = Annotated[float, AtLeast(0.0, small=(0.0, 1.0))]


class Overlap(Loss):
    """Base of the losses of sums over a field `axis`; None sums over all axes, the batch too."""

    @property
    def couples_batch(self) -> bool:
        axes: int | tuple[int, ...] | None = self.axis  # type: ignore[attr-defined]
        if axes is None:
            return True
        return any(axis == 0 or axis < -1 for axis in ((axes,) if isinstance(axes, int) else axes))

    def shapes(self, size: Size) -> tuple[Shape, Shape]:
        shape = shape_with(size, self.axis)  # type: ignore[attr-defined]
        return shape, shape

    def domains(self) -> tuple[Domain, Domain]:
        return Binary(), Probability()


@loss
class Dice(Overlap):
    """1 - 2·Σ(t·p) / (Σt + Σp + ε), sums over `axis`, by default over everything

    Shapes  y_true, y_pred (batch, …)   →   the remaining axes, none by default
    Keras   Dice; ε is keras.config.epsilon()
    Source  keras.io/api/losses/regression_losses
    """

    axis: AxisOrAxes | None = None

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        t, p = aligned(y_true, y_pred)
        values: Array = 1 - 2 * (t * p).sum(axis=self.axis) / (t.sum(axis=self.axis) + p.sum(axis=self.axis) + EPSILON)
        return values


@loss
class Tversky(Overlap):
    """1 - Σ(t·p) / (Σ(t·p) + alpha · Σ(1-t)·p + beta · Σ t·(1-p) + ε), sums over `axis`, by default over everything:
    alpha weighs false positives, beta false negatives.

    Shapes  y_true, y_pred (batch, …)   →   the remaining axes, none by default
    Keras   Tversky; ε is keras.config.epsilon()
    Source  Salehi et al. 2017, equation 1; keras.io/api/losses/regression_losses
    """

    alpha: Weight = 0.5
    beta: Weight = 0.5
    axis: AxisOrAxes | None = None

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        t, p = aligned(y_true, y_pred)
        right, false_positive, false_negative = (part.sum(axis=self.axis) for part in (t * p, (1 - t) * p, t * (1 - p)))
        values: Array = 1 - right / (right + self.alpha * false_positive + self.beta * false_negative + EPSILON)
        return values
