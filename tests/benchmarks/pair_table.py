"""The table of pairs of programs, 20 equal ones and 20 with a planted difference; other files fill it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


@dataclass(frozen=True)
class Pair:
    """Two programs. make(wrong) → (a, b, x, y); a difference is expected at one of `places`, in `stage`."""

    name: str
    make: Callable[[bool], tuple[Any, Any, Any, Any]]
    places: tuple[str, ...]
    stage: str
    needs: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


PAIRS: list[Pair] = []


def pair(name: str, places: str, stage: str, *, needs: str = "", **options: Any) -> Callable[[Any], Any]:
    def register(make: Any) -> Any:
        PAIRS.append(Pair(name, make, tuple(places.split()), stage, tuple(needs.split()), options))
        return make

    return register


def sequential(
    shape: tuple[int, ...], *layers: Any, optimizer: Any = "sgd", loss: Any = "mse", library: Any = None
) -> Any:
    import keras

    library = library or keras
    model = library.Sequential([library.Input(shape), *layers])
    if loss is not None:
        model.compile(optimizer=optimizer, loss=loss)
    return model
