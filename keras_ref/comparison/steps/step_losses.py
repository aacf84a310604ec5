"""The slopes of the losses that a train_step of a model's own computes, each at the weights at which it is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from keras_ref.comparison.sources.autodiff import run_autodiff
from keras_ref.comparison.sources.oracles import Oracles
from keras_ref.comparison.steps.optimizer_step import NumericGradient
from keras_ref.comparison.steps.step_slopes import allow_kinks, note_unseen, numeric_gradient
from keras_ref.comparison.steps.train_step_losses import NoStepLoss, differentiated_loss, own_optimizers
from keras_ref.comparison.steps.train_step_recording import TakenGradient
from keras_ref.comparison.steps.training_steps import Precision
from keras_ref.errors import UserCodeFailed, shorten_error
from keras_ref.evaluation.keras_objects.keras_parts import unwrap_variable
from keras_ref.evaluation.loss_function import Data, LossFunction

#: makes the loss function of a loss of data, over the trained variables
MakeLoss = Callable[[Callable[[Data], Any]], LossFunction]

#: with which weights a loss was differenced that the step computed otherwise
SAME = "with the same weights and data"
PRESENT = "with the weights that it has when it takes the gradient"
FIRST = "with the weights that it begins with, where no optimizer acts"


@dataclass(frozen=True)
class LossSlopes:
    """The slopes of a loss that a step computes, by name; or why there are none."""

    slopes: Mapping[str, NumericGradient] = field(default_factory=dict)
    value: float = float("nan")
    noise: float = 0.0
    why_not: str = ""
    notes: tuple[str, ...] = ()

    def repeated(self, value: float, what: str, where: str) -> LossSlopes:
        """The slopes, if the step itself computed the loss that was differenced.

        where   with which weights and data, in words
        """
        if self.why_not or abs(value - self.value) <= 2 * self.noise:
            return self
        why_not = f"the loss that it {what} is {value:.15g} and {self.value:.15g} {where}"
        return LossSlopes(why_not=why_not, notes=self.notes)


@dataclass
class StepLosses:
    """The losses that a model's train step computes, each traced once, and their slopes."""

    model: keras.Model
    trained: Mapping[str, Any]
    make: MakeLoss
    oracles_at: Callable[[LossFunction], Oracles]
    precision: Precision
    functions: dict[int, LossFunction] = field(default_factory=dict)

    def measure_returned(self, loss: LossFunction, data: Data) -> LossSlopes:
        """The slopes of the returned loss by all trained weights, at the present ones."""
        return self._measure_slopes(lambda: loss.refresh(data), "returns")

    def measure_differentiated(self, taken: TakenGradient, data: Data) -> LossSlopes:
        """The slopes of the loss of a gradient that the step took, by the variables that it took it by.

        The state must be that at the step's start; the trained weights are assigned.
        """
        for name, value in taken.weights.items():
            unwrap_variable(self.trained[name]).assign(value)

        def made() -> LossFunction:
            if taken.number not in self.functions:
                loss = differentiated_loss(
                    self.model,
                    own_optimizers(self.model),
                    [*self.trained.values()],
                    taken.number,
                    dtype=self.precision.dtype,
                )
                self.functions[taken.number] = self.make(loss)
            return self.functions[taken.number].refresh(data)

        found = self._measure_slopes(made, "differentiates", taken.sources)
        return found.repeated(taken.value, "differentiates", SAME if taken.is_there else PRESENT)

    def _measure_slopes(self, made: Callable[[], LossFunction], what: str, names: Sequence[str] = ()) -> LossSlopes:
        """The slopes by these names; by all that autodiff connects with the loss where none are given."""
        try:
            loss = made()
            gathered = self.oracles_at(loss)
            autodiff = run_autodiff(loss, loss.values)
        except NoStepLoss as error:
            return LossSlopes(why_not=str(error))
        except UserCodeFailed as failed:
            return LossSlopes(
                why_not=f"the loss that it {what} cannot be differenced: {shorten_error(failed.error).rstrip('.')}"
            )
        oracle = gathered.oracles[-1]
        slopes = {}
        for name in names or [name for name, g in autodiff.gradient.items() if g is not None]:
            numeric = numeric_gradient(oracle, name)
            if autodiff.gradient[name] is not None:
                numeric = allow_kinks(numeric, oracle, name, autodiff=autodiff, seed=0)
            # the backward pass inside the step rounds like the one around it, in an order of its own
            rounding = 2 * autodiff.rounding[name] + self.precision.unit * np.abs(numeric.slope)
            slopes[name] = replace(numeric, error=numeric.error + rounding)
        noise = float(oracle.noise) + 32 * self.precision.unit * abs(float(oracle.base))
        return LossSlopes(slopes, float(oracle.base), noise, notes=(*gathered.notes, *note_unseen(slopes)))
