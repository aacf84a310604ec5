"""Choose the entries to compare within a time budget.

The cost of one entry is measured on a few of each variable. Then every variable gets an equal share of the entries that
the time is enough for, drawn with the seed. Small variables get all of theirs, and what they leave goes to the others.
What is not compared by itself moves together along random directions.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from keras_ref.comparison.directions.bisection import compare_along_directions
from keras_ref.comparison.entries.entrywise import compare_entries
from keras_ref.comparison.sources.evidence import Evidence, Outcome
from keras_ref.reports.verdict import Verdict
from scratch.arrays import Array

#: what a note says where time has decided how many entries were compared
LESS = " How many depends on the speed of the machine: a slower one compares the first of the same entries."
#: entries of each variable that the cost of one is learned from
PILOT = 2


def sample_entries(size: int, *, most: int | None, seed: int) -> Array:
    """The flat entries to compare: all, or `most` of them drawn with the seed."""
    if most is None or size <= most:
        return np.arange(size)
    return np.sort(np.random.default_rng(seed).choice(size, most, replace=False))


def draw_first_entries(size: int, *, count: int, seed: int) -> Array:
    """The first `count` entries of an order that is drawn with the seed: fewer are always among more."""
    return np.sort(np.random.default_rng(seed).permutation(size)[:count])


def shares(sizes: Mapping[str, int], costs: Mapping[str, float], *, seconds: float, most: int | None) -> dict[str, int]:
    """How many entries of each variable fit into the time: an equal share each, all of a smaller one, at least one."""
    limits = {n: size if most is None else min(size, most) for n, size in sizes.items()}

    def needed(share: int) -> float:
        return sum(costs[n] * min(share, limit) for n, limit in limits.items())

    low, high = 1, max(limits.values(), default=1)
    while low < high:  # the largest share that fits
        middle = (low + high + 1) // 2
        low, high = (middle, high) if needed(middle) <= seconds else (low, middle - 1)
    return {n: min(low, limit) for n, limit in limits.items()}


def compare_within_budget(evidence: Evidence, *, seconds: float, most: int | None) -> Outcome:
    """Verdicts on as many entries as fit into the time, at most `most` of each variable; the others along random
    directions of the first oracle."""
    begun, names, settings = time.perf_counter(), evidence.names, evidence.settings
    sizes = {n: evidence.size(n) for n in names}

    def spent() -> float:
        return time.perf_counter() - begun

    def compare(name: str, count: int) -> list[Verdict]:
        entries = draw_first_entries(sizes[name], count=count, seed=settings.seed + names.index(name))
        return [
            compare_entries(oracle, name, autodiff=evidence.autodiff, entries=entries, seed=settings.seed)
            for oracle in evidence.oracles
            if oracle.covers(name)
        ]

    def along_directions() -> Outcome:
        return compare_along_directions(replace(evidence, preparation=None, settings=replace(settings, progress=None)))

    costs: dict[str, float] = {}
    pilots: dict[str, list[Verdict]] = {}
    for name in names:
        if pilots and spent() > seconds:
            break
        start = spent()
        pilots[name] = compare(name, PILOT)
        costs[name] = (spent() - start) / max(min(PILOT, sizes[name]), 1)
    together = Outcome()
    if not _fits(sizes, costs, seconds=seconds - spent(), most=most):
        together = along_directions()
    counts = shares({n: sizes[n] for n in pilots}, costs, seconds=max(seconds - spent(), 0.0), most=most)
    one_by_one: dict[str, list[Verdict]] = {}
    for i, name in enumerate(names):
        enough = spent() > seconds or counts.get(name, 0) <= PILOT
        one_by_one[name] = pilots.get(name, []) if enough else compare(name, counts[name])
        settings.report_progress(i + 1, len(names), name)
    compared = {n: max((v.compared for v in one_by_one[n]), default=0) for n in names}
    if any(compared[n] < sizes[n] for n in names) and not together.verdicts:
        # entries took longer than was estimated from the first of them
        together = along_directions()
    along = {v.name: v for v in together.verdicts}
    verdicts = [verdict for n in names for verdict in _join_verdicts(one_by_one[n], along.get(n))]
    late = any(compared[n] < (size if most is None else min(size, most)) for n, size in sizes.items())
    rest = "the others together along random directions; effort='full' compares all" if along else "none was left out"
    return Outcome(tuple(verdicts), together.notes).with_notes(
        f"{sum(compared.values())} of {evidence.entries} entries were compared one by one, drawn with seed "
        f"{settings.seed}, within {seconds:g} s; {rest}." + LESS * late
    )


def _fits(sizes: Mapping[str, int], costs: Mapping[str, float], *, seconds: float, most: int | None) -> bool:
    """Whether every entry of every variable can be compared in the seconds that are left."""
    if len(costs) < len(sizes) or (most is not None and any(size > most for size in sizes.values())):
        return False
    return sum(cost * sizes[name] for name, cost in costs.items()) <= seconds


def _join_verdicts(one_by_one: list[Verdict], along: Verdict | None) -> list[Verdict]:
    """The verdicts on drawn entries with what directions say of all: the worse of both, and the larger error unseen."""
    if along is None:
        return one_by_one
    joined, found = [], False
    for verdict in one_by_one:
        if verdict.oracle != along.oracle:
            joined.append(verdict)
            continue
        found = True
        if along.failed and along.verdict.rank < verdict.verdict.rank:
            joined.append(along)
        else:
            # where every entry was compared, directions say nothing more
            partly = verdict.compared < verdict.total and not np.isnan(along.visible)
            worse = max(verdict.visible, along.visible) if partly else verdict.visible
            joined.append(replace(verdict, together=along.together, visible=worse))
    return joined if found else [along, *joined]
