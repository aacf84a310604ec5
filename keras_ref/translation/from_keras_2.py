"""An optimizer of Keras 2 (tf_keras) as that of Keras 3 which has the same law: its class and arguments are alike."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_ref.evaluation.changed_state.keras_2 import unwrap_optimizer
from keras_ref.evaluation.changed_state.restoration import Restoration
from keras_ref.translation.given_schedules import ScheduleOfKeras2
from keras_ref.translation.specifications import NoTwin

#: optimizers whose law did not change from Keras 2 to 3, and whose arguments have the same names
SAME_LAW = frozenset(("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "Ftrl", "Lion"))
#: those of one definition: Nadam's laws differ in a constant, which departs from it in both
SAME_DEFINITION = SAME_LAW | {"Nadam"}
#: schedules likewise
SAME_SCHEDULES = frozenset(
    (
        *("CosineDecay", "CosineDecayRestarts", "ExponentialDecay", "InverseTimeDecay", "PiecewiseConstantDecay"),
        "PolynomialDecay",
    )
)
#: arguments of Keras 2 that are no part of the law
NO_LAW = frozenset(("name", "jit_compile", "is_legacy_optimizer", "learning_rate"))


def as_keras_3(optimizer: Any) -> Any:
    """The optimizer of Keras 3 with the configuration of one of Keras 2 that has taken no step yet.

    That of an optimizer of mixed precision is the one inside: it takes gradients of the loss without its scale.
    Raises: NoTwin.
    """
    optimizer = unwrap_optimizer(optimizer)
    name, rate = type(optimizer).__name__, optimizer._learning_rate  # `learning_rate` is a schedule's present value
    if name not in SAME_DEFINITION or type(optimizer) is not getattr(sys.modules["tf_keras"].optimizers, name):
        raise NoTwin(f"An optimizer of Keras 2 must have the law of Keras 3's to have a twin. Received: {name}.")
    own = float(np.asarray(rate.numpy())) if hasattr(rate, "numpy") else convert_schedule(rate)
    with Restoration() as restoration:  # a schedule of the user's own need not have a configuration
        restoration.set_attribute(optimizer, "_learning_rate", 0.0)
        config = optimizer.get_config()
    given = {key: value for key, value in config.items() if key not in NO_LAW and value is not None}
    return _make(name, keras.optimizers, {"learning_rate": own, **given})


def convert_schedule(schedule: Any) -> Any:
    """The schedule of Keras 3 with the configuration of one of Keras 2; the user's own gives its rates as they are.

    Raises: NoTwin for one with another law in Keras 3.
    """
    name = type(schedule).__name__
    if type(schedule) is not getattr(sys.modules["tf_keras"].optimizers.schedules, name, None):
        return ScheduleOfKeras2(schedule)
    if name not in SAME_SCHEDULES:
        raise NoTwin(f"A schedule of Keras 2 must have the law of Keras 3's to have a twin. Received: {name}.")
    plain = {key: np.asarray(value).tolist() for key, value in schedule.get_config().items() if value is not None}
    return _make(name, keras.optimizers.schedules, plain)


def keeps_its_weight(optimizer: Any, variable: Any) -> bool:
    """Whether an optimizer of Keras 2 leaves a variable out of its weight decay."""
    inner = unwrap_optimizer(optimizer)
    return bool(inner.weight_decay) and not inner._use_weight_decay(variable)


def _make(name: str, home: Any, given: Mapping[str, Any]) -> Any:
    """An object of Keras 3 by its class and arguments. Raises: NoTwin."""
    cls = getattr(home, name)
    unknown = [key for key in given if key not in inspect.signature(cls).parameters]
    if unknown:
        raise NoTwin(
            f"A {name} of Keras 2 must have the arguments of Keras 3's to have a twin. Received: {', '.join(unknown)}."
        )
    return cls(**given)
