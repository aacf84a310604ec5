"""How much is compared: effort "auto" within a time budget. effort "fast" is locate.py, "full" is every entry.

The cost of one entry is measured on a few of each variable; then every variable gets an equal share of the entries that
the time is enough for, drawn with the seed (small variables all of theirs, and what they leave goes to the others). What
is not compared by itself moves together along random directions.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_ref.comparison.bisection import located
from keras_ref.comparison.entrywise import Autodiff, compare
from keras_ref.reports.verdict import ORDER, Verdict
from scratch.arrays import Array

#: entries that effort "auto" compares of one variable, when the model has more than FULL in all and no budget is given
FULL, SAMPLED = 4096, 64
#: seconds that effort "auto" may take of a model of more than FULL entries, and the entries it learns the cost from
BUDGET, PILOT = 60.0, 2


def chosen(size: int, most: int | None, seed: int) -> Array:
    """The flat entries to compare: all, or `most` of them drawn with the seed."""
    if most is None or size <= most:
        return np.arange(size)
    return np.sort(np.random.default_rng(seed).choice(size, most, replace=False))


def shares(sizes: Mapping[str, int], costs: Mapping[str, float], seconds: float, most: int | None) -> dict[str, int]:
    """How many entries of each variable fit into the time: an equal share each, all of a smaller one, at least one."""
    limits = {n: size if most is None else min(size, most) for n, size in sizes.items()}

    def needed(share: int) -> float:
        return sum(costs[n] * min(share, limit) for n, limit in limits.items())

    low, high = 1, max(limits.values(), default=1)
    while low < high:  # the largest share that fits
        middle = (low + high + 1) // 2
        low, high = (middle, high) if needed(middle) <= seconds else (low, middle - 1)
    return {n: min(low, limit) for n, limit in limits.items()}


def within(
    seconds: float,
    probe: Any,
    oracles: Sequence[Any],
    autodiff: Autodiff,
    names: Sequence[str],
    notes: list[str],
    *,
    most: int | None,
    seed: int,
    progress: Any = None,
    expect: Sequence[str] = (),
) -> list[Verdict]:
    """Verdicts on as many entries as fit into the time; the others along random directions of the first oracle."""
    begun = time.perf_counter()
    pairs = {n: [o for o in oracles if o.name != "twin" or n in o.names] for n in names}
    sizes = {n: probe.values[n].size for n in names}
    costs: dict[str, float] = {}
    pilots: dict[str, list[Verdict]] = {}

    def compared(name: str, most: int) -> list[Verdict]:
        entries = chosen(sizes[name], most, seed + list(names).index(name))
        return [compare(oracle, name, autodiff, entries, seed=seed) for oracle in pairs[name]]

    for name in names:
        if pilots and time.perf_counter() - begun > seconds:
            break
        start = time.perf_counter()
        pilots[name] = compared(name, PILOT)
        costs[name] = (time.perf_counter() - start) / max(min(PILOT, sizes[name]), 1)
    along: dict[str, Verdict] = {}
    spent = time.perf_counter() - begun
    everything = (
        spent + sum(costs[n] * min(sizes[n], most or sizes[n]) for n in pilots) if len(pilots) == len(names) else np.inf
    )
    sampled = most is not None and any(size > most for size in sizes.values())
    if everything > seconds or sampled:
        found = located(
            probe, oracles[0], autodiff.gradient, names, mode=autodiff.how, seed=seed, notes=notes, apart=expect
        )
        along = {v.name: v for v in found}
        spent = time.perf_counter() - begun
    counts = shares({n: sizes[n] for n in pilots}, costs, max(seconds - spent, 0.0), most)
    verdicts: list[Verdict] = []
    for i, name in enumerate(names):
        late = time.perf_counter() - begun > seconds
        one_by_one = pilots.get(name, []) if late or counts.get(name, 0) <= PILOT else compared(name, counts[name])
        verdicts += _joined(one_by_one, along.get(name))
        if progress is not None:
            progress(i + 1, len(names), name)
    count, total = (
        sum(max((v.compared for v in verdicts if v.name == n), default=0) for n in names),
        sum(sizes.values()),
    )
    rest = "the others together along random directions; effort='full' compares all" if along else "none was left out"
    notes.append(
        f"{count} of {total} entries were compared one by one, drawn with seed {seed}, within {seconds:g} s; {rest}."
    )
    return verdicts


def _joined(one_by_one: list[Verdict], along: Verdict | None) -> list[Verdict]:
    """The verdicts on drawn entries with what directions say of all: the worse of both, and the larger error unseen."""
    if along is None:
        return one_by_one
    joined, found = [], False
    for verdict in one_by_one:
        if verdict.oracle != along.oracle:
            joined.append(verdict)
            continue
        found = True
        if ORDER.index(along.verdict) < ORDER.index(verdict.verdict) and along.failed:
            joined.append(along)
        else:
            # where every entry was compared, directions say nothing more
            partly = verdict.compared < verdict.total and along.visible == along.visible
            worse = max(verdict.visible, along.visible) if partly else verdict.visible
            joined.append(replace(verdict, together=along.together, visible=worse))
    return joined if found else [along, *joined]
