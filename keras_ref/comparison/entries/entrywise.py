"""Numeric slopes against autodiff, entry by entry: one verdict on a variable.

An entry is measured with few steps first; where those leave doubt (too wide an error, sides that differ, a difference
that is not allowed) with more, down to the last bits of the weight. The rounding of autodiff's values is measured where
one of them differs without it. Before a value is called wrong, points close by are compared too.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np

from keras_ref.comparison.entries.entry_comparison import EntryComparison, mark_none, measure_rounding
from keras_ref.comparison.entries.jumps import judge_jumps
from keras_ref.comparison.entries.neighbourhood import look_beside
from keras_ref.comparison.entries.sharpness import require_sharp
from keras_ref.comparison.entries.taylor_remainder import remainder_order
from keras_ref.comparison.sources.autodiff import SHARP, Autodiff
from keras_ref.comparison.sources.oracles import Oracle
from keras_ref.reports.heat_map import ErrorWindow
from keras_ref.reports.verdict import Kind, Reason, Verdict, find_worst
from scratch.arrays import Array, index_of
from scratch.differences import UNIT, Scheme
from scratch.one_sided import TIERS

#: wrong entries of a variable that are compared in full where each loss takes a pass of its own
EXAMPLES = 2


def compare_entries(
    oracle: Oracle,
    name: str,
    *,
    autodiff: Autodiff,
    entries: Array | None = None,
    seed: int = 0,
    scheme: Scheme | None = None,
) -> Verdict:
    """The verdict on one variable (all its entries, or the given flat ones) against one oracle.

    `scheme` None takes more steps where an entry's error is wide or its sides differ, and detects kinks.
    """
    value = oracle.values[name]
    entries = np.arange(value.size) if entries is None else entries
    if autodiff.gradient[name] is None or scheme is not None:
        found = EntryComparison.of(oracle, name, autodiff=autodiff, entries=entries, scheme=scheme)
        if autodiff.gradient[name] is None:
            found = judge_jumps(mark_none(found), autodiff)
    else:
        by_examples = _compare_by_examples(oracle, name, autodiff=autodiff, entries=entries, seed=seed)
        found = by_examples or _compare_each(oracle, name, autodiff=autodiff, entries=entries, seed=seed)
    verdict = summarize(found, value.shape, autodiff.how)
    if verdict.verdict is not Kind.MISMATCH:
        return verdict
    worst = int(np.ravel_multi_index(verdict.worst, value.shape)) if value.shape else 0
    return replace(verdict, order=remainder_order(found.oracle, name, entry=worst, autodiff=verdict.autodiff))


def _compare_each(oracle: Oracle, name: str, *, autodiff: Autodiff, entries: Array, seed: int) -> EntryComparison:
    """Each entry with as many steps as its doubt asks for, and what differs beside the point too."""
    found = EntryComparison.of(oracle, name, autodiff=autodiff, entries=entries)
    found = judge_jumps(measure_rounding(found, autodiff), autodiff)
    found = look_beside(found, autodiff, seed=seed)
    return require_sharp(found, autodiff)


def _compare_by_examples(
    oracle: Oracle, name: str, *, autodiff: Autodiff, entries: Array, seed: int
) -> EntryComparison | None:
    """The same where many entries of a loss that takes a pass for each are wrong: some are compared in full for all.

    To tell an entry that differs from a kink takes some 160 passes more, down to the last bits and beside the point.
    Where those that differ most turn out to be plainly wrong the verdict is, and what is found of the others is what
    the first steps say. None where few entries differ in these, or an example is anything else than wrong.
    """
    if not oracle.passes_singly:
        return None
    first = EntryComparison.of(oracle, name, autodiff=autodiff, entries=entries, tiers=TIERS[:-1])
    first = measure_rounding(first, autodiff)
    wrong = first.judgements.among(Kind.MISMATCH)
    if len(wrong) <= EXAMPLES:
        return None
    with np.errstate(divide="ignore"):
        excess = np.abs(first.slopes.value.value - first.values)[wrong] / first.allowed[wrong]
    chosen = np.sort(wrong[np.argsort(-excess, kind="stable")[:EXAMPLES]])
    decided = _compare_each(oracle, name, autodiff=autodiff, entries=entries[chosen], seed=seed)
    if len(decided.judgements.among(Kind.MISMATCH)) < EXAMPLES or decided.judgements.reasons:
        return None
    found = first.with_entries(chosen, decided, reason=None)
    rest = np.setdiff1d(np.arange(len(entries)), wrong)
    if not len(rest):
        return found
    others = _compare_each(oracle, name, autodiff=autodiff, entries=entries[rest], seed=seed)
    return found.with_entries(rest, others, reason=None)


def summarize(found: EntryComparison, shape: tuple[int, ...], how: str) -> Verdict:
    """One verdict on all entries compared: the worst kind, its worst entry, and what would have been seen."""
    kinds, estimate, allowed = found.judgements.kinds, found.slopes.value, found.allowed
    counts = dict(sorted(Counter(kinds.tolist()).items()))
    kind = find_worst(counts) if counts else Kind.MATCH
    verdict = Verdict(
        found.name,
        found.oracle.name,
        kind,
        compared=len(found.entries),
        total=math.prod(shape),
        counts=counts,
        how=how,
    )
    among = found.judgements.among(kind)
    if not len(among):
        return verdict
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = np.nan_to_num(np.abs(estimate.value - found.values) / allowed, nan=np.inf)
        clean = ((kinds == Kind.MATCH.value) | (kinds == Kind.DISCONNECTED.value)) & np.isfinite(allowed)
        # an error E shows itself where |E| - |numeric - true slope| > allowed; numeric is within allowed of the truth
        visible = 2 * allowed[clean]
        relative = visible / np.abs(estimate.value[clean])
    # a slope that is nothing but the rounding of the loss is no size to compare an error with
    base = found.oracle.base
    meaningful = relative[np.abs(estimate.value[clean]) > 1 / SHARP * UNIT * max(abs(base), UNIT)]
    i = int(among[np.argmax(excess[among])])
    verdict = replace(
        verdict,
        worst=index_of(found.entries[i], shape),
        autodiff=float(found.values[i]),
        numeric=float(estimate.value[i]),
        left=float(found.slopes.left.value[i]),
        right=float(found.slopes.right.value[i]),
        truncation=float(estimate.truncation[i]),
        rounding=float(estimate.rounding[i] + found.rounding[i]),
        visible=float(visible.max()) if visible.size else float("nan"),
        visible_relative=float(meaningful.max()) if meaningful.size else float("nan"),
        cells=ErrorWindow.around(
            int(found.entries[i]), shape, entries=found.entries, numeric=estimate.value, autodiff=found.values
        ),
        accused=tuple(map(int, found.entries[found.judgements.among(Kind.MISMATCH, Kind.NAN)])),
        slopes=tuple(map(float, estimate.value))
        if kind is Kind.MISMATCH and len(found.entries) == verdict.total
        else (),
        jumps=len(found.judgements.because(Reason.ON_A_JUMP)),
    )
    reason = found.judgements.reasons.get(i)
    return verdict if reason is None else verdict.because(reason)
