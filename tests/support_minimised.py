"""What the forty faults of tests/minimised.py are made of: a record, its registry, small models and numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np


@dataclass(frozen=True)
class Fault:
    """Something that fails a check: how it is made, and what its script has to be about.

    make   gives (subject, *inputs);   options  of minimise
    about  a text in the script that names the part at fault
    """

    name: str
    make: Callable[[], tuple[Any, ...]]
    about: str
    options: dict[str, Any] = field(default_factory=dict)
    is_planted: bool = True
    is_pair: bool = False


FAULTS: list[Fault] = []


def fault(name: str, about: str, **given: Any) -> Callable[[Callable[[], tuple[Any, ...]]], Any]:
    """Register what makes a fault."""

    def register(make: Callable[[], tuple[Any, ...]]) -> Callable[[], tuple[Any, ...]]:
        FAULTS.append(Fault(name, make, about, **given))
        return make

    return register


def found(name: str, about: str, **given: Any) -> Callable[[Callable[[], tuple[Any, ...]]], Any]:
    """Register what makes a fault of Keras or TensorFlow."""
    return fault(name, about, is_planted=False, **given)


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape)


def dense(units: int, activation: Any = "tanh", **options: Any) -> keras.layers.Layer:
    return keras.layers.Dense(units, activation, **options)


def stacked(*layers: keras.layers.Layer, shape: tuple[int, ...], loss: Any = "mse", **how: Any) -> keras.Sequential:
    model = keras.Sequential([keras.Input(shape, **how), *layers])
    model.compile(loss=loss)
    return model
