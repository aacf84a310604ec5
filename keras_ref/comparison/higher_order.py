"""More than the gradient: second derivatives (Hessian-vector products), and forward mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ref.comparison.efforts import choose_effort
from keras_ref.comparison.entries.entrywise import compare_entries
from keras_ref.comparison.entries.neighbourhood import DISTANCE
from keras_ref.comparison.sources.autodiff import Autodiff, run_autodiff, shift_point
from keras_ref.comparison.sources.evidence import Evidence, Outcome
from keras_ref.comparison.sources.noise import measure_noise
from keras_ref.comparison.sources.oracles import ForwardOracle, Oracle
from keras_ref.errors import BadInput, shorten_error
from keras_ref.evaluation.keras_objects.real_parts import from_real_parts
from keras_ref.evaluation.loss_function import LossFunction
from keras_ref.reports.verdict import Kind, Reason, Verdict
from scratch.arrays import Array
from scratch.random_offset import draw_offsets


def compare_higher_orders(evidence: Evidence) -> Outcome:
    """Verdicts on second derivatives and on forward mode, where the settings ask for them."""
    outcome = Outcome()
    if evidence.settings.order == 2:
        outcome += compare_hessian(evidence)
    if evidence.settings.forward_mode:
        outcome += compare_forward_mode(evidence)
    return outcome


def draw_direction(values: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """A random direction in which every entry moves by about its own size."""
    return draw_offsets(values, np.random.default_rng(seed + 3))


# Second derivatives ---------------------------------------------------------------------------------------------


def compare_hessian(evidence: Evidence) -> Outcome:
    """Verdicts on Hessian · v, for one random direction v over all variables and inputs.

    What is differenced is autodiff's own slope along v; the gradient of that is autodiff's second derivative. Where the
    slope jumps, at a kink of the loss, the entries are compared at a point beside.
    Raises: BadInput where an operation has no second derivative.
    """
    seed = evidence.settings.seed
    loss = evidence.contracted(draw_direction(evidence.loss.values, seed))
    try:
        oracle = replace(ForwardOracle.at(loss, loss.values, seed=seed), name="hessian", of_forward_pass=False)
        autodiff = run_autodiff(loss, loss.values)
    except LookupError as error:
        raise BadInput(
            f"Operations must have second derivatives for `order=2`. Received: {shorten_error(error)} Pass order=1."
        ) from error
    second = replace(evidence, loss=loss, oracles=(oracle,), autodiff=autodiff, preparation=None)
    outcome = choose_effort(second).compare(second)
    if not any(v.reason_code is Reason.JUMP for v in outcome.verdicts):
        return outcome
    beside = shift_point(loss.values, np.random.default_rng(seed), distance=DISTANCE)
    moved, there = oracle.moved(beside), autodiff.at(beside)

    def compare_beside(verdict: Verdict) -> Verdict:
        if verdict.reason_code is not Reason.JUMP:
            return verdict
        return compare_entries(moved, verdict.name, autodiff=there, seed=seed).because(Reason.BESIDE_A_JUMP)

    return outcome.each(compare_beside)


# Forward mode ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SingleVariableOracle(Oracle):
    """The loss along one direction of one variable, as a function of a single number that bears the variable's name."""

    loss: LossFunction
    direction: Mapping[str, Array]
    values: Mapping[str, Array]
    base: float
    noise: float
    name: str = "forward-mode"
    supports_complex: bool = False
    of_forward_pass: bool = False
    specifications: tuple[Any, ...] = ()

    def losses(self, name: str, entries: Array, offsets: Array) -> Array:
        steps = np.ravel(self.values[name])[0] + offsets
        return self.loss.directional({name: self.direction[name]}, steps.ravel()).reshape(offsets.shape)

    def directional(self, direction: Mapping[str, Array], steps: Array) -> Array:
        (name,) = self.values
        along = direction.get(name, np.zeros(1))[0]
        return self.losses(name, np.zeros(1, int), along * np.asarray(steps)[:, None])[:, 0]

    def moved(self, values: Mapping[str, Array]) -> SingleVariableOracle:
        (name,) = values
        own = self.loss.values[name]
        point = {**self.loss.values, name: own + np.ravel(values[name])[0] * self.direction[name]}
        base = float(self.loss.directional({}, np.zeros(1), at=point)[0])
        return replace(self, values=values, base=base, noise=measure_noise(self.loss, point, base))

    def with_noise(self, noise: float) -> SingleVariableOracle:
        return replace(self, noise=noise)


@dataclass(frozen=True, kw_only=True)
class ForwardMode:
    """The slope along one direction of one variable as forward mode has it; called at a point of its oracle."""

    loss: LossFunction
    name: str
    direction: Array
    rounding: float

    def __call__(self, point: Mapping[str, Array]) -> Autodiff:
        """Raises: BadInput where an operation has no forward mode."""
        own = self.loss.values[self.name]
        moved = {**self.loss.values, self.name: own + point[self.name][0] * self.direction}
        try:
            slope = self.loss.run_in("eager", self._run, moved, key=f"forward mode of {self.name}")[0][self.name]
        except (LookupError, NotImplementedError, tf.errors.OpError) as error:
            raise BadInput(
                f"Operations must have a forward mode for `forward_mode`. Received: {shorten_error(error)} Leave it "
                "out."
            ) from error
        rounding = {self.name: np.array([self.rounding])}
        return Autodiff(
            gradient={self.name: None if slope is None else np.reshape(slope, (1,))},
            at=self,
            measure_rounding=lambda: rounding,
            how="ForwardAccumulator",
        )

    def _run(self, inputs: list[Any], held: list[Any]) -> tuple[list[Any], Any]:
        source = self.loss.list_watched(inputs)[list(self.loss.values).index(self.name)]
        with tf.autodiff.ForwardAccumulator(source, from_real_parts(self.direction, source.dtype)) as accumulator:
            loss = self.loss.loss_at(inputs, held)
        return [accumulator.jvp(loss) if n == self.name else None for n in self.loss.values], loss


def compare_forward_mode(evidence: Evidence) -> Outcome:
    """Verdicts on the slope along a random direction of each variable as tf.autodiff.ForwardAccumulator has it.

    It has to agree with differences of the loss along the direction, and with reverse mode's Σ gradient · direction.
    Raises: BadInput where an operation has no forward mode.
    """
    loss, seed = evidence.loss, evidence.settings.seed
    if not isinstance(loss, LossFunction):
        raise BadInput(
            "Forward mode must be TensorFlow's. Received: forward_mode=True for another program. Leave it out."
        )
    direction = draw_direction(loss.values, seed)
    base = float(loss.directional({}, np.zeros(1))[0])
    noise = measure_noise(loss, loss.values, base, seed=seed)
    oracles = (
        SingleVariableOracle(loss=loss, direction=direction, values={name: np.zeros(1)}, base=base, noise=noise)
        for name in evidence.names
    )
    return Outcome(tuple(_compare_along(oracle, evidence.autodiff, seed=seed) for oracle in oracles))


def _compare_along(oracle: SingleVariableOracle, reverse: Autodiff, *, seed: int) -> Verdict:
    (name,) = oracle.values
    direction, gradient = oracle.direction[name], reverse.gradient[name]
    terms = np.zeros(1) if gradient is None else gradient * direction
    # the rounding of a sum of terms, and of the terms themselves
    rounding = 16 * oracle.loss.unit * float(np.sum(np.abs(terms)))
    rounding += float(np.sum(reverse.rounding[name] * np.abs(direction)))
    forward = ForwardMode(loss=oracle.loss, name=name, direction=direction, rounding=rounding)(oracle.values)
    verdict = compare_entries(oracle, name, autodiff=forward, seed=seed)
    slope, along = forward.gradient[name], float(np.sum(terms))
    if verdict.failed or slope is None or abs(slope[0] - along) <= 2 * rounding:
        return verdict
    differ = replace(verdict, verdict=Kind.MODE_DEPENDENT)
    return differ.because(Reason.FORWARD_AND_REVERSE_DIFFER, f"{slope[0]:+.15e}", f"{along:+.15e}")
