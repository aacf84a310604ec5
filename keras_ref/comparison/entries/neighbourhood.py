"""Judging a kink, or a difference at one point, by what lies around it.

At a kink any value between the left and the right slope is a convention. Where several kinks meet even values outside
are: with a = b = w at 0, 2 relu(a) - relu(-b) has the slopes 1 and 2 along w, and autodiff, which takes 0 of each relu,
is right about both. But beside the kinks the derivative is unique, and there autodiff has to be right: a wrong backward
pass is wrong there too. That several kinks meet is shown, not assumed: along generic directions, in which everything
moves at once, the slopes of both sides differ. Where they agree along all of them the loss has a derivative at the
point, and a value that is not it is wrong, however right autodiff is beside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from keras_ref.comparison.entries.entry_comparison import (
    EntryComparison,
    Judgements,
    judge,
    lie_between,
    measure_rounding,
)
from keras_ref.comparison.entries.entry_slopes import measure_beside_autodiff
from keras_ref.comparison.sources.autodiff import Autodiff
from keras_ref.comparison.sources.oracles import Oracle
from keras_ref.reports.verdict import Kind, Reason
from scratch.arrays import Array
from scratch.differences import SAFETY
from scratch.one_sided import LADDER, slopes
from scratch.random_offset import draw_offsets

#: how far off a point beside lies, in units of each weight's size: near enough to be the same neighbourhood, far enough
#: that loss noise / distance stays below SHARP (1e-16 · 2^13 ~ 1e-12)
DISTANCE = 2.0**-13
#: pairs of opposite points beside an entry that is looked at more closely
PAIRS = 2
#: generic directions along which kinks are looked for
DIRECTIONS = 4
#: kinks explain as much as this times the largest that is seen. Along a generic direction kinks of both signs cancel in
#: part; that they do so to a sixteenth along each of four happens once in 16^4 = 65,536
EXPLAINED = 16.0


@dataclass(frozen=True)
class Tally:
    """At how many points beside autodiff was right, and at how many wrong: two integers for each item (n,)."""

    right: Array
    wrong: Array


@dataclass(frozen=True)
class Judgement:
    """A kind of verdict, and why; no reason where the numbers say it all."""

    kind: Kind
    reason: Reason | None = None


def draw_opposite_pairs(values: Mapping[str, Array], generator: np.random.Generator) -> Iterator[dict[str, Array]]:
    """Generic points beside a point, each followed by the one opposite to it.

    A kink has two sides, and on one of them there may be nothing to see.
    """
    while True:
        offsets = draw_offsets(values, generator, distance=DISTANCE)
        yield {name: values[name] + offset for name, offset in offsets.items()}
        yield {name: values[name] - offset for name, offset in offsets.items()}


def tally_neighbours(
    judge: Callable[[int, Array], Tally], *, between: Array, points: int, paired: bool = False
) -> Tally:
    """What `points` points beside say of n items, as far as each item needs them.

    judge     (number of the point, items (k,) still open) → their Tally at that point
    between   (n,) whether the item sits on a kink and autodiff's value lies between its sides: one right neighbour is
              then enough (a pair with one, if `paired`). A wrong neighbour is always enough.
    """
    right, wrong, pending = np.zeros(len(between), int), np.zeros(len(between), int), np.arange(len(between))
    for k in range(points):
        found = judge(k, pending)
        right[pending] += found.right
        wrong[pending] += found.wrong
        excused = between[pending] & (right[pending] > 0) & (not paired or k % 2 == 1)
        pending = pending[~((wrong[pending] > 0) | excused)]
        if not len(pending):
            break
    return Tally(right, wrong)


def measure_kinks(oracle: Oracle, name: str, *, entries: Array, seed: int) -> Array:
    """How large the kinks are that meet at the oracle's point, as differences of slopes of the given entries (e,).

    Along a direction v in which everything moves, kinks of c·relu(a·θ) at a·θ = 0 add up to |Σ c |a·v||, and one of
    them makes no more than c·|a_i| of the slope of entry i. What is seen along v is divided by |v_i| therefore, and the
    largest of DIRECTIONS counts; 0 where both sides agree along all of them.
    """
    generator = np.random.default_rng(seed)
    largest = np.zeros(len(entries))
    for _ in range(DIRECTIONS):
        direction = draw_offsets({n: v for n, v in oracle.values.items() if oracle.covers(n)}, generator)

        def line(offsets: Array, direction: Mapping[str, Array] = direction) -> Array:
            return oracle.directional(direction, offsets[:, 0])[:, None]

        found = slopes(line, np.zeros(1), oracle.noise, base=oracle.base, exponents=LADDER)
        difference = abs(float(found.right.value[0] - found.left.value[0]))
        if not found.smooth[0] and np.isfinite(difference):
            largest = np.maximum(largest, difference / np.abs(np.ravel(direction[name])[entries]))
    return largest


def conclude(*, at_kink: bool, between: bool, right: int, wrong: int, kinks_meet: bool) -> Judgement:
    """What a kink, or a difference at a smooth point, is after a look at points beside it.

    between        whether autodiff's value lies between the sides of the kink
    right, wrong   at how many points beside autodiff was right, and at how many wrong
    kinks_meet     whether kinks along generic directions are as large as what they would have to explain
    """
    # the first line that holds decides
    lines = (
        (wrong and at_kink, Kind.MISMATCH, Reason.KINK_WRONG_BESIDE),
        (wrong, Kind.MISMATCH, None),
        (right and at_kink and between, Kind.KINK, Reason.KINK_BETWEEN),
        (right and kinks_meet, Kind.KINK, Reason.KINKS_MEET),
        (right and at_kink, Kind.MISMATCH, Reason.BEYOND_KINKS),
        (right, Kind.MISMATCH, Reason.WRONG_ONLY_HERE),
        (at_kink and between, Kind.KINK, Reason.KINK_ALONE),
        (at_kink, Kind.UNDECIDED, Reason.KINK_OUTSIDE),
        (True, Kind.MISMATCH, None),
    )
    return next(Judgement(kind, reason) for holds, kind, reason in lines if holds)


def _count_noise_beside(found: EntryComparison, autodiff: Autodiff, *, seed: int) -> EntryComparison:
    """Before reporting a mismatch: its entries measured again with the noise that losses have beside the point.

    Operations may be exact at a point of zeros or equal entries, and not where the losses are taken that are
    differenced: elu(0) is 0, and elu(-h) is off by a unit of 1. Opposite points show the noise of both sides. Two
    measurements of the same noise differ by less than SAFETY, which is no reason to measure again.
    """
    wrong = found.judgements.among(Kind.MISMATCH, without=Reason.ON_A_JUMP)
    if not len(wrong):
        return found
    oracle, name = found.oracle, found.name
    pair = islice(draw_opposite_pairs(oracle.values, np.random.default_rng(seed)), 2)
    noise = float(np.fmax.reduce([oracle.moved(point).noise_along(name) for point in pair]))
    if not noise > SAFETY * oracle.noise_along(name):
        return found
    noisier = oracle.with_noise_beside(noise)
    again = EntryComparison.of(noisier, name, autodiff=autodiff, entries=found.entries[wrong])
    return found.with_entries(wrong, measure_rounding(again, autodiff), reason=None)


def look_beside(found: EntryComparison, autodiff: Autodiff, *, seed: int) -> EntryComparison:
    """Kinks and mismatches decided by autodiff against differences at generic points close by.

    A point beside counts as right only where it would have shown an error as large as the one that it excuses.
    """
    found = _count_noise_beside(found, autodiff, seed=seed)
    special = found.judgements.among(Kind.KINK, Kind.MISMATCH, without=Reason.ON_A_JUMP)
    if not len(special):
        return found
    oracle, name = found.oracle, found.name
    at_kink, between = found.judgements.kinds[special] == Kind.KINK, found.between[special]
    excused = found.excused[special]
    points = draw_opposite_pairs(oracle.values, np.random.default_rng(seed))

    def judge_at(_: int, pending: Array) -> Tally:
        point, entries = next(points), found.entries[special[pending]]
        beside = autodiff.at(point)
        gradient = beside.gradient[name]
        values = np.full(len(entries), np.nan) if gradient is None else np.ravel(gradient)[entries].astype(float)
        around = measure_beside_autodiff(oracle.moved(point), name, entries=entries, values=values, autodiff=beside)
        rounding = beside.rounding_of(name, entries)
        kinds = judge(around, values, rounding).kinds
        sharp = 2 * (around.value.error + rounding) < excused[pending]
        wrong = (kinds == Kind.MISMATCH) & ~lie_between(around, values, rounding)
        return Tally((kinds == Kind.MATCH) & sharp, wrong | (kinds == Kind.NAN))

    tally = tally_neighbours(judge_at, between=at_kink & between, points=2 * PAIRS, paired=True)
    open_ = (tally.right > 0) & (tally.wrong == 0) & ~(at_kink & between)
    kinks = np.zeros(len(special))
    if open_.any():
        kinks[open_] = measure_kinks(oracle, name, entries=found.entries[special[open_]], seed=seed)
    kinds, reasons = found.judgements.kinds.copy(), dict(found.judgements.reasons)
    for k, i in enumerate(map(int, special)):
        concluded = conclude(
            at_kink=bool(at_kink[k]),
            between=bool(between[k]),
            right=int(tally.right[k]),
            wrong=int(tally.wrong[k]),
            kinks_meet=bool(excused[k] <= EXPLAINED * kinks[k]),
        )
        kinds[i] = concluded.kind
        if concluded.reason is not None:
            reasons[i] = concluded.reason
    return replace(found, judgements=Judgements(kinds, reasons))
