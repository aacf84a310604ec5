"""Exceptions, by family: where Keras's name, fields or weights are not those of the definition in scratch/.

    @mirrors("Softmax")                     scratch → Keras: (specification, **keras_options) → Keras object
    def softmax(spec, **options): ...

    @reflects("Softmax")                    Keras → scratch: Keras object → specification
    def softmax_back(keras_layer): ...

Files are named after those of scratch/. They are imported when an exception is first looked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any

_MIRRORS: dict[str, Callable[..., Any]] = {}
_REFLECTIONS: dict[str, Callable[[Any], Any]] = {}


def _make_recorder(table: dict[str, Callable[..., Any]], names: tuple[str, ...]) -> Callable[[Callable[..., Any]], Any]:
    """The decorator that enters a function in a table under each name. Raises: ValueError for a name that is there."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            if name in table:
                raise ValueError(
                    f"There may be one exception for each name. Received a second for {name!r}. Remove one."
                )
            table[name] = function
        return function

    return decorate


def mirrors(*names: str) -> Callable[[Callable[..., Any]], Any]:
    """Register how the scratch definitions of these `names` become Keras objects.

    The decorated function takes (specification, **keras_options) and returns the Keras object.
    Raises: ValueError, from the decorator, for a name that has an exception already.
    """
    return _make_recorder(_MIRRORS, names)


def reflects(*names: str) -> Callable[[Callable[..., Any]], Any]:
    """Register how the Keras classes of these `names` become scratch definitions.

    The decorated function takes the Keras object and returns the specification.
    Raises: ValueError, from the decorator, for a name that has an exception already.
    """
    return _make_recorder(_REFLECTIONS, names)


@cache
def _discover() -> None:
    for found in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{found.name}")


def find_mirror(name: str) -> Callable[..., Any] | None:
    """The exception for a scratch definition, or None."""
    _discover()
    return _MIRRORS.get(name)


def find_reflection(name: str) -> Callable[[Any], Any] | None:
    """The exception for a Keras class, or None."""
    _discover()
    return _REFLECTIONS.get(name)
