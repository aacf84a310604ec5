"""One training step of the optimizer twin from Keras's own weights: what it leads to, and how far that may be off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from keras_ref.comparison.sources.monte_carlo_arithmetic import ROLLS, make_noisy, make_noisy_law, update_worst
from keras_ref.evaluation.sparse_gradient import SparseGradient
from keras_ref.translation import departures
from keras_ref.translation.exceptions import optimizers as mirrors
from keras_ref.translation.from_keras import NoTwin, reflect_object
from keras_ref.translation.from_keras_2 import as_keras_3, keeps_its_weight
from scratch.arrays import Array
from scratch.differences import UNIT
from scratch.optimizers.base import Optimizer, State
from scratch.rounding import draw_signs

#: what a step takes by the name of a variable: a gradient, or rows of one
Gradients = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class OptimizerTwin:
    """The twin of a model's optimizer, and what it carries from step to step.

    paths, excluded   where the optimizer finds each variable, and those without weight decay
    release           that of Keras: 2 or 3
    doubt             how far the state may be from Keras's, by the names of `_flatten`
    unit              the distance of 1 from the next number in the precision in which Keras takes the step
    """

    optimizer: Optimizer
    state: State
    constraints: Mapping[str, Any]
    paths: Mapping[str, str]
    excluded: frozenset[str]
    release: int = 3
    doubt: Mapping[Any, Array] = field(default_factory=dict)
    unit: float = UNIT

    @classmethod
    def of(
        cls,
        optimizer: Any,
        variables: Sequence[Any],
        names: Mapping[int, str],
        values: Mapping[str, Array],
        *,
        unit: float = UNIT,
    ) -> OptimizerTwin:
        """The twin of an optimizer of these variables, in the state that it is in.

        names    the names of the variables by their identity;   values  the variables by name
        Raises: NoTwin.
        """
        if not optimizer.built:
            optimizer.build(variables)
        spec = reflect_object(optimizer, "optimizer")
        by_path = {v.path: names[id(v)] for v in variables}
        paths = mirrors.map_to_paths(by_path)
        started = int(np.asarray(optimizer.iterations.numpy())) or _has_accumulated(optimizer)
        return cls(
            optimizer=spec,
            state=mirrors.read_state(optimizer, by_path) if started else spec.init(values, paths=paths),
            constraints={
                names[id(v)]: reflect_object(v.constraint, "constraint")
                for v in variables
                if getattr(v, "constraint", None) is not None
            },
            paths=paths,
            excluded=mirrors.find_excluded_from_weight_decay(optimizer, by_path),
            unit=unit,
        )

    @classmethod
    def of_keras_2(
        cls, optimizer: Any, variables: Sequence[Any], values: Mapping[str, Array], *, unit: float = UNIT
    ) -> OptimizerTwin:
        """The twin of an optimizer of Keras 2 before its first step, by the law that Keras 3 has too.

        Raises: NoTwin.
        """
        if any(getattr(v, "constraint", None) is not None for v in variables):
            raise NoTwin("A weight must have no constraint for its optimizer of Keras 2 to have a twin. Received: one.")
        spec = reflect_object(as_keras_3(optimizer), "optimizer")
        paths = mirrors.map_to_paths({name: name for name in values})
        state = spec.init(values, paths=paths)
        excluded = frozenset(n for n, v in zip(values, variables, strict=True) if keeps_its_weight(optimizer, v))
        return cls(optimizer=spec, state=state, constraints={}, paths=paths, excluded=excluded, release=2, unit=unit)

    def step(self, weights: Mapping[str, Array], gradients: Gradients) -> tuple[dict[str, Array], State]:
        """Optimizer and constraints: the whole update of the trained weights, and the state after it."""
        scale = self.optimizer.loss_scale(self.state)
        return self.optimizer.step(
            weights,
            {name: g * scale for name, g in gradients.items()},
            self.state,
            constraints=self.constraints,
            excluded_from_weight_decay=self.excluded,
            paths=self.paths,
        )

    def noisy(self, generator: np.random.Generator) -> OptimizerTwin:
        """The same, every operation off by a random unit in the last place, and the state by its doubt; counts are
        exact."""

        def off(value: Any, name: tuple[str, str]) -> Any:
            if np.asarray(value).dtype.kind != "f":
                return value
            doubt = self.doubt.get(name, np.zeros(np.shape(value)))
            moved = value + doubt * draw_signs(generator, np.shape(value))
            return make_noisy(moved, generator, unit=self.unit)

        law = make_noisy_law(self.optimizer, generator, unit=self.unit)
        slots = {
            name: {key: off(value, (name, key)) for key, value in own.items()} for name, own in self.state.slots.items()
        }
        shared = {key: off(value, ("", key)) for key, value in self.state.shared.items()}
        return replace(self, optimizer=law, state=replace(self.state, slots=slots, shared=shared))


def steps_rows_alone(law: Optimizer, *, path: str, constraint: Any = None) -> bool:
    """Whether training steps treat each row of a matrix by itself, so that rows without a gradient can be left out.

    Tried on a small matrix of eighths, five steps with all of its rows and with some: these have to be the same, bit
    for bit. Sums of squares of eighths are exact, so that a norm of all gradients is the same without rows of zeros.

    path   of the matrix: some optimizers treat embeddings in a way of their own
    """
    kept = np.array([0, 2, 3, 6])  # the last of which never has a gradient, like those that are left out
    generator = np.random.default_rng(0)
    gradients = []
    for _ in range(5):
        gradient = np.zeros((7, 3))
        gradient[kept[:3]] = generator.integers(-8, 8, (3, 3)) / 8
        gradients.append(gradient)
    matrix = generator.integers(-8, 8, (7, 3)) / 8

    def stepped(rows: Any) -> list[Array]:
        weights, constraints, paths = {"m": matrix[rows]}, {"m": constraint} if constraint else {}, {"m": path}
        state, found = law.init(weights, paths=paths), []
        for gradient in gradients:
            scaled = {"m": gradient[rows] * law.loss_scale(state)}
            with np.errstate(all="ignore"):
                weights, state = law.step(weights, scaled, state, constraints=constraints, paths=paths)
            found += [weights["m"], *(value for value in state.slots["m"].values() if np.ndim(value))]
        return found

    alone, among = stepped(kept), stepped(slice(None))
    return all(
        one.shape[0] == len(kept) and np.array_equal(one, other[kept], equal_nan=True)
        for one, other in zip(alone, among, strict=True)
    )


def _has_accumulated(optimizer: Any) -> bool:
    accumulated = getattr(optimizer, "_accumulated_gradients", None) or []
    return any(np.any(a.numpy()) for a in accumulated)


@dataclass(frozen=True, kw_only=True)
class StepStart:
    """What a step starts from: weights and gradients, and how far each gradient may be off.

    also   gradients within these errors that the step has to be allowed for too, by name
    """

    weights: Mapping[str, Array]
    gradients: Gradients
    errors: Mapping[str, Array]
    also: Gradients = field(default_factory=dict)

    def with_nearest(self, gradients: Gradients) -> StepStart:
        """The same, to be allowed for those gradients within the errors that are nearest to the given ones.

        Where a law joins entries (a norm of all of them, means along rows), a step need not be farthest off where each
        gradient is off by all of its error. Adafactor divides by the size of the gradients, and a 0 leads elsewhere
        than 0.001 and -0.001 do.
        """
        also = {
            name: np.clip(gradients[name], slope - self.errors[name], slope + self.errors[name])
            for name, slope in self.gradients.items()
        }
        return replace(self, also=also)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a step leads to: weights and state, and how far everything in them may be off, by `_flatten`'s names."""

    weights: Mapping[str, Array]
    state: State
    allowed: Mapping[Any, Array]

    @property
    def doubt(self) -> dict[Any, Array]:
        """How far the state may be off."""
        return {name: allowed for name, allowed in self.allowed.items() if isinstance(name, tuple)}


def predict(twin: OptimizerTwin, start: StepStart, *, seed: int, of_state: bool = True) -> Prediction:
    """A step of the twin.

    allowed = twice the largest move of what the step leaves behind, over ROLLS repetitions with the gradient off by its
    errors, the state by its doubts and every operation by rounding (monte_carlo_arithmetic.py, where the twice is
    derived). The gradients that the start has to be allowed for are among them.

    of_state   whether the state after the step is predicted too: it takes as much memory again as the weights, or twice
    """
    weights, state = twin.step(start.weights, start.gradients)
    state = state if of_state else State()
    centre = _flatten(weights, state)
    spread = {name: np.zeros(np.shape(value)) for name, value in centre.items()}
    generator = np.random.default_rng(seed)
    if start.also:
        with np.errstate(all="ignore"):
            update_worst(spread, _flatten(*twin.step(start.weights, start.also)), centre)
    for k in range(ROLLS):
        # all up, all down, then patterns
        moves = {
            n: (np.full(e.shape, 1.0 - 2 * k) if k < 2 else draw_signs(generator, e.shape)) * e
            for n, e in start.errors.items()
        }
        moved = {
            n: g.moved(moves.pop(n)) if isinstance(g, SparseGradient) else g + moves.pop(n)
            for n, g in start.gradients.items()
        }
        off = {n: make_noisy(w, generator, unit=twin.unit) for n, w in start.weights.items()}
        with np.errstate(all="ignore"):
            there = _flatten(*twin.noisy(generator).step(off, moved))
        del moved, off
        update_worst(spread, there, centre)
        del there
    for largest in spread.values():
        np.multiply(largest, 2, out=largest)
    return Prediction(weights=weights, state=state, allowed=spread)


def _flatten(weights: Mapping[str, Array], state: State) -> dict[Any, Any]:
    """Everything that a step leaves behind: weights by name, slots by name and slot, what is shared by ("", name)."""
    slots = {(name, key): value for name, own in state.slots.items() for key, value in own.items()}
    return {**weights, **slots, **{("", key): value for key, value in state.shared.items()}}


@dataclass(frozen=True, kw_only=True)
class DepartingStep:
    """The step with Keras's known departures in it, and rows of one index treated one by one."""

    prediction: Prediction
    ids: tuple[str, ...]

    @classmethod
    def of(
        cls, twin: OptimizerTwin, start: StepStart, *, rows: Mapping[str, SparseGradient], seed: int
    ) -> DepartingStep:
        """The departing step from the same start, with `rows` in place of some gradients."""
        as_keras = replace(twin, optimizer=mirrors.as_keras(twin.optimizer, twin.release))
        with np.errstate(all="ignore"):
            departing = replace(start, gradients={**start.gradients, **rows})
            # an optimizer of Keras 2 does not say its own state: the next step starts from the one predicted here
            prediction = predict(as_keras, departing, seed=seed, of_state=twin.release == 2)
        # rows reach other variables too, by a norm that all share
        sparse = [d.id for d in departures.load_departures() if d.id.startswith("sparse-rows-")]
        repeated = any(r.repeated for r in rows.values())
        ids = (*departures.find_departures([twin.optimizer]), *(sparse if repeated else ()))
        return cls(prediction=prediction, ids=tuple(dict.fromkeys(ids)))

    def explains(self, name: str, value: Array) -> bool:
        """Whether it leads to just what Keras made of a variable, by departures that are known."""
        expected, allowed = self.prediction.weights[name], self.prediction.allowed[name]
        with np.errstate(invalid="ignore"):
            same = (np.abs(value - expected) <= allowed) | (np.isnan(value) & np.isnan(expected))
        return bool(self.ids) and bool(same.all())


@dataclass(frozen=True)
class NumericGradient:
    """Slopes of every entry of a variable, and how far they may be off.

    unseen   how many entries of autodiff's gradient the noise of the loss left undecided
    """

    slope: Array
    error: Array
    unseen: int = 0


@dataclass(frozen=True, kw_only=True)
class StepPredictions:
    """What one training step should lead to.

    numeric     by the optimizer's law from the numeric gradient
    law         by the law from autodiff's own gradient
    departing   the same with Keras's known departures in it, computed when it is asked for
    slopes      the numeric gradient;   gradients  autodiff's;   optimizer  the law: what an explanation starts from
    notes       on what the slopes are those of
    repeated    whether a gradient has slices of one index twice, of which Keras may remember what the law does not
    is_coarse   whether the slopes are those of a loss in low precision: they may be blunter than the law
    """

    numeric: Prediction
    law: Prediction
    departing: Callable[[], DepartingStep]
    slopes: Mapping[str, NumericGradient] = field(default_factory=dict)
    gradients: Mapping[str, Array] = field(default_factory=dict)
    optimizer: Optimizer | None = None
    notes: tuple[str, ...] = ()
    repeated: bool = False
    is_coarse: bool = False
