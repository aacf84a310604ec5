"""The first epoch, number by number: data, forward pass, every nudge, both updates; and the ReLU units that die."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_ref.lesson.lesson_model import LessonModel, make_label, take
from keras_ref.lesson.two_trainings import KerasTraining, Track
from keras_ref.lesson.words import Phrase, phrase
from keras_ref.reports.escaping import make_printable
from scratch.arrays import Array
from scratch.differences import measure_step
from scratch.gradient import Nudges
from scratch.layers.core import Dense
from scratch.losses.regression import MeanSquaredError
from scratch.model import Run
from scratch.naming import weights_of
from scratch.recipe import NUDGE


@dataclass(frozen=True)
class Tensor:
    """One array of the forward pass: its name, what it is in words, its shape, and a row of numbers per sample."""

    name: Phrase
    meaning: Phrase
    shape: tuple[int, ...]
    rows: Array


@dataclass(frozen=True)
class Nudge:
    """One weight nudged by `step`: the losses, the slope, autodiff's slope, and what explains their difference.

    explained                h/2 · f″, from the losses at w - h, w, w + h: the error of a forward difference
    allowed                  truncation + rounding of both slopes
    updated, keras_updated   the weight after one step of either training
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
    reason: Phrase

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
        """What h/2 · f″ does not explain: rounding, and terms of higher order (h²/6 · f‴ and on)."""
        return self.difference - self.explained


@dataclass(frozen=True)
class Unit:
    """A ReLU unit that is 0 for every sample in the epochs `since` (0: from the start) to `until` (-1: to the end)."""

    name: Phrase
    since: int
    until: int


@dataclass(frozen=True)
class Step:
    """One epoch.

    tensors         data, every array of the forward pass, targets
    sample_losses   the loss of each sample, None if their mean is not the loss
    loss            of all samples, by the twin;   keras_loss  the same by Keras
    nudges          one for each weight
    """

    tensors: tuple[Tensor, ...]
    sample_losses: Array | None
    loss: float
    keras_loss: float
    nudges: tuple[Nudge, ...]


def walk_through(lesson_model: LessonModel, keras_side: KerasTraining, track: Track) -> Step:
    """The first epoch of two recorded trainings."""
    run = lesson_model.model.run(lesson_model.weights, lesson_model.x, training=True)
    return Step(
        tensors=tuple(_list_tensors(lesson_model, run)),
        sample_losses=_sample_losses(lesson_model),
        loss=float(track.losses[0]),
        keras_loss=keras_side.loss(),
        nudges=_show_nudges(lesson_model, track),
    )


def _list_tensors(lesson_model: LessonModel, run: Run) -> list[Tensor]:
    found = [
        _show_tensor(_make_phrase(name), phrase("meaning_data"), run.tensors[name])
        for name in lesson_model.model.inputs
    ]
    for call in lesson_model.model.calls:
        layer = lesson_model.model.layers[call.layer]
        outputs = [run.tensors[name] for name in call.outputs]
        if not isinstance(layer, Dense):
            found += [
                _show_tensor(_make_phrase(call.layer), _make_phrase(type(layer).__name__), output) for output in outputs
            ]
            continue
        product = _make_phrase("x · kernel + bias" if layer.use_bias else "x · kernel")
        if layer.activation == "linear":
            found.append(_show_tensor(_make_phrase(call.layer), product, outputs[0]))
            continue
        inputs = [run.tensors[name] for name in call.inputs]
        before = replace(layer, activation="linear").forward(weights_of(lesson_model.weights, call.layer), *inputs)
        activation = make_printable(str(layer.activation))
        before_name = phrase("tensor_before", layer=make_printable(call.layer), activation=activation)
        found.append(_show_tensor(before_name, product, before))
        found.append(
            _show_tensor(_make_phrase(call.layer), phrase("meaning_activation", activation=activation), outputs[0])
        )
    targets = lesson_model.y if isinstance(lesson_model.y, list) else [lesson_model.y]
    names = [phrase("tensor_target_of", number=i + 1) for i in range(len(targets))]
    return found + [
        _show_tensor(name, phrase("meaning_target"), np.asarray(target))
        for name, target in zip(names if len(targets) > 1 else [phrase("tensor_target")], targets, strict=True)
    ]


def _make_phrase(text: str) -> Phrase:
    """A name or a formula, which is the same in every language."""
    return phrase("plain", text=make_printable(text))


def _show_tensor(name: Phrase, meaning: Phrase, value: Any) -> Tensor:
    value = np.asarray(value)
    return Tensor(name, meaning, value.shape, value.reshape(len(value), -1).astype(float))


def _sample_losses(lesson_model: LessonModel) -> Array | None:
    """The loss of each sample by itself, where their mean is the loss (no coupling of samples, no regularizer)."""
    losses = np.array(
        [
            float(lesson_model.objective(lesson_model.weights, *_sample(lesson_model, i), training=True))
            for i in range(lesson_model.samples)
        ]
    )
    loss = lesson_model.evaluate_loss(lesson_model.weights)
    # a mean of n numbers in another order differs by at most n units in the last place of the largest
    close = abs(np.mean(losses) - loss) <= lesson_model.samples * np.finfo(float).eps * np.max(np.abs(losses))
    return losses if close else None


def _sample(lesson_model: LessonModel, i: int) -> tuple[Any, Any]:
    return take(lesson_model.x, np.array([i])), take(lesson_model.y, np.array([i]))


def measure_curvature_error(lesson_model: LessonModel, step: float) -> Array:
    """h/2 · f″ of every trained entry, (entries,): the error of a forward difference, from the losses at w, w ± h."""
    nudges = Nudges(lesson_model.objective, lesson_model.weights, lesson_model.x, lesson_model.y, training=True)
    found = []
    for name in lesson_model.trained:
        size = lesson_model.weights[name].size
        ahead, behind = nudges.losses(name, np.arange(size), np.array([[step], [-step]]) * np.ones(size))
        found.append((ahead - 2 * nudges.base + behind) / step / 2)
    return np.concatenate(found)


def _show_nudges(lesson_model: LessonModel, track: Track) -> tuple[Nudge, ...]:
    nudges = Nudges(lesson_model.objective, lesson_model.weights, lesson_model.x, lesson_model.y, training=True)
    found: list[Nudge] = []
    for name in lesson_model.trained:
        value = lesson_model.weights[name]
        step = measure_step(value.ravel(), np.full(value.size, NUDGE))
        ahead, behind = nudges.losses(name, np.arange(value.size), np.stack([step, -step]))
        for i, entry in enumerate(np.ndindex(value.shape)):
            at = len(found)
            slope, autodiff = float(track.slopes[0, at]), float(track.same_point[0, at])
            explained = float((ahead[i] - 2 * nudges.base + behind[i]) / step[i] / 2)
            allowed = float(track.slope_allowed[0, at])
            found.append(
                Nudge(
                    label=make_label(name, entry, value.shape),
                    weight=float(value[entry]),
                    step=float(step[i]),
                    loss=float(nudges.base),
                    nudged_loss=float(ahead[i]),
                    slope=slope,
                    autodiff=autodiff,
                    explained=explained,
                    allowed=allowed,
                    updated=float(track.weights[1, at]),
                    keras_updated=float(track.keras_weights[1, at]),
                    reason=explain_difference(
                        lesson_model,
                        name,
                        slope=slope,
                        autodiff=autodiff,
                        explained=explained,
                        allowed=allowed,
                        step=NUDGE,
                    ),
                )
            )
    return tuple(found)


def explain_difference(
    lesson_model: LessonModel,
    name: str,
    *,
    slope: float,
    autodiff: float,
    explained: float,
    allowed: float,
    step: float,
) -> Phrase:
    """Why the slope by a forward difference is not the derivative, in one or two sentences."""
    if slope == 0.0 and autodiff == 0.0:
        return phrase("why_flat")
    # chooses words: a bend of a thousandth of what rounding may do is none that could be seen
    if abs(explained) <= allowed * 1e-3 and abs(slope - autodiff) <= allowed:
        return phrase("why_straight")
    closed = _find_closed_form(lesson_model, name, step)
    return phrase("why_curved") if closed is None else phrase("why_parabola", closed=closed)


def _find_closed_form(lesson_model: LessonModel, name: str, step: float) -> str | None:
    """The error in closed form, where the loss is mean((w·x + b - y)²): half its second derivative times h.

    That is h · mean(x²) for the weight and h for the bias. None for any other network.
    """
    layers = list(lesson_model.model.layers.values())
    linear = (
        len(layers) == 1 and isinstance(layers[0], Dense) and layers[0].activation == "linear" and layers[0].units == 1
    )
    losses = lesson_model.objective.losses
    squared = len(losses) == 1 and type(losses[0]) is MeanSquaredError
    if not linear or not squared or lesson_model.model.regularizers or np.shape(lesson_model.x)[1:] != (1,):
        return None
    if name.endswith("bias"):
        return f"h = {step:.3g}"
    return f"h · mean(x²) = {step * float(np.mean(np.square(lesson_model.x))):.3g}"


def find_dead_units(lesson_model: LessonModel, path: Iterable[Mapping[str, Array]]) -> tuple[Unit, ...]:
    """The ReLU units that are 0 for all samples somewhere on a path of weights, each with its epochs."""
    states: dict[Phrase, list[bool]] = {}
    for weights in path:
        for name, dead in _find_dead(lesson_model, weights).items():
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


def _find_dead(lesson_model: LessonModel, weights: Mapping[str, Array]) -> dict[Phrase, bool]:
    """{name of a ReLU unit: whether it is 0 for all samples}."""
    with np.errstate(all="ignore"):
        run = lesson_model.model.run(weights, lesson_model.x, training=True)
    found: dict[Phrase, bool] = {}
    for call in lesson_model.model.calls:
        layer = lesson_model.model.layers[call.layer]
        if getattr(layer, "activation", "") == "relu" or type(layer).__name__ == "ReLU":
            output = run.tensors[call.outputs[0]]
            dead = ~np.any(output.reshape(-1, output.shape[-1]) != 0, axis=0)
            name, count = make_printable(call.layer), len(dead)
            found |= {
                phrase("unit_name", layer=name, unit=i + 1, count=count): bool(is_dead)
                for i, is_dead in enumerate(dead)
            }
    return found
