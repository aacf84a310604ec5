"""The verdict on a gradient that a train_step of a model's own hands to an optimizer, beside that on the update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_ref.comparison.diagnoses.table import Gradients, explain_gradients
from keras_ref.comparison.steps.optimizer_step import NumericGradient
from keras_ref.comparison.steps.step_gradients import Judgement, Target, judge_by_targets
from keras_ref.comparison.steps.step_losses import LossSlopes
from keras_ref.comparison.steps.train_step_recording import Handover
from keras_ref.reports.verdict import Kind, Reason, Verdict
from keras_ref.translation.from_keras import NoTwin
from scratch.arrays import Array, index_of
from scratch.differences import UNIT


@dataclass(frozen=True, kw_only=True)
class HandedGradients:
    """The gradients of a call of an optimizer as they were before a loss was scaled for low precision; the scale."""

    call: Handover
    gradients: Mapping[str, Array]
    scale: float


def unscale_gradients(call: Handover) -> HandedGradients:
    """The gradients of a call, whose optimizer has a twin or does not scale."""
    twin = call.twin
    scale = 1.0 if isinstance(twin, NoTwin) else float(twin.optimizer.loss_scale(twin.state))
    gradients = as_dense({name: g / scale for name, g in call.gradients.items()})
    return HandedGradients(call=call, gradients=gradients, scale=scale)


def as_dense(gradients: Mapping[str, Any]) -> dict[str, Array]:
    """Gradients as arrays, slices put in their places."""
    return {name: np.array(g, copy=True, subok=False) for name, g in gradients.items()}


def judge_handed(
    name: str, handed: HandedGradients, targets: Sequence[Target], known: LossSlopes, *, honest: bool
) -> Judgement:
    """What a gradient is that is not the slopes of the returned loss.

    targets   the gradients by this variable since its last update
    known     the slopes of the returned loss, where there are any
    honest    whether a gradient of that loss had to be equal to them
    """
    if targets and all(name in target.slopes for target in targets):
        judgement = judge_by_targets(name, handed.gradients, targets, handed.call)
        return _judge_beside_returned(name, judgement, targets, known) if honest else judgement
    own = known.slopes.get(name)
    if name in handed.call.foreign:
        details = (handed.call.foreign[name],)
        return Judgement(kind=Kind.MISMATCH, reason=Reason.OWN_STEP_FOREIGN, details=details, against=own)
    if own is not None:
        if honest:
            return Judgement(kind=Kind.MISMATCH, reason=Reason.OWN_STEP_GRADIENT, details=("returns",), against=own)
        return Judgement(kind=Kind.UNDECIDED, reason=Reason.OWN_STEP_GATHERS, against=own)
    unknown = [target.why_not for target in targets if name not in target.slopes]
    why = next(iter(unknown), "") or known.why_not or "it trains a frozen variable"
    details = (f"{why}; its update is the optimizer's law on the gradients that it hands over",)
    return Judgement(kind=Kind.UNDECIDED, reason=Reason.OWN_STEP, details=details)


def _judge_beside_returned(name: str, judgement: Judgement, targets: Sequence[Target], known: LossSlopes) -> Judgement:
    """A judgement by the losses that a step differentiates, where it returns one too."""
    own, value = known.slopes.get(name), targets[0].taken.value
    if own is None or len(targets) > 1:
        return judgement
    if judgement.reason is Reason.OWN_STEP_GRADIENT:
        return replace(judgement, details=("returns",), against=own)
    is_another = abs(value - known.value) > 2 * known.noise
    if judgement.kind is Kind.MATCH and is_another:
        details = (f"{value:.6g}", f"{known.value:.6g}")
        return replace(judgement, kind=Kind.UNDECIDED, reason=Reason.OWN_STEP_OTHER_LOSS, details=details)
    return judgement


def compute_visible(handed: Array, slopes: NumericGradient) -> float:
    """The smallest error of a handed gradient that would have been seen."""
    return float(2 * (UNIT * np.abs(handed) + slopes.error).max(initial=0.0))


def with_judgement(verdict: Verdict, handed: Array, judgement: Judgement, *, step: int) -> Verdict:
    """The verdict on an update that follows the law, by what the gradient is that was handed over for it."""
    details = (step, *judgement.details) if judgement.reason.names_a_step else judgement.details
    slopes = judgement.against
    if judgement.kind is Kind.MATCH and slopes is not None:
        seen = replace(verdict, visible=max(verdict.visible, compute_visible(handed, slopes)))
        return seen.because(judgement.reason, *details)
    if slopes is None:
        counts = {judgement.kind.value: verdict.total}
        return replace(verdict, verdict=judgement.kind, counts=counts).because(judgement.reason, *details)
    allowed = UNIT * np.abs(handed) + slopes.error
    off = np.abs(handed - slopes.slope)
    wrong = ~(off <= allowed)
    with np.errstate(invalid="ignore", divide="ignore"):
        i = int(np.argmax(np.nan_to_num(np.where(wrong, off / allowed, 0.0), nan=np.inf)))
    counts, looks_like = {judgement.kind.value: verdict.total}, ""
    if judgement.kind is Kind.MISMATCH:
        counts = {"mismatch": int(wrong.sum()), "match": int((~wrong).sum())}
        name, error = verdict.name, float(np.max(allowed))
        cause = explain_gradients(Gradients(wrong={name: handed}, right={name: slopes.slope}, allowed={name: error}))
        looks_like = "" if cause is None else cause.words
    return replace(
        verdict,
        verdict=judgement.kind,
        looks_like=looks_like,
        counts=counts,
        worst=index_of(i, handed.shape),
        autodiff=float(handed.ravel()[i]),
        numeric=float(slopes.slope.ravel()[i]),
        rounding=float(allowed.ravel()[i]),
        visible=compute_visible(handed, slopes),
        cells=None,
    ).because(judgement.reason, *details)
