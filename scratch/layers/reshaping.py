"""Reshaping layers: cropping, zero padding, Permute, Reshape, RepeatVector."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from scratch.arrays import Array
from scratch.fields import AtLeast, Domain, Integers, Shape, Size, is_integer
from scratch.layers.base import Layer, Weights
from scratch.layers.families import Family
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
            return bool(value >= 0)
        return isinstance(value, (tuple, list)) and len(value) == self.length and all(map(Integers(2, 0).holds, value))

    def normalise(self, value: Any) -> Pairs:
        pairs = [value] * self.length if is_integer(value) else value
        return tuple((before, after) for before, after in map(Integers(2, 0).normalise, pairs))

    def examples(self) -> tuple[Pairs, ...]:
        """Ends of 0, equal ends, and ends that all differ."""
        different = [tuple((a + i, b - i) for i in range(self.length)) for a, b in ((0, 2), (1, 3))]
        return (self.normalise(0), self.normalise(1), *different)


@dataclass(frozen=True)
class Permutation(Domain):
    """The integers from 1 to any n in some order."""

    @property
    def rule(self) -> str:
        return "must be the integers from 1 on, each once"

    def holds(self, value: Any) -> bool:
        if not isinstance(value, (tuple, list)) or not all(map(is_integer, value)):
            return False
        return sorted(value) == list(range(1, len(value) + 1))

    def normalise(self, value: Any) -> tuple[int, ...]:
        return tuple(int(v) for v in value)

    def examples(self) -> tuple[tuple[int, ...], ...]:
        """All orders of one, two and three axes."""
        return tuple(order for n in (1, 2, 3) for order in itertools.permutations(range(1, n + 1)))


@dataclass(frozen=True)
class Target(Domain):
    """Sizes, one of which may be -1: it follows from the others."""

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
        """Up to three axes, with -1 in every place and in none."""
        return ((-1,), (6,), (-1, 2), (2, -1), (2, 3), (-1, 1, 2), (3, -1, 2), (2, 1, -1), (1, 2, 3))


# Cells cut off or added ------------------------------------------------------------------------------------------


class WithEnds(Family):
    """Base of the families that change the ends of each spatial axis; the output has no mask."""

    data_format: DataFormat

    @property
    def ends(self) -> Pairs:
        """A pair (before, after) for each axis; the members over one axis hold that pair alone."""
        raise TypeError(f"{type(self).__name__} must define `ends`: write it in scratch/layers/reshaping.py.")

    def compute_mask(self, *inputs: Array, mask: Any = None) -> None:
        return None


class Cropping(WithEnds):
    """y = x without the first `before` and the last `after` cells of each axis.

    Shapes  x (batch, size…, n) of rank {rank} + 2   →   y (batch, size - before - after…, n)
    Keras   Cropping{rank}D
    Source  keras.io/api/layers/reshaping_layers/cropping{rank}d
    Raises  ValueError where nothing would be left of an axis
    """

    cropping: Any

    @property
    def ends(self) -> Pairs:
        return (self.cropping,) if self.rank == 1 else self.cropping

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        x = channels_last(inputs[0], self.data_format)
        sizes = x.shape[1:-1]
        if any(sum(pair) >= n for pair, n in zip(self.ends, sizes, strict=True)):
            raise ValueError(
                "`cropping` must leave at least one cell of each axis. "
                f"Received: cropping={self.cropping} for sizes {sizes}. Crop less or pass a larger input."
            )
        left = (slice(before, n - after) for (before, after), n in zip(self.ends, sizes, strict=True))
        return restored(x[(slice(None), *left)], self.data_format)

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return (formatted(size(1, 3), [sum(pair) + size(1, 3) for pair in self.ends], size(1, 3), self.data_format),)


@layer
class Cropping1D(Cropping, rank=1):
    data_format: ClassVar[DataFormat] = "channels_last"  # type: ignore[misc]
    cropping: Annotated[tuple[int, ...], Integers(2, 0, small=(0, 2))] = (1, 1)


@layer
class Cropping2D(Cropping, rank=2):
    cropping: Annotated[Pairs, Ends(2)] = ((0, 0), (0, 0))
    data_format: DataFormat = "channels_last"


@layer
class Cropping3D(Cropping, rank=3):
    cropping: Annotated[Pairs, Ends(3)] = ((1, 1), (1, 1), (1, 1))
    data_format: DataFormat = "channels_last"


class ZeroPadding(WithEnds):
    """y = x with `before` zeros before and `after` zeros after each axis.

    Shapes  x (batch, size…, n) of rank {rank} + 2   →   y (batch, before + size + after…, n)
    Keras   ZeroPadding{rank}D
    Source  keras.io/api/layers/reshaping_layers/zero_padding{rank}d
    """

    padding: Any

    @property
    def ends(self) -> Pairs:
        return (self.padding,) if self.rank == 1 else self.padding

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        x = channels_last(inputs[0], self.data_format)
        return restored(np.pad(x, ((0, 0), *self.ends, (0, 0))), self.data_format)

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return (formatted(size(1, 3), [size(1, 3) for _ in self.ends], size(1, 3), self.data_format),)


@layer
class ZeroPadding1D(ZeroPadding, rank=1):
    padding: Annotated[tuple[int, ...], Integers(2, 0, small=(0, 2))] = (1, 1)
    data_format: DataFormat = "channels_last"


@layer
class ZeroPadding2D(ZeroPadding, rank=2):
    padding: Annotated[Pairs, Ends(2)] = ((1, 1), (1, 1))
    data_format: DataFormat = "channels_last"


@layer
class ZeroPadding3D(ZeroPadding, rank=3):
    padding: Annotated[Pairs, Ends(3)] = ((1, 1), (1, 1), (1, 1))
    data_format: DataFormat = "channels_last"


# Another shape or order ------------------------------------------------------------------------------------------


class Reshaping(Layer):
    """Base of the layers whose output has the entries of the input in another place; it has no mask."""

    def compute_mask(self, *inputs: Array, mask: Any = None) -> None:
        return None


@layer
class Permute(Reshaping):
    """y = x with axis dims[i] moved to place i + 1; axes count from 1, the batch stays first.

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
class Reshape(Reshaping):
    """y = the entries of each sample of x in C order, in another shape; -1 stands for the size that is left.

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
class RepeatVector(Reshaping):
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
