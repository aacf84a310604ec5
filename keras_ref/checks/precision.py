"""In what precision a model really computes, and what a low precision costs its gradient."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.checks.disconnected import Causes
from keras_ref.comparison.oracles import ForwardOracle
from keras_ref.errors import short
from keras_ref.evaluation.float64 import DTYPE, is_float, layers_of
from keras_ref.evaluation.graph import casts_down, constants_in_float32, opaque
from keras_ref.evaluation.loss_function import LossFunction
from scratch import noise as loss_noise
from scratch.arrays import Array
from scratch.differences import UNIT, scale_of

#: relative noise of a loss from which on float64 rounding alone no longer explains it
SUSPICIOUS = 2.0**-36
#: the unit that Python code inside a graph is taken to compute in, where its noise says that it is not float64's
OPAQUE = float(np.finfo(np.float32).eps)
#: directions along which the noise of a coarse precision is measured; the median of their sides counts
LINES = 3
#: how many places of a graph a note names
PLACES = 3


def judged(probe: LossFunction, oracle: ForwardOracle, name: str, notes: list[str], seed: int = 0) -> ForwardOracle:
    """The oracle with the noise that it has. Says "float32 inside" where a loss that should compute in float64 does not.

    Where its noise shows it, autodiff's own rounding is measured in units of that precision from then on too.
    """
    known = probe.unit
    casts = casts_down(probe.graph) and Causes(probe).casts_down()
    dtypes = {o.outputs[0].dtype for o in casts}
    probe.unit = max([known, *map(eps, dtypes)])
    oracle = _coarse(probe, oracle, seed)
    if known != UNIT:
        return oracle  # it is known to compute in less
    constants = [f"{value:.7g} at {operation.name}" for operation, value in constants_in_float32(probe.graph)]
    if constants:
        notes.append(
            f"float32 inside: {name} keeps a constant in float32 ({', '.join(constants[:PLACES])}); both sides compute with what is left of it."
        )
    noisy, hidden = oracle.noise > SUSPICIOUS * abs(oracle.base), opaque(probe.graph)
    if noisy and hidden and not casts:
        probe.unit = OPAQUE
    if probe.unit != UNIT:
        where = ", ".join(list(dict.fromkeys(o.name for o in (casts or hidden)))[:PLACES])
        notes.append(
            f"{'/'.join(sorted(t.name for t in dtypes)) or 'float32'} inside (at {where}): the loss of {name} has a noise of {oracle.noise:.1e} "
            f"({oracle.noise / max(abs(oracle.base), UNIT):.0e} of its value); steps were widened accordingly."
        )
    return oracle


def _coarse(probe: LossFunction, oracle: ForwardOracle, seed: int) -> ForwardOracle:
    """The oracle with the noise of a coarse precision: measured over steps that its numbers can see at all, and never
    less than half a unit of the loss, which may stand still by chance (a softmax of equal logits)."""
    if probe.unit == UNIT:
        return oracle
    found = [oracle.noise, probe.unit * abs(oracle.base) / 2]
    if probe.unit > loss_noise.SPACINGS[0]:
        steps = 4 * probe.unit * np.arange(1, loss_noise.POINTS + 1)
        lines = [
            probe.directional(direction_of(probe.values, seed + k), side * steps, at=oracle.values)
            for k in range(LINES)
            for side in (1, -1)
        ]
        found.append(loss_noise.DEVIATIONS * float(np.median([loss_noise.difference_noise(line) for line in lines])))
    return replace(oracle, noise=max(found))


def direction_of(values: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """A random direction in which every variable moves by about its own size."""
    generator = np.random.default_rng(seed + 3)
    return {n: generator.normal(size=v.shape) * scale_of(v.ravel()).reshape(v.shape) for n, v in values.items()}


def low_dtypes(things: Any) -> list[str]:
    """The floating dtypes below float64 that what trains among things computes or is kept in."""
    found: dict[str, None] = {}
    for thing in things:
        dtypes = [thing.dtype] if isinstance(thing, (keras.Variable, tf.Variable)) and thing.trainable else []
        for layer in layers_of(thing):
            dtypes += [layer.compute_dtype, layer.variable_dtype] if layer._trainable_variables else []
        found.update({tf.as_dtype(dtype).name: None for dtype in dtypes if _low(dtype)})
    return sorted(found, key=lambda name: tf.as_dtype(name).size)


def _low(dtype: Any) -> bool:
    return dtype is not None and is_float(dtype) and tf.as_dtype(dtype).size < tf.as_dtype(DTYPE).size


def eps(dtype: Any) -> float:
    """The distance of 1 from the next number; NumPy does not know that of bfloat16, which has 8 bits."""
    dtype = tf.as_dtype(dtype)
    return 2.0**-7 if dtype == tf.bfloat16 else float(np.finfo(dtype.as_numpy_dtype).eps)


def unit_of(sources: Any) -> float:
    """The distance of 1 from the next number in the coarsest floating dtype among variables and tensors."""
    return max([eps(s.dtype) for s in sources if is_float(s.dtype)], default=UNIT)


def refuses_float64(error: BaseException) -> bool:
    """Whether an error is TensorFlow's or Keras's word that something does not run in float64."""
    return re.search(r"float64|double|DT_DOUBLE", str(error)) is not None


def refusal(error: BaseException) -> str:
    """The note that goes with a check in the precision that a subject has."""
    return f"float32 inside: it does not run in float64 and was checked in the precision it has, with steps as wide as its noise asks for: {short(error)}"


def losses_of(low: Mapping[str, Array | None], exact: Mapping[str, Array | None]) -> dict[str, float]:
    """|low - exact| / |exact| of each variable's gradient, as 2-norms; infinite where only the low one is not finite."""
    found: dict[str, float] = {}
    for name, gradient in exact.items():
        other = low.get(name)
        if gradient is None or other is None or not np.isfinite(gradient).all():
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            difference, size = float(np.linalg.norm(other - gradient)), float(np.linalg.norm(gradient))
        found[name] = (
            0.0 if difference == 0 else float("inf") if size == 0 or not np.isfinite(difference) else difference / size
        )
    return found


def cost(found: Mapping[str, float], dtypes: list[str]) -> list[str]:
    """The note on what a low precision costs, at the variable where it costs most."""
    if not found:
        return []
    worst = max(found, key=lambda name: found[name])
    return [
        f"{'/'.join(dtypes)} costs the gradient up to {found[worst]:.1e} of its size (at {worst}): |low - float64| / |float64|, see precision_loss."
    ]
