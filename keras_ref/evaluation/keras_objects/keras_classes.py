"""Classes of Keras by what they are in every release that is supported, whatever the releases call them."""

from __future__ import annotations

from typing import Any

import keras

#: what every variable that Keras makes is an instance of; keras.Variable itself was once a class beside those
KerasVariable = next(one for one in reversed(keras.Variable.__mro__) if one.__module__.partition(".")[0] == "keras")


def find_optimizer_class(name: str) -> Any:
    """An optimizer's class; in a release that does not have it (), of which nothing is an instance."""
    return getattr(keras.optimizers, name, ())
