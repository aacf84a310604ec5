"""Slopes from the left and from the right, and what they say of kinks.

A step is trusted only as far as smaller ones do not contradict it. Slopes at halved steps are extrapolated in windows
of neighbouring steps; each window states its error. The smallest steps are noisy, but certainly on this side of any
kink that can be told apart at all. Going outward from them, the most accurate window is taken until one contradicts a
window further in: there is a kink between them, and nothing beyond it counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from scratch.arrays import Array
from scratch.differences import SAFETY, UNIT, Estimate, Line, Tableau, measure_step, scale_of

#: exponents of the steps in units of the weight's size: a quick look, a wider one, the ladder down to the last bits
QUICK = np.arange(-3.0, -8.0, -1.0)
WIDER = np.arange(-1.0, -13.0, -1.0)
LADDER = np.arange(1.0, -46.0, -1.0)
TIERS = (QUICK, WIDER, LADDER)
#: over the last eight steps (seven halvings) a jump J leaves itself of the change of the loss, a slope S leaves S/128,
#: each off by the noise of two losses, 2·level. More than LEFT of the first change is left of a jump if J > 6·level,
#: and of a slope only if S < 6.2·level. From JUMP levels on the two are told apart (a root of h leaves 1/11)
JUMP, LEFT = 8, 0.5


@dataclass(frozen=True)
class Slopes:
    """Of n weights: the slope from each side, the best two-sided one, and whether the sides agree.

    `smooth` (n,): left and right agree within their errors, so `value` is the derivative. `jump` (n,): the loss itself
    does not tend to its value at the point. `reach` (n,): the largest step that nothing contradicted.
    """

    left: Estimate
    right: Estimate
    value: Estimate
    smooth: Array
    jump: Array
    reach: Array


def slopes(line: Line, at: Array, noise: float, *, base: float, exponents: Array = QUICK) -> Slopes:
    """Left, right and two-sided slopes of the loss along each weight, from steps 2^exponents · size of the weight.

    Shapes  at (n,); line (m, n) → (m, n); exponents falling by one.
    """
    at = np.asarray(at, dtype=float)
    steps = np.exp2(exponents)[:, None] * scale_of(at)
    ahead_step, behind_step = measure_step(at, steps), -measure_step(at, -steps)
    losses = line(np.concatenate([ahead_step, -behind_step]))
    ahead, behind = losses[: len(steps)], losses[len(steps) :]
    # losses may be infinite or NaN, at the point too: what comes of them is no slope, and no warning
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        level = noise + UNIT * np.maximum(np.abs(ahead), np.abs(behind))
        one_sided = np.concatenate([(ahead - base) / ahead_step, (base - behind) / behind_step], axis=1)
        rounding = np.concatenate([2 * level / ahead_step, 2 * level / behind_step], axis=1)
        both, edges = _widen_outward(one_sided, rounding, power=1)
        right, left = both.part(slice(at.size)), both.part(slice(at.size, None))
        edge = np.maximum(edges[: at.size], edges[at.size :])
        width = ahead_step + behind_step
        central, _ = _widen_outward((ahead - behind) / width, 2 * level / width, power=2, limit=edge)
        smooth = np.abs(right.value - left.value) <= right.error + left.error
        side = right.where(right.error < left.error, left)
        central_agrees = np.abs(central.value - side.value) <= central.error + side.error
        value = central.where((central.error <= side.error) & central_agrees, side)
        jump = _is_jumping(ahead, behind, base=base, step=ahead_step, level=level)
    return Slopes(left, right, value=value, smooth=smooth, jump=jump, reach=steps[edge, np.arange(at.size)])


@cache
def _place_windows(rows: int, columns: int) -> tuple[Array, Array]:
    """Of window j that begins in row `outer`: the innermost row that it spans, and whether the tableau has it.

    It spans the rows outer … outer + j: a diagonal of the tableau.
    """
    inner = np.arange(rows)[:, None] + np.arange(columns)
    return np.minimum(inner, rows - 1), (inner < rows)[..., None]


def _widen_outward(
    slopes_: Array, rounding: Array, *, power: int, limit: Array | None = None
) -> tuple[Estimate, Array]:
    """The most accurate window that no window further in contradicts, and the outermost row that was trusted."""
    table = Tableau.of(slopes_, rounding, power=power)
    rows, columns, n = table.value.shape
    (inner, inside), column, entry = _place_windows(rows, columns), np.arange(columns), np.arange(n)
    error = SAFETY * table.truncation[inner, column] + table.rounding[inner, column]
    error[np.isnan(error) | ~inside] = np.inf
    pick, outermost = np.argmin(error, axis=1), np.arange(rows)[:, None]
    error, chosen = error[outermost, pick, entry], (inner[outermost, pick], pick, entry)
    value, truncation, rounding = table.value[chosen], SAFETY * table.truncation[chosen], table.rounding[chosen]
    is_finite = np.isfinite(error)
    best, best_error = np.full(n, rows - 1), np.full(n, np.inf)
    best_value, alive, edge = np.full(n, np.nan), np.ones(n, bool), np.full(n, rows - 1)
    for outer in range(rows - 1, -1, -1):
        alive &= ~(np.abs(value[outer] - best_value) > error[outer] + best_error)  # not so while nothing is known
        if limit is not None:
            alive &= outer >= limit
        better = alive & (error[outer] < best_error)
        best[better] = outer
        np.copyto(best_value, value[outer], where=better)
        np.copyto(best_error, error[outer], where=better)
        edge[alive & is_finite[outer]] = outer
    found = np.isfinite(best_error)
    unknown = (np.nan, np.inf, np.inf)
    parts = zip((value, truncation, rounding), unknown, strict=True)
    return Estimate(*(np.where(found, a[best, entry], u) for a, u in parts)), edge


def _is_jumping(ahead: Array, behind: Array, base: float, step: Array, level: Array) -> Array:
    """Whether the loss at the smallest steps is farther from its value at the point than any slope explains."""
    if len(step) < len(LADDER):
        return np.zeros(step.shape[1], bool)
    with np.errstate(invalid="ignore"):  # of losses that are not finite
        steepest = np.maximum(np.abs(ahead[-8:] - base), np.abs(behind[-8:] - base))
    return np.asarray((steepest > JUMP * level[-8:]).all(axis=0) & (steepest[-1] > LEFT * steepest[0]))
