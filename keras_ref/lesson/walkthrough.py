"""One epoch, number by number: the data, every intermediate number, each nudge, both updates; and units that die."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_ref.lesson.lesson_model import Subject, label_of, take
from keras_ref.lesson.two_trainings import KerasSide, Track, loss_of
from scratch.arrays import Array
from scratch.differences import taken
from scratch.gradient import Nudges
from scratch.layers.core import Dense
from scratch.losses.regression import MeanSquaredError
from scratch.model import Run
from scratch.naming import weights_of
from scratch.recipe import NUDGE


@dataclass(frozen=True)
class Tensor:
    """One intermediate array of the forward pass: what it is in words, its shape, and a row of numbers per sample."""

    name: str
    meaning: str
    shape: tuple[int, ...]
    rows: Array


@dataclass(frozen=True)
class Nudge:
    """One weight nudged by `step`: the losses, the slope, what autodiff says, and where the difference comes from.

    explained   h/2 · f'', from the losses at w - h, w, w + h: what a forward difference errs by
    allowed     truncation + rounding of both sides
    updated, keras_updated   the weight after one step of either side
    """

    label: str
    weight: float
    step: float
    loss: float
    nudged_loss: float
    slope: float
    autodiff: float
    explained: float
    allowed: float
    updated: float
    keras_updated: float
    reason: str

    @property
    def change(self) -> float:
        """nudged loss - loss"""
        return self.nudged_loss - self.loss

    @property
    def difference(self) -> float:
        """slope - autodiff"""
        return self.slope - self.autodiff

    @property
    def left(self) -> float:
        """What h/2 · f'' does not explain: rounding, and a third of h² · f''' at most."""
        return self.difference - self.explained


@dataclass(frozen=True)
class Unit:
    """A ReLU unit that is zero for every sample: from which epoch on (0: from the start), and until when (-1: the end)."""

    name: str
    since: int
    until: int


@dataclass(frozen=True)
class Step:
    """One epoch: inputs and targets, the tensors of the forward pass, the loss of each sample (if they average to the
    loss) and of all, each weight's nudge."""

    tensors: tuple[Tensor, ...]
    sample_losses: Array | None
    loss: float
    keras_loss: float
    nudges: tuple[Nudge, ...]


def one_step(subject: Subject, side: KerasSide, track: Track) -> Step:
    """The first epoch of a track."""
    run = subject.model.run(subject.weights, subject.x, training=True)
    return Step(
        tuple(_tensors(subject, run)),
        _sample_losses(subject),
        float(track.losses[0]),
        _keras_loss(side),
        _nudges(subject, track),
    )


def _keras_loss(side: KerasSide) -> float:
    return float(side.probe.directional({}, np.zeros(1), at=side.named(side.subject.weights))[0])


def _tensors(subject: Subject, run: Run) -> list[Tensor]:
    found = []
    for name in subject.model.inputs:
        found.append(_tensor(name, "the data", run.tensors[name]))
    for call in subject.model.calls:
        layer = subject.model.layers[call.layer]
        activation = getattr(layer, "activation", "linear")
        inputs = [run.tensors[name] for name in call.inputs]
        if isinstance(layer, Dense) and activation != "linear":
            before = replace(layer, activation="linear").forward(weights_of(subject.weights, call.layer), *inputs)
            found.append(
                _tensor(
                    f"{call.layer}, before {activation}",
                    "x · kernel + bias" if layer.use_bias else "x · kernel",
                    before,
                )
            )
            found.append(_tensor(call.layer, f"{activation} of it", run.tensors[call.outputs[0]]))
            continue
        meaning = (
            ("x · kernel + bias" if layer.use_bias else "x · kernel")
            if isinstance(layer, Dense)
            else type(layer).__name__
        )
        found += [_tensor(call.layer, meaning, run.tensors[name]) for name in call.outputs]
    targets = subject.y if isinstance(subject.y, list) else [subject.y]
    return found + [
        _tensor("target" if len(targets) == 1 else f"target {i + 1}", "what the output should be", np.asarray(t))
        for i, t in enumerate(targets)
    ]


def _tensor(name: str, meaning: str, value: Array) -> Tensor:
    value = np.asarray(value)
    return Tensor(name, meaning, value.shape, value.reshape(len(value), -1).astype(float))


def _sample_losses(subject: Subject) -> Array | None:
    """The loss of each sample by itself, where their mean is the loss (no coupling, no regularizer)."""
    weights = subject.weights
    alone = [
        float(subject.objective(weights, take(subject.x, np.array([i])), take(subject.y, np.array([i])), training=True))
        for i in range(subject.samples)
    ]
    loss = loss_of(subject, weights)
    # a mean of n numbers in another order differs by at most n units in the last place of their largest
    close = abs(np.mean(alone) - loss) <= subject.samples * np.finfo(float).eps * np.max(np.abs(alone))
    return np.array(alone) if close else None


def _nudges(subject: Subject, track: Track) -> tuple[Nudge, ...]:
    nudges = Nudges(subject.objective, subject.weights, subject.x, subject.y, training=True)
    found, at = [], 0
    for name in subject.trained:
        value = subject.weights[name]
        entries = np.arange(value.size)
        step = taken(value.ravel(), np.full(value.size, NUDGE))
        ahead, behind = nudges.losses(name, entries, np.stack([step, -step]))
        for i, entry in enumerate(np.ndindex(value.shape)):
            explained = (ahead[i] - 2 * nudges.base + behind[i]) / step[i] / 2
            closed = reason(
                subject,
                name,
                slope=float(track.slopes[0, at]),
                autodiff=float(track.same_point[0, at]),
                explained=float(explained),
                allowed=float(track.slope_allowed[0, at]),
                step=NUDGE,
            )
            found.append(
                Nudge(
                    label_of(name, entry, value.shape),
                    float(value[entry]),
                    float(step[i]),
                    float(nudges.base),
                    float(ahead[i]),
                    float(track.slopes[0, at]),
                    float(track.same_point[0, at]),
                    float(explained),
                    float(track.slope_allowed[0, at]),
                    float(track.weights[1, at]),
                    float(track.keras_weights[1, at]),
                    closed,
                )
            )
            at += 1
    return tuple(found)


def reason(
    subject: Subject, name: str, *, slope: float, autodiff: float, explained: float, allowed: float, step: float
) -> str:
    """Why the slope of a forward difference is not the derivative, in one or two sentences."""
    if slope == 0.0 and autodiff == 0.0:
        return "Nothing moves: the loss does not depend on this weight here, and both sides say exactly 0."
    if abs(explained) <= allowed * 1e-3 and abs(slope - autodiff) <= allowed:
        return "The loss is straight along this weight, so a nudge of any size gives the derivative; what is left is rounding."
    closed = _closed_form(subject, name, step)
    if closed:
        formula, value = closed
        return f"The loss is a parabola in this weight, and pushing to one side shows its slope half a nudge further on: too large by {formula} = {value:.3g}."
    return "The loss curves along this weight, and pushing to one side shows its slope half a nudge further on: off by h/2 times the curvature f″."


def _closed_form(subject: Subject, name: str, step: float) -> tuple[str, float] | None:
    """h · mean(x²) and h: half the second derivative of mean((w·x + b - y)²), where the network is that one."""
    layers = list(subject.model.layers.values())
    linear = (
        len(layers) == 1 and isinstance(layers[0], Dense) and layers[0].activation == "linear" and layers[0].units == 1
    )
    squared = len(subject.objective.losses) == 1 and type(subject.objective.losses[0]) is MeanSquaredError
    if not linear or not squared or subject.model.regularizers or np.shape(subject.x)[1:] != (1,):
        return None
    return ("h", step) if name.endswith("bias") else ("h · mean(x²)", step * float(np.mean(np.square(subject.x))))


def dead_units(subject: Subject, path: Any) -> tuple[Unit, ...]:
    """The ReLU units that are zero for all samples somewhere on a path of weights, each with its epochs."""
    states: dict[str, list[bool]] = {}
    for weights in path:
        for name, dead in _dead(subject, weights).items():
            states.setdefault(name, []).append(dead)
    found = []
    for name, was_dead in states.items():
        since = 0
        for at in range(len(was_dead) + 1):
            here = at < len(was_dead) and was_dead[at]
            before = at > 0 and was_dead[at - 1]
            if here and not before:
                since = at
            if before and not here:
                found.append(Unit(name, since, -1 if at == len(was_dead) else at - 1))
    return tuple(found)


def _dead(subject: Subject, weights: Mapping[str, Array]) -> dict[str, bool]:
    with np.errstate(all="ignore"):
        run = subject.model.run(weights, subject.x, training=True)
    found: dict[str, bool] = {}
    for call in subject.model.calls:
        layer = subject.model.layers[call.layer]
        if getattr(layer, "activation", "") == "relu" or type(layer).__name__ == "ReLU":
            output = run.tensors[call.outputs[0]]
            dead = ~np.any(output.reshape(-1, output.shape[-1]) != 0, axis=0)
            found |= {f"{call.layer}, unit {i + 1} of {len(dead)}": bool(d) for i, d in enumerate(dead)}
    return found
