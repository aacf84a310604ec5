"""A layer that multiplies the last axis of its input by a matrix: what a change of its input changes in its output."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scratch.arrays import Array
from scratch.nudging.addition_theorems import REACH, expand_activation, reach_of_two, shift
from scratch.nudging.changes import Change, merge_batch, reuse_buffer

#: the length of a last axis below which loops over it are slow
SHORT = 32
#: OpenBLAS multiplies matrices twice as fast, where one has a short axis, if the product has at most so many terms
FEW_TERMS = 10**6


@dataclass(frozen=True, kw_only=True)
class MatrixLayer:
    """activation(x · matrix + bias) at the point, and beside it.

    name                    of the output tensor
    matrix                  (k, m)
    activation              a registered function
    before, output          the output before the activation, and after it: (rows, middle…, m)
    as_change               whether what is added to the output is wanted, and not the output
    terms                   the coefficients of its addition theorem, of the same shape; none: linear; None: it has none
    largest                 the largest absolute entry of the matrix
    reach                   the largest change of the output before the activation for which two of them are enough
    reach_of_channel        the same for a change of one channel of the input
    Where the last axis is short, it is the first of `before`, `output` and `terms` in memory. NumPy's inner loops are
    as long as the last axis in memory.
    """

    name: str
    matrix: Array
    activation: Callable[..., Array]
    before: Array
    output: Array
    as_change: bool
    terms: tuple[Array, ...] | None
    largest: float
    reach: float
    reach_of_channel: float
    short: bool

    @classmethod
    def of(
        cls,
        name: str,
        *,
        matrix: Array,
        activation: Callable[..., Array],
        before: Array,
        output: Array,
        as_change: bool,
    ) -> MatrixLayer:
        """The layer at a point with this output, and output before the activation."""
        short = before.shape[-1] < min(SHORT, math.prod(before.shape[:-1]))

        def ordered(array: Array) -> Array:
            return np.ascontiguousarray(np.moveaxis(array, -1, 0))[:, None] if short else array

        terms, reach, reach_of_channel = expand_activation(activation, output), 0.0, 0.0
        largest = np.max(np.abs(matrix), axis=0, initial=np.finfo(float).tiny)
        if terms:
            reaches = reach_of_two(output, terms)
            reach, reach_of_channel = (float(np.min(r, initial=REACH)) for r in (reaches, reaches / largest))
        return cls(
            name=name,
            matrix=matrix,
            activation=activation,
            before=ordered(before),
            output=ordered(output),
            as_change=as_change,
            terms=None if terms is None else tuple(map(ordered, terms)),
            largest=float(np.max(largest, initial=0.0)),
            reach=reach,
            reach_of_channel=reach_of_channel,
            short=short,
        )

    def propagate_channel(self, change: Array, channel: Array) -> Change | Array:
        """What a change of one channel of the input gives: change (stack, rows, middle…), channel (stack,)."""
        count, places = len(change), change.shape[1:]
        flat, kind = change.reshape(count, -1), np.result_type(change, self.matrix)
        d = self._reuse_buffer(0, (count, *places), kind)
        if self.short:
            rows = self.matrix.T.take(channel, axis=1)
            np.einsum("ks,sp->ksp", rows, flat, out=d.reshape(-1, *flat.shape))
        else:
            np.einsum("sp,sk->spk", flat, self.matrix[channel], out=d.reshape(*flat.shape, -1))
        size = float(np.max(np.abs(change), initial=0.0))
        return self._activate(d, size * self.largest, enough=size <= self.reach_of_channel)

    def propagate_all(self, change: Array) -> Change | Array:
        """What a change of the input gives: change (stack, rows, middle…, k)."""
        d = self._reuse_buffer(0, change.shape[:-1], np.result_type(change, self.matrix))
        if self.short:
            d[...] = np.moveaxis(multiply(change, self.matrix), -1, 0)
        else:
            np.matmul(change, self.matrix, out=d)
        size = float(np.max(np.abs(d), initial=0.0)) if self.terms else math.inf
        return self._activate(d, size, enough=size <= self.reach)

    def _activate(self, d: Array, size: float, *, enough: bool) -> Change | Array:
        """The output, from what is added before the activation: `size` at most, for which two terms may be enough."""
        view = np.moveaxis(d, 0, -1) if self.short else d
        if self.terms and size <= REACH:
            shift(self.terms[:2] if enough else self.terms, d, self._reuse_buffer(1, view.shape[:-1], d.dtype))
        elif self.terms != ():
            d += self.before
            return self.activation(merge_batch(view)).reshape(view.shape)
        if self.as_change:
            return Change(view)
        d += self.output
        return view

    def _reuse_buffer(self, number: int, leading: tuple[int, ...], kind: np.dtype) -> Array:
        shape = (self.matrix.shape[1], *leading) if self.short else (*leading, self.matrix.shape[1])
        return reuse_buffer((self.name, number), shape, kind)


def multiply(x: Array, matrix: Array) -> Array:
    """x @ matrix, where the matrix has few columns: in pieces for which BLAS is fast."""
    rows, piece = math.prod(x.shape[:-1]), FEW_TERMS // max(1, matrix.size)
    if not 1 < piece < rows:
        return x @ matrix
    product = np.empty((rows, matrix.shape[1]), np.result_type(x, matrix))
    flat, full = x.reshape(rows, -1), rows - rows % piece
    np.matmul(
        flat[:full].reshape(-1, piece, len(matrix)), matrix, out=product[:full].reshape(-1, piece, matrix.shape[1])
    )
    np.matmul(flat[full:], matrix, out=product[full:])
    return product.reshape(*x.shape[:-1], -1)
