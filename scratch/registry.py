"""Registry of definitions: a decorator freezes the class, validates its fields and records it under its own name.

    @layer
    class Dense(Layer): ...

`get("layer", "Dense")` finds one definition, `every("layer")` all of a kind. The modules that hold definitions are
imported at the first such call, so a new definition is one class (or one activation function) in one file. Another
package has a kind of its own by `add_kind`.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from scratch.fields import Domain, frozen, read_hints

__all__ = [
    "KINDS",
    "Registered",
    "Variant",
    "activation",
    "add_kind",
    "constraint",
    "every",
    "get",
    "layer",
    "loss",
    "names",
    "optimizer",
    "read_hints",
    "regularizer",
    "schedule",
]

#: the module or package that holds the definitions of each kind
_PLACES = {
    "layer": "scratch.layers",
    "activation": "scratch.activations",
    "loss": "scratch.losses",
    "optimizer": "scratch.optimizers",
    "schedule": "scratch.schedules",
    "regularizer": "scratch.regularizers",
    "constraint": "scratch.constraints",
}
#: the kinds of scratch itself
KINDS = tuple(_PLACES)
_RECORDS: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def _make_recorder(kind: str, prepare: Callable[[T], T]) -> Callable[[T], T]:
    """The decorator of a kind: it prepares a definition and records it under its own name.

    Raises: ValueError for a second definition of the same kind and name.
    """

    def decorate(definition: T) -> T:
        place, name = (definition.__module__, definition.__qualname__), definition.__name__  # type: ignore[attr-defined]
        known = _RECORDS[kind].get(name)
        if known is not None and (known.__module__, known.__qualname__) != place:
            raise ValueError(f"A {kind} may be registered once. Received a second {name!r}. Rename one of the two.")
        _RECORDS[kind][name] = prepared = prepare(definition)
        return prepared

    decorate.__doc__ = (
        f"Register a definition of the kind {kind!r}: freeze the class, check its fields, record it under its name.\n\n"
        "Raises: ValueError for a second definition of the same kind and name."
    )
    return decorate


if TYPE_CHECKING:
    # Type checkers infer from the function of a decorator what it returns; all of these return what `frozen` returns.
    from scratch.fields import frozen as constraint
    from scratch.fields import frozen as layer
    from scratch.fields import frozen as loss
    from scratch.fields import frozen as optimizer
    from scratch.fields import frozen as regularizer
    from scratch.fields import frozen as schedule
else:
    layer, loss, optimizer, schedule, regularizer, constraint = (
        _make_recorder(kind, frozen) for kind in ("layer", "loss", "optimizer", "schedule", "regularizer", "constraint")
    )


@overload
def activation(function: F) -> F: ...
@overload
def activation(*, elementwise: bool = True) -> Callable[[F], F]: ...
def activation(function: F | None = None, *, elementwise: bool = True) -> F | Callable[[F], F]:
    """Register a function of an array (and keyword arguments) as an activation.

    `function` takes an array of any shape and returns one, in the same dtype. `elementwise=False` says that an output
    entry depends on other input entries too (softmax). Raises: ValueError for a second activation of the same name.
    """

    def mark(function: F) -> F:
        function.elementwise = elementwise  # type: ignore[attr-defined]
        return function

    decorate = _make_recorder("activation", mark)
    return decorate if function is None else decorate(function)


def add_kind(kind: str, *, package: str) -> Callable[[T], T]:
    """The decorator that registers definitions of a new `kind`, which are in the modules of `package`.

    Raises: ValueError, from the decorator, for a second definition of the same name.
    """
    _PLACES[kind] = package
    _RECORDS.setdefault(kind, {})
    return _make_recorder(kind, lambda definition: definition)


@cache
def _discover(place: str) -> None:
    """Import a module, or every module of a package, that holds definitions."""
    module = importlib.import_module(place)
    for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
        importlib.import_module(f"{place}.{found.name}")


def every(kind: str) -> Mapping[str, Any]:
    """All registered definitions of a kind, by name. Raises: ValueError for an unknown kind."""
    if kind not in _PLACES:
        raise ValueError(f"A kind must be one of {', '.join(_PLACES)}. Received: {kind!r}. Use one of them.")
    _discover(_PLACES[kind])
    return MappingProxyType(_RECORDS[kind])


def names(kind: str) -> tuple[str, ...]:
    """The registered names of a kind, sorted. Raises: ValueError for an unknown kind."""
    return tuple(sorted(every(kind)))


class Variant(str):
    """The name of a registered definition in whose place another one, `definition`, is to be taken.

    It stands in the field of a specification where the name would: a model with the gelu that a program really has,
    say, beside the model with gelu itself.
    """

    __slots__ = ("definition",)
    definition: Any

    @classmethod
    def of(cls, name: str, definition: Any) -> Variant:
        """The name, standing for this definition."""
        variant = cls(name)
        variant.definition = definition
        return variant


def get(kind: str, name: str) -> Any:
    """The definition of that kind and name.

    Raises: ValueError if there is none (with the nearest names), or for an unknown kind.
    """
    known = every(kind)
    if isinstance(name, Variant):
        return name.definition
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4) or sorted(known)[:5]
        raise ValueError(
            f"A {kind} must be registered in scratch to have a twin. Received: {name!r}. "
            f"Use one of the registered ones ({', '.join(near)}, …) or write it in scratch/."
        )
    return known[name]


@dataclass(frozen=True)
class Registered(Domain):
    """The name of a registered definition of a kind: of an activation, a layer, …"""

    kind: str

    @property
    def rule(self) -> str:
        return f"must be a registered {self.kind}"

    def holds(self, value: Any) -> bool:
        """Whether `value` is a registered name. Raises: ValueError for an unknown kind."""
        return isinstance(value, str) and value in names(self.kind)
