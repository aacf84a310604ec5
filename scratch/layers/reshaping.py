"""Cells cut off, added, or in another order: cropping, zero padding, Permute, Reshape, RepeatVector."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from scratch.arrays import Array
from scratch.fields import AtLeast, Domain, Integers, Shape, Size, is_integer
from scratch.layers.base import Layer, Weights
from scratch.layers.patches import DataFormat, channels_last, formatted, restored
from scratch.registry import layer

Pair = tuple[int, int]
Pairs = tuple[Pair, ...]


@dataclass(frozen=True)
class Ends(Domain):
    """A pair (before, after) for each of `length` axes; an integer in place of a pair, or of all, means equal ends."""

    length: int

    @property
    def rule(self) -> str:
        return f"must be {self.length} pairs of integers, each at least 0"

    def holds(self, value: Any) -> bool:
        if is_integer(value):
            return value >= 0
        return isinstance(value, (tuple, list)) and len(value) == self.length and all(map(Integers(2, 0).holds, value))

    def normalise(self, value: Any) -> Pairs:
        pairs = [value] * self.length if is_integer(value) else value
        return tuple((before, after) for before, after in map(Integers(2, 0).normalise, pairs))

    def examples(self) -> tuple[Pairs, ...]:
        """None at all, equal ones, and different ones everywhere."""
        different = [tuple((a + i, b - i) for i in range(self.length)) for a, b in ((0, 2), (1, 3))]
        return (self.normalise(0), self.normalise(1), *different)


@dataclass(frozen=True)
class Permutation(Domain):
    """The integers from 1 to any n in some order."""

    @property
    def rule(self) -> str:
        return "must be the integers from 1 on, each once"

    def holds(self, value: Any) -> bool:
        return isinstance(value, (tuple, list)) and sorted(value) == list(range(1, len(value) + 1))

    def normalise(self, value: Any) -> tuple[int, ...]:
        return tuple(int(v) for v in value)

    def examples(self) -> tuple[tuple[int, ...], ...]:
        """All orders of one, two and three axes."""
        return tuple(order for n in (1, 2, 3) for order in itertools.permutations(range(1, n + 1)))


@dataclass(frozen=True)
class Target(Domain):
    """Sizes, one of which may be -1: what is left over."""

    @property
    def rule(self) -> str:
        return "must be integers, each at least 1, but for one that may be -1"

    def holds(self, value: Any) -> bool:
        if not isinstance(value, (tuple, list)) or not all(is_integer(v) and (v >= 1 or v == -1) for v in value):
            return False
        return list(value).count(-1) <= 1

    def normalise(self, value: Any) -> tuple[int, ...]:
        return tuple(int(v) for v in value)

    def examples(self) -> tuple[tuple[int, ...], ...]:
        """Each number of axes up to three, the unknown one in every place and nowhere."""
        return ((-1,), (6,), (-1, 2), (2, -1), (2, 3), (-1, 1, 2), (3, -1, 2), (2, 1, -1), (1, 2, 3))


class Rearranging(Layer):
    """What these layers share: masks end here."""

    def compute_mask(self, *inputs: Array, mask: Any = None) -> None:
        return None


# Cropping ----------------------------------------------------------------------------------------------------------


class Cropping(Rearranging):
    """y = x without the first `before` and the last `after` cells of each axis.

    Shapes  x (batch, size…, n)   →   y (batch, size - before - after…, n)
    Keras   Cropping1D, Cropping2D, Cropping3D
    Source  keras.io/api/layers/reshaping_layers/cropping2d
    """

    cropping: Any
    data_format: DataFormat = "channels_last"

    @property
    def ends(self) -> Pairs:
        return self.cropping  # type: ignore[no-any-return]

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        x = channels_last(inputs[0], self.data_format)
        sizes = x.shape[1:-1]
        if any(sum(pair) >= n for pair, n in zip(self.ends, sizes, strict=True)):
            raise ValueError(
                "`cropping` must leave at least one cell of each axis. "
                f"Received: cropping={self.cropping} for sizes {sizes}. Crop less or pass a larger input."
            )
        kept = (slice(before, n - after) for (before, after), n in zip(self.ends, sizes, strict=True))
        return restored(x[(slice(None), *kept)], self.data_format)

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return (formatted(size(1, 3), [sum(pair) + size(1, 3) for pair in self.ends], size(1, 3), self.data_format),)


@layer
class Cropping1D(Cropping):
    """The ends of one axis cut off (`Cropping`), channels last.

    Keras   Cropping1D
    Source  keras.io/api/layers/reshaping_layers/cropping1d
    """

    data_format: ClassVar[DataFormat] = "channels_last"  # type: ignore[misc]
    cropping: Annotated[tuple[int, ...], Integers(2, 0, small=(0, 2))] = (1, 1)

    @property
    def ends(self) -> Pairs:
        return (self.cropping,)  # type: ignore[return-value]


@layer
class Cropping2D(Cropping):
    """The ends of two axes cut off (`Cropping`).

    Keras   Cropping2D
    Source  keras.io/api/layers/reshaping_layers/cropping2d
    """

    cropping: Annotated[Pairs, Ends(2)] = ((0, 0), (0, 0))
    data_format: DataFormat = "channels_last"


@layer
class Cropping3D(Cropping):
    """The ends of three axes cut off (`Cropping`).

    Keras   Cropping3D
    Source  keras.io/api/layers/reshaping_layers/cropping3d
    """

    cropping: Annotated[Pairs, Ends(3)] = ((1, 1), (1, 1), (1, 1))
    data_format: DataFormat = "channels_last"


# Zero padding ------------------------------------------------------------------------------------------------------


class ZeroPadding(Rearranging):
    """y = x with `before` zeros in front of and `after` zeros behind each axis.

    Shapes  x (batch, size…, n)   →   y (batch, before + size + after…, n)
    Keras   ZeroPadding1D, ZeroPadding2D, ZeroPadding3D
    Source  keras.io/api/layers/reshaping_layers/zero_padding2d
    """

    padding: Any
    data_format: DataFormat

    @property
    def ends(self) -> Pairs:
        return self.padding  # type: ignore[no-any-return]

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        x = channels_last(inputs[0], self.data_format)
        return restored(np.pad(x, ((0, 0), *self.ends, (0, 0))), self.data_format)

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return (formatted(size(1, 3), [size(1, 3) for _ in self.ends], size(1, 3), self.data_format),)


@layer
class ZeroPadding1D(ZeroPadding):
    """Zeros at the ends of one axis (`ZeroPadding`).

    Keras   ZeroPadding1D
    Source  keras.io/api/layers/reshaping_layers/zero_padding1d
    """

    padding: Annotated[tuple[int, ...], Integers(2, 0, small=(0, 2))] = (1, 1)
    data_format: DataFormat = "channels_last"

    @property
    def ends(self) -> Pairs:
        return (self.padding,)  # type: ignore[return-value]


@layer
class ZeroPadding2D(ZeroPadding):
    """Zeros at the ends of two axes (`ZeroPadding`).

    Keras   ZeroPadding2D
    Source  keras.io/api/layers/reshaping_layers/zero_padding2d
    """

    padding: Annotated[Pairs, Ends(2)] = ((1, 1), (1, 1))
    data_format: DataFormat = "channels_last"


@layer
class ZeroPadding3D(ZeroPadding):
    """Zeros at the ends of three axes (`ZeroPadding`).

    Keras   ZeroPadding3D
    Source  keras.io/api/layers/reshaping_layers/zero_padding3d
    """

    padding: Annotated[Pairs, Ends(3)] = ((1, 1), (1, 1), (1, 1))
    data_format: DataFormat = "channels_last"


# Another order -----------------------------------------------------------------------------------------------------


@layer
class Permute(Rearranging):
    """y = x with axis dims[i] in place i + 1; axes count from 1, the batch stays in front.

    Shapes  x (batch, a₁, a₂, …)   →   y (batch, a_dims[0], a_dims[1], …)
    Keras   Permute
    Source  keras.io/api/layers/reshaping_layers/permute
    """

    dims: Annotated[tuple[int, ...], Permutation()]

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return inputs[0].transpose(0, *self.dims)

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return ((size(1, 3), *(size(1, 3) for _ in self.dims)),)


@layer
class Reshape(Rearranging):
    """y = the entries of each sample of x in C order, in another shape; -1 stands for the size that fits.

    Shapes  x (batch, …)   →   y (batch, *target_shape)
    Keras   Reshape
    Source  keras.io/api/layers/reshaping_layers/reshape
    """

    target_shape: Annotated[tuple[int, ...], Target()]

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        (x,) = inputs
        known, count = math.prod(n for n in self.target_shape if n > 0), math.prod(x.shape[1:])
        if count % known or (-1 not in self.target_shape and count != known):
            raise ValueError(
                "`target_shape` must hold as many entries as a sample. "
                f"Received: target_shape={self.target_shape} for samples of shape {x.shape[1:]}. Change one of them."
            )
        return x.reshape(len(x), *(count // known if n == -1 else n for n in self.target_shape))

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        sizes = tuple(size(1, 3) if n == -1 else n for n in self.target_shape)
        return ((size(1, 3), *(sizes[::-1] if size(0, 1) else (math.prod(sizes),))),)


@layer
class RepeatVector(Rearranging):
    """y[b, t] = x[b] for t = 1 … n.

    Shapes  x (batch, features)   →   y (batch, n, features)
    Keras   RepeatVector
    Source  keras.io/api/layers/reshaping_layers/repeat_vector
    """

    n: Annotated[int, AtLeast(1)]

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return np.repeat(inputs[0][:, None], self.n, axis=1)

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return ((size(1, 3), size(1, 4)),)
