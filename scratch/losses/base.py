"""Base of the losses: values per sample, and one reduction that all losses share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from scratch.arrays import Array
from scratch.axes import rank_for
from scratch.fields import Domain, Real, Shape, Size

Reduction = Literal["sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none", None]  # noqa: PYI061 (None is one of the names, not a missing value)


def clip(x: Array, low: float, high: float) -> Array:
    """x clipped to [low, high] by its real part; inside, x itself, with its imaginary part."""
    return np.where(x.real < low, low, np.where(x.real > high, high, x)).astype(x.dtype, copy=False)


def matched(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes by Keras's rule for a shape with one axis more than the other, at the end and of size 1.

    If the other shape is that of a vector, it gains the axis, else the axis is removed. All other shapes are returned
    as they are.
    """
    if len(a) < len(b):
        b, a = matched(b, a)
    elif len(a) == len(b) + 1 and a[-1] == 1:
        a, b = (a, (*b, 1)) if len(b) == 1 else (a[:-1], b)
    return a, b


def aligned(y_true: Array, y_pred: Array) -> tuple[Array, Array]:
    """Targets, in the precision of the predictions, and predictions, with the shapes of `matched`."""
    true, pred = matched(y_true.shape, y_pred.shape)
    return y_true.reshape(true).astype(y_pred.real.dtype, copy=False), y_pred.reshape(pred)


def times(a: Array, b: Array) -> Array:
    """a · b with the shapes of `matched`; an array with fewer axes is aligned with the first axes of the other."""
    first, second = matched(a.shape, b.shape)
    rank = max(len(first), len(second))
    first, second = (shape + (1,) * (rank - len(shape)) for shape in (first, second))
    return a.reshape(first) * b.reshape(second)


def log_sum_exp(x: Array, axis: int) -> Array:
    """log(Σ exp(x)) along an axis; the logarithm of 0 is -∞."""
    top = x.real.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0).astype(x.real.dtype)
    with np.errstate(divide="ignore"):
        values: Array = np.log(np.exp(x - top).sum(axis=axis)) + np.squeeze(top, axis)
        return values


def shape_with(size: Size, axis: int | tuple[int, ...] | None = -1, smallest: int = 1) -> tuple[int, ...]:
    """A small shape (batch, …) in which `axis` exists; it, if single, and the last have at least size `smallest`."""
    rank = max(2 + size(0, 1), rank_for(axis))
    large = {rank - 1, axis % rank} if isinstance(axis, int) else {rank - 1}
    return tuple(size(smallest, smallest + 2) if i in large else size(1, 3) for i in range(rank))


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Base of the losses: a subclass decorated with `@loss` defines `per_sample`.

    loss(y_true, y_pred) = reduction of values v = per_sample(y_true, y_pred) with weights w = sample_weight · mask:
    sum_over_batch_size, mean      Σ v·w / number of values; with a mask, the number of values that it keeps
    mean_with_sample_weight        Σ v·w / Σ w
    sum; none, None                Σ v·w; v·w
    A mean of no values is 0.
    Source  keras.io/api/losses, "Base Loss API"; keras.io/api/models/model_training_apis, `sample_weight`
    """

    reduction: Reduction = "sum_over_batch_size"

    @property
    def couples_batch(self) -> bool:
        """Whether a sample's value may depend on other samples of the batch (y_pred having two axes or more)."""
        return False

    @property
    def shortcut(self) -> str | None:
        """The activation from whose logits, not output, the loss is computed, as in Keras; None: there is none."""
        return None

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        """Values of shape (batch, …), mostly without the last axis of y_pred. Raises: TypeError if a class has none."""
        raise TypeError(f"{type(self).__name__} must define `per_sample`: write it in scratch/losses/.")

    def valid(self, y_true: Array, y_pred: Array) -> Array | None:
        """The values that count, boolean in the shape of per_sample, or None where all do."""
        return None

    def __call__(
        self, y_true: Array, y_pred: Array, *, sample_weight: Array | None = None, mask: Array | None = None
    ) -> Array:
        """The reduced loss, a scalar (with reduction None or "none": the weighted values).

        Raises: ValueError where the shape of weights or mask does not fit that of the values; TypeError of a class
        without `per_sample`.
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

        Raises: ValueError where the shape of weights or mask does not fit that of the values.
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
        """The weights of the values, or None.

        The means divide by the number of all values; a value that a mask keeps therefore has the weight all / kept in
        place of 1.
        """
        weights = None if sample_weight is None else np.asarray(sample_weight).astype(dtype)
        if mask is None:
            return weights
        kept = np.asarray(mask).astype(bool).astype(dtype)
        if self.reduction in ("sum_over_batch_size", "mean") and kept.any():
            kept = kept * dtype.type(kept.size / np.count_nonzero(kept))
        return kept if weights is None else times(kept, weights)

    # Examples: what the Hypothesis strategies read -----------------------------------------------------------------

    def shapes(self, size: Size) -> tuple[Shape, Shape]:
        """Legal shapes of (y_true, y_pred); `size(low, high)` chooses each integer."""
        shape = shape_with(size)
        return shape, shape

    def domains(self) -> tuple[Domain, Domain]:
        """The domains of the entries of (y_true, y_pred)."""
        return Real(), Real()


def _placed(values: tuple[int, ...], weights: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes in which values and weights multiply. Values without an axis (one for the batch) allow any weights."""
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
    """sum(y_true · y_pred), y_true being a random cotangent: a loss of any output. Not a loss of Keras.

    Under a plain sum a backward pass that permutes outputs would have the right gradient; under this it has not.
    """

    reduction: Reduction = "sum"

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        values: Array = (y_true * y_pred).reshape(len(y_pred), -1).sum(axis=-1)
        return values

    def reduce(
        self, values: Array, *, sample_weight: Array | None = None, mask: Array | None = None, stacked: bool = False
    ) -> Array:
        """The sum of all entries, without masks and weights."""
        return super().reduce(values, stacked=stacked)
