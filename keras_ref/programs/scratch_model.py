"""A model of scratch (or an Objective, with its loss): forward pass in NumPy, gradient by nudging every weight.

A dictionary with `objective` and `optimizer`, an optimizer of scratch, has training steps too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from keras_ref.programs.program import Definition, Facts, Load, Point, Program, Stage, Trace, Weight, cast, program
from scratch.arrays import Array
from scratch.differences import ComplexStep
from scratch.gradient import numeric_gradient
from scratch.losses.base import Projection
from scratch.model import Model
from scratch.objective import Objective
from scratch.optimizers.base import Optimizer
from scratch.training import apply_step


@program
class ScratchModel(Program):
    """A scratch.Model; a scratch Objective, whose loss is compared too; an objective and its optimizer."""

    prefix = "scratch"

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        value = load()[0]
        parts = value if isinstance(value, Mapping) else {"objective": value}
        self.value = parts["objective"]
        self.optimizer: Optimizer | None = parts.get("optimizer")
        self.model: Model = self.value.model if isinstance(self.value, Objective) else self.value

    @classmethod
    def accepts(cls, value: Any) -> bool:
        return isinstance(value.get("objective") if isinstance(value, Mapping) else value, (Model, Objective))

    def facts(self) -> Facts:
        has_loss = isinstance(self.value, Objective)
        trained = set(self.model.trainable)
        return Facts(
            kind="scratch (NumPy)",
            weights=tuple(
                Weight(name=name, shape=shape, trainable=name in trained)
                for name, shape in self.model.weight_shapes.items()
            ),
            stages=(
                Stage.FORWARD,
                Stage.GRADIENT,
                *((Stage.LOSS,) if has_loss else ()),
                *((Stage.UPDATE,) if has_loss and self.optimizer is not None else ()),
            ),
            layers=tuple(
                Definition(name=name, class_name=type(one).__name__, config=_list_config(one))
                for name, one in self.model.layers.items()
            ),
            notes=(f"All layers of scratch are in inference: {', '.join(self._random)} draw at random.",)
            if self._random
            else (),
        )

    def values(self) -> dict[str, Array]:
        generator = np.random.default_rng(0)
        return {name: generator.uniform(0.5, 1.0, shape) for name, shape in self.model.weight_shapes.items()}

    def run(self, point: Point) -> Trace:
        weights, x = cast(dict(point.weights), point.precision), cast(point.x, point.precision)
        training = point.training and not self._random
        found = self.model.run(weights, x, training=training)
        tensors = {}
        for call in self.model.calls:
            for name in call.outputs:
                key = call.layer if call.layer not in tensors else name
                tensors[key] = np.asarray(found.tensors[name])
        outputs = [np.asarray(found.tensors[name]) for name in self.model.outputs]
        tensors["output"] = outputs[0] if len(outputs) == 1 else np.concatenate([np.ravel(one) for one in outputs])
        objective, y = self._make_objective(point)
        if objective is None:
            return Trace(tensors=tensors, outputs=tuple(outputs))
        loss = float(objective(weights, x, y, training=training))
        gradient: dict[str, Array | None] = {}
        if point.gradient:
            gradient = {**self._gradient(objective, weights, x, y, training=training)}
        steps = 0 if point.cotangent is not None else point.steps
        return Trace(
            tensors=tensors,
            loss=loss,
            gradient=gradient,
            steps=tuple(self._train(objective, weights, x, y, steps=steps)),
            outputs=tuple(outputs),
        )

    def _gradient(self, objective: Objective, weights: Any, x: Any, y: Any, *, training: bool) -> dict[str, Array]:
        """The slopes of an objective by its trained weights, by name."""
        estimates = numeric_gradient(
            self.model,
            weights,
            x,
            y,
            loss=objective.losses,
            loss_weights=objective.loss_weights,
            scheme=ComplexStep(),
            training=training,
        )
        return {name: one.value for name, one in estimates.items()}

    def _train(self, objective: Objective, weights: Any, x: Any, y: Any, *, steps: int) -> Iterator[dict[str, Array]]:
        """The weights after each step of the optimizer, from its initial state; none without one."""
        if self.optimizer is None:
            return
        training = not self._random
        state = self.optimizer.init({name: weights[name] for name in self.model.trainable})
        for _ in range(steps):
            gradient = self._gradient(objective, weights, x, y, training=training)
            weights, state = apply_step(
                self.model, weights, gradient, x, optimizer=self.optimizer, state=state, training=training
            )
            yield weights

    @property
    def _random(self) -> list[str]:
        """The layers that draw random numbers in training: with one of them every layer is in inference."""
        return [name for name, layer in self.model.layers.items() if "draw" in layer.accepts]

    def _make_objective(self, point: Point) -> tuple[Objective | None, Any]:
        """What is minimized at a point, and its targets."""
        if point.cotangent is not None:
            losses = tuple(Projection() for _ in self.model.outputs)
            cotangent = cast(point.cotangent, point.precision)
            return Objective.of(self.model, losses if len(losses) > 1 else losses[0]), cotangent
        if isinstance(self.value, Objective) and point.y is not None:
            return self.value, cast(point.y, point.precision)
        return None, None


def _list_config(layer: Any) -> dict[str, Any]:
    """The fields of a specification that are plain values."""
    values = {one.name: getattr(layer, one.name) for one in fields(layer)}
    return {
        key: value for key, value in values.items() if isinstance(value, (str, int, float, bool, type(None), tuple))
    }
