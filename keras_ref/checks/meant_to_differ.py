"""Gradients that are meant to differ from the derivative of the forward pass: explained, and compared all the same.

What tf.stop_gradient returns is a constant to autodiff. So where one lies between a variable and the loss, and slopes
differ, the loss is differenced once more with the values that it returns held as they are at the point.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keras_ref.checks.disconnected import GradientPaths
from keras_ref.comparison.entries.entry_comparison import EntryComparison, measure_rounding
from keras_ref.comparison.entries.jumps import BranchOracle
from keras_ref.comparison.sources.autodiff import Gradient
from keras_ref.comparison.sources.evidence import Evidence, Outcome
from keras_ref.comparison.sources.oracles import Oracle
from keras_ref.comparison.sources.settings import STOP_GRADIENT, Approximation
from keras_ref.reports.verdict import Kind, Reason, Verdict

#: entries of a variable that are compared with the values held: the accused ones, of many some drawn with the seed
MOST = 256


def explain_meant(outcome: Outcome, *, evidence: Evidence, paths: GradientPaths) -> Outcome:
    """Mismatches that tf.stop_gradient explains get that as their reason; those that are declared are surrogates."""
    oracle = next((one for one in evidence.oracles if one.of_forward_pass), None)
    if oracle is None:
        return outcome

    def explained(verdict: Verdict) -> Verdict:
        declared = evidence.expectation(verdict.name)
        if verdict.oracle != oracle.name or verdict.verdict is not Kind.MISMATCH:
            return verdict
        if isinstance(declared, Approximation):
            return _judge_within(verdict, declared, oracle=oracle, evidence=evidence)
        stops = paths.stops(verdict.name)
        if not stops:
            return verdict
        if not _agrees_with_values_held(verdict, oracle=oracle, evidence=evidence):
            return verdict.because(Reason.WRONG_BESIDE_STOP, stops) if declared == STOP_GRADIENT else verdict
        if declared == STOP_GRADIENT:
            return replace(verdict, verdict=Kind.SURROGATE).because(Reason.STOPPED_AS_DECLARED, stops)
        return verdict.because(Reason.STOPPED_IN_PART, stops, verdict.name, verdict.name)

    return outcome.each(explained)


def _select_entries(verdict: Verdict, oracle: Oracle, evidence: Evidence) -> EntryComparison:
    """The entries that a verdict accuses, or all of its variable, differenced by an oracle."""
    entries = np.array(verdict.accused or range(evidence.size(verdict.name)))
    if len(entries) > MOST:
        entries = np.random.default_rng(evidence.settings.seed).choice(entries, MOST, replace=False)
    found = EntryComparison.of(oracle, verdict.name, autodiff=evidence.autodiff, entries=entries)
    return found if evidence.autodiff.gradient[verdict.name] is None else measure_rounding(found, evidence.autodiff)


def _agrees_with_values_held(verdict: Verdict, *, oracle: Oracle, evidence: Evidence) -> bool:
    """Whether autodiff agrees with slopes of the loss with what tf.stop_gradient returns held."""
    held = BranchOracle.of(oracle)
    if held is None:
        return False
    return bool((_select_entries(verdict, held, evidence).judgements.kinds == Kind.MATCH).all())


def _judge_within(verdict: Verdict, declared: Approximation, *, oracle: Oracle, evidence: Evidence) -> Verdict:
    """The verdict on a gradient that is declared to be exact to a share of its largest entry."""
    size = _find_largest(evidence.autodiff.gradient, verdict.name)
    found = _select_entries(verdict, oracle, evidence)
    with np.errstate(invalid="ignore"):
        beyond = np.maximum(np.abs(found.slopes.value.value - found.values) - found.allowed, 0.0)
    worst = float(np.max(beyond)) / size if size else np.inf
    if not worst <= declared.relative:
        return verdict.because(Reason.BEYOND_APPROXIMATION, f"{worst:.1e}", f"{declared.relative:.1e}")
    surrogate = replace(verdict, verdict=Kind.SURROGATE)
    return surrogate.because(Reason.WITHIN_APPROXIMATION, f"{worst:.1e}", f"{declared.relative:.1e}")


def _find_largest(gradient: Gradient, name: str) -> float:
    found = gradient[name]
    return 0.0 if found is None else float(np.max(np.abs(found), initial=0.0))
