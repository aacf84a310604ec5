"""Merging layers: several inputs combined entry by entry, concatenated, or multiplied along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Annotated, Any, ClassVar

import numpy as np

from scratch.arrays import Array, unit
from scratch.fields import Domain, Shape, Size, is_integer
from scratch.layers.base import Layer, Weights
from scratch.layers.normalization import Axis, shape_with
from scratch.registry import layer

Masks = Sequence[Array | None] | None


def raised(x: Array, rank: int) -> Array:
    """x with axes of size 1 inserted after the batch, so that it has `rank` axes."""
    return x.reshape(*x.shape[:1], *(1,) * (rank - x.ndim), *x.shape[1:])


def over(mask: Array, x: Array) -> Array:
    """A mask of the first axes of x, broadcast to the shape of x."""
    return np.broadcast_to(mask.astype(bool).reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x.shape)


def kept(x: Array, mask: Array | None, other: Any) -> Array:
    """x where the mask is True, `other` elsewhere; None is True everywhere."""
    return x if mask is None else np.where(over(mask, x), x, other).astype(x.dtype)


class Merge(Layer):
    """Base of the layers that merge two or more inputs entry by entry, with broadcasting.

    Shapes  x₁, x₂, … (batch, …) that broadcast, axes of size 1 inserted after the batch   →   y (batch, …)
    """

    #: the number of inputs, where it is fixed
    fixed: ClassVar[int | None] = None

    def merged(self, inputs: Sequence[Array], masks: Sequence[Array | None]) -> Array:
        """The law, for inputs of equal rank."""
        raise TypeError(f"{type(self).__name__} must define `merged`: write it in scratch/layers/merging.py.")

    def forward(self, weights: Weights, *inputs: Array, mask: Masks = None) -> Array:
        if self.fixed is not None and len(inputs) != self.fixed:
            raise ValueError(
                f"{type(self).__name__} must have {self.fixed} inputs. Received: {len(inputs)}. Pass {self.fixed}."
            )
        rank = max(x.ndim for x in inputs)
        masks = [None] * len(inputs) if mask is None else list(mask)
        masks = [m if x.ndim == rank else None for m, x in zip(masks, inputs, strict=True)]
        return self.merged([raised(x, rank) for x in inputs], masks)

    def compute_mask(self, *inputs: Array, mask: Masks = None) -> Array | None:
        if mask is None or any(m is None for m in mask):
            return None
        return reduce(np.logical_or, mask)  # type: ignore[arg-type]

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        whole = tuple(size(1, 3) for _ in range(size(2, 3)))
        rest = range((self.fixed or size(2, 3)) - 1)
        return (whole, *((whole[0], *(n if size(0, 2) else 1 for n in whole[1:])) for _ in rest))


@layer
class Add(Merge):
    """y = x₁ + x₂ + … Keras   Add. Source  keras.io/api/layers/merging_layers"""

    def merged(self, inputs: Sequence[Array], masks: Sequence[Array | None]) -> Array:
        return reduce(np.add, inputs)


@layer
class Average(Merge):
    """y = (x₁ + x₂ + …) / number of inputs. Keras   Average. Source  keras.io/api/layers/merging_layers"""

    def merged(self, inputs: Sequence[Array], masks: Sequence[Array | None]) -> Array:
        return reduce(np.add, inputs) / len(inputs)


@layer
class Subtract(Merge):
    """y = x₁ - x₂. Keras   Subtract. Source  keras.io/api/layers/merging_layers"""

    fixed: ClassVar[int | None] = 2

    def merged(self, inputs: Sequence[Array], masks: Sequence[Array | None]) -> Array:
        return inputs[0] - inputs[1]


@layer
class Multiply(Merge):
    """y = x₁ · x₂ · …, where a masked entry counts as 1; 0 where every input is masked.

    Keras   Multiply. Source  keras.io/api/layers/merging_layers
    """

    def merged(self, inputs: Sequence[Array], masks: Sequence[Array | None]) -> Array:
        y = reduce(np.multiply, [kept(x, m, 1.0) for x, m in zip(inputs, masks, strict=True)])
        if any(m is None for m in masks):
            return y
        valid = reduce(np.logical_or, [over(m, x) for x, m in zip(inputs, masks, strict=True) if m is not None])
        return np.where(valid, y, 0.0).astype(y.dtype)


class Extremum(Merge):
    """Base of Maximum and Minimum: the first of equal entries; masked entries do not count, unless all are: y = x₁."""

    sign: ClassVar[int]

    def merged(self, inputs: Sequence[Array], masks: Sequence[Array | None]) -> Array:
        shape = np.broadcast_shapes(*(x.shape for x in inputs))
        valid = [np.ones(x.shape, bool) if m is None else over(m, x) for x, m in zip(inputs, masks, strict=True)]
        y, counts = np.broadcast_to(inputs[0], shape), np.broadcast_to(valid[0], shape)
        for x, also in zip(inputs[1:], valid[1:], strict=True):
            is_beyond = x.real > y.real if self.sign > 0 else x.real < y.real
            better = also & (~counts | is_beyond | np.isnan(x))
            y, counts = np.where(better, x, y), counts | also
        return y


@layer
class Maximum(Extremum):
    """y = the largest of x₁, x₂, … Keras   Maximum. Source  keras.io/api/layers/merging_layers"""

    sign: ClassVar[int] = 1


@layer
class Minimum(Extremum):
    """y = the smallest of x₁, x₂, … Keras   Minimum. Source  keras.io/api/layers/merging_layers"""

    sign: ClassVar[int] = -1


@layer
class Concatenate(Merge):
    """y = x₁, x₂, … concatenated along `axis`. The mask is that of the inputs (True where there is none) concatenated
    likewise, and True where any entry along the last axis is.

    Shapes  x₁, x₂, … (batch, …), equal but for `axis`   →   y (batch, …)
    Keras   Concatenate
    Source  keras.io/api/layers/merging_layers/concatenate
    """

    axis: Axis = -1

    def merged(self, inputs: Sequence[Array], masks: Sequence[Array | None]) -> Array:
        return np.concatenate(inputs, axis=self.axis)

    def compute_mask(self, *inputs: Array, mask: Masks = None) -> Array | None:
        if mask is None or all(m is None for m in mask):
            return None
        whole = [np.ones(x.shape, bool) if m is None else over(m, x) for x, m in zip(inputs, mask, strict=True)]
        return np.asarray(np.concatenate(whole, axis=self.axis).any(axis=-1))

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        shape = shape_with(self.axis, size)
        axis = self.axis % len(shape)
        return tuple((*shape[:axis], size(1, 3), *shape[axis + 1 :]) for _ in range(size(2, 3)))


@dataclass(frozen=True)
class DotAxes(Domain):
    """An axis for both inputs, or one for each; never 0, the batch."""

    examples: ClassVar[tuple[Any, ...]] = (1, -1, (1, 2), (2, 1), (-1, 1), (-2, -1))

    @property
    def rule(self) -> str:
        return "must be an axis other than 0, or a pair of them"

    def holds(self, value: Any) -> bool:
        axes = (value, value) if is_integer(value) else value
        return isinstance(axes, (tuple, list)) and len(axes) == 2 and all(is_integer(a) and a != 0 for a in axes)

    def normalise(self, value: Any) -> Any:
        return int(value) if is_integer(value) else tuple(int(v) for v in value)


@layer
class Dot(Layer):
    """y = Σ x₁ · x₂ along an axis of each, sample by sample; `normalize` makes both of length 1 along it before
    (x / max(|x|, 1e-7)).

    Shapes  x₁ (batch, a…, n, a…)   x₂ (batch, b…, n, b…)   →   y (batch, a…, b…), or (batch, 1) if nothing is left
    Keras   Dot
    Source  keras.io/api/layers/merging_layers/dot
    """

    axes: Annotated[int | tuple[int, ...], DotAxes()]
    normalize: bool = False

    @property
    def _pair(self) -> tuple[int, int]:
        first, second = (self.axes, self.axes) if isinstance(self.axes, int) else self.axes
        return first, second

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        x, y = (unit(x, a) if self.normalize else x for x, a in zip(inputs, self._pair, strict=True))
        first, second = np.moveaxis(x, self._pair[0], -1), np.moveaxis(y, self._pair[1], 1)
        rest = first.shape[1:-1] + second.shape[2:]
        n = first.shape[-1]
        product = first.reshape(len(first), -1, n) @ second.reshape(len(second), n, -1)
        return product.reshape(len(x), *(rest or (1,)))

    def compute_mask(self, *inputs: Array, mask: Masks = None) -> None:
        return None

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        shapes = [list(shape_with(a, size)) for a in self._pair]
        shapes[1][0] = shapes[0][0]
        shapes[1][self._pair[1]] = shapes[0][self._pair[0]]
        return tuple(tuple(shape) for shape in shapes)
