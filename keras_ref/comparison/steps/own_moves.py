"""Weights that a train_step of a model's own moves by itself, without an optimizer: by a moving average, or along
slopes.

A rate that such a step has is not known: it is that at which the most weights agree. One of three digits is tried
first, so that an error of a ten-thousandth in all of them is not taken for a rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from keras_ref.comparison.steps.optimizer_step import NumericGradient
from keras_ref.comparison.steps.step_gradients import is_short_decimal
from keras_ref.reports.verdict import Kind, Reason, Verdict
from scratch.arrays import Array, index_of
from scratch.differences import UNIT

#: units in the last place of its largest term that a weight is off after three operations, each off by half of one
THREE_OPERATIONS = 2


@dataclass(frozen=True, kw_only=True)
class OwnMove:
    """A weight before and after a step that moved it by itself; the slopes of the loss, where it took its gradient.

    unit   the distance of 1 from the next number in the precision of the step
    """

    name: str
    before: Array
    after: Array
    slopes: NumericGradient | None
    unit: float = UNIT


@dataclass(frozen=True)
class Beside:
    """What a step made by itself of a weight that it also handed to an optimizer: the weight before and after."""

    before: Array
    after: Array
    unit: float = UNIT

    @property
    def is_move(self) -> bool:
        """Whether it is more than the rounding of a move there and back."""
        allowed = THREE_OPERATIONS * self.unit * np.maximum(np.abs(self.before), np.abs(self.after))
        return not bool((np.abs(self.after - self.before) <= allowed).all())

    @property
    def clip(self) -> str:
        """The bounds that the weight was clipped to, decimals of few digits; "" where it was moved otherwise."""
        moved = self.after - self.before
        low, high = (float(np.max(self.after[part], initial=-np.inf)) for part in (moved > 0, moved < 0))
        high = high if (moved < 0).any() else np.inf
        known = all(bound == 0 or is_short_decimal(abs(bound)) for bound in (low, high) if np.isfinite(bound))
        return (
            f"[{low:.6g}, {high:.6g}]" if known and np.array_equal(np.clip(self.before, low, high), self.after) else ""
        )

    def judge(self, verdict: Verdict, step: int) -> Verdict:
        """A verdict on what the optimizer made of the weight, by what the step made of it beside that."""
        if verdict.failed:
            return verdict
        if clip := self.clip:
            return verdict.because(Reason.OWN_STEP_MOVES, step, f"clips this weight to {clip}")
        counts = {Kind.UNDECIDED.value: verdict.total}
        unknown = "it moves this weight by itself beside its optimizer, by no law that is known"
        return replace(verdict, verdict=Kind.UNDECIDED, counts=counts).because(Reason.OWN_STEP, unknown)


def judge_moves(moves: Sequence[OwnMove], *, weights: Mapping[str, Array], step: int) -> list[Verdict]:
    """The verdicts on weights that a step moved by itself.

    weights   all trained weights after the step, by name
    """
    along = [move for move in moves if move.slopes is not None]
    rate, right = _find_common_rate(along)
    found = []
    for move in moves:
        verdict = Verdict(move.name, "update", Kind.UNDECIDED, total=move.before.size)
        if average := _average(move, weights):
            words = f"moves this weight by itself: a moving average of {average}"
            found.append(_judge(verdict, move, None).because(Reason.OWN_STEP_MOVES, step, words))
        elif move.slopes is None or not right:
            found.append(verdict.because(Reason.OWN_STEP, "it moves this weight by itself, by no law that is known"))
        else:
            words = f"moves this weight by itself, by -{rate:.6g} times slopes of the loss that it differentiates"
            compared = _judge(verdict, move, rate)
            if compared.verdict is Kind.MATCH:
                found.append(compared.because(Reason.OWN_STEP_MOVES, step, words))
            else:
                found.append(compared.because(Reason.OWN_STEP_MOVES_ASIDE, step, f"-{rate:.6g}"))
    return found


def _find_common_rate(moves: Sequence[OwnMove]) -> tuple[float, int]:
    """The rate at which the most weights are moved along slopes, and how many are."""
    rates = []
    for move in moves:
        slope, moved = _measure_slopes(move).slope, move.after - move.before
        square = float((slope * slope).sum())
        if square and moved.any():
            rates.append(-float((moved * slope).sum()) / square)
    best = (0.0, 0)
    for rate in sorted(rates + [float(f"{rate:.3g}") for rate in rates], key=lambda r: not is_short_decimal(r)):
        right = sum(bool((_scale_move(move, rate) <= _compute_allowed(move, rate)).all()) for move in moves if rate > 0)
        best = (rate, right) if right > best[1] else best
    return best


def _measure_slopes(move: OwnMove) -> NumericGradient:
    return move.slopes or NumericGradient(np.zeros_like(move.before), np.zeros_like(move.before))


def _scale_move(move: OwnMove, rate: float) -> Array:
    return np.asarray(np.abs(move.after - (move.before - rate * _measure_slopes(move).slope)))


def _compute_allowed(move: OwnMove, rate: float) -> Array:
    rounding = THREE_OPERATIONS * move.unit * np.maximum(np.abs(move.before), np.abs(move.after))
    return np.asarray(rounding + abs(rate) * _measure_slopes(move).error)


def _judge(verdict: Verdict, move: OwnMove, rate: float | None) -> Verdict:
    """The verdict on a weight that was moved at a rate along slopes; None: by a law that it follows."""
    size = move.before.size
    if rate is None:
        return Verdict(verdict.name, "update", Kind.MATCH, compared=size, total=size, counts={"match": size})
    off, allowed = _scale_move(move, rate), _compute_allowed(move, rate)
    wrong = ~(off <= allowed)
    with np.errstate(invalid="ignore", divide="ignore"):
        i = int(np.argmax(np.nan_to_num(np.where(off != 0, off / allowed, 0.0), nan=np.inf)))
    return Verdict(
        verdict.name,
        "update",
        Kind.MISMATCH if wrong.any() else Kind.MATCH,
        compared=size,
        total=size,
        counts={"mismatch": int(wrong.sum()), "match": int((~wrong).sum())},
        worst=index_of(i, move.before.shape),
        autodiff=float(move.after.ravel()[i]),
        numeric=float((move.before - rate * _measure_slopes(move).slope).ravel()[i]),
        truncation=0.0,
        rounding=float(allowed.ravel()[i]),
        visible=float(2 * allowed.max(initial=0.0)),
    )


def _average(move: OwnMove, weights: Mapping[str, Array]) -> str:
    """The weight of which another one is a moving average, with its decay, a decimal of three digits; "" if none."""
    moved = move.after - move.before
    if not moved.any():
        return ""
    for name, source in weights.items():
        if name == move.name or source.shape != move.before.shape:
            continue
        away = source - move.before
        square = float((away * away).sum())
        rate = float((moved * away).sum()) / square if square else 0.0
        allowed = THREE_OPERATIONS * move.unit * np.maximum(np.abs(move.before), np.abs(source))
        # how far the rate may be off by rounding
        blur = float((allowed * np.abs(away)).sum()) / square if square else np.inf
        decay = next(
            (d for d in (float(f"{1 - rate:.4g}"), 1 - float(f"{rate:.3g}")) if abs(1 - d - rate) <= blur), 0.0
        )
        law = decay * move.before + (1 - decay) * source
        if 0 < decay < 1 and bool((np.abs(move.after - law) <= 2 * allowed).all()):
            return f"{name} with the decay {decay:.6g}"
    return ""
