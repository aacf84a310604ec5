"""Autodiff's gradients in other modes (a graph, compiled) against those of the first: equal but for rounding."""

from __future__ import annotations

import numpy as np

from keras_ref.comparison.sources.autodiff import Autodiff, run_autodiff
from keras_ref.comparison.sources.differenced_loss import DifferencedLoss
from keras_ref.comparison.sources.evidence import Evidence, Outcome
from keras_ref.errors import BackwardPassFailed, BadInput, UserCodeFailed, shorten_error
from keras_ref.evaluation.graphs.gradient_modes import COMPILE_ERRORS
from keras_ref.reports.verdict import Kind, Reason, Verdict
from scratch.arrays import Array, index_of
from scratch.differences import UNIT


def compare_modes(evidence: Evidence) -> Outcome:
    """Verdicts on the gradients of every mode but the first against those of the first."""
    found = [verdict for mode in evidence.settings.modes[1:] for verdict in _compare_mode(evidence, mode)]
    return Outcome(tuple(found))


def run_mode(loss: DifferencedLoss, mode: str) -> Autodiff:
    """Autodiff's gradient in a mode.

    Raises: BadInput where the forward pass does not run in it (UserCodeFailed in eager mode, which all run in);
    BackwardPassFailed; one of COMPILE_ERRORS where XLA does not compile it.
    """
    try:
        return run_autodiff(loss, loss.values, mode=mode)
    except BackwardPassFailed:
        raise
    except UserCodeFailed as failed:
        if mode == "eager":
            raise
        raise refuse_mode(mode, failed.error) from failed.error


def _compare_mode(evidence: Evidence, mode: str) -> list[Verdict]:
    try:
        other = run_mode(evidence.loss, mode)
    except COMPILE_ERRORS as error:
        if mode != "jit_compile":
            raise
        name = evidence.names[0] if len(evidence.names) == 1 else "every gradient"
        return [Verdict(name, mode, Kind.UNDECIDED).because(Reason.DOES_NOT_COMPILE, shorten_error(error))]
    found = (_compare_gradients(name, evidence.autodiff, other) for name in evidence.names)
    return [verdict for verdict in found if verdict is not None]


def refuse_mode(mode: str, error: BaseException) -> BadInput:
    """What is said where a subject does not run in a mode that was asked for."""
    return BadInput(
        f"`modes` must be ones that the subject runs in. Received: {mode}, which fails: {shorten_error(error)} Leave "
        "it out."
    )


def _compare_gradients(name: str, first: Autodiff, other: Autodiff) -> Verdict | None:
    """The verdict on one variable; None where both modes say None."""
    a, b = first.gradient[name], other.gradient[name]
    if a is None or b is None:
        if a is None and b is None:
            return None
        where = first.how if a is None else other.how
        return Verdict(name, other.how, Kind.MODE_DEPENDENT).because(Reason.NONE_IN_ONE_MODE, where)
    allowed = first.rounding[name] + other.rounding[name]
    same = _find_same(a, b, allowed)
    with np.errstate(invalid="ignore"):
        excess = np.where(same, 0.0, np.nan_to_num(np.abs(a - b), nan=np.inf) + UNIT)
    i = int(np.argmax(excess))
    return Verdict(
        name,
        other.how,
        Kind.MATCH if same.all() else Kind.MODE_DEPENDENT,
        compared=a.size,
        total=a.size,
        counts={"match": int(same.sum()), "mode-dependent": int((~same).sum())},
        worst=index_of(i, a.shape),
        autodiff=float(a.ravel()[i]),
        numeric=float(b.ravel()[i]),
        truncation=0.0,
        rounding=float(allowed.ravel()[i]),
        visible=float(2 * allowed.max(initial=0.0)),
        how=first.how,
    )


def _find_same(a: Array, b: Array, allowed: Array) -> Array:
    """Where two gradients are equal, both not a number, or within the allowed difference."""
    with np.errstate(invalid="ignore"):
        return np.asarray((a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= allowed))
