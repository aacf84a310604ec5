"""Both trainings of a lesson, recorded from the same start: the NumPy twin that nudges, and Keras's own train_step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ref.comparison.sources.autodiff import Autodiff, run_autodiff
from keras_ref.evaluation.changed_state.float64 import in_float64
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.lesson.lesson_model import LessonModel, make_optimizer, take
from scratch.arrays import Array
from scratch.differences import SAFETY, UNIT, Estimate, Forward, Scheme, measure_step
from scratch.gradient import Nudges, numeric_gradient
from scratch.optimizers.base import Optimizer, State
from scratch.progress import Progress
from scratch.recipe import NUDGE
from scratch.training import apply_step, split_batches

Weights = Mapping[str, Array]
#: a training whose loss is this many times the first one is stopped, as diverging
RUNAWAY = 1e12
#: the book's own scheme: a forward difference with a nudge of 0.0001
BOOK = Forward(step=NUDGE)


def measure_slopes(
    lesson_model: LessonModel, weights: Weights, x: Any, y: Any, *, scheme: Scheme = BOOK, noise: float | None = None
) -> dict[str, Estimate]:
    """Every slope by nudging, with its error. `noise` of the loss is measured if None; an overflow gives inf or nan."""
    with np.errstate(all="ignore"):
        return numeric_gradient(
            lesson_model.model,
            weights,
            x,
            y,
            loss=lesson_model.objective.losses,
            loss_weights=lesson_model.objective.loss_weights,
            scheme=scheme,
            noise=noise,
            training=True,
        )


def measure_slopes_alone(lesson_model: LessonModel, weights: Weights, x: Any, y: Any) -> dict[str, Array]:
    """The slopes of BOOK, (nudged loss - loss) / step, without their errors: half the work, enough for training."""
    with np.errstate(all="ignore"):
        nudges, found = Nudges(lesson_model.objective, weights, x, y, training=True), {}
        for name in lesson_model.trained:
            value = np.asarray(weights[name], dtype=float)
            step = measure_step(value.ravel(), np.full(value.size, NUDGE))
            nudged = nudges.losses(name, np.arange(value.size), step[None])[0]
            found[name] = ((nudged - nudges.base) / step).reshape(value.shape)
    return found


def measure_book_slopes(lesson_model: LessonModel, weights: Weights, noise: float) -> dict[str, Estimate]:
    """The slopes of BOOK with their errors: truncation h/2·f″ + h²/6·f‴, from the losses at w - h, w, w + h, w + 2h.

    The two terms are estimated apart and their sizes added. Where f″ passes through zero they can cancel in the
    difference between two step sizes, which is all that scratch's Forward looks at.
    """
    with np.errstate(all="ignore"):
        nudges = Nudges(lesson_model.objective, weights, lesson_model.x, lesson_model.y, training=True)
        found = {}
        for name in lesson_model.trained:
            value = np.asarray(weights[name], dtype=float)
            h = measure_step(value.ravel(), np.full(value.size, NUDGE))
            back, ahead, twice = nudges.losses(name, np.arange(value.size), np.stack([-h, h, 2 * h]))
            slope = (ahead - nudges.base) / h
            second = (ahead - 2 * nudges.base + back) / h / 2
            third = (twice - 3 * ahead + 3 * nudges.base - back) / h / 6
            truncation = SAFETY * (np.abs(second) + np.abs(third))
            rounding = 2 * noise / h + UNIT * np.abs(slope)
            found[name] = Estimate(slope, truncation, rounding).reshape(value.shape)
    return found


def measure_noise(lesson_model: LessonModel, weights: Weights) -> float:
    """The rounding noise of the loss at these weights."""
    return Nudges(lesson_model.objective, weights, lesson_model.x, lesson_model.y, training=True).noise


@dataclass(frozen=True)
class WeightPath:
    """The weights before the first epoch and after each (epochs + 1 dictionaries), and the losses of all samples there.

    diverged   the epoch after which a diverging training was stopped; 0 if it did not diverge
    """

    weights: tuple[Weights, ...]
    losses: tuple[float, ...]
    diverged: int = 0


def _train(
    lesson_model: LessonModel,
    epochs: int,
    train_epoch: Callable[[Weights], Weights],
    *,
    progress: Progress | None,
    what: str,
) -> WeightPath:
    """Apply `train_epoch` again and again, until the loss is RUNAWAY times the first one."""
    current: Weights = dict(lesson_model.weights)
    weights, losses = [current], [lesson_model.evaluate_loss(current)]
    limit = RUNAWAY * max(abs(losses[0]), UNIT)
    for number in range(1, epochs + 1):
        if progress is not None:
            progress(number - 1, epochs, what)
        current = train_epoch(current)
        weights.append(current)
        losses.append(lesson_model.evaluate_loss(current))
        if not abs(losses[-1]) <= limit:
            return WeightPath(tuple(weights), tuple(losses), number)
    return WeightPath(tuple(weights), tuple(losses))


def train_by_nudging(
    lesson_model: LessonModel,
    *,
    epochs: int,
    optimizer: Optimizer | None = None,
    batch_size: int | None = None,
    scheme: Scheme = BOOK,
    seed: int | None = None,
    on_step: Callable[[Weights], None] | None = None,
    progress: Progress | None = None,
) -> WeightPath:
    """Train the twin: every weight nudged, then the optimizer's step.

    optimizer    the lesson's own if None
    batch_size   all samples in one batch if None
    seed         of the batches' order; in the order of the data if None
    on_step      called with the weights after each batch
    progress     called with (epochs done, epochs, what) before each epoch
    """
    optimizer = lesson_model.optimizer if optimizer is None else optimizer
    state = optimizer.init({name: lesson_model.weights[name] for name in lesson_model.trained})
    generator = None if seed is None else np.random.default_rng(seed)

    def train_epoch(weights: Weights) -> Weights:
        nonlocal state
        for index in split_batches(lesson_model.samples, batch_size, generator=generator):
            x, y = take(lesson_model.x, index), take(lesson_model.y, index)
            gradients = (
                measure_slopes_alone(lesson_model, weights, x, y)
                if scheme == BOOK
                else {n: e.value for n, e in measure_slopes(lesson_model, weights, x, y, scheme=scheme).items()}
            )
            with np.errstate(all="ignore"):
                weights, state = apply_step(lesson_model.model, weights, gradients, x, optimizer=optimizer, state=state)
            if on_step is not None:
                on_step(weights)
        return weights

    return _train(lesson_model, epochs, train_epoch, progress=progress, what="nudging")


@dataclass(frozen=True)
class KerasTraining:
    """The Keras model in float64 with a fresh optimizer: its gradient at any weights, and its training."""

    lesson_model: LessonModel
    model: Any
    probe: LossFunction

    def named(self, weights: Weights) -> dict[str, Array]:
        """Weights under the names of the probe, which are the variables' paths."""
        lesson_model = self.lesson_model
        paths = {id(v): path for path, v in self.probe.variables.items()}
        return {paths[id(lesson_model.variables[name])]: np.asarray(weights[name]) for name in lesson_model.trained}

    def gradient(self, weights: Weights) -> dict[str, Array]:
        """Autodiff's gradient of the loss of all samples; zeros where autodiff returns None."""
        return self._rename_values(self.probe.gradient("function", at=self.named(weights)), weights)

    def gradient_with_rounding(self, weights: Weights) -> tuple[dict[str, Array], dict[str, Array]]:
        """The gradient and its rounding error."""
        found: Autodiff = run_autodiff(self.probe, self.named(weights), mode="function")
        return self._rename_values(found.gradient, weights), self._rename_values(found.rounding, weights)

    def loss(self) -> float:
        """The loss of all samples at the start, as Keras computes it."""
        return float(self.probe.directional({}, np.zeros(1), at=self.named(self.lesson_model.weights))[0])

    def _rename_values(self, values: Mapping[str, Any], weights: Weights) -> dict[str, Array]:
        """Values under the probe's names, put under the twin's names."""
        found = [
            np.zeros_like(here) if values[path] is None else np.asarray(values[path])
            for path, here in self.named(weights).items()
        ]
        return dict(zip(self.lesson_model.trained, found, strict=True))

    def train(self, epochs: int, batch_size: int | None = None, *, progress: Progress | None = None) -> WeightPath:
        """Run Keras's own train_step, epoch after epoch; batches in the order of the data.

        batch_size   all samples in one batch if None
        progress     called with (epochs done, epochs, what) before each epoch
        """
        lesson_model = self.lesson_model

        def train_epoch(_: Weights) -> Weights:
            for index in split_batches(lesson_model.samples, batch_size, generator=None):
                batch = Data(take(lesson_model.x, index), take(lesson_model.y, index)).tensors()
                self.model.train_step((batch.x, batch.y))
            return {name: np.array(v.numpy(), dtype=float) for name, v in lesson_model.variables.items()}

        return _train(lesson_model, epochs, train_epoch, progress=progress, what="back-propagation")


@contextmanager
def keras_training(lesson_model: LessonModel) -> Iterator[KerasTraining]:
    """Prepare the Keras model for the time of a `with` block; afterwards the model is what it was."""
    model, optimizer = lesson_model.keras_model, make_optimizer(lesson_model)
    with in_float64(model, optimizer):
        rate = getattr(lesson_model.optimizer, "learning_rate", None)
        if isinstance(rate, float):
            optimizer.learning_rate.assign(np.float64(rate))  # Keras keeps it in float32, which cannot hold 0.01
        model.compile(
            optimizer=optimizer,
            loss=model.loss,
            loss_weights=list(lesson_model.objective.loss_weights) or None,
            run_eagerly=True,
        )
        trained = [lesson_model.variables[name] for name in lesson_model.trained]
        state = [v for v in model.variables if all(v is not other for other in trained)]

        def loss(data: Data) -> Any:
            y_pred = model(data.x, training=True)
            return model.compute_loss(x=data.x, y=data.y, y_pred=y_pred, training=True)

        probe = LossFunction(
            loss, variables=trained, state=state, data=Data(lesson_model.x, lesson_model.y), watch_inputs=False
        )
        yield KerasTraining(lesson_model, model, probe)


@dataclass(frozen=True)
class Track:
    """Both trainings, entry by entry: arrays (epochs + 1, entries) unless said otherwise.

    weights, keras_weights   of the twin and of Keras, before the first epoch and after each
    slopes, gradients        nudged at the twin's weights; autodiff at Keras's weights
    same_point               autodiff at the twin's weights: what `slopes` is compared with
    slope_allowed            truncation + rounding of both, at the twin's weights
    weight_allowed           how far the weights may be apart, see _allow_after_step
    losses, keras_losses     (epochs + 1,)
    diverged                 the epoch after which either training was stopped as diverging, 0 if none was
    """

    labels: tuple[str, ...]
    weights: Array
    keras_weights: Array
    slopes: Array
    gradients: Array
    same_point: Array
    slope_allowed: Array
    weight_allowed: Array
    losses: Array
    keras_losses: Array
    diverged: int = 0

    @property
    def slope_difference(self) -> Array:
        """|nudged - autodiff| at the same weights"""
        difference: Array = np.abs(self.slopes - self.same_point)
        return difference

    @property
    def weight_difference(self) -> Array:
        """|nudged - Keras|, each on its own path"""
        difference: Array = np.abs(self.weights - self.keras_weights)
        return difference

    @property
    def outside(self) -> int:
        """How many differences, of slopes and of weights, exceed what is allowed."""
        wrong = ~(self.slope_difference <= self.slope_allowed), ~(self.weight_difference <= self.weight_allowed)
        return int(sum(w.sum() for w in wrong))


@dataclass(frozen=True)
class _Point:
    """One epoch of both trainings: the weights of the twin (`here`) and of Keras (`there`), and the slopes at them.

    numeric, error   nudged slopes at `here`, and how far they may be from autodiff's
    exact, beyond    autodiff at `here` and at `there`
    """

    here: Weights
    there: Weights
    numeric: Weights
    error: Weights
    exact: Weights
    beyond: Weights


def record_trainings(lesson_model: LessonModel, keras_side: KerasTraining, *, epochs: int) -> Track:
    """Train both on all samples at once, then compare slopes and weights at every epoch."""
    nudged, beside = train_by_nudging(lesson_model, epochs=epochs), keras_side.train(epochs)
    count = min(len(nudged.weights), len(beside.weights))
    noises = np.array([measure_noise(lesson_model, weights) for weights in nudged.weights[:count]])
    points = []
    for at in range(count):
        # measure() takes the quietest of a few directions and now and then falls short; the loss changes little in two
        # epochs, so the largest of their measurements stands for this one too
        noise = float(np.max(noises[max(0, at - 2) : at + 3]))
        here, there = nudged.weights[at], beside.weights[at]
        estimates = measure_book_slopes(lesson_model, here, noise)
        exact, rounding = keras_side.gradient_with_rounding(here)
        points.append(
            _Point(
                here=here,
                there=there,
                numeric={n: estimates[n].value for n in lesson_model.trained},
                error={n: estimates[n].error + rounding[n] for n in lesson_model.trained},
                exact=exact,
                beyond=keras_side.gradient(there),
            )
        )

    def column(name: str) -> Array:
        return np.array([lesson_model.flatten(getattr(point, name)) for point in points])

    return Track(
        labels=lesson_model.labels,
        weights=column("here"),
        keras_weights=column("there"),
        slopes=column("numeric"),
        gradients=column("beyond"),
        same_point=column("exact"),
        slope_allowed=column("error"),
        weight_allowed=_allow_weight_differences(lesson_model, points),
        losses=np.array(nudged.losses[:count]),
        keras_losses=np.array(beside.losses[:count]),
        diverged=nudged.diverged or beside.diverged,
    )


def _allow_weight_differences(lesson_model: LessonModel, points: list[_Point]) -> Array:
    """(epochs + 1, entries): 0 at the start, then what each step allows."""
    start = lesson_model.optimizer.init({n: lesson_model.weights[n] for n in lesson_model.trained})
    states, allowed = (start, start), [np.zeros(len(lesson_model.labels))]
    for point in points[:-1]:
        bound, states = _allow_after_step(lesson_model, point, states)
        allowed.append(bound)
    return np.array(allowed)


def _allow_after_step(
    lesson_model: LessonModel, point: _Point, states: tuple[State, State]
) -> tuple[Array, tuple[State, State]]:
    """How far both trainings may be apart after the step from `point`, and both optimizers' states after it.

    With w, v the weights of the twin and of Keras,

    |step(w, nudged) - step(v, autodiff at v)| ≤ |step(w, autodiff at w) - step(v, autodiff at v)|  (difference so far)
                                               + |step(w, nudged) - step(w, autodiff at w)|         (this step's slopes)

    The second term is at most what ± the error of the slopes does to the step. Rounding of the weights is added.
    """

    def step(weights: Weights, gradients: Weights, state: State) -> tuple[Array, State]:
        with np.errstate(all="ignore"):
            new, after = apply_step(
                lesson_model.model,
                weights,
                gradients,
                lesson_model.x,
                optimizer=lesson_model.optimizer,
                state=state,
            )
        return lesson_model.flatten(new), after

    mine, theirs = states
    carried, _ = step(point.here, point.exact, mine)
    keras_next, theirs_next = step(point.there, point.beyond, theirs)
    centre, mine_next = step(point.here, point.numeric, mine)
    spread = np.zeros_like(centre)
    for sign in (1.0, -1.0):
        moved, _ = step(point.here, {n: g + sign * point.error[n] for n, g in point.numeric.items()}, mine)
        spread = np.maximum(spread, np.abs(moved - centre))
    rounding = 8 * UNIT * (np.abs(lesson_model.flatten(point.here)) + np.abs(centre))
    return np.abs(carried - keras_next) + spread + rounding, (mine_next, theirs_next)
