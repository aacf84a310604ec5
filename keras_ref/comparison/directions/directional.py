"""Every entry moved at once along a random direction v, compared with ⟨g, v⟩ of autodiff's gradient g.

Let e be what g errs by. Along v the loss has the slope D = ⟨g, v⟩ - ⟨e, v⟩. Two forward passes give D to within an
error `allowed` that is measured as for single entries: (L(θ + tv) - L(θ - tv)) / 2t, with left and right slopes beside
it. A match is |⟨g, v⟩ - D| ≤ allowed; an error E in the one entry i is certainly seen where |E·v_i| > 2·allowed.

The direction  v_ki = ±s_k·u, u drawn from [1/2, 1]: no entry is left out, and no two errors cancel by symmetry.
The scale      s_k ∝ 1 / rms(g_k), so that an ordinary entry of every variable k contributes alike, and a small tensor
               cannot hide behind a large one: E shows itself where E / rms(g_k) > 4·allowed / (s_k·rms(g_k)), the same
               for all k. In units of the variable's own size s_k stays within CLIP of the median variable's: a gradient
               that is zero must not send its variable to infinity. What stays hidden all the same (a variable whose
               whole ⟨g_k, v_k⟩ is within a few `allowed`) is moved once more by itself, the others at rest.
The step       t = √UNIT: the rounding noise / t and the curvature t·L'' are then of one size, about 1e-8 of D. A
               network of many ReLUs has kinks everywhere along a long line, and here most of them are out of reach.
               Two passes are enough there: E = L(θ + tv) + L(θ - tv) - 2·L(θ) is noise, curvature and kinks, nothing of
               the slope. Kinks between θ and θ ± tv, of sizes J, change D by no more than Σ|J| (t - k) / 2t, which
               is |E| / 2t where they are of one sign. Where E is more than noise, a step of an eighth leaves an eighth
               of the kinks, and so on until rounding is all that is left.
Several wrong entries may cancel along one v; they do not along several, each drawn anew.
Doubt (sides that differ at all of these steps, a difference not allowed, an error too wide) asks for the noise and for
steps of all sizes, then for generic points beside. At an exact kink autodiff's value is a convention, and it has to be
right where the derivative is unique.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_ref.comparison.directions.directional_point import Direction, DirectionalPoint
from keras_ref.comparison.directions.residuals import Residual, measure_along, measure_closely
from keras_ref.comparison.entries.neighbourhood import Tally, conclude, tally_neighbours
from keras_ref.reports.verdict import Kind, Reason
from scratch.arrays import Array
from scratch.differences import SAFETY

#: generic points beside a kink
NEIGHBOURS = 3
#: a variable is hidden while its share of the slope is within this many times what was allowed
HIDDEN = 8.0


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


def judge_along(point: DirectionalPoint, direction: Direction) -> DirectionalResult:
    """The residual along a direction, judged as a single entry is: by points beside it where it must be."""
    here = measure_along(point, direction.vector, ordinary=direction.ordinary)
    if here.fine:
        return DirectionalResult(Kind.MATCH, direction, here, point)
    if here.jump or not math.isfinite(here.numeric):
        reason = Reason.JUMP if here.jump else Reason.NOT_FINITE_BESIDE
        return DirectionalResult(Kind.UNDECIDED, direction, residual=here, point=point, reason=reason)
    between, generator = not here.smooth and here.between, np.random.default_rng(point.seed)
    wrong_beside: list[tuple[DirectionalPoint, Residual]] = []

    def has_shown(there: Residual) -> bool:
        """Whether a point beside would have shown an error as large as the one that it excuses."""
        return between or SAFETY * there.allowed < abs(here.difference)

    def judge_at(_: int, pending: Array) -> Tally:
        del pending  # the one direction
        near = point.beside(generator)
        there = measure_along(near, direction.vector, ordinary=direction.ordinary)
        if there.fine and not has_shown(there):
            there = measure_closely(near, direction.vector, ordinary=direction.ordinary)
        wrong = there.smooth and not there.fine
        if wrong:
            wrong_beside.append((near, there))
        return Tally(np.array([there.fine and has_shown(there)]), np.array([wrong]))

    tally = tally_neighbours(judge_at, between=np.array([between]), points=NEIGHBOURS)
    right, wrong = int(tally.right[0]), int(tally.wrong[0])
    if not (right or wrong or between):
        return DirectionalResult(Kind.UNDECIDED, direction, residual=here, point=point, reason=Reason.KINK_EVERYWHERE)
    found = conclude(at_kink=not here.smooth, between=between, right=right, wrong=wrong, kinks_meet=not here.smooth)
    where, residual = (point, here) if here.smooth or not wrong else wrong_beside[0]
    return DirectionalResult(
        found.kind, direction, residual=residual, point=where, reason=None if wrong else found.reason
    )


def find_smallest_seen(result: DirectionalResult, name: str) -> float:
    """The smallest error in one entry of a variable that was certainly seen; inf where not every entry moved."""
    least = result.direction.least.get(name, 0.0)
    return SAFETY * result.residual.allowed / least if least else math.inf


def find_hidden(results: Sequence[DirectionalResult], names: Sequence[str]) -> list[str]:
    """Variables whose whole share is so small beside what was allowed that it could be missing."""
    return [n for n in names if all(abs(r.residual.shares.get(n, 0.0)) <= HIDDEN * r.residual.allowed for r in results)]
