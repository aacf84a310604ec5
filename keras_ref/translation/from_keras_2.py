"""An optimizer of Keras 2 (tf_keras) as that of Keras 3 which has the same law: its class and arguments are alike."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np

from keras_ref.translation.specifications import NoTwin

#: optimizers whose law did not change from Keras 2 to 3, and whose arguments have the same names; Nadam's product of
#: momenta is kept in another precision, and AdamW decays by patterns of its own
SAME_LAW = frozenset(("SGD", "Adam", "RMSprop", "Adagrad", "Adadelta", "Adamax", "Ftrl", "Lion"))
#: arguments of Keras 2 that are no part of the law
NO_LAW = frozenset(("name", "jit_compile", "is_legacy_optimizer", "learning_rate"))


def as_keras_3(optimizer: Any) -> Any:
    """The optimizer of Keras 3 with the configuration of one of Keras 2 that has taken no step yet. Raises: NoTwin."""
    name, config = type(optimizer).__name__, optimizer.get_config()
    cls = getattr(keras.optimizers, name, None) if name in SAME_LAW else None
    if cls is None or type(optimizer).__module__.rpartition(".")[0].endswith("legacy"):
        raise NoTwin(f"An optimizer of Keras 2 must have the law of Keras 3's to have a twin. Received: {name}.")
    given = {key: value for key, value in config.items() if key not in NO_LAW and value is not None}
    unknown = [key for key in given if key not in inspect.signature(cls).parameters]
    if unknown or given.pop("weight_decay", None):
        raise NoTwin(
            "An optimizer of Keras 2 must have the arguments of Keras 3's, and no weight decay, to have a twin. "
            f"Received: {name} with {', '.join(unknown) or 'weight_decay'}."
        )
    rate = optimizer._learning_rate  # `learning_rate` is the present value of a schedule
    if not hasattr(rate, "numpy"):
        raise NoTwin(
            f"An optimizer of Keras 2 must have a constant rate to have a twin. Received: {name} with {rate!r}."
        )
    return cls(learning_rate=float(np.asarray(rate.numpy())), **given)
