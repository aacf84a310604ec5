"""Both sides of a training, recorded: the twin that nudges, and Keras's own train_step, from the same start."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ref.comparison.autodiff import Autodiff, autodiff_at
from keras_ref.evaluation.float64 import in_float64
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.lesson.lesson_model import Subject, fresh_optimizer, take
from scratch.arrays import Array
from scratch.differences import SAFETY, UNIT, Estimate, Forward, Scheme, taken
from scratch.gradient import Nudges, numeric_gradient
from scratch.noise import measure
from scratch.optimizers.base import Optimizer, State
from scratch.recipe import NUDGE
from scratch.training import apply_step, batches

Weights = Mapping[str, Array]
#: a loss this many times the first one is running away: training stops there and the page says so
RUNAWAY = 1e12
#: the book's own nudge
BOOK = Forward(step=NUDGE)


def flat(subject: Subject, arrays: Weights) -> Array:
    """The trained entries of named arrays as one vector."""
    return np.concatenate([np.ravel(arrays[name]) for name in subject.trained])


def loss_of(subject: Subject, weights: Weights) -> float:
    """The loss of all samples, as in training."""
    with np.errstate(all="ignore"):
        return float(subject.objective(weights, subject.x, subject.y, training=True))


def slopes_of(
    subject: Subject, weights: Weights, x: Any, y: Any, scheme: Scheme = BOOK, *, noise: float | None = None
) -> dict[str, Estimate]:
    """Every slope by nudging, with its error (`noise` of the loss None: measured); an overflow shows in the slope."""
    with np.errstate(all="ignore"):
        return numeric_gradient(
            subject.model,
            weights,
            x,
            y,
            loss=subject.objective.losses,
            loss_weights=subject.objective.loss_weights,
            scheme=scheme,
            noise=noise,
            training=True,
        )


def quick_slopes(subject: Subject, weights: Weights, x: Any, y: Any) -> dict[str, Array]:
    """The slopes of BOOK, (loss nudged - loss) / step taken, without their error: half the work, for training alone."""
    with np.errstate(all="ignore"):
        nudges, found = Nudges(subject.objective, weights, x, y, training=True), {}
        for name in subject.trained:
            value = np.asarray(weights[name], dtype=float)
            step = taken(value.ravel(), np.full(value.size, NUDGE))
            found[name] = ((nudges.losses(name, np.arange(value.size), step[None])[0] - nudges.base) / step).reshape(
                value.shape
            )
    return found


def book_slopes(subject: Subject, weights: Weights, noise: float) -> dict[str, Estimate]:
    """The slopes of BOOK, each with its error: truncation h/2·f″ + h²/6·f‴, from the losses at w - h, w, w + h, w + 2h.

    The two terms are taken apart and added by size. Where f″ passes through zero they can cancel in the difference of
    two steps, which is all that a Forward of scratch looks at.
    """
    with np.errstate(all="ignore"):
        nudges, found = Nudges(subject.objective, weights, subject.x, subject.y, training=True), {}
        for name in subject.trained:
            value = np.asarray(weights[name], dtype=float)
            h = taken(value.ravel(), np.full(value.size, NUDGE))
            back, ahead, twice = nudges.losses(name, np.arange(value.size), np.stack([-h, h, 2 * h]))
            slope = (ahead - nudges.base) / h
            second, third = (
                (ahead - 2 * nudges.base + back) / h / 2,
                (twice - 3 * ahead + 3 * nudges.base - back) / h / 6,
            )
            found[name] = Estimate(
                slope, SAFETY * (np.abs(second) + np.abs(third)), 2 * noise / h + UNIT * np.abs(slope)
            ).reshape(value.shape)
    return found


def noise_of(subject: Subject, weights: Weights) -> float:
    """The noise of the loss at these weights."""
    nudges = Nudges(subject.objective, weights, subject.x, subject.y, training=True)
    return measure(nudges.directional, {name: nudges.value(name) for name in subject.trained}, nudges.base)


@dataclass(frozen=True)
class Path:
    """Weights before the first epoch and after each (epochs + 1 dictionaries), the losses there, and the last epoch if
    it ran away (0 if not)."""

    weights: tuple[Weights, ...]
    losses: tuple[float, ...]
    diverged: int = 0

    def vectors(self, subject: Subject) -> Array:
        """(epochs + 1, entries)"""
        return np.array([flat(subject, w) for w in self.weights])


def _epochs(subject: Subject, epochs: int, one: Callable[[Weights], Weights]) -> Path:
    """Weights after each epoch of `one`, until the loss runs away."""
    current: Weights = dict(subject.weights)
    weights, losses = [current], [loss_of(subject, current)]
    limit = RUNAWAY * max(abs(losses[0]), UNIT)
    for number in range(1, epochs + 1):
        current = one(current)
        weights.append(current)
        losses.append(loss_of(subject, current))
        if not abs(losses[-1]) <= limit:
            return Path(tuple(weights), tuple(losses), number)
    return Path(tuple(weights), tuple(losses))


def nudged_path(
    subject: Subject,
    *,
    epochs: int,
    optimizer: Optimizer | None = None,
    batch_size: int | None = None,
    scheme: Scheme = BOOK,
    seed: int | None = None,
    on_step: Callable[[Weights], None] | None = None,
) -> Path:
    """The twin's training: every weight nudged, the optimizer's law; batches in order, or as `seed` draws them."""
    optimizer = subject.optimizer if optimizer is None else optimizer
    state = [optimizer.init({name: subject.weights[name] for name in subject.trained})]
    generator = None if seed is None else np.random.default_rng(seed)

    def one(weights: Weights) -> Weights:
        for index in batches(subject.samples, batch_size, generator=generator):
            x, y = take(subject.x, index), take(subject.y, index)
            gradients = (
                quick_slopes(subject, weights, x, y)
                if scheme == BOOK
                else {n: e.value for n, e in slopes_of(subject, weights, x, y, scheme).items()}
            )
            with np.errstate(all="ignore"):
                weights, state[0] = apply_step(
                    subject.model, weights, gradients, x, optimizer=optimizer, state=state[0]
                )
            if on_step is not None:
                on_step(weights)
        return weights

    return _epochs(subject, epochs, one)


@dataclass(frozen=True)
class KerasSide:
    """The Keras model in float64 with a fresh optimizer, and its gradient as a function of the weights."""

    subject: Subject
    model: Any
    probe: LossFunction

    def named(self, weights: Weights) -> dict[str, Array]:
        """Weights under the probe's names (the variables' paths)."""
        ids = {id(v): path for path, v in self.probe.variables.items()}
        return {ids[id(self.subject.variables[name])]: np.asarray(weights[name]) for name in self.subject.trained}

    def gradient(self, weights: Weights) -> dict[str, Array]:
        """Autodiff's gradient of the loss of all samples; zeros where it says None."""
        return self._back(self.probe.gradient("function", at=self.named(weights)), weights)

    def gradient_with_rounding(self, weights: Weights) -> tuple[dict[str, Array], dict[str, Array]]:
        """The same, and its rounding error."""
        found: Autodiff = autodiff_at(self.probe, self.named(weights), mode="function")
        return self._back(found.gradient, weights), self._back(found.rounding, weights)

    def _back(self, values: Mapping[str, Any], weights: Weights) -> dict[str, Array]:
        paths = self.named(weights)
        found = [
            np.zeros_like(here) if values[path] is None else np.asarray(values[path]) for path, here in paths.items()
        ]
        return dict(zip(self.subject.trained, found, strict=True))

    def path(self, epochs: int, batch_size: int | None = None) -> Path:
        """Keras's own train_step, epoch after epoch."""

        def one(weights: Weights) -> Weights:
            for index in batches(self.subject.samples, batch_size, generator=None):
                batch = Data(take(self.subject.x, index), take(self.subject.y, index)).tensors()
                self.model.train_step((batch.x, batch.y))
            return {name: np.array(v.numpy(), dtype=float) for name, v in self.subject.variables.items()}

        return _epochs(self.subject, epochs, one)


@contextmanager
def keras_side(subject: Subject) -> Iterator[KerasSide]:
    """The Keras side for the time of a `with` block; the model is afterwards what it was."""
    model, optimizer = subject.keras_model, fresh_optimizer(subject)
    with in_float64(model, optimizer):
        rate = getattr(subject.optimizer, "learning_rate", None)
        if isinstance(rate, float):
            optimizer.learning_rate.assign(np.float64(rate))  # it was kept in float32; 0.01 is meant
        model.compile(
            optimizer=optimizer,
            loss=model.loss,
            loss_weights=list(subject.objective.loss_weights) or None,
            run_eagerly=True,
        )
        trained = [subject.variables[name] for name in subject.trained]
        state = [v for v in model.variables if all(v is not other for other in trained)]

        def loss(data: Data) -> Any:
            y_pred = model(data.x, training=True)
            return model.compute_loss(x=data.x, y=data.y, y_pred=y_pred, training=True)

        probe = LossFunction(loss, trained, state, Data(subject.x, subject.y), watch_inputs=False)
        yield KerasSide(subject, model, probe)


@dataclass(frozen=True)
class Track:
    """Both trainings, entry by entry: arrays (epochs + 1, entries) unless said otherwise.

    weights, keras_weights        of the twin that nudges and of Keras, before the first epoch and after each
    slopes, gradients             nudged at the twin's weights; autodiff at Keras's weights
    same_point                    autodiff at the twin's weights: what `slopes` is compared with
    slope_allowed                 truncation + rounding of both, at the twin's weights
    weight_allowed                the last difference carried through a step with exact gradients, and slope_allowed on top
    losses, keras_losses          (epochs + 1,)
    diverged                      the epoch at which either side ran away, 0 if none did
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
        return np.abs(self.slopes - self.same_point)

    @property
    def weight_difference(self) -> Array:
        """|nudged - Keras|, each on its own path"""
        return np.abs(self.weights - self.keras_weights)

    @property
    def outside(self) -> int:
        """How many differences, of slopes and of weights, exceed what is allowed."""
        wrong = ~(self.slope_difference <= self.slope_allowed), ~(self.weight_difference <= self.weight_allowed)
        return int(sum(w.sum() for w in wrong))


def track(subject: Subject, side: KerasSide, *, epochs: int) -> Track:
    """Train both sides on all samples at once, then compare them at every epoch."""
    nudged, beside = nudged_path(subject, epochs=epochs), side.path(epochs)
    count = min(len(nudged.weights), len(beside.weights))
    slopes: list[Any] = []
    gradients: list[Any] = []
    same: list[Any] = []
    allowed: list[Any] = []
    drift = [np.zeros(len(subject.labels))]
    states = [subject.optimizer.init({n: subject.weights[n] for n in subject.trained})] * 2
    noises = np.array([noise_of(subject, weights) for weights in nudged.weights[:count]])
    for at in range(count):
        # the quietest of a few lines is an estimate that now and then falls short; a loss of this size is as noisy as
        # its neighbours of two epochs around
        noise = float(np.max(noises[max(0, at - 2) : at + 3]))
        here, there = nudged.weights[at], beside.weights[at]
        estimates = book_slopes(subject, here, noise)
        exact, rounding = side.gradient_with_rounding(here)
        beyond = side.gradient(there)
        numeric = {n: estimates[n].value for n in subject.trained}
        error = {n: estimates[n].error + rounding[n] for n in subject.trained}
        for rows, values in ((slopes, numeric), (gradients, beyond), (same, exact), (allowed, error)):
            rows.append(flat(subject, values))
        bound, states = _drift(subject, here, there, numeric, error, exact, beyond, states)
        drift.append(bound)
    return Track(
        subject.labels,
        nudged.vectors(subject)[:count],
        beside.vectors(subject)[:count],
        np.array(slopes),
        np.array(gradients),
        np.array(same),
        np.array(allowed),
        np.array(drift[:count]),
        np.array(nudged.losses[:count]),
        np.array(beside.losses[:count]),
        nudged.diverged or beside.diverged,
    )


def _drift(
    subject: Subject,
    here: Weights,
    there: Weights,
    numeric: Weights,
    error: Weights,
    exact: Weights,
    beyond: Weights,
    states: list[State],
) -> tuple[Array, list[State]]:
    """How far the two sides may be apart after the next step, and both optimizers' states then.

    |law(w, nudged) - law(v, autodiff at v)| ≤ |law(w, autodiff at w) - law(v, autodiff at v)|   (the old difference)
                                              + |law(w, nudged) - law(w, autodiff at w)|          (this step's slopes)
    and the second is at most what ± the error of the slopes does to the law, plus rounding of the weights.
    """

    def law(weights: Weights, gradients: Weights, state: State) -> tuple[Array, State]:
        with np.errstate(all="ignore"):
            new, after = apply_step(
                subject.model, weights, gradients, subject.x, optimizer=subject.optimizer, state=state
            )
        return flat(subject, new), after

    mine, theirs = states
    carried, _ = law(here, exact, mine)
    keras_next, theirs_next = law(there, beyond, theirs)
    centre, mine_next = law(here, numeric, mine)
    spread = np.zeros_like(centre)
    for sign in (1.0, -1.0):
        moved, _ = law(here, {n: g + sign * error[n] for n, g in numeric.items()}, mine)
        spread = np.maximum(spread, np.abs(moved - centre))
    rounding = 8 * UNIT * (np.abs(flat(subject, here)) + np.abs(centre))
    return np.abs(carried - keras_next) + spread + rounding, [mine_next, theirs_next]
