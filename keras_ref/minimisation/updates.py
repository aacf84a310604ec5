"""A training step that is not the one of the law: an optimizer on one variable, beside the optimizer's law in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.checks.updates import check_updates
from keras_ref.minimisation.cases import Setup, describe
from keras_ref.minimisation.expressions import Expression, Values, Writer
from keras_ref.minimisation.finding import Finding
from keras_ref.minimisation.reading import express
from keras_ref.minimisation.running import running
from keras_ref.minimisation.showing import Shown, find_worst, list_both, run_setup, write_setup
from keras_ref.translation.specifications import reflect_object
from scratch.arrays import Array


@dataclass(frozen=True, kw_only=True)
class StepCase:
    """An optimizer, a weight, its gradient, and how many steps it takes with it."""

    optimizer: Expression
    weight: Values
    gradient: Values
    steps: int = 1

    @property
    def tree(self) -> Expression:
        """All that the passes reduce."""
        return (self.optimizer, self.weight, self.gradient, self.steps)

    def with_tree(self, tree: Expression) -> StepCase:
        """The case with another tree."""
        optimizer, weight, gradient, steps = tree
        return replace(self, optimizer=optimizer, weight=weight, gradient=gradient, steps=steps)

    @property
    def what(self) -> str:
        """What is shown to be wrong."""
        return f"{describe(self.optimizer)}: the weight after the step is not that of the law"

    def simpler(self) -> Iterator[StepCase]:
        """Nothing but what the passes try."""
        yield from ()

    def setup(self) -> Setup:
        """The lines that build it and take the steps."""
        writer = Writer(modules={"keras", "numpy", "tensorflow"})
        apply = f"optimizer.apply([tf.constant({writer.write(self.gradient)})], [v])"
        taken = (apply,) if self.steps == 1 else (f"for _ in range({self.steps}):\n    {apply}",) if self.steps else ()
        lines = (
            f"v = keras.Variable({writer.write(self.weight)})",
            f"optimizer = {writer.write(self.optimizer)}",
            *taken,
        )
        return Setup(
            writer=writer,
            lines=tuple("\n".join(lines).splitlines()),
            function="None",
            points="[]",
            in_float64=True,
        )


def list_steps(model: Any, optimizer: Any, name: str) -> Iterator[StepCase]:
    """The cases of a model's optimizer: of the variable that was found wrong, up to three steps.

    name   the path of the variable, as a report has it
    """
    kept = [v for v in model.trainable_variables if v.path == name or name.endswith(v.path)] or list(
        model.trainable_variables
    )
    weight = np.asarray(kept[0], dtype="float64")
    generic = np.sin(1.0 + 1.7 * np.arange(weight.size)).reshape(weight.shape)
    for steps in (1, 2, 3):
        for gradient in (np.full_like(weight, 0.5), generic):
            yield StepCase(
                optimizer=express(optimizer),
                weight=Values(weight, held=True),
                gradient=Values(gradient, held=True),
                steps=steps,
            )


def show_step(case: StepCase) -> Shown | None:
    """The weight after the steps and that of the law; None where they agree, or where there is no law."""
    try:
        setup = case.setup()
        with running(write_setup(setup)) as names:
            want = _compute_law(names["optimizer"], case)
            got = names["v"].numpy()
            both = list_both(got, want)
            entry = find_worst(both)
            if entry is None:
                return None
            right, place = float(want[entry.index]), both.place(entry)
            lines = [f"got = v.numpy(){place}", f"want = {right!r}  # by the optimizer's law"]
            return run_setup(setup, lines, got=float(got[entry.index]), want=right, names=("Keras's weight", "law's"))
    except Exception:  # noqa: BLE001 (a candidate that makes no sense may raise anything; NoTwin is among them)
        return None


def _compute_law(optimizer: Any, case: StepCase) -> Array:
    """The weight after the steps by the optimizer's law. Raises: NoTwin."""
    law = reflect_object(optimizer, "optimizer")
    weights = {"v": case.weight.array}
    state = law.init(weights)
    for _ in range(case.steps):
        weights, state = law.step(weights, {"v": case.gradient.array}, state)
    return np.asarray(weights["v"])


class Linear(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """The sum of a weight times a constant: its gradient is the constant."""

    def __init__(self, weight: Array, gradient: Array) -> None:
        super().__init__(dtype="float64")
        self.gradient = gradient
        self.v = self.add_weight(
            name="v", shape=weight.shape, dtype="float64", initializer=lambda *_, **__: tf.constant(weight)
        )

    def call(self, x: Any) -> Any:
        """The sum for each sample, which adds nothing of its own."""
        return keras.ops.sum(self.v * self.gradient) + 0.0 * keras.ops.sum(x, axis=-1)

    def compute_output_shape(self, shape: Any) -> Any:
        """One number a sample."""
        return shape[:1]


def has_same_step(case: StepCase, finding: Finding) -> bool:
    """Whether check_updates has the same finding where the gradient is that of the case."""
    try:
        with running(write_setup(replace(case, steps=0).setup())) as names:
            linear = Linear(case.weight.array, case.gradient.array)
            model = keras.Sequential([keras.Input((1,), dtype="float64"), linear])
            report = check_updates(
                model,
                np.zeros((1, 1)),
                np.zeros(1),
                optimizer=names["optimizer"],
                loss=lambda _, output: keras.ops.mean(output),
                steps=case.steps,
            )
    except Exception:  # noqa: BLE001 (as above)
        return False
    return finding.is_in(report)
