"""What every loss is: values per sample, then one reduction that all losses share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from scratch.domain import Domain, Real, Shape, Size

Array = np.ndarray
Reduction = Literal["sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none", None]

#: keras.config.epsilon(): the distance that probabilities keep from 0 and 1 (keras.io/api/utils/config_utils)
EPSILON = 1e-7


def clip(x: Array, low: float, high: float) -> Array:
    """x held between low and high by its real part; inside, x itself (complex steps pass)."""
    return np.where(x.real < low, low, np.where(x.real > high, high, x)).astype(x.dtype, copy=False)


def aligned(y_true: Array, y_pred: Array) -> tuple[Array, Array]:
    """Keras's rule for ranks that differ by one: squeeze a last axis of size 1, or expand a vector."""
    if y_pred.ndim == y_true.ndim + 1:
        return (y_true[..., None], y_pred) if y_true.ndim == 1 and y_pred.shape[-1] != 1 else (y_true, _squeeze(y_pred))
    if y_true.ndim == y_pred.ndim + 1:
        return (y_true, y_pred[..., None]) if y_pred.ndim == 1 and y_true.shape[-1] != 1 else (_squeeze(y_true), y_pred)
    return y_true, y_pred


def _squeeze(x: Array) -> Array:
    return x[..., 0] if x.shape[-1] == 1 else x


def weighted(values: Array, sample_weight: Array) -> Array:
    """Values (batch, …) times weights of the same rank, one rank less (expanded) or with a last axis of 1."""
    if sample_weight.ndim == values.ndim + 1 and sample_weight.shape[-1] == 1:
        sample_weight = sample_weight[..., 0]
    while sample_weight.ndim < values.ndim:
        sample_weight = sample_weight[..., None]
    return values * sample_weight


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Base of the losses: a subclass decorated with `@loss` gives `per_sample`.

    loss(y_true, y_pred) = reduction of per_sample(y_true, y_pred) · sample_weight
    Source  keras.io/api/losses, "Base Loss API" (which divisor belongs to which reduction)
    """

    reduction: Reduction = "sum_over_batch_size"
    #: whether a sample's value depends on other samples of the batch
    couples_batch: ClassVar[bool] = False
    #: the activation whose logits this loss takes instead of its output (Keras's shortcut), if any
    shortcut: ClassVar[str | None] = None

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        """Values of shape (batch, …), mostly without the last axis of y_pred."""
        raise TypeError(f"{type(self).__name__} gives no per_sample: write its law in scratch/losses/.")

    def valid(self, y_true: Array, y_pred: Array) -> Array | None:
        """Samples that count (boolean, shape of per_sample), or None where all do."""
        return None

    def __call__(
        self, y_true: Array, y_pred: Array, *, sample_weight: Array | None = None, mask: Array | None = None
    ) -> Array:
        """The reduced loss, a scalar (with reduction None or "none": the weighted values)."""
        values = self.per_sample(y_true, y_pred)
        own = self.valid(y_true, y_pred)
        mask = own if mask is None else mask if own is None else mask & own
        return self.reduce(values, sample_weight=sample_weight, mask=mask)

    def reduce(
        self, values: Array, *, sample_weight: Array | None = None, mask: Array | None = None, stacked: bool = False
    ) -> Array:
        """Values (batch, …) → scalar; with `stacked`, values (stack, batch, …) → (stack,)."""
        if stacked:
            return np.array([self.reduce(v, sample_weight=sample_weight, mask=mask) for v in values])
        weights = None if sample_weight is None else np.asarray(sample_weight)
        if mask is not None:
            scale = 1.0
            if self.reduction in ("sum_over_batch_size", "mean"):
                scale = mask.size / max(np.count_nonzero(mask), EPSILON)
            masked = mask * values.real.dtype.type(scale)
            weights = masked if weights is None else weighted(masked, weights)
        if weights is not None:
            values = weighted(values, weights.astype(values.real.dtype, copy=False))
        if self.reduction in (None, "none"):
            return values
        total = values.sum()
        if self.reduction == "sum":
            return total
        if self.reduction == "mean_with_sample_weight" and weights is not None:
            divisor = np.broadcast_to(weighted(np.ones(values.shape, values.real.dtype), weights), values.shape).sum()
        else:
            divisor = values.real.dtype.type(values.size)
        return total / divisor if divisor != 0 else total * 0

    # What examples are made of -------------------------------------------------------------------------------------

    def shapes(self, size: Size) -> tuple[Shape, Shape]:
        """Legal shapes of (y_true, y_pred); `size(low, high)` chooses each integer."""
        shape = (size(1, 4), *(size(1, 3) for _ in range(size(0, 1))), size(1, 4))
        return shape, shape

    def domains(self) -> tuple[Domain, Domain]:
        """What the entries of (y_true, y_pred) may be."""
        return Real(), Real()


@dataclass(frozen=True, kw_only=True)
class Projection(Loss):
    """sum(y_true · y_pred): the scalar that turns any output into a loss, y_true being a random cotangent.

    Not a loss of Keras. A plain sum would hide a backward pass that mixes outputs up; a random cotangent does not.
    """

    reduction: Reduction = "sum"

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        return (y_true * y_pred).reshape(len(y_pred), -1).sum(axis=-1)
