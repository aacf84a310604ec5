"""How to difference: a scheme turns losses at nudged weights into slopes, each with its own error.

A scheme is a frozen value called as `scheme(line, at, noise)`:
    at     (n,)     the values of n weights, nudged one at a time
    line   offsets (m, n) → losses (m, n): the loss with weight j moved from at[j] to at[j] + offsets[i, j]
    noise           the absolute noise of one loss, in units of the loss
and returns Estimate(value, truncation, rounding), each (n,). The true slope is expected within truncation + rounding
of the value; truncation is an estimate from two step sizes, not a bound; rounding is the noise carried through.
An offset of 0 asks for the loss at the point: a line need not compute it again. `Central` moves some weights by its
second step only, and says in `Estimate.measured` which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Protocol

import numpy as np

from scratch.arrays import Array
from scratch.fields import Above, AtLeast, check_value

Line = Callable[[Array], Array]
UNIT = float(np.finfo(np.float64).eps)
#: what a step is, in units of the weight or of its size
Step = Annotated[float, Above(0.0)]

#: truncation is stated as this many times its estimate from two steps, which is an estimate and not a bound
SAFETY = 2.0

#: of more than SAMPLE entries one in SHARE has its truncation measured, at least SAMPLE of them
SAMPLE, SHARE = 64, 16
#: an entry whose truncation is not measured has so many times the worst of the sample
BEYOND = 4.0
#: a longer step, in units of the weight's size, meets so many kinks that the truncation is measured everywhere
SHORT = 2.0**-13
#: an entry is smooth where its curvature is the same at two steps, to this share, and its slopes differ by no more than
#: this share of what the curvature changes them by. A kink of size J at k < h has the curvatures J(h - k)/h² and
#: J(2h - k)/4h², and slopes that differ by Jk/4h: the second asks for k <= h/3, and there the first differ by 3/5
ALIKE = 1 / 8
#: a curvature is read from three losses, of weights 1, 2 and 1; two of them differ by at most so many times the noise
BLIND = 8.0


@dataclass(frozen=True)
class Estimate:
    """A slope and how far it may be off: by the step (truncation) and by the noise of the loss (rounding).

    Shapes  `value`, `truncation`, `rounding` and `measured` alike: that of the weights, (n,)
    Units   loss per unit of the weight, absolute
    `measured` is True where the truncation was measured at the entry itself, which is everywhere but for `Central` on
    tensors of many entries. Where it is False, the truncation is extrapolated from a sample of the tensor's entries.
    """

    value: Array
    truncation: Array
    rounding: Array
    measured: Array = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.measured is None:
            object.__setattr__(self, "measured", np.ones(np.shape(self.value), bool))

    @property
    def error(self) -> Array:
        """truncation + rounding, in the shape of the value."""
        return self.truncation + self.rounding

    def reshape(self, shape: tuple[int, ...]) -> Estimate:
        """The same estimates in another shape."""
        return Estimate(*(array.reshape(shape) for array in self._arrays))

    def part(self, at: Any) -> Estimate:
        """The estimates at some places (an index of NumPy's)."""
        return Estimate(*(array[at] for array in self._arrays))

    def where(self, condition: Array, other: Estimate) -> Estimate:
        """This estimate where `condition` holds, `other` elsewhere: arrays that broadcast to one shape."""
        pairs = zip(self._arrays, other._arrays, strict=True)
        return Estimate(*(np.where(condition, mine, its) for mine, its in pairs))

    @property
    def _arrays(self) -> tuple[Array, ...]:
        return self.value, self.truncation, self.rounding, self.measured


class Scheme(Protocol):
    """A way of differencing: anything that is called as described at the top of this file."""

    def __call__(self, line: Line, at: Array, noise: float) -> Estimate:
        """The slopes of n weights, moved one at a time, each with its errors.

        Shapes  `line`: offsets (m, n) → losses (m, n);   `at` (n,), the weights   →   an Estimate of (n,)
        Units   `noise` of one loss, absolute and in units of the loss; slopes and errors: loss per unit of the weight
        """
        ...


#: exponents of the largest power of two that is a float, and of the smallest of which 2^-46, a share that is less than
#: the shortest step of scratch.one_sided, is a normal one
LARGEST, SMALLEST = 1023, -1022 + 46


def scale_of(at: Array) -> Array:
    """The size that a step is measured in, a power of two: the weight's own, or its fellows' if it is smaller, or 1.

    That of the smallest numbers is larger than they are, so that shares of it are floats.
    """
    at = np.asarray(at, dtype=float)
    size = np.maximum(np.abs(at), _typical_size(at))
    return np.exp2(np.clip(np.round(np.log2(np.where(size > 0, size, 1.0))), SMALLEST, LARGEST))


def _typical_size(at: Array) -> float:
    """The root of the mean of the squares, also where a square is beyond any float, or below; 0 of no weights.

    Weights that are not finite are left out.
    """
    if not at.size:
        return 0.0
    with np.errstate(over="ignore"):
        mean = float(np.add.reduce(np.square(at), axis=None) / at.size)
    if np.finfo(float).tiny <= mean < np.inf:
        return float(np.sqrt(mean))
    finite = np.abs(at[np.isfinite(at)])
    largest = float(np.max(finite, initial=0.0))
    return largest * float(np.sqrt(np.mean(np.square(finite / largest)))) if largest else 0.0


def measure_step(at: Array, offset: Array) -> Array:
    """The step that a weight really makes when it is set to at + offset: rounding included."""
    with np.errstate(over="ignore"):  # beyond any number, where no loss is compared
        return (at + offset) - at


@cache
def coefficients(points: tuple[int, ...]) -> tuple[float, ...]:
    """c with Σ c_k f(p_k·h)/h = f'(0) + O(h^(n-1)): the solution of Σ c_k p_k^j = [j = 1], j < n.

    Source  Fornberg 1988, section 2 (the conditions; solved directly here, n being small)
    """
    powers = np.vander(np.array(points, dtype=float), increasing=True).T
    return tuple(np.linalg.solve(powers, np.eye(len(points))[1]))


def _apply_stencil(
    points: tuple[int, ...], order: int, step: float | None, line: Line, at: Array, noise: float
) -> Estimate:
    """The derivative from losses at `points` times h and times 2h; the two tell the truncation of the first.

    The error of order p at h is E, at 2h it is 2^p·E, hence E = |D(2h) - D(h)| / (2^p - 1). A step is chosen where
    truncation ~ h^p and rounding ~ noise/h are of one size: h = noise^(1/(p+1)) in units of the weight and the loss.
    """
    at = np.asarray(at, dtype=float)
    base = line(np.zeros((1, at.size)))[0]
    relative = max(noise / max(float(np.max(np.abs(base), initial=0.0)), np.finfo(float).tiny), UNIT)
    share = min(relative ** (1 / (order + 1)), 0.25)
    h = np.full(at.shape, step) if step is not None else scale_of(at) * share
    grid = np.array(points, dtype=float)[:, None]
    c = np.array(coefficients(points))[:, None]

    def slopes_at(factor: int, asked: Array) -> tuple[Array, Array]:
        """Slopes, and the second differences of three points, with step factor · h; 0 where not asked for."""
        unit = measure_step(at, factor * h)
        changes = line(np.where(asked, measure_step(at, grid * unit), 0.0)) - base
        return np.sum(c * changes, axis=0) / unit, np.abs(changes.sum(axis=0)) / factor**2

    value, bend = slopes_at(1, np.ones(at.shape, bool))
    measured = _sample(at.size, all_of_them=points != (-1, 0, 1) or step is not None or share > SHORT)
    wide, wide_bend = slopes_at(2, measured)
    change = np.abs(wide - value)
    if not measured.all():
        alike = np.abs(wide_bend - bend) <= ALIKE * wide_bend + BLIND * noise
        smooth = measured & alike & (change * h <= ALIKE * bend + BLIND * noise)
        few = 4 * np.count_nonzero(smooth) < 3 * np.count_nonzero(measured)
        # a second difference is of the size of h², and of h where the loss has a kink, or is not finite; a third one is
        # the largest mostly where the first or the second are
        usual = bend <= np.max(bend / h**2, where=smooth, initial=0.0) * h**2
        usual &= np.abs(value) <= np.max(np.abs(value), where=smooth, initial=0.0)
        worst = np.max(change / h**2, where=measured & usual, initial=0.0)
        more = ~measured if few else ~measured & ~usual
        if more.any():
            change = np.where(more, np.abs(slopes_at(2, more)[0] - value), change)
        measured |= more
        change = np.where(measured, change, BEYOND * worst * h**2)
    truncation = SAFETY * change / (2**order - 1)
    rounding = np.abs(c).sum() * noise / h + UNIT * np.abs(value)
    return Estimate(value, truncation, rounding, measured)


def _sample(size: int, *, all_of_them: bool) -> Array:
    """The entries whose truncation is measured in any case: all, where that is asked for or they are few."""
    sample = np.ones(size, bool)
    if not all_of_them and size > SAMPLE:
        sample[np.random.default_rng(size).permutation(size)[max(SAMPLE, size // SHARE) :]] = False
    return sample


@dataclass(frozen=True)
class _Fixed(Scheme):
    """A stencil of a given order."""

    order: Annotated[int, AtLeast(1)] = 1
    step: float | None = None

    def __post_init__(self) -> None:
        check_value(type(self).__name__, "order", Annotated[int, AtLeast(1)], self.order)
        check_value(type(self).__name__, "step", Step | None, self.step)


@dataclass(frozen=True)
class Forward(_Fixed):
    """(f(w + h) - f(w)) / h, the book's own; `order` uses that many points ahead. Error O(h^order).

    `step`: h, in units of the weight; None: chosen from the noise, scaled to each weight. Raises: ValueError for an
    order below 1, or a step that is not above 0. Source  Neural Networks with Keras Cookbook, chapter 1; Fornberg 1988
    """

    def __call__(self, line: Line, at: Array, noise: float) -> Estimate:
        return _apply_stencil(tuple(range(self.order + 1)), self.order, step=self.step, line=line, at=at, noise=noise)


@dataclass(frozen=True)
class Backward(_Fixed):
    """(f(w) - f(w - h)) / h; `order` uses that many points behind. Error O(h^order).

    `step`: h, in units of the weight; None: chosen from the noise, scaled to each weight. Raises: ValueError for an
    order below 1, or a step that is not above 0. Source  Fornberg 1988
    """

    def __call__(self, line: Line, at: Array, noise: float) -> Estimate:
        return _apply_stencil(tuple(range(-self.order, 1)), self.order, step=self.step, line=line, at=at, noise=noise)


@dataclass(frozen=True)
class Central(_Fixed):
    """(f(w + h) - f(w - h)) / 2h; `order` (even) uses order/2 points on each side. Error O(h^order).

    `step`: h, in units of the weight; None: chosen from the noise, scaled to each weight. Raises: ValueError for an
    order that is odd or below 1, or a step that is not above 0. Source  Fornberg 1988

    Of a tensor with more than 64 entries, order 2 and no step of your own, the truncation is measured, with a second
    step, at one entry in 16 (at least 64), drawn with a fixed seed. It is measured, too, at each where the loss is
    steeper or bends more than at the smooth ones of those; near a kink it bends more. All others, where
    `Estimate.measured` is False, have 4 times the largest truncation of such entries in the sample, scaled to their
    steps: an extrapolation. Where less than three quarters of the sample are smooth, it is measured everywhere.
    `Central(step=…)` and `Richardson()` measure at every entry.
    """

    order: Annotated[int, AtLeast(1)] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order % 2:
            raise ValueError(f"`order` of Central must be even. Received: order={self.order}. Pass 2, 4, 6, ….")

    def __call__(self, line: Line, at: Array, noise: float) -> Estimate:
        half = self.order // 2
        return _apply_stencil(tuple(range(-half, half + 1)), self.order, step=self.step, line=line, at=at, noise=noise)


@dataclass(frozen=True)
class Richardson(Scheme):
    """Central differences at halved steps, extrapolated to step zero; each weight gets the step that errs least.

    `levels` steps, the first `start` in units of the weight's size: one number, or one for each weight (n,). Truncation
    comes from the neighbouring entries of the tableau. Raises: ValueError for less than two levels, or a start that is
    not above 0. Source  Ridders 1982; Numerical Recipes (3rd ed.), section 5.7
    """

    levels: int = 6
    start: float | Array = 0.25

    def __post_init__(self) -> None:
        check_value("Richardson", "levels", Annotated[int, AtLeast(2)], self.levels)
        for start in np.ravel(self.start):
            check_value("Richardson", "start", Step, start)

    def __call__(self, line: Line, at: Array, noise: float) -> Estimate:
        at = np.asarray(at, dtype=float)
        steps = np.abs(measure_step(at, self.start * scale_of(at) * np.exp2(-np.arange(self.levels))[:, None]))
        ahead, behind = np.split(line(np.concatenate([steps, -steps])), 2)
        width = measure_step(at, steps) - measure_step(at, -steps)
        return Tableau.of((ahead - behind) / width, 2 * noise / width, power=2).best()


@dataclass(frozen=True)
class ComplexStep(Scheme):
    """Im f(w + ih) / h with h so small that no rounding and no truncation are left, where f is analytic.

    A branch chosen by the real part is kept, so a kink 1e-12 away does not disturb it; at a kink it gives the slope of
    the branch that the forward pass takes. `step`: h, in units of the weight. Raises: ValueError for a step that is not
    above 0. Source  Squire & Trapp 1998, equation 3
    """

    step: float = 1e-100

    def __post_init__(self) -> None:
        check_value("ComplexStep", "step", Step, self.step)

    def __call__(self, line: Line, at: Array, noise: float) -> Estimate:
        at = np.asarray(at, dtype=float)
        losses = line(np.full((1, at.size), 1j * self.step))[0]
        value = np.imag(losses) / self.step
        # No difference is taken, so nothing cancels: what is left is the rounding of the forward pass itself,
        # some units in the last place of the largest term, which the measured noise of the loss stands for.
        base = np.maximum(np.abs(np.real(losses)), np.finfo(float).tiny)
        relative = np.maximum(noise / base, 16 * UNIT)
        # The next term of the series is step² times a sixth of the third derivative, which is the loss over the cube of
        # its length. It is at most step^1.5 of the loss, and of the terms in it, where lengths exceed step^(1/6) =
        # 2e-17. A loss that is 0 because a factor of it is has terms of an unknown size: 1 is taken.
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
