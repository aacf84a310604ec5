"""What if the nudge, the learning rate, the batch size or the optimizer were another? And the loss as a landscape."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_ref.lesson.lesson_model import LessonModel, take
from keras_ref.lesson.two_trainings import (
    KerasTraining,
    Track,
    WeightPath,
    Weights,
    measure_noise,
    measure_slopes,
    measure_slopes_alone,
    train_by_nudging,
)
from keras_ref.lesson.words import Phrase, phrase
from scratch.arrays import Array
from scratch.differences import Central, ComplexStep, Estimate, Forward, Line, Richardson, Scheme, scale_of
from scratch.gradient import Nudges
from scratch.optimizers.adagrad import Adagrad, RMSprop
from scratch.optimizers.adam import Adam
from scratch.optimizers.base import Optimizer
from scratch.optimizers.sgd import SGD
from scratch.training import split_batches

#: nudges from 1e-1 to 1e-15, four per decade
STEPS = 10.0 ** -(1 + np.arange(57) / 4)
#: learning rates as multiples of the lesson's own, from too small to divergent
RATES = (0.01, 0.1, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
#: how many divergent trainings are shown
DIVERGENT = 2
BATCHES = (1, 2, 4)
#: points along each axis of a landscape
GRID = 101
#: how often the data are cut into batches at the start, to see how the slopes of single batches spread
DRAWS = 8


@dataclass(frozen=True)
class Precision:
    """The error of one scheme's slopes at nudges of many sizes.

    steps    (steps,) sizes of the nudge
    error    (steps, entries) |slope - autodiff|
    stated   (steps, entries) the error that the scheme itself states
    """

    scheme: Phrase
    steps: Array
    error: Array
    stated: Array

    @property
    def best(self) -> Array:
        """(entries,) the step with the least error; the largest of several such steps."""
        best: Array = self.steps[np.argmin(np.nan_to_num(self.error, nan=np.inf), axis=0)]
        return best


@dataclass(frozen=True)
class Training:
    """A training from the same start with one thing changed.

    epochs     where the loss is looked at; fractions where that is after each batch
    losses     the loss of all samples there
    diverged   the epoch after which it was stopped as diverging; 0 if it was not
    spread     of batches: standard deviation of single batches' slopes at the start, for the steepest weight
    """

    label: Phrase
    epochs: tuple[float, ...]
    losses: tuple[float, ...]
    diverged: int
    spread: float = 0.0

    @property
    def higher(self) -> bool:
        """Whether the loss ends above where it started."""
        return not self.losses[-1] <= self.losses[0]


@dataclass(frozen=True)
class Landscape:
    """The loss over two weights, the others as at the start.

    first, second   labels of the two weights;   entries  their indices in the flat vector
    across, up      (GRID,) values of the first and of the second weight
    losses          (GRID of second, GRID of first)
    """

    first: str
    second: str
    entries: tuple[int, int]
    across: Array
    up: Array
    losses: Array


@dataclass(frozen=True)
class _RichardsonFrom:
    """Richardson extrapolation whose first step is h itself, not h times the size of the weight."""

    step: float

    def __call__(self, line: Line, at: Array, noise: float) -> Estimate:
        # scale_of is a power of two, so that dividing by it and multiplying again gives h to the last bit
        return Richardson(start=self.step / scale_of(at))(line, at, noise)


def compare_schemes(lesson_model: LessonModel, keras_side: KerasTraining) -> tuple[Precision, ...]:
    """Forward, central, Richardson and complex step at every nudge of STEPS, against autodiff at the start."""
    exact = lesson_model.flatten(keras_side.gradient(lesson_model.weights))
    noise = measure_noise(lesson_model, lesson_model.weights)

    def compare(name: str, scheme_with: Any) -> Precision:
        errors, stated = [], []
        for h in map(float, STEPS):
            scheme: Scheme = scheme_with(h)
            estimates = measure_slopes(
                lesson_model, lesson_model.weights, lesson_model.x, lesson_model.y, scheme=scheme, noise=noise
            )
            errors.append(np.abs(lesson_model.flatten({n: e.value for n, e in estimates.items()}) - exact))
            stated.append(lesson_model.flatten({n: e.error for n, e in estimates.items()}))
        return Precision(phrase(f"scheme_{name}"), STEPS, np.array(errors), np.array(stated))

    return (
        compare("forward", lambda h: Forward(step=h)),
        compare("central", lambda h: Central(step=h)),
        compare("richardson", _RichardsonFrom),
        compare("complex", lambda h: ComplexStep(step=h)),
    )


def try_learning_rates(lesson_model: LessonModel, epochs: int) -> tuple[Training, ...]:
    """The lesson's optimizer at learning rates from small to large, until DIVERGENT of them diverge.

    Empty where a schedule sets the learning rate.
    """
    own = getattr(lesson_model.optimizer, "learning_rate", None)
    if not isinstance(own, float) or own <= 0:
        return ()
    found: list[Training] = []
    for factor in RATES:
        rate = float(f"{own * factor:.6g}")
        optimizer = replace(lesson_model.optimizer, learning_rate=rate)  # type: ignore[call-arg]
        found.append(
            _record_training(
                phrase("plain", text=f"{rate:g}"), train_by_nudging(lesson_model, epochs=epochs, optimizer=optimizer)
            )
        )
        if sum(training.diverged > 0 for training in found) == DIVERGENT:
            break
    return tuple(found)


def try_batch_sizes(lesson_model: LessonModel, epochs: int, *, seed: int = 0) -> tuple[Training, ...]:
    """Batches of 1, 2, 4 and all samples, drawn anew each epoch: the loss of all samples after each batch."""
    sizes = dict.fromkeys((*(b for b in BATCHES if b < lesson_model.samples), lesson_model.samples))
    return tuple(_train_in_batches(lesson_model, epochs, size, seed) for size in sizes)


def _train_in_batches(lesson_model: LessonModel, epochs: int, size: int, seed: int) -> Training:
    losses = [lesson_model.evaluate_loss(lesson_model.weights)]

    def note_loss(weights: Weights) -> None:
        losses.append(lesson_model.evaluate_loss(weights))

    path = train_by_nudging(lesson_model, epochs=epochs, batch_size=size, seed=seed, on_step=note_loss)
    share = 1 / math.ceil(lesson_model.samples / size)
    return Training(
        label=phrase("batches_all", size=size) if size == lesson_model.samples else phrase("plain", text=size),
        epochs=tuple(round(i * share, 6) for i in range(len(losses))),
        losses=tuple(losses),
        diverged=path.diverged,
        spread=_spread(lesson_model, size, seed),
    )


def _spread(lesson_model: LessonModel, size: int, seed: int) -> float:
    """Standard deviation of the slopes of batches of this size at the start, for the weight that is steepest there."""
    generator = np.random.default_rng(seed)

    def slopes(x: Any, y: Any) -> Array:
        return lesson_model.flatten(measure_slopes_alone(lesson_model, lesson_model.weights, x, y))

    drawn = [
        index
        for _ in range(DRAWS if size < lesson_model.samples else 1)
        for index in split_batches(lesson_model.samples, size, generator=generator)
    ]
    of_batches = np.array([slopes(take(lesson_model.x, i), take(lesson_model.y, i)) for i in drawn])
    steepest = int(np.argmax(np.abs(slopes(lesson_model.x, lesson_model.y))))
    return float(np.std(of_batches[:, steepest]))


def _record_training(label: Phrase, path: WeightPath) -> Training:
    return Training(label, tuple(map(float, range(len(path.losses)))), path.losses, path.diverged)


def try_optimizers(lesson_model: LessonModel, epochs: int) -> tuple[Training, ...]:
    """Six optimizers from the same start, all at the lesson's own learning rate (0.01 where a schedule sets it)."""
    own = getattr(lesson_model.optimizer, "learning_rate", 0.01)
    rate = own if isinstance(own, float) and own > 0 else 0.01
    choices: dict[Phrase, Optimizer] = {
        phrase("plain", text="SGD"): SGD(rate),
        phrase("optimizer_momentum_09"): SGD(rate, momentum=0.9),
        phrase("optimizer_nesterov_09"): SGD(rate, momentum=0.9, nesterov=True),
        phrase("plain", text="Adagrad"): Adagrad(rate),
        phrase("plain", text="RMSprop"): RMSprop(rate),
        phrase("plain", text="Adam"): Adam(rate),
    }
    return tuple(
        _record_training(label, train_by_nudging(lesson_model, epochs=epochs, optimizer=optimizer))
        for label, optimizer in choices.items()
    )


def draw_landscapes(lesson_model: LessonModel, track: Track, *, most: int = 3) -> tuple[Landscape, ...]:
    """The loss over pairs of the three weights that move farthest. Empty for a model with a single weight."""
    moved = np.max(np.abs(track.weights - track.weights[0]), axis=0)
    order = [int(i) for i in np.argsort(-np.nan_to_num(moved), kind="stable")][:3]
    pairs = [sorted((a, b)) for k, a in enumerate(order) for b in order[k + 1 :]][:most]
    return tuple(_measure_landscape(lesson_model, track, first, second) for first, second in pairs)


def _measure_landscape(lesson_model: LessonModel, track: Track, first: int, second: int) -> Landscape:
    # of a diverging path, only the part near the start is shown
    near = np.nan_to_num(np.abs(track.losses), nan=np.inf) <= 100 * max(abs(track.losses[0]), 1.0)
    axes = [_span_axis(np.concatenate([track.weights[near, i], track.keras_weights[near, i]])) for i in (first, second)]
    start, losses = lesson_model.flatten(lesson_model.weights), np.empty((GRID, GRID))
    name, entry = _locate(lesson_model, first)
    with np.errstate(all="ignore"):
        for row, up in enumerate(axes[1]):
            start[second] = up
            moved = lesson_model.unflatten(start)
            nudges = Nudges(lesson_model.objective, moved, lesson_model.x, lesson_model.y, training=True)
            losses[row] = nudges.losses(name, np.array([entry]), axes[0][:, None] - start[first])[:, 0]
    labels = lesson_model.labels
    return Landscape(labels[first], labels[second], entries=(first, second), across=axes[0], up=axes[1], losses=losses)


def _span_axis(values: Array) -> Array:
    """GRID points that span what a path visits, with room on both sides."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = max(0.6 * (high - low), 0.25)
    return np.linspace(low - room, high + room, GRID)


def _locate(lesson_model: LessonModel, index: int) -> tuple[str, int]:
    """The name of the weight that holds an entry of the flat vector, and the entry's index in it."""
    for name in lesson_model.trained:
        if index < (size := lesson_model.weights[name].size):
            return name, index
        index -= size
    raise IndexError(f"There is no entry {index} behind the last weight.")
