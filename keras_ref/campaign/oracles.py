"""What else is known of an operation: its definition in NumPy or SciPy with a complex step, and identities.

All say that two gradients are equal; they share nothing with the difference quotients of exact_check.py. The table is
oracles.toml.
"""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ref.campaign.cotangents import draw_cotangent
from keras_ref.campaign.points import make_points
from keras_ref.campaign.subjects import Subject, find_function
from keras_ref.evaluation.keras_objects.real_parts import real_values, split_real_parts
from scratch.arrays import Array

#: the points at which functions with a domain have a value
POINTS = ("generic", "between 0 and 1", "above 1", "positive definite")
#: the identity that holds at 0 too: an even function has no slope there, if it has one
SYMMETRY = "symmetry"
#: the step of a complex step h: it is off by h² f'''/6, and by ε f/h where an imaginary part has no digits of its own
STEP = 2.0**-20
#: half of the digits of float64, as everywhere in a campaign
HALF = 2.0**-26


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An entry of a gradient, and what it should be; `right` where half of the digits of the largest are the same."""

    oracle: str
    point: str
    argument: int
    index: tuple[int, ...]
    autodiff: float
    expected: float
    right: bool


def compare_with_oracles(subject: Subject, *, seed: int = 0) -> Iterator[Comparison]:
    """Every entry of the gradients for which oracles.toml has something. What has no finite value is left out.

    Where SciPy is not installed its functions are left out.
    """
    short = subject.name.removeprefix("tensorflow.")
    table = load_oracles()
    for point, arguments in make_points(subject.arguments, seed):
        if point in POINTS:
            definition = _find_definition(short)
            if definition is not None:
                yield from _by_complex_step(subject, definition, arguments, point=point)
        first = next((i for i, a in enumerate(arguments) if isinstance(a, np.ndarray)), -1)
        for oracle, identity in table["identities"].get(short, {}).items() if first >= 0 else ():
            at_zero = oracle == SYMMETRY and point.partition(" in argument")[0] == "zeros"
            if point in POINTS or at_zero:
                try:
                    gradients = identity(partial(_of_one, subject, arguments, first), arguments[first])
                except tf.errors.OpError:  # a matrix without an inverse
                    continue
                yield from _compare(oracle, point, first, *gradients)


@cache
def load_oracles() -> Mapping[str, Any]:
    """{"definition": {operation: function}, "identities": {operation: {oracle: identity}}} of oracles.toml."""
    with Path(__file__).with_name("oracles.toml").open("rb") as file:
        said = tomllib.load(file)
    found: dict[str, dict[str, Any]] = {}

    def add(names: str, oracle: str, identity: Any) -> None:
        for name in names.split():
            found.setdefault(name, {})[oracle] = identity

    for name, inverse in said["inverse"].items():
        add(name, "inverse", partial(_inverse, _write_full_name(inverse)))
    for parity, sign in (("odd", 1.0), ("even", -1.0)):
        add(said["symmetry"][parity], SYMMETRY, partial(_symmetry, sign))
    for degree, names in said["homogeneous"].items():
        add(names, "homogeneity", partial(_homogeneity, int(degree)))
    add(said["linear"]["operations"], "linearity", _linearity)
    add(said["each"]["operations"], "one by one", _one_by_one)
    return {"definition": said["definition"], "identities": found}


def _write_full_name(short: str) -> str:
    return short if short.startswith("keras.") else f"tensorflow.{short}"


def _of_one(subject: Subject, arguments: list[Any], place: int, value: Any) -> Any:
    """The operation as a function of one argument."""
    given = [value if i == place else _make_tensor(a) for i, a in enumerate(arguments)]
    return subject.function(*given, **subject.options)


def _make_tensor(value: Any) -> Any:
    return tf.constant(value) if isinstance(value, np.ndarray) and value.dtype.kind in "fc" else value


def _gradients(function: Callable[..., Any], *arguments: Any) -> list[Array]:
    """The gradients of the sum of a function's outputs, each with a factor of its own; those of floats."""
    tensors = [_make_tensor(a) for a in arguments]
    watched = [t for t in tensors if isinstance(t, tf.Tensor)]
    with tf.GradientTape() as tape:
        tape.watch(watched)
        loss = _sum_outputs(function(*tensors))
    found = tape.gradient(loss, watched, unconnected_gradients="zero")
    return [real_values(tf.convert_to_tensor(g)) for g in found]


def _sum_outputs(outputs: Any) -> Any:
    parts = [split_real_parts(o) for o in tf.nest.flatten(outputs)]
    return tf.add_n(
        [tf.reduce_sum(tf.cast(p, tf.float64) * draw_cotangent(p.shape, seed=k)) for k, p in enumerate(parts)]
    )


def _inverse(inverse: str, function: Callable[..., Any], x: Array) -> tuple[Array, Array]:
    """g(f(x)) = x"""

    def there_and_back(v: Any) -> Any:
        return find_function(inverse)(function(v))

    found = _gradients(there_and_back, x)[0]
    here = np.isfinite(real_values(there_and_back(_make_tensor(x))))
    return found, np.where(here, draw_cotangent(found.shape, seed=0), np.nan)


def _symmetry(sign: float, function: Callable[..., Any], x: Array) -> tuple[Array, Array]:
    """f(-x) = ∓f(x): f'(-x) = ±f'(x)"""
    return _gradients(function, np.asarray(-x))[0], sign * _gradients(function, x)[0]


def _homogeneity(degree: int, function: Callable[..., Any], x: Array) -> tuple[Array, Array]:
    """f(2x) = 2ⁿ f(x): f'(2x) = 2ⁿ⁻¹ f'(x)"""
    return _gradients(function, np.asarray(2 * x))[0], 2.0 ** (degree - 1) * _gradients(function, x)[0]


def _linearity(function: Callable[..., Any], x: Array) -> tuple[Array, Array]:
    """f' is the same everywhere"""
    return _gradients(function, x)[0], _gradients(function, x[..., ::-1] * 0.75 + 0.5)[0]


def _one_by_one(function: Callable[..., Any], x: Array) -> tuple[Array, Array]:
    """f([x, y]) = [f(x), f(y)]"""
    factors = draw_cotangent(x.shape, seed=0)
    single = [_gradients(function, v.reshape(1))[0] / draw_cotangent((1,), seed=0) for v in x.ravel()]
    return _gradients(function, x)[0], np.reshape(single, x.shape) * factors


def _find_definition(short: str) -> Callable[..., Any] | None:
    """The function of NumPy or SciPy; None where there is none, or its package is not installed."""
    said = load_oracles()["definition"].get(short)
    if said is None:
        return None
    name, before = (said, []) if isinstance(said, str) else (said["function"], said["before"])
    module, _, attribute = name.rpartition(".")
    try:
        return partial(getattr(importlib.import_module(module), attribute), *before)
    except ImportError:
        return None


def _by_complex_step(
    subject: Subject, definition: Callable[..., Any], arguments: list[Any], *, point: str
) -> Iterator[Comparison]:
    """f(x + ih) / h has the derivative for its imaginary part, to h²."""
    if any(not isinstance(a, np.ndarray) or a.dtype.kind != "f" for a in arguments):
        return
    try:
        found = _gradients(lambda *given: subject.function(*given, **subject.options), *arguments)
    except tf.errors.OpError:  # it raises at this point, which is said of first derivatives
        return
    with np.errstate(all="ignore"):  # NaN outside a domain
        for k, gradient in enumerate(found):
            slopes, again = (_slopes(definition, arguments, k, step) for step in (STEP, STEP / 2))
            size = np.max(np.abs(slopes), initial=0.0)
            smooth = np.abs(slopes - again) <= HALF * size  # not on a branch cut
            yield from _compare(
                "complex step", point, argument=k, found=gradient, expected=np.where(smooth, slopes, np.nan)
            )


def _slopes(definition: Callable[..., Any], arguments: list[Any], place: int, step: float) -> Array:
    found = np.zeros(arguments[place].shape)
    for entry in np.ndindex(found.shape):
        moved = [a.astype(complex) for a in arguments]
        moved[place][entry] += 1j * step
        slopes = np.imag(np.asarray(definition(*moved))) / step
        found[entry] = np.sum(slopes * draw_cotangent(slopes.shape, seed=0))
    return found


def _compare(oracle: str, point: str, argument: int, found: Array, expected: Array) -> Iterator[Comparison]:
    known = np.isfinite(found) & np.isfinite(expected)
    size = np.max(np.abs(expected[known]), initial=0.0)
    for place in np.ndindex(expected.shape):
        autodiff, truth = float(found[place]), float(expected[place])
        if np.isfinite(truth):
            yield Comparison(
                oracle=oracle,
                point=point,
                argument=argument,
                index=place,
                autodiff=autodiff,
                expected=truth,
                right=abs(autodiff - truth) <= HALF * size,
            )
