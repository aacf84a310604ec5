"""A train_step of a model's own that hands its optimizer gradients which are not the slopes of the loss it returns.

The model is compiled with plain gradient descent of rate 1, so that what a step takes from a weight is what was handed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from keras_ref.checks.updates import check_updates
from keras_ref.minimisation.cases import Setup, describe
from keras_ref.minimisation.expressions import Expression, Writer
from keras_ref.minimisation.finding import Finding
from keras_ref.minimisation.origins import as_point
from keras_ref.minimisation.reading import express
from keras_ref.minimisation.running import running
from keras_ref.minimisation.showing import STEP, Shown, find_worst, list_both, run_setup, write_setup

#: a difference that counts, as a share of the larger value: a central difference of this step is sharper
SHARP = 2.0**-20
#: takes a step from weights of which one variable is shifted, and returns the loss that the step returns
STEP_FROM = (
    "step = lambda shift: (model.reset_metrics(), model.set_weights(start), v.assign_add(shift), "
    'float(model.train_step((x, y))["loss"]))[-1]'
)
#: both values: what is handed over for the entries of the variable together, and the slope along them all
BOTH = (
    "step(0.0); got = float(np.sum(before - v.numpy()))",
    f"want = (step(2**{STEP}) - step(-2**{STEP})) / 2**{STEP + 1}",
)


@dataclass(frozen=True, kw_only=True)
class TrainStepCase:
    """A model with a train_step of its own, its loss, and a batch; which of its variables is shown.

    model, loss, x, y   as expressions;   place   of the variable among the trained ones
    """

    model: Expression
    loss: Expression
    x: Expression
    y: Expression
    place: int = 0

    @property
    def tree(self) -> Expression:
        """All that the passes reduce."""
        return (self.model, self.loss, self.x, self.y)

    def with_tree(self, tree: Expression) -> TrainStepCase:
        """The case with another tree."""
        model, loss, x, y = tree
        return replace(self, model=model, loss=loss, x=x, y=y)

    @property
    def what(self) -> str:
        """What is shown to be wrong."""
        return f"{describe(self.model)}: its train_step hands over what is not the slope of its loss"

    def simpler(self) -> Iterator[TrainStepCase]:
        """Another variable, which may have fewer entries."""
        yield from (replace(self, place=place) for place in range(self.place))

    def setup(self) -> Setup:
        """The lines that build it."""
        writer = Writer(modules={"keras", "numpy"})
        loss = "" if self.loss is None else f", {writer.write(self.loss)}"
        lines = (
            "keras.utils.set_random_seed(0)",
            f"model, x, y = {', '.join(map(writer.write, (self.model, self.x, self.y)))}",
            f"model.compile(keras.optimizers.SGD(1.0){loss}, run_eagerly=True)",
            f"model(x); start, v = model.get_weights(), model.trainable_variables[{self.place}]; before = v.numpy()",
            STEP_FROM,
        )
        return Setup(writer=writer, lines=lines, function="None", points="[]", in_float64=True)


def train_steps_of(model: Any, x: Any, y: Any) -> Iterator[TrainStepCase]:
    """The cases of a model, one for each of its variables. Raises: NotWritable."""
    loss = getattr(model, "loss", None)
    written = TrainStepCase(
        model=express(model),
        loss=express(loss),
        x=as_point(express(np.asarray(x))),
        y=as_point(express(_convert_to_array(y))),
    )
    yield from (replace(written, place=place) for place in range(len(model.trainable_variables)))


def _convert_to_array(y: Any) -> Any:
    return None if y is None else np.asarray(y)


def show_train_step(case: TrainStepCase) -> Shown | None:
    """What a step took from a variable, and the difference quotient of the loss; None where they agree."""
    try:
        setup = case.setup()
        with running(write_setup(setup)) as names:
            exec("\n".join(BOTH), names)  # noqa: S102 (see running.py)
            got, want = float(names["got"]), float(names["want"])
            # what the quotient itself may be off, of a loss that is not straight
            if find_worst(list_both(got, want)) is None or abs(got - want) < SHARP * max(abs(got), abs(want)):
                return None
            return run_setup(setup, BOTH, got=got, want=want, names=("handed over", "difference quotient"))
    except Exception:  # noqa: BLE001 (a candidate that makes no sense may raise anything)
        return None


def has_same_train_step(case: TrainStepCase, finding: Finding) -> bool:
    """Whether check_updates has the same finding."""
    try:
        with running(write_setup(case.setup())) as names:
            report = check_updates(names["model"], names["x"], names["y"], steps=1)
    except Exception:  # noqa: BLE001 (as above)
        return False
    return finding.is_in(report) and any(v.reason_code is not None and v.reason_code.is_handed for v in report.failures)


def has_own_step(model: Any) -> bool:
    """Whether a model has a train_step of its own."""
    return type(model).train_step is not keras.Model.train_step
