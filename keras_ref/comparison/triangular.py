"""Functions that read one triangle of a matrix: tf.linalg.cholesky and its like.

The slope along an entry of the triangle that is not read is zero, while autodiff, which takes the matrix for symmetric,
gives both triangles half of it. Both describe one derivative: along a symmetric change they agree,
autodiff + autodiffᵀ = numeric + numericᵀ. That, and nothing less, is what passes here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from keras_ref.comparison.entrywise import Autodiff, measure
from keras_ref.evaluation.graph import operations
from keras_ref.evaluation.loss_function import LossFunction
from keras_ref.reports.verdict import Verdict
from scratch.arrays import Array

#: TensorFlow's operations that read one triangle of their matrix
READERS = frozenset(("Cholesky", "SelfAdjointEigV2", "XlaSelfAdjointEig"))


def symmetrized(verdicts: list[Verdict], probe: LossFunction, oracle: Any, autodiff: Autodiff) -> list[Verdict]:
    """The verdicts, with those mismatches that are only a matter of which triangle is read told apart."""
    accused = [
        v for v in verdicts if v.verdict == "mismatch" and v.oracle == oracle.name and _square(probe.values[v.name])
    ]
    if not accused or not any(o.type in READERS for o in operations(probe.graph)):
        return verdicts
    return [_judged(v, oracle, autodiff) if v in accused and v.compared == v.total else v for v in verdicts]


def _square(value: Array) -> bool:
    return value.ndim >= 2 and value.shape[-1] == value.shape[-2] > 1


def _judged(verdict: Verdict, oracle: Any, autodiff: Autodiff) -> Verdict:
    value, gradient = oracle.values[verdict.name], autodiff.gradient[verdict.name]
    if gradient is None:
        return verdict
    rounding = autodiff.rounding[verdict.name]
    known = measure(oracle, verdict.name, np.arange(value.size), np.ravel(gradient), np.ravel(rounding))
    numeric, error = known.estimate.value.reshape(value.shape), known.estimate.error.reshape(value.shape)
    upper = np.triu(np.ones(value.shape[-2:], bool), 1)
    flat = np.abs(numeric) <= error
    unread = next((name for name, where in (("upper", upper), ("lower", upper.T)) if flat[..., where].all()), None)
    symmetric = np.abs(gradient - _t(gradient)) <= rounding + _t(rounding)
    allowed = error + _t(error) + rounding + _t(rounding)
    agrees = np.abs(gradient + _t(gradient) - numeric - _t(numeric)) <= allowed
    if unread is None or not known.smooth.all() or not symmetric.all() or not agrees.all():
        return verdict
    return replace(
        verdict,
        verdict="symmetrized",
        counts={"symmetrized": verdict.compared},
        visible=float(2 * allowed.max()),
        reason=f"the function does not read the {unread} triangle, and autodiff spreads the slope over both; along symmetric changes they agree",
    )


def _t(matrix: Array) -> Array:
    return np.swapaxes(matrix, -1, -2)
