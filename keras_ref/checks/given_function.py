"""Whether the function that is checked is the one that was given: their losses at the point agree."""

from __future__ import annotations

import math

import numpy as np

from keras_ref.checks.precision import LowPrecision
from keras_ref.comparison.repeatability import SLACK, size_of_terms
from keras_ref.comparison.sources.evidence import Evidence
from keras_ref.comparison.sources.noise import measure_noise
from keras_ref.errors import BadInput, UserCodeFailed
from keras_ref.evaluation.graphs.graph import random_draws
from keras_ref.reports.verdict import Reason
from scratch.differences import UNIT


class OtherFunction(UserCodeFailed):
    """In another precision a subject computes another function; the message is a note on that."""


def require_given_function(low: LowPrecision, evidence: Evidence, *, dtype: str | None) -> None:
    """Require that the loss is that of the subject as given, to the precision that it has there.

    Random draws depend on the precision, and code that runs only eagerly may look at anything: both are left out.
    Raises: OtherFunction where the loss was computed in another precision; else BadInput.
    """
    loss, how = evidence.loss, evidence.autodiff.how
    here, there = loss.seen[how], low.loss
    if not math.isfinite(there) or loss.graph is None or random_draws(loss.graph):
        return
    scale = abs(here) + size_of_terms(evidence.autodiff.gradient, loss.values)
    if abs(here - there) <= SLACK * low.unit * scale:
        return
    noise = measure_noise(loss, loss.values, here, seed=evidence.settings.seed)
    # what the same operations round to in the other unit
    if not abs(here - there) > SLACK * low.unit * scale + 2 * noise * max(low.unit / UNIT, 1.0):
        return
    if dtype is not None:
        raise OtherFunction(
            f"float32 inside: in float64 it is another function (its loss is {here:.6g}, and {there:.6g} as given). It "
            "was checked in the precision it has, with steps as wide as its noise asks for."
        )
    raise BadInput(
        f"The function that is checked must be the one that is given. Received: {evidence.subject!r}, whose loss is "
        f"{there:.9g} as it is given and {here:.9g} traced on the same data. Check the part that depends on how it is "
        "run by itself."
    )


def require_gradient_in_float64(low: LowPrecision, evidence: Evidence) -> None:
    """Require that autodiff runs in float64 where it runs in the precision that the subject has.

    Some operations have kernels for float64, and their backward passes none. Raises: OtherFunction.
    """
    raising = {n: r for n, r in evidence.autodiff.refused.items() if r.reason is Reason.AUTODIFF_RAISES}
    if low.unit == UNIT or not raising:
        return
    known = [g for name in raising if (g := low.gradient.get(name)) is not None]
    if all(np.isfinite(g).all() for g in known):
        (error,) = next(iter(raising.values())).details
        raise OtherFunction(
            f"float32 inside: its backward pass does not run in float64 ({str(error).rstrip('.')}). It was checked in "
            "the precision it has, with steps as wide as its noise asks for."
        )
