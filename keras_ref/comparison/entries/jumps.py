"""Entries of an input at which the loss jumps: something decides there, a comparison, an argmax or a rounding.

Such decisions are whether a sample is padding (`Masking` compares with its mask value), which entry is the largest, and
what a number is rounded to. One flips as soon as the entry moves, and the loss has no derivative. That is a property of
what is checked and no fault of its gradient. A gradient is still right or wrong there: autodiff differentiates the
branch that the point lies on. So the loss is differenced once more with every decision as it is at the point, and an
entry passes where autodiff agrees with that. Where decisions cannot be held (no graph shows them, or the loss is the
twin's), an entry passes where autodiff is 0, or is the slope from a side on which the loss does not jump.

Variables are not excused: a loss that jumps as training moves a weight cannot be trained by its gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from keras_ref.comparison.entries.entry_comparison import EntryComparison, Judgements, measure_rounding
from keras_ref.comparison.sources.autodiff import Autodiff
from keras_ref.comparison.sources.oracles import Oracle
from keras_ref.comparison.sources.sums import root_mean_square
from keras_ref.reports.verdict import Kind, Reason
from scratch.arrays import Array
from scratch.differences import SAFETY, Estimate
from scratch.noise import DEVIATIONS, ROLLS
from scratch.one_sided import LADDER, slopes

#: a slope from one side is one, and not a jump divided by a step, where its error is at most this share of it. Of a
#: jump J at halved steps J/h, 2J/h, … nothing is left that small
OF_A_SIDE = 2.0**-8


@dataclass(frozen=True, kw_only=True)
class BranchOracle(Oracle):
    """A loss with every decision as it is at the point. Its noise is DEVIATIONS times that of losses at the point."""

    whole: Oracle
    values: Mapping[str, Array]
    base: float
    noise: float
    name: str
    of_forward_pass: bool = True

    @classmethod
    def of(cls, oracle: Oracle) -> BranchOracle | None:
        """The branch at an oracle's point; None where decisions cannot be held."""
        found = oracle.branch_directional({}, np.zeros(ROLLS))
        if found is None or not np.isfinite(found).all():
            return None
        noise = max(DEVIATIONS * root_mean_square(found - oracle.base), oracle.noise)
        return cls(whole=oracle, values=oracle.values, base=oracle.base, noise=noise, name=oracle.name)

    def losses(self, name: str, entries: Array, offsets: Array) -> Array:
        return _find_known(self.whole.branch_losses(name, entries, offsets))

    def directional(self, direction: Mapping[str, Array], steps: Array) -> Array:
        return _find_known(self.whole.branch_directional(direction, steps))

    def moved(self, values: Mapping[str, Array]) -> BranchOracle:
        """The branch at another point, with the decisions of that point."""
        branch = BranchOracle.of(self.whole.moved(values))
        return replace(self, values=values, noise=float("nan")) if branch is None else branch

    def with_noise(self, noise: float) -> BranchOracle:
        return replace(self, noise=noise)


def _find_known(losses: Array | None) -> Array:
    if losses is None:
        raise ValueError("an oracle that has held its decisions once must be able to do so again")
    return losses


def hold_decisions(oracle: Oracle, vector: Mapping[str, Array]) -> BranchOracle | None:
    """The branch at the oracle's point, where the loss jumps along a direction because the direction moves inputs.

    None where variables alone make it jump, or decisions cannot be held.
    """
    variables = {name: move for name, move in vector.items() if name not in oracle.inputs}
    if len(variables) == len(vector):
        return None
    if variables:

        def line(offsets: Array) -> Array:
            return oracle.directional(variables, offsets[:, 0])[:, None]

        if slopes(line, np.zeros(1), oracle.noise, base=oracle.base, exponents=LADDER).jump[0]:
            return None
    return BranchOracle.of(oracle)


def judge_jumps(found: EntryComparison, autodiff: Autodiff) -> EntryComparison:
    """The comparison with its entries on a jump judged by the branch of the point, where they are an input's."""
    jumps = found.judgements.because(Reason.JUMP)
    if not len(jumps) or found.name not in found.oracle.inputs:
        return found
    jumps = np.intersect1d(jumps, found.judgements.among(Kind.UNDECIDED))
    if not len(jumps):
        return found
    branch = BranchOracle.of(found.oracle)
    if branch is not None:
        there = EntryComparison.of(branch, found.name, autodiff=autodiff, entries=found.entries[jumps])
        if autodiff.gradient[found.name] is not None:
            there = measure_rounding(there, autodiff)
        right = there.judgements.kinds == Kind.MATCH
    else:
        there = found.part(jumps)
        right = _follows_a_side(there)
    there = replace(there, judgements=Judgements(np.where(right, Kind.KINK, Kind.UNDECIDED).astype("<U16")))
    at = np.flatnonzero(right)
    return found.with_entries(jumps[at], there.part(at), reason=Reason.ON_A_JUMP)


def _follows_a_side(found: EntryComparison) -> Array:
    """Where autodiff is 0, or the slope from a side on which the loss tends to its value at the point."""

    def agrees(side: Estimate) -> Array:
        with np.errstate(invalid="ignore"):
            sharp = SAFETY * side.error <= OF_A_SIDE * np.abs(side.value)
            return np.asarray(sharp & (np.abs(side.value - found.values) <= side.error + found.rounding))

    return np.asarray((found.values == 0) | agrees(found.slopes.left) | agrees(found.slopes.right))
