"""Who is there: a decorator on a definition freezes it, checks its fields, and records it under its own name.

    @layer
    class Dense(Layer): ...

`get("layer", "Dense")` finds one, `every("layer")` lists all; the modules that hold definitions are imported when
first asked for, so adding one means writing one class (or one activation function) in one file, and nothing else.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from types import MappingProxyType
from typing import Any, TypeVar, dataclass_transform, get_type_hints

from scratch.fields import Domain, checked

KINDS = ("layer", "activation", "loss", "optimizer", "schedule", "regularizer", "constraint")
_PLACES = ("layers", "activations", "losses", "optimizers", "schedules", "regularizers", "constraints")
_RECORDS: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}

T = TypeVar("T")


def _record(kind: str, name: str, thing: T) -> T:
    known = _RECORDS[kind].get(name)
    if known is not None and (known.__module__, known.__qualname__) != (thing.__module__, thing.__qualname__):  # type: ignore[attr-defined]
        raise ValueError(f"A {kind} may be registered once. Received a second {name!r}. Rename one of the two.")
    _RECORDS[kind][name] = thing
    return thing


@cache
def hints(cls: Any) -> Mapping[str, Any]:
    """The annotations of a registered class or function, domains included."""
    return get_type_hints(cls, include_extras=True)


def _check_fields(self: Any) -> None:
    cls: Any = type(self)
    own = hints(cls)
    for field in fields(self):
        value = checked(type(self).__name__, field.name, own[field.name], getattr(self, field.name))
        object.__setattr__(self, field.name, value)
    check = getattr(self, "check", None)
    if check is not None:
        check()


def _freeze(cls: type[T]) -> type[T]:
    cls.__post_init__ = _check_fields  # type: ignore[attr-defined]
    return dataclass(frozen=True)(cls)


def _recorder(kind: str) -> Callable[[type[T]], type[T]]:
    @dataclass_transform(frozen_default=True)
    def decorate(cls: type[T]) -> type[T]:
        frozen = _freeze(cls)
        forward = getattr(frozen, "forward", None)
        if forward is not None:
            frozen.accepts = frozenset(inspect.signature(forward).parameters)  # type: ignore[attr-defined]
        return _record(kind, cls.__name__, frozen)

    decorate.__doc__ = f"Freeze the decorated class and register it as a {kind}."
    return decorate


@dataclass_transform(frozen_default=True)
def layer(cls: type[T]) -> type[T]:
    """Freeze the decorated class and register it as a layer."""
    return _recorder("layer")(cls)


@dataclass_transform(frozen_default=True)
def loss(cls: type[T]) -> type[T]:
    """Freeze the decorated class and register it as a loss."""
    return _recorder("loss")(cls)


@dataclass_transform(frozen_default=True)
def optimizer(cls: type[T]) -> type[T]:
    """Freeze the decorated class and register it as an optimizer."""
    return _recorder("optimizer")(cls)


@dataclass_transform(frozen_default=True)
def schedule(cls: type[T]) -> type[T]:
    """Freeze the decorated class and register it as a learning-rate schedule."""
    return _recorder("schedule")(cls)


@dataclass_transform(frozen_default=True)
def regularizer(cls: type[T]) -> type[T]:
    """Freeze the decorated class and register it as a regularizer."""
    return _recorder("regularizer")(cls)


@dataclass_transform(frozen_default=True)
def constraint(cls: type[T]) -> type[T]:
    """Freeze the decorated class and register it as a constraint."""
    return _recorder("constraint")(cls)


def activation(function: Callable[..., Any] | None = None, *, elementwise: bool = True) -> Any:
    """Register a function of an array (and keyword arguments) as an activation.

    `elementwise=False` says that an output entry depends on other input entries (softmax).
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        function.elementwise = elementwise  # type: ignore[attr-defined]
        return _record("activation", function.__name__, function)

    return decorate if function is None else decorate(function)


@cache
def _discover() -> None:
    """Import every module of scratch that may hold definitions."""
    for place in _PLACES:
        name = f"scratch.{place}"
        if importlib.util.find_spec(name) is None:
            continue
        module = importlib.import_module(name)
        for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
            importlib.import_module(f"{name}.{found.name}")


def every(kind: str) -> Mapping[str, Any]:
    """All registered things of a kind, by name. Raises: ValueError for an unknown kind."""
    if kind not in KINDS:
        raise ValueError(f"A kind must be one of {', '.join(KINDS)}. Received: {kind!r}. Use one of them.")
    _discover()
    return MappingProxyType(_RECORDS[kind])


def names(kind: str) -> tuple[str, ...]:
    """The registered names of a kind, sorted."""
    return tuple(sorted(every(kind)))


def get(kind: str, name: str) -> Any:
    """The registered thing of that kind and name. Raises: ValueError, with the nearest names, if there is none."""
    known = every(kind)
    if name not in known:
        import difflib

        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4) or sorted(known)[:5]
        raise ValueError(
            f"A {kind} must be registered in scratch to have a twin. Received: {name!r}. "
            f"Use one of the registered ones ({', '.join(near)}, …) or write it in scratch/."
        )
    return known[name]


@dataclass(frozen=True)
class Registered(Domain):
    """The name of a registered activation, layer, …"""

    kind: str

    @property
    def rule(self) -> str:
        return f"must be a registered {self.kind}"

    def holds(self, value: Any) -> bool:
        return isinstance(value, str) and value in names(self.kind)
