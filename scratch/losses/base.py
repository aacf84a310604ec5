"""What every loss is: values per sample, then one reduction that all losses share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from scratch.activations.axes import rank_for
from scratch.arrays import Array
from scratch.fields import Domain, Real, Shape, Size

Reduction = Literal["sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none", None]

#: keras.config.epsilon(): the distance that probabilities keep from 0 and 1 (keras.io/api/utils/config_utils)
EPSILON = 1e-7


def clip(x: Array, low: float, high: float) -> Array:
    """x held between low and high by its real part; inside, x itself (complex steps pass)."""
    return np.where(x.real < low, low, np.where(x.real > high, high, x)).astype(x.dtype, copy=False)


def matched(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Keras's rule for two shapes of which one has an axis of size 1 more, at the end: a vector gains that axis,
    otherwise it goes. All other shapes stay as they are."""
    if len(a) < len(b):
        b, a = matched(b, a)
    elif len(a) == len(b) + 1 and a[-1] == 1:
        a, b = (a, (*b, 1)) if len(b) == 1 else (a[:-1], b)
    return a, b


def aligned(y_true: Array, y_pred: Array) -> tuple[Array, Array]:
    """Targets, in the precision of the predictions, and predictions; shapes as `matched` says."""
    true, pred = matched(y_true.shape, y_pred.shape)
    return y_true.reshape(true).astype(y_pred.real.dtype, copy=False), y_pred.reshape(pred)


def times(a: Array, b: Array) -> Array:
    """a · b, shapes as `matched` says; what has fewer axes goes with the first ones: weights of samples, of steps."""
    first, second = matched(a.shape, b.shape)
    rank = max(len(first), len(second))
    first, second = (shape + (1,) * (rank - len(shape)) for shape in (first, second))
    return a.reshape(first) * b.reshape(second)


def log_sum_exp(x: Array, axis: int) -> Array:
    """log(Σ exp(x)) along an axis, -∞ being the logarithm of 0."""
    top = x.real.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0).astype(x.real.dtype)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(x - top).sum(axis=axis)) + np.squeeze(top, axis)


def shape_with(size: Size, axis: int | tuple[int, ...] | None = -1, smallest: int = 1) -> tuple[int, ...]:
    """A small shape (batch, …) in which `axis` exists; it, if one, and the last have size `smallest` or more."""
    rank = max(2 + size(0, 1), rank_for(axis))
    large = {rank - 1, axis % rank} if isinstance(axis, int) else {rank - 1}
    return tuple(size(smallest, smallest + 2) if i in large else size(1, 3) for i in range(rank))


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Base of the losses: a subclass decorated with `@loss` gives `per_sample`.

    loss(y_true, y_pred) = reduction of values v = per_sample(y_true, y_pred) with weights w = sample_weight · mask:
    sum_over_batch_size, mean      Σ v·w / number of values; under a mask, of those that it keeps
    mean_with_sample_weight        Σ v·w / Σ w
    sum; none, None                Σ v·w; v·w
    A mean over nothing is 0.
    Source  keras.io/api/losses, "Base Loss API"; keras.io/api/models/model_training_apis, `sample_weight`
    """

    reduction: Reduction = "sum_over_batch_size"

    @property
    def couples_batch(self) -> bool:
        """Whether a sample's value may depend on other samples of the batch (y_pred having two axes or more)."""
        return False

    @property
    def shortcut(self) -> str | None:
        """The activation whose logits this loss takes instead of its output (Keras's shortcut), if any."""
        return None

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        """Values of shape (batch, …), mostly without the last axis of y_pred."""
        raise TypeError(f"{type(self).__name__} gives no per_sample: write its law in scratch/losses/.")

    def valid(self, y_true: Array, y_pred: Array) -> Array | None:
        """Values that count (boolean, shape of per_sample), or None where all do."""
        return None

    def __call__(
        self, y_true: Array, y_pred: Array, *, sample_weight: Array | None = None, mask: Array | None = None
    ) -> Array:
        """The reduced loss, a scalar (with reduction None or "none": the weighted values).

        Raises: ValueError where weights or mask have no place among the values.
        """
        y_true, y_pred = np.asarray(y_true), np.asanyarray(y_pred)
        values = self.per_sample(y_true, y_pred)
        own = self.valid(y_true, y_pred)
        mask = own if mask is None else mask if own is None else times(mask, own)
        return self.reduce(values, sample_weight=sample_weight, mask=mask)

    def reduce(
        self, values: Array, *, sample_weight: Array | None = None, mask: Array | None = None, stacked: bool = False
    ) -> Array:
        """Values (batch, …) → scalar; with `stacked`, values (stack, batch, …) → (stack,).

        Raises: ValueError where weights or mask have no place among the values.
        """
        stack = values if stacked else values[None]
        weights = self._weights(stack.real.dtype, sample_weight, mask)
        if weights is not None:
            shape, own = _placed(stack.shape[1:], weights.shape)
            stack = stack.reshape(len(stack), *shape) * weights.reshape(own)
        if self.reduction not in (None, "none"):
            count = stack[0].size if len(stack) else 1
            stack = stack.sum(axis=tuple(range(1, stack.ndim)))
            if self.reduction == "mean_with_sample_weight" and weights is not None:
                count = weights.sum()
            if self.reduction != "sum":
                stack = stack / stack.real.dtype.type(count) if count != 0 else np.zeros_like(stack)
        return stack if stacked else stack[0]

    def _weights(self, dtype: np.dtype, sample_weight: Array | None, mask: Array | None) -> Array | None:
        """What the values are multiplied with. The means divide by the number of all values: under a mask, each kept
        one weighs all / kept instead of 1."""
        weights = None if sample_weight is None else np.asarray(sample_weight).astype(dtype)
        if mask is None:
            return weights
        kept = np.asarray(mask).astype(bool).astype(dtype)
        if self.reduction in ("sum_over_batch_size", "mean") and kept.any():
            kept = kept * dtype.type(kept.size / np.count_nonzero(kept))
        return kept if weights is None else times(kept, weights)

    # What examples are made of -------------------------------------------------------------------------------------

    def shapes(self, size: Size) -> tuple[Shape, Shape]:
        """Legal shapes of (y_true, y_pred); `size(low, high)` chooses each integer."""
        shape = shape_with(size)
        return shape, shape

    def domains(self) -> tuple[Domain, Domain]:
        """What the entries of (y_true, y_pred) may be."""
        return Real(), Real()


def _placed(values: tuple[int, ...], weights: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes in which values and weights multiply. Values without an axis (one for the batch) take any weights."""
    shape, own = matched(values, weights)
    shape = shape or (1,) * len(own)
    fits = len(own) <= len(shape) and all(w in (1, v) or v == 1 for w, v in zip(own, shape, strict=False))
    if not fits:
        raise ValueError(
            "Sample weights and masks must have the first axes of the loss values, each of the same size or 1. "
            f"Received: weights {weights}, values {values}. Give one weight per sample, or one per value."
        )
    return shape, own + (1,) * (len(shape) - len(own))


@dataclass(frozen=True, kw_only=True)
class Projection(Loss):
    """sum(y_true · y_pred): the scalar that turns any output into a loss, y_true being a random cotangent.

    Not a loss of Keras. A plain sum would hide a backward pass that mixes outputs up; a random cotangent does not.
    """

    reduction: Reduction = "sum"

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        return (y_true * y_pred).reshape(len(y_pred), -1).sum(axis=-1)

    def reduce(
        self, values: Array, *, sample_weight: Array | None = None, mask: Array | None = None, stacked: bool = False
    ) -> Array:
        """Every entry counts: a cotangent knows no masks and no weights."""
        return super().reduce(values, stacked=stacked)
