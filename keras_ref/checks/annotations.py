"""What is added to the outcome of a comparison: known departures, declared surrogates, and notes.

Every annotator is a pure function of an outcome; `annotators` lists them in the order in which they apply.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from keras_ref.checks.disconnected import GradientPaths, explain_none_and_nan
from keras_ref.comparison.evidence import Annotator, Evidence, Outcome
from keras_ref.comparison.triangular import mark_symmetrized
from keras_ref.evaluation.float64 import DTYPE, policy_of
from keras_ref.reports.verdict import Kind, Reason, Verdict
from keras_ref.translation import departures

#: kinds of verdict that a declared surrogate may end in
OF_SURROGATES = frozenset((Kind.MISMATCH, Kind.UNDECIDED, Kind.KINK, Kind.DISCONNECTED))


def annotators(evidence: Evidence, paths: GradientPaths) -> tuple[Annotator, ...]:
    """The annotators of a check of gradients."""
    return (
        partial(mark_symmetrized, evidence=evidence),
        partial(mark_departures, evidence=evidence),
        partial(explain_none_and_nan, evidence=evidence, paths=paths),
        partial(mark_surrogates, evidence=evidence, paths=paths),
        partial(note_vacuous, evidence=evidence),
    )


def mark_departures(outcome: Outcome, *, evidence: Evidence) -> Outcome:
    """Where Keras is known to depart from the definition, a twin that differs is that departure, not a new finding.

    The forward oracle still judges the backward pass: a departure excuses only an oracle that follows a definition.
    """
    followed = {oracle.name: oracle.specifications for oracle in evidence.oracles if oracle.specifications}

    def differs(verdict: Verdict) -> bool:
        return verdict.failed and verdict.oracle in followed

    differing = {verdict.oracle for verdict in outcome.verdicts if differs(verdict)}
    specifications = [one for oracle in sorted(differing) for one in followed[oracle]]
    if not specifications:
        return outcome
    # a layer without float64 kernels computes in float32, which the twin does not: refused in float64, it is excused
    ids = departures.find_departures(specifications)
    if not ids and any(policy_of(one) != DTYPE for one in specifications):
        ids = departures.find_refusals(specifications)
    if not ids:
        return outcome
    named = ", ".join(ids)

    def marked(verdict: Verdict) -> Verdict:
        return replace(verdict, verdict=Kind.DEPARTURE).because(Reason.KNOWN_DEPARTURE, named)

    return outcome.each(lambda v: marked(v) if differs(v) else v).with_notes(
        f"Keras departs from the definition here ({named}; see keras_ref/translation/departures): "
        "the twin differs for that reason."
    )


def mark_surrogates(outcome: Outcome, *, evidence: Evidence, paths: GradientPaths) -> Outcome:
    """Verdicts on gradients that are declared surrogates: by pattern, or by a layer under `keras_ref.surrogate`."""
    by_layer = {name for name in evidence.names if paths.is_declared(name)}

    def marked(verdict: Verdict) -> Verdict:
        if verdict.verdict not in OF_SURROGATES:
            return verdict
        surrogate = replace(verdict, verdict=Kind.SURROGATE)
        if evidence.is_expected_surrogate(verdict.name):
            return surrogate.because(Reason.SURROGATE_BY_NAME, verdict.verdict)
        if verdict.name in by_layer:
            return surrogate.because(Reason.SURROGATE_BY_LAYER, verdict.verdict)
        return verdict

    return outcome.each(marked)


def note_vacuous(outcome: Outcome, *, evidence: Evidence) -> Outcome:
    """Add a note for each all-zero gradient, disconnected variable, symmetrized matrix and kink."""
    forward = {oracle.name for oracle in evidence.oracles if oracle.of_forward_pass}
    notes = []
    for v in outcome.verdicts:
        if v.oracle not in forward:
            continue
        if v.verdict is Kind.MATCH and _is_all_zero(v):
            notes.append(
                f"{v.name}: every compared slope is zero (dead, saturated or without influence); compared against the "
                "noise alone."
            )
        if v.verdict is Kind.DISCONNECTED:
            notes.append(f"{v.name}: autodiff gives None, and the loss does not move either: {v.reason}.")
        if v.verdict is Kind.SYMMETRIZED:
            notes.append(f"{v.name}: {v.reason}.")
        if v.jumps:
            notes.append(
                f"{v.jumps} of {v.compared} entries of {v.name} sit on a jump of the loss (a comparison that decides "
                "there): they have no derivative; autodiff is right on the branch that the point lies on."
            )
        if kinks := v.counts.get(Kind.KINK, 0) - v.jumps:
            notes.append(f"{v.name}: {kinks} entries sit on a kink; autodiff is right beside it.")
    return outcome.with_notes(*notes)


def _is_all_zero(v: Verdict) -> bool:
    """Whether every compared entry is zero on both sides, so that no error has a size relative to it."""
    zero = v.compared > 0 and v.numeric == 0.0 and v.autodiff == 0.0
    return zero and not np.isnan(v.visible) and not np.isfinite(v.visible_relative)
