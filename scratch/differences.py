"""How to difference: a scheme turns losses at nudged weights into slopes, each with its own error.

A scheme is a frozen value called as `scheme(line, at, noise)`:
    at     (n,)     the values of n weights, nudged one at a time
    line   offsets (m, n) → losses (m, n): the loss with weight j moved from at[j] to at[j] + offsets[i, j]
    noise           the absolute noise of one loss, in units of the loss
and returns Estimate(value, truncation, rounding), each (n,). The true slope is expected within truncation + rounding
of the value; truncation is an estimate from two step sizes, not a bound; rounding is the noise carried through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Protocol

import numpy as np

from scratch.arrays import Array
from scratch.fields import AtLeast, checked

Line = Callable[[Array], Array]
UNIT = float(np.finfo(np.float64).eps)

#: truncation is stated as this many times its estimate from two steps, which is an estimate and not a bound
SAFETY = 2.0


@dataclass(frozen=True)
class Estimate:
    """A slope and how far it may be off: by the step (truncation) and by the noise of the loss (rounding)."""

    value: Array
    truncation: Array
    rounding: Array

    @property
    def error(self) -> Array:
        """truncation + rounding"""
        return self.truncation + self.rounding

    def reshape(self, shape: tuple[int, ...]) -> Estimate:
        """The same estimates in another shape."""
        return Estimate(self.value.reshape(shape), self.truncation.reshape(shape), self.rounding.reshape(shape))

    def where(self, condition: Array, other: Estimate) -> Estimate:
        """This estimate where `condition` holds, `other` elsewhere."""
        return Estimate(
            np.where(condition, self.value, other.value),
            np.where(condition, self.truncation, other.truncation),
            np.where(condition, self.rounding, other.rounding),
        )


class Scheme(Protocol):
    """Anything that is called as described at the top of this file."""

    def __call__(self, line: Line, at: Array, noise: float) -> Estimate: ...


def scale_of(at: Array) -> Array:
    """The size that a step is measured in, a power of two: the weight's own, or its fellows' if it is smaller, or 1."""
    at = np.asarray(at, dtype=float)
    typical = np.sqrt(np.mean(np.square(at))) if at.size else 0.0
    size = np.maximum(np.abs(at), typical)
    return np.exp2(np.round(np.log2(np.where(size > 0, size, 1.0))))


def taken(at: Array, offset: Array) -> Array:
    """The step that a weight really makes when it is set to at + offset: rounding included."""
    return (at + offset) - at


@cache
def coefficients(points: tuple[int, ...]) -> tuple[float, ...]:
    """c with Σ c_k f(p_k·h)/h = f'(0) + O(h^(n-1)): the solution of Σ c_k p_k^j = [j = 1], j < n.

    Source  Fornberg 1988, section 2 (the conditions; solved directly here, n being small)
    """
    powers = np.vander(np.array(points, dtype=float), increasing=True).T
    return tuple(np.linalg.solve(powers, np.eye(len(points))[1]))


def _stencil(points: tuple[int, ...], order: int, step: float | None, line: Line, at: Array, noise: float) -> Estimate:
    """The derivative from losses at `points` times h and times 2h; the two tell the truncation of the first.

    The error of order p at h is E, at 2h it is 2^p·E, hence E = |D(2h) - D(h)| / (2^p - 1). A step is chosen where
    truncation ~ h^p and rounding ~ noise/h are of one size: h = noise^(1/(p+1)) in units of the weight and the loss.
    """
    at = np.asarray(at, dtype=float)
    base = line(np.zeros((1, at.size)))[0]
    relative = max(noise / max(float(np.max(np.abs(base), initial=0.0)), np.finfo(float).tiny), UNIT)
    h = np.full(at.shape, step) if step is not None else scale_of(at) * min(relative ** (1 / (order + 1)), 0.25)
    grid = np.array(points, dtype=float)[:, None]
    c = np.array(coefficients(points))[:, None]
    both = []
    for factor in (1, 2):
        unit = taken(at, factor * h)
        offsets = taken(at, grid * unit)
        losses = line(offsets)
        both.append(np.sum(c * (losses - base), axis=0) / unit)
    truncation = SAFETY * np.abs(both[1] - both[0]) / (2**order - 1)
    rounding = np.abs(c).sum() * noise / h + UNIT * np.abs(both[0])
    return Estimate(both[0], truncation, rounding)


@dataclass(frozen=True)
class _Fixed:
    """A stencil of a given order; `step` None chooses one from the noise, scaled to each weight."""

    order: Annotated[int, AtLeast(1)] = 1
    step: float | None = None

    def __post_init__(self) -> None:
        checked(type(self).__name__, "order", Annotated[int, AtLeast(1)], self.order)


@dataclass(frozen=True)
class Forward(_Fixed):
    """(f(w + h) - f(w)) / h, the book's own; `order` uses that many points ahead. Error O(h^order)."""

    def __call__(self, line: Line, at: Array, noise: float) -> Estimate:
        return _stencil(tuple(range(self.order + 1)), self.order, self.step, line, at, noise)


@dataclass(frozen=True)
class Backward(_Fixed):
    """(f(w) - f(w - h)) / h; `order` uses that many points behind. Error O(h^order)."""

    def __call__(self, line: Line, at: Array, noise: float) -> Estimate:
        return _stencil(tuple(range(-self.order, 1)), self.order, self.step, line, at, noise)


@dataclass(frozen=True)
class Central(_Fixed):
    """(f(w + h) - f(w - h)) / 2h; `order` (even) uses order/2 points on each side. Error O(h^order)."""

    order: Annotated[int, AtLeast(1)] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order % 2:
            raise ValueError(f"`order` of Central must be even. Received: order={self.order}. Pass 2, 4, 6, ….")

    def __call__(self, line: Line, at: Array, noise: float) -> Estimate:
        half = self.order // 2
        return _stencil(tuple(range(-half, half + 1)), self.order, self.step, line, at, noise)


@dataclass(frozen=True)
class Richardson:
    """Central differences at halved steps, extrapolated to step zero; each weight gets the step that errs least.

    `levels` steps, the first `start` in units of the weight's size. Truncation comes from the neighbouring entries of
    the tableau. Source  Ridders 1982; Numerical Recipes (3rd ed.), section 5.7
    """

    levels: Annotated[int, AtLeast(2)] = 6
    start: float = 0.25

    def __call__(self, line: Line, at: Array, noise: float) -> Estimate:
        at = np.asarray(at, dtype=float)
        steps = np.abs(taken(at, self.start * scale_of(at) * np.exp2(-np.arange(self.levels))[:, None]))
        ahead, behind = np.split(line(np.concatenate([steps, -steps])), 2)
        width = taken(at, steps) - taken(at, -steps)
        return Tableau.of((ahead - behind) / width, 2 * noise / width, power=2).best()


@dataclass(frozen=True)
class ComplexStep:
    """Im f(w + ih) / h with h so small that no rounding and no truncation are left, where f is analytic.

    A branch chosen by the real part is kept, so a kink 1e-12 away does not disturb it; at a kink it gives the slope of
    the branch that the forward pass takes. Source  Squire & Trapp 1998, equation 3
    """

    step: float = 1e-100

    def __call__(self, line: Line, at: Array, noise: float) -> Estimate:
        at = np.asarray(at, dtype=float)
        losses = line(np.full((1, at.size), 1j * self.step))[0]
        value = np.imag(losses) / self.step
        # No difference is taken, so nothing cancels: what is left is the rounding of the forward pass itself,
        # some units in the last place of the largest term, which the measured noise of the loss stands for.
        base = np.maximum(np.abs(np.real(losses)), np.finfo(float).tiny)
        relative = np.maximum(noise / base, 16 * UNIT)
        # The next term of the series is step² times a sixth of the third derivative, which is the loss over the cube of
        # its length: at most step^1.5 of the loss, and of the terms in it, where lengths exceed step^(1/6) = 2e-17. A
        # loss that is 0 because a factor of it is has terms of an unknown size: 1 is taken.
        truncation = self.step**1.5 * np.maximum(np.abs(np.real(losses)), max(noise / UNIT, 1.0))
        # An imaginary part below the smallest normal number has lost its digits, or is 0 where the slope is not.
        return Estimate(value, truncation, relative * np.abs(value) + np.finfo(float).tiny / self.step)


@dataclass(frozen=True)
class Tableau:
    """Extrapolated slopes [row, column]: column j of row k combines the j + 1 steps k - j … k; row 0 has the largest.

    T[k, j] = T[k, j-1] + (T[k, j-1] - T[k-1, j-1]) / (2^(power·j) - 1) removes the error term of order power·j;
    power is 2 for central slopes, 1 for one-sided ones.
    """

    value: Array
    truncation: Array
    rounding: Array

    @classmethod
    def of(cls, slopes: Array, rounding: Array, *, power: int, columns: int = 6) -> Tableau:
        """From slopes (rows, n) at halved steps, with the rounding error of each."""
        rows, n = slopes.shape
        columns = min(columns, rows)
        value = np.full((rows, columns, n), np.nan)
        spread, noise = np.full_like(value, np.inf), np.full_like(value, np.inf)
        value[:, 0], noise[:, 0] = slopes, rounding
        spread[1:, 0] = np.abs(slopes[1:] - slopes[:-1])
        for j in range(1, columns):
            gain = 2.0 ** (power * j)
            inner, outer = value[j:, j - 1], value[j - 1 : -1, j - 1]
            value[j:, j] = inner + (inner - outer) / (gain - 1)
            noise[j:, j] = (gain * noise[j:, j - 1] + noise[j - 1 : -1, j - 1]) / (gain - 1)
            spread[j:, j] = np.maximum(np.abs(value[j:, j] - inner), np.abs(value[j:, j] - outer))
        # halving a step shrinks what is left of the error. Where the change grew instead, by more than noise does, a
        # term dies within the step (exp(-h/L), whose slope is a constant over h): such a row has not seen the point yet
        with np.errstate(invalid="ignore"):
            grew = (spread[1:] > spread[:-1]) & (spread[1:] > (noise[1:] + noise[:-1]) / 4)
        unseen = np.concatenate([grew, grew[-1:]])
        # two neighbours can agree by chance; two pairs of them in a row hardly do, so each row also answers for the
        # disagreement of the row before it, reduced by what halving the step should have gained
        gains = 2.0 ** (-power * (1.0 + np.arange(columns)))[:, None]
        spread[1:] = np.maximum(spread[1:], spread[:-1].copy() * gains)
        return cls(value, np.where(unseen, np.inf, spread), noise + UNIT * np.abs(value))

    def best(self) -> Estimate:
        """Of each weight the entry whose truncation + rounding is least."""
        flat = self.value.reshape(-1, self.value.shape[-1])
        error = np.nan_to_num((self.truncation + self.rounding).reshape(flat.shape), nan=np.inf)
        pick = np.argmin(error, axis=0)[None]
        chosen = (
            np.take_along_axis(a.reshape(flat.shape), pick, axis=0)[0]
            for a in (self.value, self.truncation, self.rounding)
        )
        return Estimate(*chosen)
