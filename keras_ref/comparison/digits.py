"""The digits of a derivative: right to the scale of the loss, it may have lost most of its own.

At tanh(20) autodiff says 0 where the slope is 1.7e-17, which no difference of losses in float64 tells from 0. The truth
is a difference quotient of the forward pass in many digits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import util
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from keras_ref.comparison.higher_order import draw_direction
from keras_ref.comparison.sources.autodiff import run_autodiff
from keras_ref.comparison.sources.evidence import Evidence, Outcome
from keras_ref.errors import BadInput
from keras_ref.evaluation.loss_function import LossFunction
from keras_ref.reports.verdict import Kind, Reason, Verdict
from scratch.arrays import Array, index_of

if TYPE_CHECKING:  # mpmath is an extra
    from keras_ref.comparison.exact_slopes import ExactLoss, ExactSlope

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

    With order=2 there is a second one, on Hessian · v along the direction of compare_hessian. "Its digits" are those
    that the conditioning of the function allows: what is left where the point and all constants are off by half a unit
    in the last place. Where the function bends, or its slope is 0, there are no digits to lose.
    Raises: BadInput where mpmath is missing, or the forward pass has an operation that is not done in many digits.
    """
    require_mpmath("`digits`")
    from keras_ref.comparison.exact_slopes import LADDER, ExactLoss
    from keras_ref.evaluation.many_digits.exact_graph import Graph

    traced = cast("LossFunction", evidence.loss).trace_flat()
    if traced is None:
        raise BadInput(
            "`digits` needs a forward pass that can be traced and assigns nothing. Received: that of "
            f"{evidence.subject}, which cannot or does. Leave digits out."
        )
    loss = ExactLoss(Graph(traced.function), traced.arguments)
    slopes = Slopes(of=loss, offsets=traced.offsets, gradient=evidence.autodiff.gradient)
    compared = [_compare(evidence, slopes)]
    if evidence.settings.order == 2:
        direction = draw_direction(evidence.loss.values, evidence.settings.seed)
        along = np.concatenate([np.ravel(direction[name]) for name in traced.offsets])
        contracted = evidence.contracted(direction)
        second = run_autodiff(contracted, contracted.values).gradient
        compared.append(_compare(evidence, replace(slopes, gradient=second, direction=along)))
    seen, left = (sum(one.count for one in compared), sum(one.left for one in compared))
    note = (
        f"Digits: the gradients of {seen} entries (of each variable the {SMALLEST} smallest and as many drawn) were "
        f"compared with slopes of the forward pass in {LADDER[0]} digits or more."
    )
    spent = f" {left} more were left out when the time was spent; a budget gives more." if left else ""
    return Outcome(tuple(v for one in compared for v in one.verdicts), (note + spent,))


@dataclass(frozen=True, kw_only=True)
class Slopes:
    """What is compared: a gradient, and the loss of one flat vector whose slopes are those in many digits.

    offsets     where each variable begins in the vector
    direction   of the vector: the gradient is that of the slope along it
    """

    of: ExactLoss
    offsets: Mapping[str, int]
    gradient: Mapping[str, Any]
    direction: Array | None = None

    @property
    def oracle(self) -> str:
        """The oracle's name in a verdict."""
        return "digits" if self.direction is None else "hessian-digits"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Verdicts, the count of entries that were looked at, and that of those left out for want of time."""

    verdicts: tuple[Verdict, ...]
    count: int
    left: int


def _compare(evidence: Evidence, slopes: Slopes) -> Compared:
    from keras_ref.evaluation.many_digits.exact_numbers import Missing

    generator = np.random.default_rng(evidence.settings.seed + 4)
    ends = time.perf_counter() + (evidence.settings.seconds or PATIENCE)
    verdicts, seen, asked = [], 0, 0
    for name in evidence.names:
        gradient = slopes.gradient[name]
        if gradient is None or evidence.expectation(name) is not None:
            continue
        flat = np.ravel(gradient)
        entries = _choose_entries(flat, generator, evidence.settings.most)
        try:
            found = list(_measure_entries(slopes, flat, entries, start=slopes.offsets[name], ends=ends))
        except Missing as operation:
            raise BadInput(
                "`digits` needs a forward pass of operations that are done in many digits. Received: "
                f"{operation} in {evidence.subject}. Leave digits out."
            ) from operation
        asked, seen = asked + len(entries), seen + len(found)
        if digits := [one for one in found if one is not None]:
            verdicts.append(_judge(name, slopes.oracle, gradient, digits=digits))
    return Compared(verdicts=tuple(verdicts), count=seen, left=asked - seen)


def _choose_entries(flat: Array, generator: np.random.Generator, most: int | None) -> Array:
    """The entries to look at: the smallest, and as many drawn."""
    smallest = np.argsort(np.abs(flat), kind="stable")[:SMALLEST]
    drawn = generator.permutation(np.setdiff1d(np.arange(len(flat)), smallest))[:SMALLEST]
    chosen: Array = np.concatenate([smallest, drawn])
    return chosen if most is None else chosen[:most]


def _measure_entries(
    slopes: Slopes, flat: Array, entries: Array, *, start: int, ends: float
) -> Iterator[Digits | None]:
    """The digits of entry after entry, None where there are none to lose; the first, and more while there is time."""
    for k, entry in enumerate(entries):
        if k and time.perf_counter() > ends:
            return
        where, autodiff = start + int(entry), float(flat[entry])
        yield measure_digits(slopes.of, 0, where, entry=int(entry), autodiff=autodiff, direction=slopes.direction)


def measure_digits(
    loss: ExactLoss, place: int, where: int, *, entry: int, autodiff: float, direction: Array | None = None
) -> Digits | None:
    """The digits of autodiff's slope along a flat entry of an argument of the loss; None where there are none to lose.

    entry       how the entry is called in the answer
    direction   of that argument: autodiff's is the slope of the slope along it
    """
    from keras_ref.comparison.exact_slopes import FLOAT_DIGITS, Standing, allowed_digits, digits_of

    def slope(of: ExactLoss) -> ExactSlope:
        return of.slope(place, where) if direction is None else of.second_slope(place, where, {place: direction})

    truth = slope(loss)
    if truth.standing is not Standing.SMOOTH or not truth.value or not np.isfinite(autodiff):
        return None
    right = digits_of(autodiff, truth.value)
    # half of what a float64 can have is enough in any case
    allowed = FLOAT_DIGITS
    if right < FLOAT_DIGITS / 2:
        allowed = allowed_digits(truth.value, lambda seed: slope(replace(loss, off=seed)))
    return Digits(entry=entry, right=right, allowed=allowed, truth=float(truth.value))


def _judge(name: str, oracle: str, gradient: Any, *, digits: list[Digits]) -> Verdict:
    lost = [one for one in digits if one.few]
    worst = max(lost or digits, key=lambda one: one.allowed - one.right)
    counts = {Kind.INACCURATE.value: len(lost), Kind.MATCH.value: len(digits) - len(lost)}
    verdict = Verdict(
        name,
        oracle,
        Kind.INACCURATE if lost else Kind.MATCH,
        compared=len(digits),
        total=int(np.size(gradient)),
        counts={kind: n for kind, n in counts.items() if n},
        worst=index_of(worst.entry, np.shape(gradient)),
        autodiff=float(np.ravel(gradient)[worst.entry]),
        numeric=worst.truth,
        truncation=abs(worst.truth) * 10 ** (-worst.allowed / 2),
        rounding=0.0,
    )
    return verdict.because(Reason.FEW_DIGITS, f"{worst.right:.1f}", f"{worst.allowed:.1f}") if lost else verdict
