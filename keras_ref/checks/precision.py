"""In what precision a subject really computes, and what a low precision costs its gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ref.checks.checked_loss import Prepare
from keras_ref.checks.disconnected import GradientPaths
from keras_ref.comparison.sources.autodiff import Autodiff, Gradient, relative_differences
from keras_ref.comparison.sources.differenced_loss import DifferencedLoss
from keras_ref.comparison.sources.noise import SUSPICIOUS
from keras_ref.comparison.sources.oracles import ForwardOracle
from keras_ref.errors import UserCodeFailed, shorten_error
from keras_ref.evaluation.backward_errors import find_line
from keras_ref.evaluation.changed_state import keras_2
from keras_ref.evaluation.changed_state.float64 import in_precision
from keras_ref.evaluation.changed_state.traced_functions import PrecisionIsFixed
from keras_ref.evaluation.graphs.graph import (
    find_casts_down,
    find_constants_in_float32,
    find_opaque_operations,
    lower_dtype,
    random_draws,
)
from keras_ref.evaluation.graphs.operation_rounding import unit_of
from keras_ref.evaluation.keras_objects.keras_classes import KerasVariable
from keras_ref.evaluation.keras_objects.keras_parts import list_layers
from keras_ref.evaluation.keras_objects.real_parts import is_real_or_complex
from keras_ref.evaluation.loss_function import LossFunction
from keras_ref.reports.verdict import Kind, Reason, Verdict
from scratch.arrays import index_of
from scratch.differences import UNIT

#: the unit that Python code inside a graph is taken to compute in, where its noise says that it is not float64's
OPAQUE = float(np.finfo(np.float32).eps)
#: how many places of a graph a note names
PLACES = 3


# What a subject computes in -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JudgedOracle:
    """An oracle with the noise that it has, and notes on where that comes from."""

    oracle: ForwardOracle
    notes: tuple[str, ...] = ()


def judge_precision(oracle: ForwardOracle, loss: DifferencedLoss, *, subject: str, seed: int = 0) -> JudgedOracle:
    """The oracle of a loss with the noise of the precision that it computes in. Where that is not float64, a note says
    so.

    Where its noise shows it, autodiff's own rounding is measured in units of that precision from then on too: the unit
    of the loss is set.
    """
    known, graph = loss.unit, oracle.loss.graph
    casts = GradientPaths(loss).find_casts_down() if isinstance(loss, LossFunction) and find_casts_down(graph) else []
    dtypes = {lower_dtype(o) for o in casts}
    loss.unit = max([known, *map(unit_of, dtypes)])
    if known != UNIT:
        return JudgedOracle(oracle)  # it is known to compute in less
    notes = []
    constants = [
        f"{value:.7g} at {operation.name}{find_line(operation)}"
        for operation, value in find_constants_in_float32(graph)
    ]
    if constants:
        notes.append(
            f"float32 inside: {subject} keeps a constant in float32 ({', '.join(constants[:PLACES])}); both sides "
            "compute with what is left of it."
        )
    if dtypes or find_opaque_operations(graph):
        oracle = oracle.with_noise(oracle.measured_noise(seed=seed))
    noisy, hidden = oracle.noise > SUSPICIOUS * abs(oracle.base), [o.name for o in find_opaque_operations(graph)]
    if graph is None:
        hidden = ["what runs only eagerly"]
    if noisy and hidden and not casts:
        loss.unit = OPAQUE
        # what Python code computes may stand still by chance within half a unit of the loss
        oracle = oracle.with_noise(max(oracle.noise, OPAQUE * abs(oracle.base) / 2))
    if loss.unit != UNIT:
        where = ", ".join(list(dict.fromkeys([o.name + find_line(o) for o in casts] or hidden))[:PLACES])
        names = "/".join(sorted(t.name for t in dtypes)) or "float32"
        notes.append(
            f"{names} inside (at {where}): the loss of {subject} has a noise of {oracle.noise:.1e} "
            f"({oracle.noise / max(abs(oracle.base), UNIT):.0e} of its value); steps were widened accordingly."
        )
    return JudgedOracle(oracle, tuple(notes))


def find_coarsest_unit(sources: Iterable[Any]) -> float:
    """The distance of 1 from the next number in the coarsest floating dtype among variables and tensors."""
    return max([unit_of(s.dtype) for s in sources if is_real_or_complex(s.dtype)], default=UNIT)


#: what an operation raises that has no kernel for float64, or that meets two dtypes
OF_PRECISION = (
    TypeError,
    ValueError,
    NotImplementedError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.UnimplementedError,
    PrecisionIsFixed,
)


def is_about_precision(failed: UserCodeFailed) -> bool:
    """Whether an error in float64 can come from the precision: by its type, whatever it says.

    That it does come from there is seen by the same code running in the precision that it has. What is about memory,
    files, a key or a division is no matter of precision.
    """
    return isinstance(failed.error, OF_PRECISION)


def note_refusal(error: BaseException) -> str:
    """The note that goes with a check in the precision that a subject has."""
    return (
        "float32 inside: it does not run in float64 and was checked in the precision it has, with steps as wide as its "
        f"noise asks for: {shorten_error(error)}"
    )


# What a low precision costs -------------------------------------------------------------------------------------


#: from this share of a gradient on it is asked whether the exact gradient is anything but rounding
DOUBTFUL = 0.5


@dataclass(frozen=True)
class LowPrecision:
    """The gradient in the precision that a subject trains in, where that is less than float64, with its dtypes.

    scale   what training multiplies the loss with in that precision
    notes   why there is no gradient although the precision is low
    loss    the loss at the point, as given; nan where it is not known, or nothing is computed in less than float64
    unit    the unit of the coarsest precision there
    """

    dtypes: tuple[str, ...] = ()
    gradient: Gradient = field(default_factory=dict)
    scale: float = 1.0
    notes: tuple[str, ...] = ()
    loss: float = math.nan
    unit: float = UNIT


@dataclass(frozen=True)
class PrecisionCost:
    """What a low precision costs: by variable, as a share of its gradient; findings; and what is worth saying of it."""

    shares: Mapping[str, float] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()


def measure_low_precision(
    keras_objects: Sequence[Any], prepare: Prepare, *, with_gradient: bool = True
) -> LowPrecision:
    """The loss in the precision that is given, and the gradient of the variables in the precision that they train in;
    nothing where all that is float64.
    """
    dtypes = tuple(find_low_dtypes(keras_objects))
    with in_precision(None, *keras_objects):
        subject = prepare(None)
        scaled = replace(subject, loss=lambda data: subject.loss(data) * subject.scale)
        function = scaled.function(watch_inputs=False, dtype=None)
        leaves = [leaf for leaf in tf.nest.flatten(function.data.x) if leaf is not None]
        unit = max([find_coarsest_unit(leaves), *map(unit_of, dtypes)])
        if unit == UNIT:
            return LowPrecision()
        gradient: Gradient = {}
        if dtypes and with_gradient:
            gradient = function.gradient()
            loss = function.seen["eager"]
        else:
            loss = function.eager_loss()
    gradient = {name: None if g is None else g / subject.scale for name, g in gradient.items()}
    return LowPrecision(dtypes, gradient, subject.scale, loss=loss / subject.scale, unit=unit)


def measure_cost(low: LowPrecision, autodiff: Autodiff, loss: DifferencedLoss) -> PrecisionCost:
    """What the precision of `low` costs the gradient that is exact in float64.

    A gradient that is not finite there although it is in float64 is a finding, unless training scales the loss, which
    looks for a scale where it is. Variables whose exact gradient is zero to its rounding have no share.
    """
    if not low.gradient or loss.unit != UNIT:  # nothing in float64 to compare with
        return PrecisionCost(notes=low.notes)
    if random_draws(loss.graph):
        return PrecisionCost(
            notes=(
                *low.notes,
                "What its low precision costs was not measured: random layers draw other numbers in another precision.",
            )
        )
    exact, names = autodiff.gradient, "/".join(low.dtypes)
    shares = relative_differences(low.gradient, exact)
    infinite = [n for n in shares if (g := low.gradient[n]) is not None and not np.isfinite(g).all()]
    doubtful = [n for n, share in shares.items() if share >= DOUBTFUL and n not in infinite]
    shares = {n: s for n, s in shares.items() if n not in doubtful or not autodiff.is_zero(n)}
    notes, verdicts = [*low.notes], tuple[Verdict, ...]()
    if infinite and low.scale != 1.0:
        notes.append(
            f"{names} overflows at the loss scale of {low.scale:g} (at {', '.join(infinite[:PLACES])}): training skips "
            "such a step and takes a smaller scale."
        )
    elif infinite:
        verdicts = tuple(_judge_overflow(n, names, low.gradient[n], exact[n]) for n in infinite)
    finite = {n: share for n, share in shares.items() if n not in infinite}
    if finite:
        worst = max(finite, key=lambda name: finite[name])
        notes.append(
            f"{names} costs the gradient up to {finite[worst]:.1e} of its size (at {worst}): |low - float64| / "
            "|float64|. The report's precision_loss has this of every variable."
        )
    return PrecisionCost(shares, verdicts, tuple(notes))


def _judge_overflow(name: str, dtypes: str, low: Any, exact: Any) -> Verdict:
    """The verdict on a gradient that is not finite in the precision of training, and is in float64."""
    broken = ~np.isfinite(low)
    i = int(np.argmax(broken))
    count = int(broken.sum())
    found = Verdict(
        name,
        "low-precision",
        Kind.NAN,
        compared=low.size,
        total=low.size,
        counts={"nan": count} | ({"match": low.size - count} if count < low.size else {}),
        worst=index_of(i, low.shape),
        autodiff=float(np.ravel(low)[i]),
        numeric=float(np.ravel(exact)[i]),
        how=dtypes,
    )
    return found.because(Reason.NOT_FINITE_IN_PRECISION, dtypes)


def find_low_dtypes(keras_objects: Iterable[Any]) -> list[str]:
    """The floating dtypes below float64 that what trains among Keras objects computes or is kept in."""
    found: dict[str, None] = {}
    for one in keras_objects:
        dtypes = [one.dtype] if isinstance(one, (KerasVariable, tf.Variable)) and one.trainable else []
        # a layer's own variables, those of layers inside it left out
        training = [layer for layer in list_layers(one) if layer._trainable_variables]  # noqa: SLF001
        training += [layer for layer in keras_2.list_layers(one) if layer._trainable_weights]  # noqa: SLF001
        for layer in training:
            dtypes += [layer.compute_dtype, layer.variable_dtype]
        found.update({tf.as_dtype(dtype).name: None for dtype in dtypes if _is_low(dtype)})
    return sorted(found, key=lambda name: tf.as_dtype(name).size)


def _is_low(dtype: Any) -> bool:
    return dtype is not None and is_real_or_complex(dtype) and unit_of(dtype) > UNIT
