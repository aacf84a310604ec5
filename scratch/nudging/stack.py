"""Stacks: many arrays of one shape that a layer's forward pass computes with as if they were one array.

    kernels = Stack(values)         values (stack, n, units): to a layer an array of shape (n, units)
    x @ kernels + bias              Stack of (stack, batch, units): x @ values[s] + bias for every s

An operation on stacks gives the stack of what it gives for each of their arrays; plain arrays and numbers in it are the
same for all of them. An operation that has no rule here, or whose result decides which code runs (an `if`), raises
`Unstackable`: the caller computes the arrays one after another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.lib.stride_tricks import sliding_window_view

from scratch.arrays import Array


class Unstackable(TypeError):
    """An operation that has no rule for stacks."""


class Stack(NDArrayOperatorsMixin):
    """Arrays of one shape, (stack, …), that compute as one array of shape (…)."""

    def __init__(self, values: Array) -> None:
        self.values = values

    # What an array says of itself --------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of each array."""
        return self.values.shape[1:]

    @property
    def ndim(self) -> int:
        """The number of axes of each array."""
        return self.values.ndim - 1

    @property
    def size(self) -> int:
        """The number of entries of each array."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> Any:
        """The type of the entries."""
        return self.values.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def place(self, axis: Any, new: int = 0) -> Any:
        """An axis of each array (or a sequence of them, or None for all) as axes of `values`.

        `new` is the number of axes that an operation adds.
        """
        if axis is None:
            return tuple(range(1, self.values.ndim))
        if isinstance(axis, (Sequence, np.ndarray)):
            return tuple(self.place(one, new) for one in axis)
        return axis % (self.ndim + new) + 1

    # Methods of an array -----------------------------------------------------------------------------------------

    @property
    def real(self) -> Stack:
        """The real parts."""
        return Stack(self.values.real)

    @property
    def imag(self) -> Stack:
        """The imaginary parts."""
        return Stack(self.values.imag)

    @property
    def T(self) -> Stack:  # noqa: N802 (NumPy's name)
        """The transpose."""
        return self.transpose()

    def astype(self, dtype: Any, *, copy: bool = True) -> Stack:
        """The same in another type."""
        return Stack(self.values.astype(dtype, copy=copy))

    def reshape(self, *shape: Any) -> Stack:
        """The same in another shape."""
        (shape,) = shape if len(shape) == 1 and isinstance(shape[0], Sequence) else (shape,)
        known = math.prod(n for n in shape if n != -1)
        return Stack(self.values.reshape(len(self.values), *(self.size // known if n == -1 else n for n in shape)))

    def transpose(self, *axes: Any) -> Stack:
        """The same with its axes in another order, by default the opposite one."""
        (axes,) = axes if len(axes) == 1 and isinstance(axes[0], (Sequence, np.ndarray)) else (axes,)
        return Stack(self.values.transpose(0, *self.place(axes if len(axes) else range(self.ndim)[::-1])))

    def swapaxes(self, first: int, second: int) -> Stack:
        """The same with two axes exchanged."""
        return Stack(self.values.swapaxes(self.place(first), self.place(second)))

    def sum(self, axis: Any = None, *, keepdims: bool = False) -> Stack:
        """The sums."""
        return Stack(self.values.sum(axis=self.place(axis), keepdims=keepdims))

    def mean(self, axis: Any = None, *, keepdims: bool = False) -> Stack:
        """The means."""
        return Stack(self.values.mean(axis=self.place(axis), keepdims=keepdims))

    def max(self, axis: Any = None, *, keepdims: bool = False) -> Stack:
        """The largest entries."""
        return Stack(self.values.max(axis=self.place(axis), keepdims=keepdims))

    def min(self, axis: Any = None, *, keepdims: bool = False) -> Stack:
        """The smallest entries."""
        return Stack(self.values.min(axis=self.place(axis), keepdims=keepdims))

    def any(self, axis: Any = None, *, keepdims: bool = False) -> Stack:
        """Whether any entry is true."""
        return Stack(np.asarray(self.values.any(axis=self.place(axis), keepdims=keepdims)))

    def __getitem__(self, index: Any) -> Stack:
        index = index if isinstance(index, tuple) else (index,)
        if sum(isinstance(one, (list, np.ndarray, Stack)) for one in index) > 1 or any(
            isinstance(one, Stack) for one in index
        ):
            raise Unstackable("several arrays, or a stack, as an index")
        return Stack(self.values[(slice(None), *index)])

    def __iter__(self) -> Iterator[Stack]:
        return (self[i] for i in range(len(self)))

    # What no stack can do ----------------------------------------------------------------------------------------

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise Unstackable("a stack is neither one value nor written into")

    __array__ = __bool__ = __int__ = __float__ = __complex__ = __index__ = __setitem__ = __contains__ = _refuse

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Unstackable(f"`{name}` of an array")

    # Functions of arrays -----------------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        if method != "__call__" or keywords:
            raise Unstackable(f"{ufunc.__name__}.{method} with {', '.join(keywords) or 'nothing'}")
        if ufunc is np.matmul:
            return _matmul(*inputs)
        found = ufunc(*_aligned(inputs))
        return tuple(map(Stack, found)) if isinstance(found, tuple) else Stack(found)

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        if function not in RULES:
            raise Unstackable(function.__name__)
        return RULES[function](*arguments, **keywords)


def stacked(values: Array) -> Array:
    """A stack, as the array that it stands for to a layer."""
    return cast("Array", Stack(values))


def values_of(found: Any, count: int) -> Array:
    """The values of a stack, or `count` times the plain array that an operation without stacks gave."""
    return found.values if isinstance(found, Stack) else np.broadcast_to(found, (count, *np.shape(found)))


def _aligned(inputs: Sequence[Any]) -> list[Any]:
    """Values whose axes broadcast as those of the arrays do: the stack stays the first axis of all."""
    rank = max(np.ndim(x) for x in inputs)
    return [_lengthened(x, rank) if isinstance(x, Stack) else x for x in inputs]


def _lengthened(x: Stack, rank: int) -> Array:
    missing = (1,) * (rank - x.ndim)
    return x.values.reshape(len(x.values), *missing, *x.shape) if missing else x.values


def _matmul(a: Any, b: Any) -> Stack:
    """The products of matrices (vectors are left to the loop)."""
    if np.ndim(a) < 2 or np.ndim(b) < 2:
        raise Unstackable("a product with a vector")
    if isinstance(a, Stack) and np.ndim(b) == 2 and not isinstance(b, Stack):
        # one large product is faster than many small ones
        rows = a.values.reshape(-1, a.shape[-1])
        return Stack((rows @ b).reshape(*a.values.shape[:-1], b.shape[-1]))
    return Stack(np.matmul(*_aligned((a, b))))


Rule = Callable[..., Any]


def _along_axis(function: Any) -> Rule:
    """The rule of a function of one array along `axis`."""

    def apply(x: Stack, *arguments: Any, axis: Any, **keywords: Any) -> Any:
        found = function(x.values, *arguments, axis=x.place(axis), **keywords)
        return list(map(Stack, found)) if isinstance(found, list) else Stack(found)

    return apply


def _joining(function: Any, new: int) -> Rule:
    """The rule of a function that joins arrays along an axis, of which it adds `new`."""

    def apply(arrays: Sequence[Any], axis: int = 0) -> Stack:
        some = next(x for x in arrays if isinstance(x, Stack))
        return Stack(function([values_of(x, len(some.values)) for x in arrays], axis=some.place(axis, new)))

    return apply


def _method(name: str) -> Rule:
    """The rule of a function that is a method of arrays too."""
    return lambda x, *arguments, **keywords: getattr(x, name)(*arguments, **keywords)


def _where(condition: Any, x: Any, y: Any) -> Stack:
    return Stack(np.where(*_aligned((condition, x, y))))


def _moveaxis(x: Stack, source: Any, destination: Any) -> Stack:
    return Stack(np.moveaxis(x.values, x.place(source), x.place(destination)))


def _expand_dims(x: Stack, axis: int) -> Stack:
    return Stack(np.expand_dims(x.values, x.place(axis, 1)))


def _broadcast_to(x: Stack, shape: tuple[int, ...]) -> Stack:
    return Stack(np.broadcast_to(_lengthened(x, len(shape)), (len(x.values), *shape)))


def _pad(x: Stack, width: Sequence[tuple[int, int]], **keywords: Any) -> Stack:
    return Stack(np.pad(x.values, ((0, 0), *width), **keywords))


def _sliding_window_view(x: Stack, spans: Any, axis: Any, *, writeable: bool = False) -> Stack:
    if writeable:
        raise Unstackable("a window that is written into")
    return Stack(sliding_window_view(x.values, spans, axis=x.place(axis)))


def _take_along_axis(x: Any, indices: Any, axis: int) -> Stack:
    some = x if isinstance(x, Stack) else indices
    arrays, places = (values_of(one, len(some.values)) for one in (x, indices))
    return Stack(np.take_along_axis(arrays, places, axis=some.place(axis)))


def _tensordot(a: Any, b: Any, axes: int) -> Stack:
    """The last axes of a against the first of b, as a product of matrices."""
    kept, summed = a.shape[: a.ndim - axes], math.prod(b.shape[:axes])
    return _matmul(a.reshape(math.prod(kept), summed), b.reshape(summed, -1)).reshape((*kept, *b.shape[axes:]))


def _einsum(equation: str, *operands: Any) -> Stack:
    terms, _, result = equation.replace(" ", "").partition("->")
    stack = next(letter for letter in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if letter not in equation)
    given = [stack + term if isinstance(x, Stack) else term for term, x in zip(terms.split(","), operands, strict=True)]
    values = [x.values if isinstance(x, Stack) else x for x in operands]
    return Stack(np.einsum(f"{','.join(given)}->{stack}{result}", *values, optimize=True))


#: NumPy's functions that stacks go through, and how
RULES: dict[Any, Rule] = {
    np.where: _where,
    np.moveaxis: _moveaxis,
    np.expand_dims: _expand_dims,
    np.broadcast_to: _broadcast_to,
    np.pad: _pad,
    sliding_window_view: _sliding_window_view,
    np.take_along_axis: _take_along_axis,
    np.tensordot: _tensordot,
    np.einsum: _einsum,
    np.concatenate: _joining(np.concatenate, 0),
    np.stack: _joining(np.stack, 1),
    np.ndim: lambda x: x.ndim,
    np.shape: lambda x: x.shape,
    np.result_type: lambda *arrays: np.result_type(*(x.values if isinstance(x, Stack) else x for x in arrays)),
    np.iscomplexobj: lambda x: np.iscomplexobj(x.values),
    np.zeros_like: lambda x: np.zeros(x.shape, x.dtype),
    np.ones_like: lambda x: np.ones(x.shape, x.dtype),
    **{function: _along_axis(function) for function in (np.split, np.repeat, np.flip, np.cumsum, np.argsort)},
    **{getattr(np, name): _method(name) for name in ("transpose", "swapaxes", "sum", "mean", "max", "min", "any")},
}
