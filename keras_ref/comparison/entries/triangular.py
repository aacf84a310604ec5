"""Functions that read one triangle of a matrix: tf.linalg.cholesky and its like.

The slope along an entry of the triangle that is not read is zero, while autodiff, which takes the matrix for symmetric,
gives both triangles half of it. Both describe one derivative: along a symmetric change they agree,
autodiff + autodiffᵀ = numeric + numericᵀ. That, and nothing less, is what passes here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keras_ref.comparison.entries.entry_slopes import measure_beside_autodiff
from keras_ref.comparison.sources.autodiff import Autodiff
from keras_ref.comparison.sources.evidence import Evidence, Outcome
from keras_ref.comparison.sources.oracles import Oracle
from keras_ref.evaluation.graphs.graph import walk_operations
from keras_ref.reports.verdict import Kind, Reason, Verdict
from scratch.arrays import Array

#: TensorFlow's operations that read one triangle of their matrix
READERS = frozenset(("Cholesky", "SelfAdjointEigV2", "XlaSelfAdjointEig"))


def mark_symmetrized(outcome: Outcome, *, evidence: Evidence) -> Outcome:
    """Mismatches of whole square matrices that are only a matter of which triangle is read become symmetrized."""
    oracle = evidence.oracles[0]

    def is_candidate(verdict: Verdict) -> bool:
        mine = verdict.verdict is Kind.MISMATCH and verdict.oracle == oracle.name
        return mine and verdict.compared == verdict.total and _is_square(oracle.values[verdict.name])

    if not any(map(is_candidate, outcome.verdicts)):
        return outcome
    graph = evidence.loss.graph
    if graph is not None and not any(operation.type in READERS for operation in walk_operations(graph)):
        return outcome
    return outcome.each(lambda v: _symmetrize(v, oracle, evidence.autodiff) if is_candidate(v) else v)


def _is_square(value: Array) -> bool:
    return value.ndim >= 2 and value.shape[-1] == value.shape[-2] > 1


def _symmetrize(verdict: Verdict, oracle: Oracle, autodiff: Autodiff) -> Verdict:
    value, gradient = oracle.values[verdict.name], autodiff.gradient[verdict.name]
    if gradient is None:
        return verdict
    rounding = autodiff.rounding[verdict.name]
    symmetric = np.abs(gradient - _transpose(gradient)) <= rounding + _transpose(rounding)
    if not symmetric.all():  # known without a single evaluation of the loss
        return verdict
    slopes = measure_beside_autodiff(
        oracle,
        verdict.name,
        entries=np.arange(value.size),
        values=np.ravel(gradient),
        autodiff=autodiff,
    )
    numeric, error = slopes.value.value.reshape(value.shape), slopes.value.error.reshape(value.shape)
    upper = np.triu(np.ones(value.shape[-2:], bool), 1)
    flat = np.abs(numeric) <= error
    unread = next((name for name, where in (("upper", upper), ("lower", upper.T)) if flat[..., where].all()), None)
    allowed = error + _transpose(error) + rounding + _transpose(rounding)
    agrees = np.abs(gradient + _transpose(gradient) - numeric - _transpose(numeric)) <= allowed
    if unread is None or not slopes.smooth.all() or not agrees.all():
        return verdict
    found = replace(
        verdict,
        verdict=Kind.SYMMETRIZED,
        counts={Kind.SYMMETRIZED.value: verdict.compared},
        visible=float(2 * allowed.max()),
    )
    return found.because(Reason.ONE_TRIANGLE, unread)


def _transpose(matrix: Array) -> Array:
    return np.swapaxes(matrix, -1, -2)
