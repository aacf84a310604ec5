"""Conditions on specifications: names, fields, predicates of fields and shapes, and what else is in the model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from keras_ref.own_modules import registry

Shapes = Sequence[tuple[int, ...]]
#: a question about a specification; its parameters are named after the fields that it reads
Predicate = Callable[..., bool]

#: fields that name an activation
ACTIVATION_FIELDS = ("activation", "recurrent_activation")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What a specification has to be; what is left out holds for any.

    names        class names, one of which it has
    activations  names of activations, one of which a field holds
    fields       {field: values, one of which it has}
    where        a predicate of its fields (with `activations`: of the arguments that the activation is called with)
    beside       a condition that another specification of the same model fulfils
    shapes       a predicate of its fields and of `shapes`, those of its inputs; holds where they are not known
    """

    names: tuple[str, ...] = ()
    activations: tuple[str, ...] = ()
    fields: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    where: Predicate | None = None
    beside: Condition | None = None
    shapes: Predicate | None = None

    def holds(self, specification: Any, others: Iterable[Any] = (), shapes: Shapes | None = None) -> bool:
        """Whether a specification meets the condition, in a model with those `others`, on inputs of these shapes.

        Raises: KeyError for a predicate with a parameter that is no field of the specification.
        """
        if self.names and type(specification).__name__ not in self.names:
            return False
        if any(getattr(specification, name, None) not in values for name, values in self.fields.items()):
            return False
        scopes = self._scopes(specification)
        if not scopes or (self.where is not None and not any(_ask(self.where, scope) for scope in scopes)):
            return False
        known = shapes is not None and self.shapes is not None
        if known and not _ask(self.shapes, {**_fields_of(specification), "shapes": shapes}):
            return False
        return self.beside is None or any(self.beside.holds(other) for other in others if other is not specification)

    def _scopes(self, specification: Any) -> list[Mapping[str, Any]]:
        """What `where` may read: the fields, or for each activation that is meant the arguments it is called with."""
        if not self.activations:
            return [_fields_of(specification)]
        held = [getattr(specification, name, None) for name in ACTIVATION_FIELDS]
        return [_arguments_of(specification, own) for own in held if own is not None and own in self.activations]


def meets_any(
    specification: Any,
    conditions: Sequence[Condition],
    among: Iterable[Any] = (),
    shapes: Shapes | None = None,
) -> bool:
    """Whether a specification, or one in its fields, meets one of the conditions, in a model with those `among`.

    `shapes` are those of its inputs, the batch first, where they are known.
    """
    needed = among if any(condition.beside is not None for condition in conditions) else ()
    return any_meets(list_parts([specification]), conditions, list_parts(needed), shapes)


def any_meets(
    parts: Iterable[Any], conditions: Sequence[Condition], others: Iterable[Any], shapes: Shapes | None = None
) -> bool:
    """Whether one of the parts meets one of the conditions, in a model with those `others`.

    `shapes` are those of the inputs, the batch first, where they are known. For whoever asks several times about one
    model: both lists are those of `list_parts`, made once.
    """
    return any(condition.holds(part, others, shapes) for part in parts for condition in conditions)


def list_parts(specifications: Iterable[Any]) -> list[Any]:
    """The specifications and every specification inside their fields, at any depth."""
    return [part for one in specifications for part in nested_specifications(one)]


def nested_specifications(specification: Any) -> Iterator[Any]:
    """A specification and every specification inside its fields, at any depth."""
    yield specification
    if is_dataclass(specification):
        for own in fields(specification):
            for item in _flatten(getattr(specification, own.name)):
                if is_dataclass(item):
                    yield from nested_specifications(item)


def _flatten(value: Any) -> Iterator[Any]:
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _flatten(item)
    else:
        yield value


def _ask(predicate: Predicate | None, scope: Mapping[str, Any]) -> bool:
    """The predicate of the values that its parameters name. Raises: KeyError for a parameter that is no field."""
    if predicate is None:
        return True
    return bool(predicate(**{name: scope[name] for name in inspect.signature(predicate).parameters}))


def _fields_of(specification: Any) -> dict[str, Any]:
    if not is_dataclass(specification):
        return {}
    return {own.name: getattr(specification, own.name) for own in fields(specification)}


def _arguments_of(specification: Any, activation: str) -> dict[str, Any]:
    """The arguments of an activation: the specification's own `arguments` if it has such a field, and the defaults."""
    parameters = inspect.signature(registry.get("activation", activation)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return defaults | dict(getattr(specification, "arguments", {}))
