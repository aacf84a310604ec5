"""Arrays whose operations are off by rounding (Monte Carlo arithmetic; the model is stated in scratch/noise.py)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from scratch.arrays import Array
from scratch.differences import UNIT
from scratch.noise import OFF

#: ufuncs that move, choose or negate numbers, or round to whole ones: nothing is rounded
EXACT = frozenset(
    """
    negative positive absolute fabs maximum minimum fmax fmin sign copysign conjugate rint floor ceil trunc heaviside
    ldexp frexp modf spacing nextafter
    """.split()  # noqa: SIM905 (a hundred quoted words are no easier to read)
)
#: by how many half units NumPy's functions are off at most, where that is not one
UNITS = dict.fromkeys(
    """
    exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan arctan2 sinh cosh tanh arcsinh arccosh
    arctanh power float_power logaddexp logaddexp2 hypot cbrt
    """.split(),  # noqa: SIM905 (a hundred quoted words are no easier to read)
    4.0,
)
#: functions that accumulate and are no ufuncs
SUMS = frozenset(
    """
    einsum dot tensordot inner outer vdot kron convolve correlate trace cumsum cumprod prod
    """.split()  # noqa: SIM905 (a hundred quoted words are no easier to read)
)
#: methods of ufuncs that accumulate
ACCUMULATING = ("reduce", "accumulate", "reduceat", "at")
#: by how many units a result is off, up or down
SIGNED = (*OFF, *(-size for size in OFF))
SIGNS = np.array([-1.0, 1.0])


#: so many whole numbers are drawn at a time, where nothing else draws from a generator
AHEAD = 1024


class _Ahead:
    """The whole numbers below `high` of a generator that nothing else draws from, in the generator's own order: many
    are drawn at a time, since a draw of a few takes as long as the operation that they perturb.
    """

    def __init__(self, generator: np.random.Generator, high: int) -> None:
        self._generator, self._high = generator, high
        self._drawn, self._next = np.empty(0, np.int64), 0

    def draw(self, shape: tuple[int, ...] | None) -> Any:
        """An array of numbers; one number without a shape."""
        size = 1 if shape is None else math.prod(shape)
        if self._next + size > len(self._drawn):
            if size >= AHEAD:  # what is as large as this is not kept
                return self._take(size).reshape(shape or ())
            self._drawn, self._next = self._take(size + AHEAD), 0
        begin, self._next = self._next, self._next + size
        return self._drawn[begin] if shape is None else self._drawn[begin : self._next].reshape(shape)

    def _take(self, size: int) -> Array:
        """The next numbers: those that were drawn before, and others, without a second array as large."""
        left, found = self._drawn[self._next :], np.empty(size, np.int64)
        found[: len(left)] = left
        for begin in range(len(left), size, AHEAD):
            part = found[begin : begin + AHEAD]
            part[:] = self._generator.integers(0, self._high, len(part))
        self._next = len(self._drawn)
        return found


@cache
def _find_factors(sizes: tuple[float, ...], units: float) -> Array:
    """What an entry may be multiplied with to be off by `units` times one of `sizes` units."""
    return 1 + units * UNIT * np.asarray(sizes)


class Rounding:
    """How the entries of an array are off: by one of `sizes` units, each by itself or (`common`) all in one
    direction.

    alone   whether nothing else draws from the generator
    """

    def __init__(
        self,
        generator: np.random.Generator,
        *,
        common: bool = False,
        sizes: tuple[float, ...] = SIGNED,
        alone: bool = False,
    ) -> None:
        self.common, self.sizes = common, sizes
        self._draw: Callable[[tuple[int, ...] | None], Any] = (
            _Ahead(generator, len(sizes)).draw if alone else partial(generator.integers, 0, len(sizes))
        )

    def perturb(self, array: Array, units: float = 1.0) -> Array:
        """The array, its entries off by `units` times as much; integers as they are."""
        if array.dtype.kind not in "fc":
            return array
        if self.common or not array.ndim:
            # without a shape NumPy draws the same number, in a third of the time
            return np.asarray(array * _find_factors(self.sizes, units)[self._draw(None)])
        which = self._draw(array.shape)
        factors: Array = _find_factors(self.sizes, units)[which]
        del which  # as large as the array
        if factors.dtype == array.dtype:
            return np.multiply(array, factors, out=factors)
        return np.asarray(array * factors)


def draw_signs(generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Ones with random signs, which generator.choice draws too, in three times the time."""
    return SIGNS[generator.integers(0, 2, shape or None)]


class Noisy(np.ndarray):
    """An array whose operations are off by rounding; of a sum or a product of matrices each term is."""

    rounding: Rounding = None  # type: ignore[assignment]

    def __array_finalize__(self, source: Any) -> None:
        if isinstance(source, Noisy):
            self.rounding = source.rounding

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **keywords: Any) -> Any:
        for given in inputs if out is None else (*inputs, *out):
            if isinstance(given, Noisy):
                rounding = given.rounding
                break
        plain = [i.view(np.ndarray) if isinstance(i, Noisy) else i for i in inputs]
        name = ufunc.__name__
        rounds = name not in EXACT
        if rounds and (method in ACCUMULATING or ufunc is np.matmul):
            plain = [rounding.perturb(i) if isinstance(i, np.ndarray) else i for i in plain]
        if keywords:
            keywords = {name: _unwrap(value) for name, value in keywords.items()}
        result = ufunc(*plain, **keywords) if method == "__call__" else getattr(ufunc, method)(*plain, **keywords)
        if method == "at" or ufunc.nout > 1:
            return result
        found = np.asarray(result)
        if rounds:
            found = rounding.perturb(found, UNITS.get(name, 1.0))
        if out is not None and out[0] is not None:
            _unwrap(out[0])[...] = found
            return out[0]
        return make_noisy(found, rounding)

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        rounding, home = self.rounding, function.__module__ or ""
        if function.__name__ in SUMS or home.startswith(("numpy.linalg", "numpy.fft")):
            result = function(
                *_apply_to_each(arguments, rounding.perturb), **_apply_to_each(keywords, rounding.perturb)
            )
            return _apply_to_each(result, lambda array: make_noisy(rounding.perturb(array), rounding), every=True)
        result = super().__array_function__(function, types, arguments, keywords)
        return _apply_to_each(result, lambda array: make_noisy(array, rounding), every=True)


def _unwrap(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, Noisy) else value


def _apply_to_each(value: Any, function: Callable[[Array], Any], *, every: bool = False) -> Any:
    """A structure with a function applied to the noisy arrays in it (`every`: to all arrays of floats)."""
    if isinstance(value, Noisy) or (every and isinstance(value, np.ndarray) and value.dtype.kind in "fc"):
        return function(_unwrap(value))
    if isinstance(value, (tuple, list)):
        parts = [_apply_to_each(one, function, every=every) for one in value]
        return type(value)(parts) if type(value) in (tuple, list) else type(value)(*parts)
    if isinstance(value, dict):
        return {key: _apply_to_each(one, function, every=every) for key, one in value.items()}
    return function(np.asarray(value)) if every and isinstance(value, (np.floating, np.complexfloating)) else value


def make_noisy(value: Any, rounding: Rounding) -> Any:
    """A number or array of floats, to be computed with noisily; anything else as it is."""
    array = np.asarray(value)
    if array.dtype.kind not in "fc":
        return value
    found = array.view(Noisy)
    found.rounding = rounding
    return found


class _Off:
    """A layer, loss or regularizer whose computations are off by rounding; everything else about it is its own.

    What goes in and what comes out is made noisy here, since a function may leave that out on its way (np.asarray).
    """

    def __init__(self, own: Any, rounding: Rounding) -> None:
        self._own, self._rounding = own, rounding

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def _make_all_noisy(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: self._make_all_noisy(one) for key, one in value.items()}
        return _apply_to_each(value, lambda array: make_noisy(array, self._rounding), every=True)

    def forward(self, weights: Mapping[str, Array], *inputs: Any, **call: Any) -> Any:
        """The layer's outputs, off by rounding."""
        given, keywords = self._make_all_noisy(inputs), self._make_all_noisy(call)
        return self._make_all_noisy(self._own.forward(self._make_all_noisy(weights), *given, **keywords))

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """The loss or penalty, off by rounding."""
        return self._make_all_noisy(self._own(*self._make_all_noisy(arguments), **self._make_all_noisy(keywords)))


def round_objective(objective: Any, rounding: Rounding) -> Any:
    """An objective whose layers, losses and regularizers compute with rounding."""

    def off(own: Mapping[str, Any]) -> dict[str, Any]:
        return {name: _Off(one, rounding) for name, one in own.items()}

    model = objective.model
    model = replace(
        model,
        layers=off(model.layers),
        regularizers=off(model.regularizers),
        activity_regularizers=off(model.activity),
    )
    losses = tuple(None if one is None else _Off(one, rounding) for one in objective.losses)
    return replace(objective, model=model, losses=losses)
