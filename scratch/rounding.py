"""Arrays whose operations are off by rounding (Monte Carlo arithmetic; the model is stated in scratch/noise.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
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


class Rounding:
    """How the entries of an array are off: by one of `sizes` units, each by itself or (`common`) all in one
    direction.
    """

    def __init__(
        self, generator: np.random.Generator, *, common: bool = False, sizes: Sequence[float] = SIGNED
    ) -> None:
        self.generator, self.common, self.sizes = generator, common, np.asarray(sizes)
        self._factors: dict[float, Array] = {}

    def _factors_of(self, units: float) -> Array:
        """What an entry may be multiplied with to be off by `units` times as much."""
        if units not in self._factors:
            self._factors[units] = 1 + units * UNIT * self.sizes
        return self._factors[units]

    def perturb(self, array: Array, units: float = 1.0) -> Array:
        """The array, its entries off by `units` times as much; integers as they are."""
        if array.dtype.kind not in "fc":
            return array
        which = self.generator.integers(0, len(self.sizes), () if self.common else array.shape)
        factors = self._factors_of(units)[which]
        del which  # as large as the array
        if factors.shape == array.shape != () and factors.dtype == array.dtype:
            return np.multiply(array, factors, out=factors)
        return np.asarray(array * factors)


class Noisy(np.ndarray):
    """An array whose operations are off by rounding; of a sum or a product of matrices each term is."""

    rounding: Rounding

    def __array_finalize__(self, source: Any) -> None:
        self.rounding = getattr(source, "rounding", None)  # type: ignore[assignment]

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **keywords: Any) -> Any:
        rounding = next(i.rounding for i in (*inputs, *(out or ())) if isinstance(i, Noisy))
        plain = [_unwrap(i) for i in inputs]
        rounds = ufunc.__name__ not in EXACT
        if rounds and (method in ACCUMULATING or ufunc is np.matmul):
            plain = [rounding.perturb(i) if isinstance(i, np.ndarray) else i for i in plain]
        if keywords:
            keywords = {name: _unwrap(value) for name, value in keywords.items()}
        result = getattr(ufunc, method)(*plain, **keywords)
        if method == "at" or ufunc.nout > 1:
            return result
        found = np.asarray(result)
        if rounds:
            found = rounding.perturb(found, UNITS.get(ufunc.__name__, 1.0))
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
    if isinstance(value, (tuple, list)):
        parts = [_apply_to_each(one, function, every=every) for one in value]
        return type(value)(parts) if type(value) in (tuple, list) else type(value)(*parts)
    if isinstance(value, dict):
        return {key: _apply_to_each(one, function, every=every) for key, one in value.items()}
    if every and isinstance(value, (np.floating, np.complexfloating)):
        value = np.asarray(value)
    if isinstance(value, Noisy) or (every and isinstance(value, np.ndarray) and value.dtype.kind in "fc"):
        return function(_unwrap(value))
    return value


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

    def _unwrap_all(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: self._unwrap_all(one) for key, one in value.items()}
        return _apply_to_each(value, lambda array: make_noisy(array, self._rounding), every=True)

    def forward(self, weights: Mapping[str, Array], *inputs: Any, **call: Any) -> Any:
        """The layer's outputs, off by rounding."""
        given, keywords = self._unwrap_all(inputs), self._unwrap_all(call)
        return self._unwrap_all(self._own.forward(self._unwrap_all(weights), *given, **keywords))

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """The loss or penalty, off by rounding."""
        return self._unwrap_all(self._own(*self._unwrap_all(arguments), **self._unwrap_all(keywords)))


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
