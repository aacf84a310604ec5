"""What a gradient is that a train step hands to an optimizer: the slopes of which loss, or what was made of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from keras_ref.comparison.steps.optimizer_step import NumericGradient
from keras_ref.comparison.steps.train_step_recording import Handover, TakenGradient
from keras_ref.reports.kinds import Kind
from keras_ref.reports.reasons import Reason
from scratch.arrays import Array
from scratch.differences import UNIT

#: how far, relative, a threshold may be from a decimal of three digits and still be one: a float32 of it is
DECIMAL = 1e-7
#: units in the last place that the norm of a clipped gradient is off: a sum of squares, its root, a product, a quotient
NORM = 8
#: units in the last place that a weight is off after it was moved there and back: two roundings, and those of its move
PUT_BACK = 8


@dataclass(frozen=True, kw_only=True)
class Target:
    """A gradient that was taken and not yet handed over, with slopes of its loss by name; or why there are none."""

    taken: TakenGradient
    slopes: Mapping[str, NumericGradient]
    why_not: str = ""

    def scaled(self, factor: float) -> Target:
        """The same of the loss times a factor."""
        slopes = {n: NumericGradient(factor * s.slope, abs(factor) * s.error) for n, s in self.slopes.items()}
        return replace(self, slopes=slopes)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a gradient that is handed over is; `against` are the slopes that it was compared with."""

    kind: Kind
    reason: Reason
    details: tuple[object, ...] = ()
    against: NumericGradient | None = None


def differs(handed: Array, slopes: NumericGradient) -> Array:
    """Where a gradient differs from slopes by more than both may be off."""
    return np.asarray(~(np.abs(handed - slopes.slope) <= UNIT * np.abs(handed) + slopes.error))


def judge_by_targets(name: str, handed: Mapping[str, Array], targets: Sequence[Target], call: Handover) -> Judgement:
    """What the gradient of a variable is that is handed over with others, if not the slopes of the returned loss.

    targets   those of the gradients by this variable that were taken since its last update, none without slopes
    """
    gradient, losses = handed[name], [target.slopes[name] for target in targets]
    if name in call.foreign:
        return Judgement(
            kind=Kind.MISMATCH, reason=Reason.OWN_STEP_FOREIGN, details=(call.foreign[name],), against=losses[-1]
        )
    for candidate in _list_candidates(losses, targets):
        if not differs(gradient, candidate.slopes).any():
            words, passes = candidate.words, candidate.passes
        elif clipped := describe_clipping(name, handed, candidate.slopes, unit=call.unit):
            words, passes = f"{candidate.words}, {clipped}", candidate.passes
        else:
            continue
        if not _at_the_weights(candidate.targets, call):
            return Judgement(kind=Kind.UNDECIDED, reason=Reason.OWN_STEP_MOVED, against=candidate.slopes)
        if not passes:
            return Judgement(
                kind=Kind.UNDECIDED, reason=Reason.OWN_STEP_SUM, details=(len(losses),), against=candidate.slopes
            )
        return Judgement(kind=Kind.MATCH, reason=Reason.OWN_STEP_LOSS, details=(words,), against=candidate.slopes)
    details = ("differentiates",)
    return Judgement(kind=Kind.MISMATCH, reason=Reason.OWN_STEP_GRADIENT, details=details, against=losses[-1])


@dataclass(frozen=True)
class _Candidate:
    """Slopes that a gradient may be equal to, in words; `passes`: whether it is right then."""

    words: str
    slopes: NumericGradient
    targets: Sequence[Target]
    passes: bool = True


def _list_candidates(losses: Sequence[NumericGradient], targets: Sequence[Target]) -> Iterator[_Candidate]:
    value = targets[-1].taken.value
    yield _Candidate(f"the slopes of the loss that it differentiates ({value:.6g})", losses[-1], targets[-1:])
    if (count := len(losses)) < 2:
        return
    total = NumericGradient(np.sum([s.slope for s in losses], axis=0), np.sum([s.error for s in losses], axis=0))
    mean = NumericGradient(total.slope / count, total.error / count)
    yield _Candidate(f"the mean of the slopes of the {count} losses that it differentiates", mean, targets)
    # terms of one loss come from lines of their own; a line that comes again accumulates
    terms = len({target.taken.site for target in targets}) == count
    words = f"the sum of the slopes of the {count} losses that it differentiates"
    yield _Candidate(words, total, targets, passes=terms)


def _at_the_weights(targets: Sequence[Target], call: Handover) -> bool:
    """Whether gradients were taken at the weights that the call of the optimizer moves."""
    return all(
        bool((np.abs(value - at) <= PUT_BACK * call.unit * np.maximum(np.abs(value), np.abs(at))).all())
        for target in targets
        for name, value in call.before.items()
        if (at := target.taken.weights.get(name)) is not None
    )


def find_foreign(name: str, gradient: Array, targets: Iterable[Target]) -> Judgement | None:
    """The judgement on a wrong gradient that is the slopes by another variable, where it is one's."""
    for target in targets if gradient.any() else ():
        for other, slopes in target.slopes.items():
            if other != name and slopes.slope.shape == gradient.shape and not differs(gradient, slopes).any():
                return Judgement(kind=Kind.MISMATCH, reason=Reason.OWN_STEP_FOREIGN, details=(other,), against=slopes)
    return None


def describe_clipping(name: str, handed: Mapping[str, Array], slopes: NumericGradient, *, unit: float = UNIT) -> str:
    """How slopes were clipped to give the gradient of a variable that is handed over with others; "" if not so.

    A threshold is a number that somebody wrote down: a decimal of three digits.
    """
    gradient, slope = handed[name], slopes.slope
    square = float((slope * slope).sum())
    share = float((gradient * slope).sum()) / square if square else 0.0
    if 0 < share < 1 and not differs(gradient, NumericGradient(share * slope, slopes.error)).any():
        alone, together = np.linalg.norm(gradient), np.sqrt(sum(float((g * g).sum()) for g in handed.values()))
        for norm in (float(alone), float(together)):
            if is_short_decimal(norm, within=max(DECIMAL, NORM * unit)):
                return f"clipped to a norm of {norm:.3g}"
    bound = float(np.abs(gradient).max(initial=0.0))
    if is_short_decimal(bound):
        clipped = NumericGradient(np.clip(slope, -bound, bound), slopes.error)
        if (np.abs(slope) > bound + slopes.error).any() and not differs(gradient, clipped).any():
            return f"clipped to values of at most {bound:.3g}"
    return ""


def is_short_decimal(value: float, *, within: float = DECIMAL) -> bool:
    """Whether a positive number is a decimal of three digits, within a share of itself."""
    return value > 0 and abs(value - float(f"{value:.3g}")) <= within * value
