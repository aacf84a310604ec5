"""The digits of a derivative: right to the scale of the loss, it may have lost most of its own.

At tanh(20) autodiff says 0 where the slope is 1.7e-17, which no difference of losses in float64 tells from 0. The truth
is a difference quotient of the forward pass in many digits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import util
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from keras_ref.comparison.evidence import Evidence, Outcome
from keras_ref.errors import BadInput
from keras_ref.evaluation.loss_function import LossFunction
from keras_ref.reports.verdict import Kind, Reason, Verdict
from scratch.arrays import Array

if TYPE_CHECKING:  # mpmath is an extra
    from keras_ref.comparison.exact_slopes import ExactLoss

#: of each variable so many of the smallest entries of autodiff's gradient are looked at, and as many drawn
SMALLEST = 8
#: seconds after which no more entries are looked at, unless a budget is given
PATIENCE = 60.0


@dataclass(frozen=True, kw_only=True)
class Digits:
    """The digits of one entry: those that are right, and those that the conditioning of the function allows."""

    entry: int
    right: float
    allowed: float
    truth: float

    @property
    def few(self) -> bool:
        """Whether more than half of them are lost."""
        return self.right < self.allowed / 2


def require_mpmath(asked: str) -> None:
    """Raises: BadInput where mpmath is not installed, which what was asked for needs."""
    if util.find_spec("mpmath") is None:
        raise BadInput(f"{asked} needs mpmath. Received: it is not installed. Install it (pip install mpmath).")


def compare_digits(evidence: Evidence) -> Outcome:
    """A verdict on each variable and input: `inaccurate` where an entry has lost more than half of its digits.

    "Its digits" are those that the conditioning of the function allows: what is left where the point and all constants
    are off by half a unit in the last place. Where the function bends, or its slope is 0, there are no digits to lose.
    Raises: BadInput where mpmath is missing, or the forward pass has an operation that is not done in many digits.
    """
    require_mpmath("`digits`")
    from keras_ref.comparison.exact_slopes import LADDER, ExactLoss
    from keras_ref.evaluation.exact_graph import Graph
    from keras_ref.evaluation.exact_numbers import Missing

    traced = cast("LossFunction", evidence.loss).trace_flat()
    if traced is None:
        raise BadInput(
            "`digits` needs a forward pass that can be traced and assigns nothing. Received: that of "
            f"{evidence.subject}, which cannot or does. Leave digits out."
        )
    loss = ExactLoss(Graph(traced.function), traced.arguments)
    generator = np.random.default_rng(evidence.settings.seed + 4)
    ends = time.perf_counter() + (evidence.settings.seconds or PATIENCE)
    verdicts, seen, asked = [], 0, 0
    for name in evidence.names:
        gradient = evidence.autodiff.gradient[name]
        if gradient is None or evidence.expectation(name) is not None:
            continue
        flat = np.ravel(gradient)
        entries = _entries(flat, generator, evidence.settings.most)
        try:
            found = list(_measured(loss, flat, entries, start=traced.offsets[name], ends=ends))
        except Missing as operation:
            raise BadInput(
                "`digits` needs a forward pass of operations that are done in many digits. Received: "
                f"{operation} in {evidence.subject}. Leave digits out."
            ) from operation
        asked, seen = asked + len(entries), seen + len(found)
        if digits := [one for one in found if one is not None]:
            verdicts.append(_verdict(name, gradient, digits))
    note = (
        f"Digits: the gradients of {seen} entries (of each variable the {SMALLEST} smallest and as many drawn) were "
        f"compared with slopes of the forward pass in {LADDER[0]} digits or more."
    )
    left = f" {asked - seen} more were left out when the time was spent; a budget gives more." if seen < asked else ""
    return Outcome(tuple(verdicts), (note + left,))


def _entries(flat: Array, generator: np.random.Generator, most: int | None) -> Array:
    """The entries to look at: the smallest, and as many drawn."""
    smallest = np.argsort(np.abs(flat), kind="stable")[:SMALLEST]
    drawn = generator.permutation(np.setdiff1d(np.arange(len(flat)), smallest))[:SMALLEST]
    chosen: Array = np.concatenate([smallest, drawn])
    return chosen if most is None else chosen[:most]


def _measured(loss: ExactLoss, flat: Array, entries: Array, *, start: int, ends: float) -> Iterator[Digits | None]:
    """The digits of entry after entry, None where there are none to lose; the first, and more while there is time."""
    for k, entry in enumerate(entries):
        if k and time.perf_counter() > ends:
            return
        yield digits_at(loss, 0, start + int(entry), entry=int(entry), autodiff=float(flat[entry]))


def digits_at(loss: ExactLoss, place: int, where: int, *, entry: int, autodiff: float) -> Digits | None:
    """The digits of autodiff's slope along a flat entry of an argument of the loss; None where there are none to lose.

    entry   how the entry is called in the answer
    """
    from keras_ref.comparison.exact_slopes import FLOAT_DIGITS, Standing, allowed_digits, digits_of

    truth = loss.slope(place, where)
    if truth.standing is not Standing.SMOOTH or not truth.value or not np.isfinite(autodiff):
        return None
    right = digits_of(autodiff, truth.value)
    # half of what a float64 can have is enough in any case
    allowed = FLOAT_DIGITS
    if right < FLOAT_DIGITS / 2:
        allowed = allowed_digits(truth.value, lambda seed: replace(loss, off=seed).slope(place, where))
    return Digits(entry=entry, right=right, allowed=allowed, truth=float(truth.value))


def _verdict(name: str, gradient: Any, digits: list[Digits]) -> Verdict:
    lost = [one for one in digits if one.few]
    worst = max(lost or digits, key=lambda one: one.allowed - one.right)
    counts = {Kind.INACCURATE.value: len(lost), Kind.MATCH.value: len(digits) - len(lost)}
    verdict = Verdict(
        name,
        "digits",
        Kind.INACCURATE if lost else Kind.MATCH,
        len(digits),
        int(np.size(gradient)),
        {kind: n for kind, n in counts.items() if n},
        tuple(int(k) for k in np.unravel_index(worst.entry, np.shape(gradient))),
        float(np.ravel(gradient)[worst.entry]),
        worst.truth,
        truncation=abs(worst.truth) * 10 ** (-worst.allowed / 2),
        rounding=0.0,
    )
    return verdict.because(Reason.FEW_DIGITS, f"{worst.right:.1f}", f"{worst.allowed:.1f}") if lost else verdict
