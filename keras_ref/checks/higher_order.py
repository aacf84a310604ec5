"""More than the gradient: second derivatives (Hessian-vector products), and forward mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ref.checks.precision import direction_of
from keras_ref.comparison.entrywise import DISTANCE, Autodiff, compare, generic
from keras_ref.comparison.oracles import ForwardOracle, autodiff_at
from keras_ref.errors import BadInput, short
from keras_ref.evaluation.loss_function import LossFunction
from keras_ref.reports.verdict import Verdict
from scratch.arrays import Array


def hessian(
    probe: LossFunction, compared: Callable[[LossFunction, list[Any], Autodiff], list[Verdict]], seed: int
) -> list[Verdict]:
    """Verdicts on Hessian · v, for one random direction v over all variables and inputs.

    `probe` has v as its contraction: its loss is autodiff's own slope along v, which is differenced; its gradient is
    autodiff's second derivative. Where that slope jumps, at a kink of the loss, the entries are judged at a point beside.
    Raises: BadInput where an operation has no second derivative.
    """
    try:
        oracle = replace(ForwardOracle.at(probe, probe.values, seed=seed), name="hessian")
        autodiff = autodiff_at(probe, probe.values)
    except LookupError as error:
        raise BadInput(
            f"Operations must have second derivatives for `order=2`. Received: {short(error)} Pass order=1."
        ) from error
    verdicts = compared(probe, [oracle], autodiff)
    if not any("jumps" in v.reason for v in verdicts):
        return verdicts
    generator = np.random.default_rng(seed)
    beside = {n: v + generic(v, generator, DISTANCE) for n, v in probe.values.items()}
    moved, there = oracle.moved(beside), autodiff.at(beside)
    reason = "at a point beside: the slope itself jumps at the very point, a kink of the loss"
    return [
        replace(compare(moved, v.name, there, seed=seed), reason=reason) if "jumps" in v.reason else v for v in verdicts
    ]


@dataclass(frozen=True)
class _Along:
    """The loss along one direction of one variable as a function of a single number."""

    probe: LossFunction
    direction: Mapping[str, Array]
    values: Mapping[str, Array]
    base: float
    noise: float
    name: str = "forward-mode"

    def losses(self, name: str, entries: Array, offsets: Array) -> Array:
        steps = np.ravel(self.values[name])[0] + offsets
        return self.probe.directional({name: self.direction[name]}, steps.ravel()).reshape(offsets.shape)

    def moved(self, values: Mapping[str, Array]) -> _Along:
        name = next(iter(values))
        base = float(self.probe.directional({name: self.direction[name]}, np.ravel(values[name]))[0])
        return replace(self, values=values, base=base)


@dataclass(frozen=True)
class _Pushed:
    """The slope along one direction of one variable as forward mode has it, called at a point of `_Along`."""

    probe: LossFunction
    name: str
    direction: Array
    rounding: float

    def _run(self, inputs: list[Any], held: list[Any]) -> tuple[list[Any], Any]:
        source = self.probe.watched(inputs)[list(self.probe.values).index(self.name)]
        with tf.autodiff.ForwardAccumulator(source, tf.cast(self.direction, source.dtype)) as accumulator:
            loss = self.probe.loss_at(inputs, held)
        return [accumulator.jvp(loss) if n == self.name else None for n in self.probe.values], loss

    def __call__(self, point: Mapping[str, Array]) -> Autodiff:
        moved = dict(self.probe.values) | {
            self.name: self.probe.values[self.name] + point[self.name][0] * self.direction
        }
        try:
            slope = self.probe.run_in("eager", self._run, moved, key=f"forward mode of {self.name}")[0][self.name]
        except (LookupError, NotImplementedError, tf.errors.OpError) as error:
            raise BadInput(
                f"Operations must have a forward mode for `forward_mode`. Received: {short(error)} Leave it out."
            ) from error
        gradient = None if slope is None else np.reshape(slope, (1,))
        return Autodiff({self.name: gradient}, {self.name: np.array([self.rounding])}, self, how="ForwardAccumulator")


def forward_mode(probe: LossFunction, noise: float, reverse: Autodiff, names: list[str], seed: int) -> list[Verdict]:
    """Verdicts on the slope along a random direction of each variable as tf.autodiff.ForwardAccumulator has it.

    It has to agree with differences of the loss along the direction, and with reverse mode's Σ gradient · direction.
    Raises: BadInput where an operation has no forward mode.
    """
    direction = direction_of(probe.values, seed)
    base = float(probe.directional({}, np.zeros(1))[0])
    return [
        _forward_mode(_Along(probe, direction, {name: np.zeros(1)}, base, noise), reverse, name, seed) for name in names
    ]


def _forward_mode(oracle: _Along, reverse: Autodiff, name: str, seed: int) -> Verdict:
    direction, gradient = oracle.direction[name], reverse.gradient[name]
    terms = np.zeros(1) if gradient is None else np.abs(gradient * direction)
    rounding = 16 * oracle.probe.unit * float(np.sum(terms)) + float(np.sum(reverse.rounding[name] * np.abs(direction)))
    found = _Pushed(oracle.probe, name, direction, rounding)(oracle.values)
    verdict = compare(oracle, name, found, seed=seed)
    dot = 0.0 if gradient is None else float(np.sum(gradient * direction))
    slope = found.gradient[name]
    if verdict.failed or slope is None or abs(slope[0] - dot) <= 2 * rounding:
        return verdict
    return replace(
        verdict, verdict="mode-dependent", reason=f"forward mode gives {slope[0]:+.15e}, reverse mode {dot:+.15e}"
    )
