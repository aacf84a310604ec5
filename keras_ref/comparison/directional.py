"""Every entry moved at once along a random direction v, compared with ⟨g, v⟩ of autodiff's gradient g.

Let e be what g errs by. Along v the loss has the slope D = ⟨g, v⟩ - ⟨e, v⟩, and two forward passes give D to within an
error `allowed` that is measured as for single entries: (L(θ + tv) - L(θ - tv)) / 2t, with left and right slopes beside
it. |⟨g, v⟩ - D| ≤ allowed is a match; an error E in the one entry i is certainly seen where |E·v_i| > 2·allowed.

The direction  v_ki = ±s_k·u, u drawn from [1/2, 1]: no entry is left out, and no two errors cancel by symmetry.
The scale      s_k ∝ 1 / rms(g_k), so that an ordinary entry of every variable k contributes alike, and a small tensor
               cannot hide behind a large one: E shows itself where E / rms(g_k) > 4·allowed / (s_k·rms(g_k)), the same
               for all k. In units of the variable's own size s_k stays within CLIP of the median variable's: a gradient
               that is zero must not send its variable to infinity. What stays hidden all the same (a variable whose
               whole ⟨g_k, v_k⟩ is within a few `allowed`) is moved once more by itself, the others at rest.
The step       t = √UNIT: the rounding 2·noise / t and the curvature t·L'' are then of one size, about 1e-8 of D; a
               network of many ReLUs has kinks everywhere along a long line, and here most of them are out of reach.
The noise      L(θ + tv) + L(θ - tv) - 2·L(θ) is noise, curvature and kinks, and nothing of the slope: it bounds the
               noise from above without an evaluation more. Only where doubt remains is the noise measured by itself.
Several wrong entries may cancel along one v; they do not along several, each drawn anew.
Doubt (sides that differ, a difference not allowed, an error too wide) asks for more steps, then for generic points
beside: at an exact kink autodiff's value is a convention, and it has to be right where the derivative is unique.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from keras_ref.comparison.autodiff import CHANGES, SHIFTS, Gradient, point_beside, shifted_points
from keras_ref.comparison.neighbourhood import DISTANCE, Tally, conclude, tally_neighbours
from keras_ref.comparison.noise import even_part_noise
from keras_ref.comparison.oracles import Oracle
from keras_ref.comparison.sums import dot, root_mean_square
from keras_ref.reports.verdict import Kind, Reason
from scratch.arrays import Array
from scratch.differences import SAFETY, UNIT
from scratch.one_sided import LADDER, slopes
from scratch.random_offset import random_offset

#: exponents of t: a first look around √UNIT, one closer where a kink lies within it, and a wide one; the ladder of
#: scratch.one_sided comes last
LOOK, CLOSER, WIDE = np.arange(-26.0, -29.0, -1.0), np.arange(-29.0, -32.0, -1.0), np.arange(-8.0, -33.0, -1.0)
#: how far a variable's scale may be from the median variable's, in units of the variable's own size
CLIP = 2.0**6
#: variables that move the loss by less than this share of what the one does that moves it most set no scale for others
FAINT = 2.0**-20
#: while more than this share of an ordinary entry would go unseen, the error of the slope is looked into
BLUNT = 2.0**-6
#: relative noise above which rounding in float64 does not explain it (checks.precision.SUSPICIOUS)
NOISY = 2.0**-36
#: generic points beside a kink
NEIGHBOURS = 3
#: a half is wrong or right at a look where its difference is so many times what was allowed, or so much less
CLEAR = 2.0
#: a variable is hidden while its share of the slope is within this many times what was allowed
HIDDEN = 8.0


@dataclass(frozen=True)
class Direction:
    """A direction, and how far it moves the entries of each variable.

    vector     arrays by name; what is left out rests
    least      the least |v_i| of the variables of which every entry moves
    ordinary   an ordinary entry's share |g_i·v_i| of the slope
    """

    vector: Mapping[str, Array]
    least: Mapping[str, float]
    ordinary: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Residual:
    """⟨g, v⟩ beside the slope along v, with the errors of both.

    autodiff, numeric       ⟨g, v⟩, and the slope from differences; `shares`: ⟨g_k, v_k⟩ by variable
    truncation, rounding    errors of the slope, the rounding of ⟨g, v⟩ included
    left, right             the slopes from both sides
    between                 whether ⟨g, v⟩ lies between them;  `smooth`: whether they agree
    jump                    whether the loss itself jumps at the point
    noise                   the absolute noise of the loss that was counted on
    """

    autodiff: float
    numeric: float
    truncation: float
    rounding: float
    left: float
    right: float
    between: bool
    smooth: bool
    jump: bool
    shares: Mapping[str, float]
    noise: float

    @property
    def allowed(self) -> float:
        """The allowed difference."""
        return self.truncation + self.rounding

    @property
    def difference(self) -> float:
        """autodiff - numeric"""
        return self.autodiff - self.numeric

    @property
    def fine(self) -> bool:
        """Whether the sides agree, and autodiff with them."""
        return self.smooth and abs(self.difference) <= self.allowed

    @property
    def excess(self) -> float:
        """The difference in units of what was allowed; 0 at a kink that autodiff lies within."""
        if not self.smooth and self.between:
            return 0.0
        ratio = abs(self.difference) / self.allowed if self.allowed else math.inf
        return math.inf if math.isnan(ratio) else ratio


@dataclass(frozen=True)
class Scales:
    """How far each variable moves along a direction, and the share s_k·rms(g_k) of an ordinary entry in the slope."""

    by_name: Mapping[str, float]
    ordinary: float


class DirectionalPoint:
    """A point, the loss that is differenced there, and autodiff's gradient at it.

    gradient_at   autodiff's gradient at a point
    gradient      the same at this point, where it is known already
    """

    def __init__(
        self,
        oracle: Oracle,
        gradient_at: Callable[[Mapping[str, Array]], Gradient],
        *,
        gradient: Gradient | None = None,
        seed: int = 0,
    ) -> None:
        self.oracle, self.gradient_at, self.seed = oracle, gradient_at, seed
        #: where to look first: a closer look that one direction needed, the others will need too
        self.looks: tuple[Array, ...] = (LOOK, CLOSER)
        self.gradient: Gradient = gradient_at(oracle.values) if gradient is None else gradient

    @cached_property
    def noise(self) -> float:
        """The noise of the loss, measured when it is first asked for: that costs as much as several directions."""
        return self.oracle.measured_noise(seed=self.seed)

    @cached_property
    def shifted_gradients(self) -> list[Gradient]:
        """The gradient computed again with other rounding."""
        return [self.gradient_at(point) for point in shifted_points(self.oracle.values, UNIT, shifts=SHIFTS[:2])]

    @cached_property
    def sizes(self) -> dict[str, float]:
        """rms(g_k) by name."""
        return {name: 0.0 if g is None else root_mean_square(g) for name, g in self.gradient.items()}

    def scales(self, names: Sequence[str]) -> Scales:
        """s_k by name, as the top of this file derives it. The median variable moves by t times its own size."""
        own = {n: root_mean_square(self.oracle.values[n]) or 1.0 for n in names}
        moved = {n: self.sizes[n] * own[n] for n in names}
        whole = {n: moved[n] * math.sqrt(self.oracle.values[n].size) for n in names}
        telling = [moved[n] for n in names if whole[n] > FAINT * max(whole.values())]
        ordinary = float(np.median(telling)) if telling else 0.0
        factors = {n: np.clip(ordinary / moved[n] if moved[n] else CLIP, 1 / CLIP, CLIP) for n in names}
        return Scales({n: own[n] * float(factors[n]) for n in names}, ordinary)

    def beside(self, generator: np.random.Generator) -> DirectionalPoint:
        """A generic point close by: no tie and no zero is left."""
        values = point_beside(self.oracle.values, generator, distance=DISTANCE)
        return DirectionalPoint(self.oracle.moved(values), self.gradient_at, seed=self.seed)


@dataclass(frozen=True)
class DirectionalResult:
    """A match, kink, mismatch or undecided along one direction, why, and at which point.

    The point is the one asked for, or one beside it where only that one shows the mismatch.
    """

    kind: Kind
    direction: Direction
    residual: Residual
    point: DirectionalPoint
    reason: Reason | None = None

    @property
    def is_trouble(self) -> bool:
        """Whether something along the direction is wrong, or cannot be told."""
        return self.kind not in (Kind.MATCH, Kind.KINK)


def draw_direction(
    point: DirectionalPoint,
    names: Sequence[str],
    generator: np.random.Generator,
    *,
    sampled: Sequence[str] = (),
) -> Direction:
    """A random direction in which every entry of the named variables moves.

    Of the variables in `sampled` one drawn entry moves, as far as all of its fellows together would.
    """
    scales = point.scales([*names, *sampled])
    far = scales.by_name
    vector = {n: random_offset(point.oracle.values[n].shape, generator, scale=far[n]) for n in names}
    for n in sampled:
        vector[n] = np.zeros(point.oracle.values[n].shape)
        farther = far[n] * min(math.sqrt(vector[n].size), CLIP)
        vector[n].flat[generator.integers(vector[n].size)] = farther * generator.choice([-1.0, 1.0])
    return Direction(vector, {n: far[n] / 2 for n in names}, scales.ordinary)


def single_look(
    point: DirectionalPoint, vector: Mapping[str, Array], *, exponents: Array = LOOK, noise: float | None = None
) -> Residual:
    """The residual along one direction from steps 2^exponents, two forward passes each.

    `noise` None takes it from the even part of the very losses; given, autodiff's own rounding is measured as well.
    """
    steps, base = np.exp2(exponents), point.oracle.base
    losses = np.asarray(point.oracle.directional(vector, np.concatenate([steps, -steps])), dtype=float)
    even = losses[: len(steps)] + losses[len(steps) :] - 2 * base
    level = even_part_noise(even, losses) if noise is None else noise
    found = slopes(lambda _: losses[:, None], np.zeros(1), level, base=base, exponents=exponents)
    shares = {n: _inner(point.gradient[n], v) for n, v in vector.items()}
    autodiff = math.fsum(shares.values())
    spread = 8 * UNIT * math.fsum(point.sizes[n] * root_mean_square(v) * v.size for n, v in vector.items())
    if noise is not None:
        again = [math.fsum(_inner(g[n], v) for n, v in vector.items()) for g in point.shifted_gradients]
        spread += CHANGES * max(abs(value - autodiff) for value in again)
    best, sides = found.value, (found.left, found.right)
    low = min(float(side.value[0] - side.error[0]) for side in sides) - spread
    high = max(float(side.value[0] + side.error[0]) for side in sides) + spread
    return Residual(
        autodiff=autodiff,
        numeric=float(best.value[0]),
        truncation=float(best.truncation[0]),
        rounding=float(best.rounding[0]) + spread,
        left=float(found.left.value[0]),
        right=float(found.right.value[0]),
        between=low <= autodiff <= high,
        smooth=bool(found.smooth[0]) and math.isfinite(best.value[0]),
        jump=bool(found.jump[0]),
        shares=shares,
        noise=level,
    )


def _inner(gradient: Array | None, vector: Array) -> float:
    return 0.0 if gradient is None else dot(gradient, vector)


def measure_along(point: DirectionalPoint, vector: Mapping[str, Array], *, ordinary: float = 0.0) -> Residual:
    """The residual with as many steps as its doubt asks for.

    ordinary   the share of the slope of an entry that should stand out, for which one closer look is taken
    """
    # what a short look is too blunt for is said in the report: a match is not worth a hundred passes more
    return _short_looks(point, vector, ordinary) or _long_looks(point, vector, ordinary)


def _is_blunt(residual: Residual, ordinary: float) -> bool:
    """Whether an error as large as a good part of an ordinary entry would go unseen."""
    return SAFETY * residual.allowed > BLUNT * ordinary > 0


def _short_looks(point: DirectionalPoint, vector: Mapping[str, Array], ordinary: float) -> Residual | None:
    """The sharpest match that three steps around √UNIT give, or three closer ones; None where they give none."""
    best: Residual | None = None
    for exponents in point.looks:
        found = single_look(point, vector, exponents=exponents)
        if not found.fine or found.noise > NOISY * abs(point.oracle.base):
            if found.smooth:
                break  # a difference, or noise: closer steps do not help
            continue
        if best is None or found.allowed < best.allowed:
            best = found
            point.looks = tuple(e for e in (LOOK, CLOSER) if e[0] <= exponents[0])
        if not _is_blunt(best, ordinary):
            break
    return best


def _long_looks(point: DirectionalPoint, vector: Mapping[str, Array], ordinary: float) -> Residual:
    """The residual from steps of all sizes, with the noise of the loss measured by itself."""
    best: Residual | None = None
    for exponents in (WIDE, LADDER):
        found = single_look(point, vector, exponents=exponents, noise=point.noise)
        if found.smooth and not _is_blunt(found, ordinary):
            return found
        if found.fine and (best is None or found.allowed < best.allowed):
            best = found
    return best or found


def excess_of(point: DirectionalPoint, vector: Mapping[str, Array]) -> float:
    """How far beyond what is allowed a part of a direction is that is known to be wrong as a whole.

    One look is enough where its answer is clear.
    """
    found = single_look(point, vector, noise=point.noise)
    clear = found.smooth and not 1 / CLEAR < found.excess < CLEAR
    return found.excess if clear else measure_along(point, vector).excess


def judge_along(point: DirectionalPoint, direction: Direction) -> DirectionalResult:
    """The residual along a direction, judged as a single entry is: by points beside it where it must be."""
    here = measure_along(point, direction.vector, ordinary=direction.ordinary)
    if here.fine:
        return DirectionalResult(Kind.MATCH, direction, here, point)
    if here.jump or not math.isfinite(here.numeric):
        reason = Reason.JUMP if here.jump else Reason.NOT_FINITE_BESIDE
        return DirectionalResult(Kind.UNDECIDED, direction, here, point, reason)
    between, generator = not here.smooth and here.between, np.random.default_rng(point.seed)
    wrong_beside: list[tuple[DirectionalPoint, Residual]] = []

    def judge_at(_: int, pending: Array) -> Tally:
        del pending  # the one direction
        near = point.beside(generator)
        there = measure_along(near, direction.vector, ordinary=direction.ordinary)
        wrong = there.smooth and not there.fine
        if wrong:
            wrong_beside.append((near, there))
        return Tally(np.array([there.fine]), np.array([wrong]))

    tally = tally_neighbours(judge_at, between=np.array([between]), points=NEIGHBOURS)
    right, wrong = int(tally.right[0]), int(tally.wrong[0])
    if not (right or wrong or between):
        return DirectionalResult(Kind.UNDECIDED, direction, here, point, Reason.KINK_EVERYWHERE)
    found = conclude(at_kink=not here.smooth, between=between, right=right, wrong=wrong, kinks_meet=not here.smooth)
    where, residual = (point, here) if here.smooth or not wrong else wrong_beside[0]
    return DirectionalResult(found.kind, direction, residual, where, None if wrong else found.reason)


def smallest_seen(result: DirectionalResult, name: str) -> float:
    """The smallest error in one entry of a variable that was certainly seen; inf where not every entry moved."""
    least = result.direction.least.get(name, 0.0)
    return SAFETY * result.residual.allowed / least if least else math.inf


def hidden(results: Sequence[DirectionalResult], names: Sequence[str]) -> list[str]:
    """Variables whose whole share is so small beside what was allowed that it could be missing."""
    return [n for n in names if all(abs(r.residual.shares.get(n, 0.0)) <= HIDDEN * r.residual.allowed for r in results)]
