"""An operation at one point against slopes in many digits: what is wrong there is proved by the same evaluation."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

import mpmath
import numpy as np
import tensorflow as tf
from mpmath.libmp import NoConvergence

from keras_ref.campaign.claims import CLAIMS, SECOND, Claim
from keras_ref.campaign.cotangents import LARGEST, draw_cotangent
from keras_ref.campaign.differentiability import has_meeting_kinks
from keras_ref.campaign.precisions import FLOAT64, Precision, find_lowest_precision
from keras_ref.campaign.subjects import leaf_dtype
from keras_ref.comparison.exact_slopes import (
    FLOAT_DIGITS,
    NORMAL,
    ExactLoss,
    ExactSlope,
    Standing,
    allowed_digits,
    digits_of,
)
from keras_ref.evaluation.keras_objects.real_parts import from_real_parts, real_values, split_real_parts
from keras_ref.evaluation.many_digits.exact_graph import DIGITS, Graph
from keras_ref.evaluation.many_digits.exact_numbers import Missing, exact
from keras_ref.undoing import undoing
from scratch.arrays import Array, index_of

#: the kinds of answer, beside those of a verdict
SMOOTH_MATCH, KINK, NO_DERIVATIVE = "match", "kink", "no derivative"
#: where the backward pass refuses what the forward pass takes
RAISES = "raises"
#: where a gradient has another shape than its argument
WRONG_SHAPE = "wrong shape"
#: at a kink, and not between the slopes of both sides: several may meet there
OUTSIDE = "outside"
#: seconds of processor time that one point may take in many digits
PATIENCE = 20.0
#: what an operation, or its backward pass, raises of arguments that it does not take
REFUSED = (tf.errors.OpError, ValueError, ZeroDivisionError)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one entry of one argument comes to.

    kind      match, mismatch, nan, inaccurate, kink, outside, "no derivative", "wrong shape" (of all entries at once)
    digits    those that are right, of those `allowed`
    """

    claim: str
    argument: int
    index: tuple[int, ...]
    kind: str
    autodiff: float
    truth: float
    digits: float = FLOAT_DIGITS
    allowed: float = FLOAT_DIGITS


@dataclass
class ExactOperation:
    """An operation as a function of its float arguments, traced once for each of their shapes.

    of_floats   of float tensors, nested as they are given
    dtype       a lower precision in which it runs, "" for that of its arguments
    derived     how the derivatives of a claim are computed
    """

    of_floats: Callable[..., Any]
    seed: int
    dtype: str = ""
    derived: Mapping[str, Claim] = field(default_factory=lambda: CLAIMS)
    traces: dict[Any, Graph] = field(default_factory=dict)
    #: whether it computes what it was last given in a lower precision than its arguments and outputs have
    narrows: bool = False
    #: whether its outputs had a lower precision than its arguments
    gives_less: bool = False

    def entries(self, floats: Sequence[Any], claims: Sequence[str] = ("first order",)) -> Iterator[Entry] | None:
        """What every entry of the float arguments comes to; None where there is nothing to differentiate: the operation
        refuses its arguments, the value is not finite or jumps, or an argument is subnormal. Raises: Missing, as Graph
        does, and where it cannot be traced; WrongValue.
        """
        leaves = [self._round(np.asarray(leaf)) for leaf in tf.nest.flatten(list(floats))]
        numbers = [real_values(x) for x in leaves]
        if any(np.any((np.abs(x) < NORMAL) & (x != 0)) for x in numbers):  # TensorFlow's kernels take them for 0
            return None
        point = _Point(self.of_floats, list(floats), leaves, seed=self.seed, dtype=self.dtype)
        try:
            value = point.value()
        except REFUSED:  # a matrix that has no Cholesky factor, say
            return None
        if not np.isfinite(value):
            return None
        key = tuple((x.shape, x.dtype.name) for x in leaves)
        if key not in self.traces:
            try:
                self.traces[key] = Graph(point.traced())
            except (*REFUSED, TypeError) as error:
                raise Missing("an operation that runs only eagerly") from error
        precision = max(point.precision, find_lowest_precision(self.traces[key]))
        self.gives_less = point.of_outputs > point.precision
        self.narrows = precision > max(point.precision, point.of_outputs)
        loss = ExactLoss(self.traces[key], [real_values(x) for x in leaves], unit=precision.unit)
        # half of the digits, of what a sum of terms of this size can have
        room = precision.normal * point.count + precision.unit**0.5 * max(abs(value), point.terms)
        if not _has_value(loss, value, room):
            return None
        return point.compared(loss, {claim: self.derived[claim] for claim in claims}, normal=precision.normal)

    def _round(self, leaf: Any) -> Any:
        """The numbers of a leaf that the lower precision has."""
        wide = "complex128" if np.iscomplexobj(leaf) else "float64"
        return tf.cast(tf.cast(leaf, leaf_dtype(leaf, self.dtype)), wide).numpy() if self.dtype else leaf


def _has_value(loss: ExactLoss, value: float, room: float) -> bool:
    """Whether the operation is continuous at a point. Raises: WrongValue where `value` is more than `room` off, and not
    by jumping or cancelling; Missing.
    """
    try:
        with time_limit(PATIENCE):
            own = loss.value({}, DIGITS)
            right = mpmath.isfinite(own) and abs(own - value) <= room
            if not right and mpmath.isfinite(own):
                if _is_jumping(loss, own, value):
                    return False
                right = _cancels(loss, own, value)
            if not right:
                raise WrongValue(value, float(own))
            return True
    except (*REFUSED, ArithmeticError, TypeError, NoConvergence) as error:
        raise Missing(str(error)) from error


def _cancels(loss: ExactLoss, own: Any, value: float) -> bool:
    """Whether a value has at least half of the digits that are left where arguments and constants are off by half a
    unit in the last place. Few are where it is a small difference of large numbers, as the sine of a multiple of π.
    """
    return _reaches(own, value, [replace(loss, off=seed).value({}, DIGITS) for seed in range(1, 9)])


def _is_jumping(loss: ExactLoss, own: Any, value: float) -> bool:
    """The same for arguments that are off by next to nothing: on a branch cut only the sign of 0 tells the sides."""
    generator = np.random.default_rng(0)
    others = []
    for _ in range(4):
        steps = {i: generator.choice((-NEXT, NEXT), size=np.shape(a)) for i, a in enumerate(loss.arguments)}
        others.append(loss.value({i: exact(step) for i, step in steps.items()}, DIGITS))
    return _reaches(own, value, others)


def _reaches(own: Any, value: float, others: Sequence[Any]) -> bool:
    # the results of operations are rounded too, not arguments and constants alone
    spread = 4 * max([mpmath.mpf(0), *(abs(v - own) for v in others if mpmath.isfinite(v))])
    return bool(spread >= abs(own) or (own - value) ** 2 <= spread * abs(own))


#: next to nothing, in arguments of 0 too
NEXT = 1e-40

#: the true slope of a loss along an entry of an argument
Slopes = Callable[..., ExactSlope]


class WrongValue(Exception):
    """The value of an operation is not the one that its definition has in many digits."""

    def __init__(self, value: float, truth: float) -> None:
        super().__init__(f"{value!r} instead of {truth!r}")


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises: Missing in the main thread after so many seconds of processor time: some series converge too slowly."""

    def stop(_: int, __: FrameType | None) -> None:
        raise Missing(f"more than {seconds:g} seconds")

    with (
        undoing(signal.signal, signal.SIGPROF, signal.getsignal(signal.SIGPROF)),
        undoing(signal.setitimer, signal.ITIMER_PROF, 0),
    ):
        signal.signal(signal.SIGPROF, stop)
        # again and again: what is raised while TensorFlow calls Python may be lost
        signal.setitimer(signal.ITIMER_PROF, seconds, seconds)
        yield


class _Point:
    """The sum of an operation's outputs, each entry with a factor of its own, at one point."""

    def __init__(
        self, of_floats: Callable[..., Any], floats: list[Any], leaves: list[Any], *, seed: int, dtype: str
    ) -> None:
        self.of_floats, self.floats, self.leaves, self.seed = of_floats, floats, leaves, seed
        self.dtypes = [leaf_dtype(x, dtype) for x in leaves]
        #: the precision of its arguments and of its outputs, and the size of the terms of the sum
        self.precision = self.of_outputs = max([FLOAT64, *map(Precision.of, self.dtypes)])
        self.terms = 0.0
        self.parts = [tf.constant(real_values(x)) for x in leaves]
        self.size, self.known, self.count = 0.0, 0.0, 1
        #: the shapes of its float outputs, which a trace does not know where they depend on numbers
        self.shapes: dict[int, tuple[int, ...]] = {}

    def loss(self, *parts: Any) -> Any:
        """The sum."""
        tensors = [from_real_parts(p, d) for p, d in zip(parts, self.dtypes, strict=True)]
        outputs = self.of_floats(*tf.nest.pack_sequence_as(self.floats, tensors))
        terms = []
        for k, output in enumerate(tf.nest.flatten(outputs)):
            if isinstance(output, tf.Tensor) and (output.dtype.is_floating or output.dtype.is_complex):
                own = tf.cast(split_real_parts(output), tf.float64)
                self.of_outputs = max(self.of_outputs, Precision.of(output.dtype))
                if tf.executing_eagerly():
                    self.shapes[k] = tuple(own.shape)
                terms.append(own * draw_cotangent(self.shapes[k], seed=self.seed + k))
        terms = terms or [tf.zeros(1, tf.float64)]
        if tf.executing_eagerly():
            sizes = np.abs(np.concatenate([np.ravel(term) for term in terms]))
            self.terms, self.count = float(np.max(sizes, initial=0.0)), max(1, sizes.size)
        sums = [tf.reduce_sum(term) for term in terms]
        return tf.add_n(sums) if len(sums) > 1 else sums[0]

    def traced(self) -> Any:
        """The sum as a traced function of the real parts."""
        specs = [tf.TensorSpec(p.shape, p.dtype) for p in self.parts]
        return tf.function(self.loss, autograph=False).get_concrete_function(*specs)

    def value(self) -> float:
        """The sum; `size` becomes the largest argument's size."""
        self.known = float(self.loss(*self.parts))
        self.size = max([0.0, *(float(np.max(np.abs(p), initial=0.0)) for p in self.parts)])
        return self.known

    def compared(self, loss: ExactLoss, claims: Mapping[str, Claim], *, normal: float) -> Iterator[Entry]:
        """What every entry comes to, claim after claim."""
        generator = np.random.default_rng(self.seed)
        direction = {i: generator.choice((-1.0, 1.0, 0.5), size=p.shape) for i, p in enumerate(self.parts)}
        known: dict[Any, ExactSlope] = {}
        for claim, derive in claims.items():
            try:
                found = derive(self, direction)
            except (LookupError, NotImplementedError):  # an operation without that derivative says so
                continue
            except REFUSED:
                if claim != "compiled":  # what XLA has no kernel for says so
                    yield Entry(claim=claim, argument=0, index=(), kind=RAISES, autodiff=np.nan, truth=np.nan)
                continue
            slopes = self._measure_slopes(claim, direction, known)
            usual = abs(self.known) / max(self.size, 1.0)
            yield from _compare(claim, found, slopes, loss, usual=usual, normal=normal)

    def _measure_slopes(self, claim: str, direction: Mapping[int, Array], known: dict[Any, ExactSlope]) -> Slopes:
        """What gives the true slope of a claim at an entry of an argument; each is computed once."""
        order = 2 if claim in SECOND else 1

        def slope(own: ExactLoss, place: int, entry: int, *, quickly: bool = False) -> ExactSlope:
            key = (order, own.off, place, entry, quickly)
            if key not in known:
                known[key] = (
                    own.second_slope(place, entry, direction)
                    if order == 2
                    else own.slope(place, entry, quickly=quickly)
                )
            return known[key]

        return slope


def _shape(gradient: Any) -> tuple[int, ...]:
    return tuple(map(int, tf.convert_to_tensor(gradient).shape))


def _flatten(gradient: Any) -> Array:
    return np.ravel(np.asarray(tf.convert_to_tensor(gradient), float))


def _compare(
    claim: str,
    found: list[Any],
    slope: Slopes,
    loss: ExactLoss,
    *,
    usual: float,
    normal: float,
) -> Iterator[Entry]:
    """What every entry comes to.

    normal  the smallest normal number of the precision that it computes in
    usual   the size that a slope has where nothing cancels: that of the loss, for a change of the arguments by all
    """
    truths: list[tuple[int, int, float, ExactSlope]] = []
    with time_limit(PATIENCE):
        for place, gradient in enumerate(found):
            if gradient is not None and _shape(gradient) != np.shape(loss.arguments[place]):
                yield Entry(claim=claim, argument=place, index=(), kind=WRONG_SHAPE, autodiff=np.nan, truth=np.nan)
                continue
            # None is right where nothing moves
            flat = np.zeros(np.size(loss.arguments[place])) if gradient is None else _flatten(gradient)
            truths += [(place, e, float(v), slope(loss, place, e, quickly=True)) for e, v in enumerate(flat)]
    slopes = [abs(float(t.value)) for *_, t in truths if t.standing is Standing.SMOOTH]
    scale = max([usual, *slopes])
    sure: set[tuple[int, str]] = set()
    for place, e, said, truth in truths:
        index = index_of(e, np.shape(loss.arguments[place]))
        entry = Entry(
            claim=claim, argument=place, index=index, kind=SMOOTH_MATCH, autodiff=said, truth=float(truth.value)
        )
        again = lambda seed, place=place, e=e: slope(replace(loss, off=seed), place, e)  # noqa: E731 (of this entry)
        judged = _judge(entry, truth, again, scale=scale, unit=loss.unit, normal=normal)
        if judged.kind != SMOOTH_MATCH:  # nothing is accused without a second look in more digits
            with time_limit(PATIENCE):
                surer = slope(loss, place, e)
            judged = _judge(
                replace(entry, truth=float(surer.value)), surer, again, scale=scale, unit=loss.unit, normal=normal
            )
        accused = judged.kind in ("mismatch", "nan", "inaccurate") and claim not in SECOND
        if accused and (place, judged.kind) not in sure:
            with time_limit(PATIENCE):
                met = has_meeting_kinks(loss, place, e)
            if met:  # there are slopes along every entry, and no derivative
                judged = replace(judged, kind=NO_DERIVATIVE)
            else:
                sure.add((place, judged.kind))
        yield judged


def _judge(  # noqa: PLR0911 (one answer a kind)
    entry: Entry, truth: ExactSlope, again: Callable[[int], ExactSlope], *, scale: float, unit: float, normal: float
) -> Entry:
    """The entry with its kind.

    A slope that has lost more than half of its digits is `inaccurate` while the error is less than half of the digits
    of the largest slope at the point, and a mismatch where it is more.
    """
    if truth.standing is not Standing.SMOOTH:
        if not np.isfinite(entry.autodiff):
            return replace(entry, kind=NO_DERIVATIVE)
        low, high = sorted((truth.left, truth.right))
        room = unit**0.5 * max(abs(low), abs(high))
        between = low - room <= entry.autodiff <= high + room
        if truth.standing is Standing.KINK:
            return replace(entry, kind=KINK if between else OUTSIDE)
        return replace(entry, kind=NO_DERIVATIVE)
    error = abs(entry.autodiff - entry.truth)
    if not np.isfinite(entry.autodiff):
        return replace(entry, kind="nan" if np.isfinite(entry.truth) else NO_DERIVATIVE)
    large = error > unit**0.5 * max(scale, abs(entry.truth))
    if not truth.value:
        return replace(entry, kind="mismatch" if large and error else SMOOTH_MATCH)
    right = digits_of(entry.autodiff, truth.value)
    if right >= -np.log10(unit) / 2:
        return replace(entry, digits=right)
    with time_limit(PATIENCE):  # numbers below the normal ones have fewer digits, or none
        # a slope below the normal numbers may be above them by the factor that it is summed with
        allowed = allowed_digits(truth.value, again) if abs(truth.value) >= LARGEST * normal else 0.0
    few = right < allowed / 2 and allowed >= 1  # where not a digit is allowed none is lost
    kind = ("mismatch" if large else "inaccurate") if few else SMOOTH_MATCH
    return replace(entry, kind=kind, digits=right, allowed=allowed)
