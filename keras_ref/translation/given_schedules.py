"""Learning-rate schedules of the user's own: the twin takes their rates as data, with the error of their precision."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from keras_ref.errors import running_user_code
from keras_ref.evaluation.graphs.operation_rounding import FLOATS, unit_of
from scratch.differences import UNIT
from scratch.schedules import Schedule


@dataclass(frozen=True)
class GivenSchedule(Schedule):
    """The rates that a schedule of Keras 2 or 3 gives, which has no definition in scratch.

    schedule   a function of the number of steps taken
    unit       the unit of the coarsest precision that it computes a rate in
    rates      what it has given, by the number of steps
    """

    schedule: Any
    unit: float = UNIT
    rates: dict[int, float] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, schedule: Any) -> GivenSchedule:
        """The rates of a schedule. Raises: UserCodeFailed where it raises."""
        with running_user_code():
            traced = tf.function(schedule.__call__, autograph=False)
            graph = traced.get_concrete_function(tf.TensorSpec([], tf.int64)).graph
        dtypes = {out.dtype for operation in graph.get_operations() for out in operation.outputs}
        return cls(schedule, max([UNIT, *(unit_of(dtype) for dtype in dtypes if dtype in FLOATS)]))

    def __call__(self, step: int) -> float:
        if step not in self.rates:
            with running_user_code():
                self.rates[step] = float(self.schedule(tf.constant(step, tf.int64)))
        return self.rates[step]

    @property
    def initial_learning_rate(self) -> float:
        """The largest rate so far, which later ones may be differences of (1 + cos π cancels)."""
        return max(map(abs, self.rates.values()), default=0.0)


class ScheduleOfKeras2(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A schedule of the user's own for Keras 2, as one of Keras 3."""

    def __init__(self, schedule: Any) -> None:
        super().__init__()
        self.schedule = schedule

    def __call__(self, step: Any) -> Any:
        return self.schedule(step)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": self.schedule}
