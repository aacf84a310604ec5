"""In what precision a subject really computes, and what a low precision costs its gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.checks.checked_loss import CheckedLoss, Prepare
from keras_ref.checks.disconnected import GradientPaths
from keras_ref.comparison.autodiff import Gradient, relative_differences
from keras_ref.comparison.oracles import ForwardOracle
from keras_ref.errors import short
from keras_ref.evaluation.float64 import DTYPE, in_precision, is_float
from keras_ref.evaluation.graph import casts_down, constants_in_float32, opaque
from keras_ref.evaluation.keras_parts import layers_of
from keras_ref.translation.random_draws import generators_of
from scratch.differences import UNIT

#: relative noise of a loss from which on float64 rounding alone no longer explains it
SUSPICIOUS = 2.0**-36
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


def judge_precision(oracle: ForwardOracle, *, subject: str, seed: int = 0) -> JudgedOracle:
    """The oracle with the noise of the precision that it computes in. Where that is not float64, a note says so.

    Where its noise shows it, autodiff's own rounding is measured in units of that precision from then on too: the unit
    of the oracle's loss function is set.
    """
    loss = oracle.loss
    known = loss.unit
    casts = GradientPaths(loss).casts_down() if casts_down(loss.graph) else []
    dtypes = {o.outputs[0].dtype for o in casts}
    loss.unit = max([known, *map(eps, dtypes)])
    if known != UNIT:
        return JudgedOracle(oracle)  # it is known to compute in less
    notes = []
    constants = [f"{value:.7g} at {operation.name}" for operation, value in constants_in_float32(loss.graph)]
    if constants:
        notes.append(
            f"float32 inside: {subject} keeps a constant in float32 ({', '.join(constants[:PLACES])}); both sides "
            "compute with what is left of it."
        )
    if dtypes or opaque(loss.graph):
        oracle = oracle.with_noise(oracle.measured_noise(seed=seed))
    noisy, hidden = oracle.noise > SUSPICIOUS * abs(oracle.base), [o.name for o in opaque(loss.graph)]
    if loss.graph is None:
        hidden = ["what runs only eagerly"]
    if noisy and hidden and not casts:
        loss.unit = OPAQUE
        # what Python code computes may stand still by chance within half a unit of the loss
        oracle = oracle.with_noise(max(oracle.noise, OPAQUE * abs(oracle.base) / 2))
    if loss.unit != UNIT:
        where = ", ".join(list(dict.fromkeys([o.name for o in casts] or hidden))[:PLACES])
        names = "/".join(sorted(t.name for t in dtypes)) or "float32"
        notes.append(
            f"{names} inside (at {where}): the loss of {subject} has a noise of {oracle.noise:.1e} "
            f"({oracle.noise / max(abs(oracle.base), UNIT):.0e} of its value); steps were widened accordingly."
        )
    return JudgedOracle(oracle, tuple(notes))


def eps(dtype: Any) -> float:
    """The distance of 1 from the next number; NumPy does not know that of bfloat16, which has 8 bits."""
    dtype = tf.as_dtype(dtype)
    return 2.0**-7 if dtype == tf.bfloat16 else float(np.finfo(dtype.as_numpy_dtype).eps)


def unit_of(sources: Iterable[Any]) -> float:
    """The distance of 1 from the next number in the coarsest floating dtype among variables and tensors."""
    return max([eps(s.dtype) for s in sources if is_float(s.dtype)], default=UNIT)


def note_of_refusal(error: BaseException) -> str:
    """The note that goes with a check in the precision that a subject has."""
    return (
        "float32 inside: it does not run in float64 and was checked in the precision it has, with steps as wide as its "
        f"noise asks for: {short(error)}"
    )


# What a low precision costs -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LowPrecision:
    """The gradient in the precision that a subject trains in, where that is less than float64, with its dtypes.

    `notes`: why there is no gradient although the precision is low.
    """

    dtypes: tuple[str, ...] = ()
    gradient: Gradient = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def cost(self, exact: Gradient) -> dict[str, float]:
        """What the precision costs the gradient of each variable, as a share of it."""
        return relative_differences(self.gradient, exact)

    def note(self, cost: Mapping[str, float]) -> tuple[str, ...]:
        """The note on what the precision costs, at the variable where it costs most."""
        if not cost:
            return ()
        worst = max(cost, key=lambda name: cost[name])
        share = f"{'/'.join(self.dtypes)} costs the gradient up to {cost[worst]:.1e} of its size (at {worst})"
        return (f"{share}: |low - float64| / |float64|, see precision_loss.",)


def measure_low_precision(keras_objects: Sequence[Any], prepare: Prepare) -> LowPrecision:
    """The gradient of the variables in the precision that they train in; nothing where that is float64."""
    dtypes = tuple(low_dtypes(keras_objects))
    if not dtypes:
        return LowPrecision()
    with in_precision(None, *keras_objects):
        subject = prepare(None)
        if subject.training and any(generators_of(layer) for one in keras_objects for layer in layers_of(one)):
            note = (
                "What its low precision costs was not measured: random layers draw other numbers in another precision."
            )
            return LowPrecision(dtypes, {}, (note,))
        return LowPrecision(dtypes, _scaled_gradient(subject))


def _scaled_gradient(subject: CheckedLoss) -> Gradient:
    """The gradient of the loss scaled as in training, divided by the scale again."""
    scaled = replace(subject, loss=lambda data: subject.loss(data) * subject.scale)
    gradient = scaled.function(watch_inputs=False, dtype=None).gradient()
    return {name: None if g is None else g / subject.scale for name, g in gradient.items()}


def low_dtypes(keras_objects: Iterable[Any]) -> list[str]:
    """The floating dtypes below float64 that what trains among Keras objects computes or is kept in."""
    found: dict[str, None] = {}
    for one in keras_objects:
        dtypes = [one.dtype] if isinstance(one, (keras.Variable, tf.Variable)) and one.trainable else []
        for layer in layers_of(one):
            # a layer's own variables, those of layers inside it left out
            own = layer._trainable_variables  # noqa: SLF001
            dtypes += [layer.compute_dtype, layer.variable_dtype] if own else []
        found.update({tf.as_dtype(dtype).name: None for dtype in dtypes if _is_low(dtype)})
    return sorted(found, key=lambda name: tf.as_dtype(name).size)


def _is_low(dtype: Any) -> bool:
    return dtype is not None and is_float(dtype) and tf.as_dtype(dtype).size < tf.as_dtype(DTYPE).size
