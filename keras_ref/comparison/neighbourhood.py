"""Judging a kink, or a difference at one point, by generic points close by.

At a kink any value between the left and the right slope is a convention, and where several kinks meet even values
outside are (relu(x) - relu(-x) has slope 1 at 0, and autodiff 0). But beside the kink the derivative is unique, and
there autodiff has to be right: a wrong backward pass is wrong there too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from keras_ref.reports.verdict import Kind, Reason
from scratch.arrays import Array
from scratch.random_offset import random_offsets

#: how far off a point beside lies, in units of each weight's size: near enough to be the same neighbourhood, far enough
#: that loss noise / distance stays below SHARP (1e-16 · 2^13 ~ 1e-12)
DISTANCE = 2.0**-13


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


def opposite_pairs(values: Mapping[str, Array], generator: np.random.Generator) -> Iterator[dict[str, Array]]:
    """Generic points beside a point, each followed by the one opposite to it.

    A kink has two sides, and on one of them there may be nothing to see.
    """
    while True:
        offsets = random_offsets(values, generator, distance=DISTANCE)
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


def conclude(*, at_kink: bool, between: bool, right: int, wrong: int, has_kinks: bool) -> Judgement:
    """What a kink, or a difference at a smooth point, is after a look at points beside it.

    between        whether autodiff's value lies between the sides of the kink
    right, wrong   at how many points beside autodiff was right, and at how many wrong
    has_kinks      whether an operation of the forward pass may have a kink
    """
    # the first line that holds decides
    lines = (
        (wrong and at_kink, Kind.MISMATCH, Reason.KINK_WRONG_BESIDE),
        (wrong, Kind.MISMATCH, None),
        (right and at_kink and between, Kind.KINK, Reason.KINK_BETWEEN),
        (right and not at_kink and not has_kinks, Kind.MISMATCH, Reason.WRONG_ONLY_HERE),
        (right, Kind.KINK, Reason.KINKS_MEET),
        (at_kink and between, Kind.KINK, Reason.KINK_ALONE),
        (at_kink, Kind.UNDECIDED, Reason.KINK_OUTSIDE),
        (True, Kind.MISMATCH, None),
    )
    return next(Judgement(kind, reason) for holds, kind, reason in lines if holds)
