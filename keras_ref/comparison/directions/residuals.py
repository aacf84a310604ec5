"""The slope along a direction beside ⟨g, v⟩, measured with as many passes as there is doubt (see directional.py)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from keras_ref.comparison.directions.directional_point import CLOSER, NEAR, Contraction, DirectionalPoint, contract
from keras_ref.comparison.sources.autodiff import CHANGES
from scratch.arrays import Array
from scratch.differences import SAFETY, UNIT
from scratch.one_sided import LADDER, slopes

#: exponents of t where the noise has been measured: around √UNIT, and wide; the ladder of scratch.one_sided comes last
LOOK, WIDE = np.arange(-26.0, -29.0, -1.0), np.arange(-8.0, -33.0, -1.0)
#: a closer step is taken where the truncation is so many times the rounding. An eighth of the step leaves an eighth of
#: the one at most and makes eight times the other, and halves their sum at least
KINKED = 32.0
#: one pass more tells curvature from kinks where the truncation is so many times the rounding: it leaves less than half
CURVED = 4.0
#: the share of the slope along a direction that must not be wrong without being seen: else more is measured
SEEN = 1e-4
#: while more than this share of an ordinary entry would go unseen, the error of the slope is looked into
BLUNT = 2.0**-6
#: a half is wrong or right at a look where its difference is so many times what was allowed, or so much less
CLEAR = 2.0


@dataclass(frozen=True, kw_only=True)
class Residual:
    """⟨g, v⟩ beside the slope along v, with the errors of both.

    autodiff, numeric       ⟨g, v⟩, and the slope from differences; `shares`: ⟨g_k, v_k⟩ by variable
    truncation, rounding    errors of the slope, the rounding of ⟨g, v⟩ included
    left, right             the slopes from both sides
    between                 whether ⟨g, v⟩ lies between them;  `smooth`: whether they agree
    jump                    whether the loss itself jumps at the point
    usual                   the size that such a slope has: √Σ(g·v)², of which no term cancels another
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
    usual: float
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


def look_near(
    point: DirectionalPoint,
    vector: Mapping[str, Array],
    known: Contraction,
    *,
    step: float,
    wider: Residual | None = None,
) -> Residual:
    """The residual along one direction from one step, with the noise that is expected: two forward passes.

    Its sides agree where they differ by no more than noise or curvature.

    wider   the look at the step before, CLOSER times as long, where there is one: curvature is told by it
    """
    ahead, behind = map(float, point.oracle.directional(vector, np.array([step, -step])))
    base, noise = point.oracle.base, max(point.expected_noise, UNIT * max(abs(ahead), abs(behind)))
    right, left, numeric = (ahead - base) / step, (base - behind) / step, (ahead - behind) / (2 * step)
    truncation = apart = abs(right - left)
    if wider is not None:
        # what differs is curvature, where it was CLOSER times as much; then D has converged, too
        apart = min(apart, abs((right - left) - (wider.right - wider.left) / CLOSER))
        truncation = min(truncation, apart + SAFETY * abs(numeric - wider.numeric))
    margin = 2 * noise / step + known.rounding
    return Residual(
        autodiff=known.value,
        numeric=numeric,
        truncation=truncation,
        rounding=noise / step + known.rounding,
        left=left,
        right=right,
        between=min(left, right) - margin <= known.value <= max(left, right) + margin,
        smooth=apart <= 4 * noise / step,
        jump=False,
        shares=known.shares,
        usual=known.usual,
        noise=noise,
    )


def tell_curvature(point: DirectionalPoint, vector: Mapping[str, Array], found: Residual, *, step: float) -> Residual:
    """The residual of a near look with the truncation that one pass more leaves, half a step ahead.

    T = L(θ + tv) - 8/3·L(θ + tv/2) + 2·L(θ) - 1/3·L(θ - tv) holds no curvature, and of a third derivative c·t³, which
    adds c·t² to D. A kink of size J adds J (t - k) / 2t to D. T of one behind θ is J (t - k) / 3, of one ahead of it
    J (t - k) from t/2 on and J (5k - t) / 3 before: 3/2·|T|/t is as much as D may be off.
    """
    half = float(point.oracle.directional(vector, np.array([step / 2]))[0]) - point.oracle.base
    third = abs(found.right + found.left / 3 - half / step * 8 / 3)
    return replace(found, truncation=min(found.truncation, SAFETY * 1.5 * third))


def look_once(
    point: DirectionalPoint, vector: Mapping[str, Array], *, noise: float, exponents: Array = LOOK
) -> Residual:
    """The residual along one direction from steps 2^exponents, two forward passes each.

    `noise` is measured, and so is autodiff's own rounding.
    """
    steps, base = np.exp2(exponents), point.oracle.base
    losses = np.asarray(point.oracle.directional(vector, np.concatenate([steps, -steps])), dtype=float)
    found = slopes(lambda _: losses[:, None], np.zeros(1), noise, base=base, exponents=exponents)
    known = point.contract(vector)
    again = [math.fsum(contract(g[n], v) for n, v in vector.items()) for g in point.shifted_gradients]
    spread = known.rounding + CHANGES * max(abs(value - known.value) for value in again)
    best, sides = found.value, (found.left, found.right)
    low = min(float(side.value[0] - side.error[0]) for side in sides) - spread
    high = max(float(side.value[0] + side.error[0]) for side in sides) + spread
    return Residual(
        autodiff=known.value,
        numeric=float(best.value[0]),
        truncation=float(best.truncation[0]),
        rounding=float(best.rounding[0]) + spread,
        left=float(found.left.value[0]),
        right=float(found.right.value[0]),
        between=low <= known.value <= high,
        smooth=bool(found.smooth[0]) and math.isfinite(best.value[0]),
        jump=bool(found.jump[0]),
        shares=known.shares,
        usual=known.usual,
        noise=noise,
    )


def measure_along(point: DirectionalPoint, vector: Mapping[str, Array], *, ordinary: float = 0.0) -> Residual:
    """The residual with as many steps as its doubt asks for.

    ordinary   the share of the slope of an entry that should stand out, for which a closer look is taken
    """
    return _look_near(point, vector, ordinary) or measure_closely(point, vector, ordinary=ordinary)


def _is_blunt(residual: Residual, ordinary: float) -> bool:
    """Whether an error as large as a good part of an ordinary entry would go unseen."""
    return SAFETY * residual.allowed > BLUNT * ordinary > 0


def _look_near(point: DirectionalPoint, vector: Mapping[str, Array], ordinary: float) -> Residual | None:
    """The sharpest match that steps of √UNIT and less give; None where that is none, or one that shows too little."""
    known = point.contract(vector)
    best: Residual | None = None
    wider: Residual | None = None
    least = SEEN * known.usual
    for step in point.nearest:
        if least and SAFETY * point.expected_noise / step > least:
            break  # closer steps would show less and less
        found = wider = look_near(point, vector, known, step=step, wider=wider)
        is_dull = _is_blunt(found, ordinary) or SAFETY * found.allowed > least
        is_curved = found.truncation > CURVED * found.rounding
        if is_dull and is_curved and not (step == NEAR[0] and found.truncation > KINKED * found.rounding):
            found = tell_curvature(point, vector, found, step=step)
        is_fine = abs(found.difference) <= found.allowed
        is_kinked = found.truncation > KINKED * found.rounding
        if not (is_fine or is_kinked):
            return None  # a difference, or more noise than expected
        if is_fine and (best is None or found.allowed < best.allowed):
            best, point.nearest = found, NEAR[NEAR.index(step) :]
        is_sharp = SAFETY * found.allowed <= least and not _is_blunt(found, ordinary)
        if not is_kinked or (is_fine and is_sharp):
            break
    if best is None or (SAFETY * best.allowed > least if least else not best.smooth):
        return None
    return replace(best, smooth=True)  # sides that differ by less than has to be seen agree


def measure_closely(point: DirectionalPoint, vector: Mapping[str, Array], *, ordinary: float) -> Residual:
    """The residual from steps of all sizes, with the noise of the loss measured by itself."""
    best: Residual | None = None
    for exponents in (WIDE, LADDER):
        found = look_once(point, vector, exponents=exponents, noise=point.noise)
        if found.smooth and not _is_blunt(found, ordinary):
            return found
        if found.fine and (best is None or found.allowed < best.allowed):
            best = found
    return best or found


def excess_of(point: DirectionalPoint, vector: Mapping[str, Array]) -> float:
    """How far beyond what is allowed a part of a direction is that is known to be wrong as a whole.

    One look is enough where its answer is clear.
    """
    found = look_once(point, vector, noise=point.noise)
    clear = found.smooth and not 1 / CLEAR < found.excess < CLEAR
    return found.excess if clear else measure_along(point, vector).excess
