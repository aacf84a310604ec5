"""What if the step, the learning rate, the batch size, the optimizer were another? And the landscape. All by the engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_ref.lesson.lesson_model import Subject, take
from keras_ref.lesson.two_trainings import (
    KerasSide,
    Path,
    Track,
    flat,
    loss_of,
    noise_of,
    nudged_path,
    quick_slopes,
    slopes_of,
)
from scratch.arrays import Array
from scratch.differences import Central, ComplexStep, Forward, Richardson, scale_of
from scratch.gradient import Nudges
from scratch.optimizers.adagrad import Adagrad, RMSprop
from scratch.optimizers.adam import Adam
from scratch.optimizers.base import Optimizer
from scratch.optimizers.sgd import SGD
from scratch.training import batches

#: nudges from 1e-1 to 1e-15, four to a decade
STEPS = 10.0 ** -(1 + np.arange(57) / 4)
#: learning rates as multiples of the lesson's own: timid to divergent
RATES = (0.01, 0.1, 1.0, 3.0, 10.0, 12.0, 15.0, 30.0, 100.0, 300.0, 1000.0)
#: of those that diverge, so many are shown
AWAY = 2
BATCHES = (1, 2, 4)
GRID = 101
#: how often single batches are drawn at the start to see how their slopes spread
DRAWS = 8


@dataclass(frozen=True)
class Precision:
    """The error of one scheme's slopes at nudges of many sizes: |slope - autodiff|, (steps, entries), and what the
    scheme itself says of its error."""

    scheme: str
    steps: Array
    error: Array
    stated: Array

    @property
    def best(self) -> Array:
        """The step with the least error, per entry (the largest such step)."""
        return self.steps[np.argmin(np.nan_to_num(self.error, nan=np.inf), axis=0)]


@dataclass(frozen=True)
class Run:
    """A training on the same start with one thing changed: the loss of all samples after `epochs` epochs (fractions
    where it is looked at after each batch), the epoch at which it ran away (0: it did not), and for batches how far
    their slopes of the steepest weight spread at the start (standard deviation)."""

    label: str
    epochs: tuple[float, ...]
    losses: tuple[float, ...]
    diverged: int
    spread: float = 0.0

    @property
    def higher(self) -> bool:
        """Whether it ends above where it started."""
        return not self.losses[-1] <= self.losses[0]


@dataclass(frozen=True)
class Landscape:
    """The loss over two weights, the others as at the start: axes (GRID,), losses (GRID of second, GRID of first)."""

    first: str
    second: str
    entries: tuple[int, int]
    across: Array
    up: Array
    losses: Array


def precisions(subject: Subject, side: KerasSide) -> tuple[Precision, ...]:
    """Forward, central, Richardson and complex step at every nudge of STEPS, against autodiff at the start."""
    exact, noise = flat(subject, side.gradient(subject.weights)), noise_of(subject, subject.weights)
    makers: dict[str, Any] = {
        "forward": lambda h: Forward(step=h),
        "central": lambda h: Central(step=h),
        "Richardson": lambda h: _Started(h),
        "complex step": lambda h: ComplexStep(step=h),
    }
    found = []
    for name, make in makers.items():
        errors, stated = [], []
        for h in STEPS:
            estimates = slopes_of(subject, subject.weights, subject.x, subject.y, make(float(h)), noise=noise)
            errors.append(np.abs(flat(subject, {n: e.value for n, e in estimates.items()}) - exact))
            stated.append(flat(subject, {n: e.error for n, e in estimates.items()}))
        found.append(Precision(name, STEPS, np.array(errors), np.array(stated)))
    return tuple(found)


@dataclass(frozen=True)
class _Started:
    """Richardson whose first step is h itself, not h in units of the weight."""

    step: float

    def __call__(self, line: Any, at: Array, noise: float) -> Any:
        # a division by a power of two, which the scheme multiplies again: the first step is h to the last bit
        return Richardson(start=self.step / scale_of(at))(line, at, noise)  # type: ignore[arg-type]


def rates(subject: Subject, epochs: int) -> tuple[Run, ...]:
    """The same start and optimizer at learning rates from timid to divergent, until two diverge. Empty where a schedule sets the rate."""
    own = getattr(subject.optimizer, "learning_rate", None)
    if not isinstance(own, float) or own <= 0:
        return ()
    found: list[Run] = []
    for factor in RATES:
        rate = float(f"{own * factor:.6g}")
        path = nudged_path(subject, epochs=epochs, optimizer=replace(subject.optimizer, learning_rate=rate))  # type: ignore[call-arg]
        found.append(_run(f"{rate:g}", path))
        if sum(run.diverged > 0 for run in found) == AWAY:
            break
    return tuple(found)


def batch_sizes(subject: Subject, epochs: int, *, seed: int = 0) -> tuple[Run, ...]:
    """Batches of 1, 2, 4 and all samples, drawn anew each epoch: the loss of all samples after each batch."""
    sizes = dict.fromkeys((*(b for b in BATCHES if b < subject.samples), subject.samples))
    found = []
    for size in sizes:
        losses = [loss_of(subject, subject.weights)]

        def record(weights: Any, losses: list[float] = losses) -> None:
            losses.append(loss_of(subject, weights))

        path = nudged_path(subject, epochs=epochs, batch_size=size, seed=seed, on_step=record)
        share = 1 / math.ceil(subject.samples / size)
        positions = tuple(round(i * share, 6) for i in range(len(losses)))
        label = str(size) + (" (all)" if size == subject.samples else "")
        found.append(Run(label, positions, tuple(losses), path.diverged, _spread(subject, size, seed)))
    return tuple(found)


def _spread(subject: Subject, size: int, seed: int) -> float:
    """How far the nudged slopes of batches of this size spread at the start, for the weight that is steepest there."""
    generator = np.random.default_rng(seed)
    drawn = [
        index
        for _ in range(DRAWS if size < subject.samples else 1)
        for index in batches(subject.samples, size, generator=generator)
    ]
    slopes = np.array(
        [flat(subject, quick_slopes(subject, subject.weights, take(subject.x, i), take(subject.y, i))) for i in drawn]
    )
    steepest = int(np.argmax(np.abs(flat(subject, quick_slopes(subject, subject.weights, subject.x, subject.y)))))
    return float(np.std(slopes[:, steepest]))


def _run(label: str, path: Path) -> Run:
    return Run(label, tuple(map(float, range(len(path.losses)))), path.losses, path.diverged)


def optimizers(subject: Subject, epochs: int) -> tuple[Run, ...]:
    """Optimizers on the same start, all at the lesson's own learning rate."""
    own = getattr(subject.optimizer, "learning_rate", 0.01)
    rate = own if isinstance(own, float) and own > 0 else 0.01
    choices: dict[str, Optimizer] = {
        "SGD": SGD(rate),
        "momentum 0.9": SGD(rate, momentum=0.9),
        "Nesterov 0.9": SGD(rate, momentum=0.9, nesterov=True),
        "Adagrad": Adagrad(rate),
        "RMSprop": RMSprop(rate),
        "Adam": Adam(rate),
    }
    found = []
    for label, optimizer in choices.items():
        path = nudged_path(subject, epochs=epochs, optimizer=optimizer)
        found.append(_run(label, path))
    return tuple(found)


def landscapes(subject: Subject, track: Track, *, most: int = 3) -> tuple[Landscape, ...]:
    """The loss over the pairs of weights that move farthest. Empty for a model with a single weight."""
    moved = np.max(np.abs(track.weights - track.weights[0]), axis=0)
    order = [int(i) for i in np.argsort(-np.nan_to_num(moved), kind="stable")][:3]
    pairs = [(a, b) for k, a in enumerate(order) for b in order[k + 1 :]][:most]
    return tuple(_landscape(subject, track, *sorted(pair)) for pair in pairs)


def _landscape(subject: Subject, track: Track, first: int, second: int) -> Landscape:
    # where a path runs away, the part is shown that stays within sight of the start
    near = np.nan_to_num(np.abs(track.losses), nan=np.inf) <= 100 * max(abs(track.losses[0]), 1.0)
    axes = [_axis(np.concatenate([track.weights[near, i], track.keras_weights[near, i]])) for i in (first, second)]
    start, losses = flat(subject, subject.weights), np.empty((GRID, GRID))
    name, entry = _place(subject, first)
    with np.errstate(all="ignore"):
        for row, up in enumerate(axes[1]):
            start[second] = up
            nudges = Nudges(subject.objective, unflat(subject, start), subject.x, subject.y, training=True)
            losses[row] = nudges.losses(name, np.array([entry]), axes[0][:, None] - start[first])[:, 0]
    labels = subject.labels
    return Landscape(labels[first], labels[second], (first, second), axes[0], axes[1], losses)


def _axis(values: Array) -> Array:
    """GRID points around what a path visits, with room on both sides."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = max(0.6 * (high - low), 0.25)
    return np.linspace(low - room, high + room, GRID)


def _place(subject: Subject, index: int) -> tuple[str, int]:
    """The name of the weight that an entry of the flat vector belongs to, and the entry's place in it."""
    for name in subject.trained:
        if index < (size := subject.weights[name].size):
            return name, index
        index -= size
    raise IndexError(f"There is no entry {index} behind the last weight.")


def unflat(subject: Subject, vector: Sequence[float] | Array) -> dict[str, Array]:
    """All weights with the trained entries taken from a vector."""
    values, at = dict(subject.weights), 0
    for name in subject.trained:
        size = values[name].size
        values[name] = np.asarray(vector[at : at + size], dtype=float).reshape(values[name].shape)
        at += size
    return values
