"""The registry of laws, and how a model and its losses are given those of some entries."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from keras_ref.translation.departures.conditions import ACTIVATION_FIELDS, Shapes, list_parts
from keras_ref.translation.departures.entries import Departure, get_departure
from scratch.objective import Objective
from scratch.registry import Variant

#: modules of this package that hold laws
MODULES = ("activations", "losses", "layers", "recurrent")


@dataclass(frozen=True)
class Law:
    """What Keras computes instead, as a function of one specification, or of a whole model with its losses."""

    change: Callable[[Any], Any]
    in_model: bool = False


_LAWS: dict[str, Law] = {}


def instead(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Register what Keras computes in the place of a specification, under the function's name."""
    _LAWS[_id_of(function)] = Law(function)
    return function


def instead_in_model(function: Callable[[Objective], Objective]) -> Callable[[Objective], Objective]:
    """Register what Keras computes in the place of a model with its losses, under the function's name."""
    _LAWS[_id_of(function)] = Law(function, in_model=True)
    return function


def _id_of(function: Callable[..., Any]) -> str:
    return function.__name__.replace("_", "-")


@cache
def load_laws() -> Mapping[str, Law]:
    """The laws by the ids of their entries. Raises: ValueError for a law of no entry."""
    for name in MODULES:
        importlib.import_module(f"keras_ref.translation.departures.laws.{name}")
    for known in _LAWS:
        get_departure(known)
    return _LAWS


def states_law(known: str) -> bool:
    """Whether an entry states what Keras computes instead."""
    return known in load_laws()


# Laws in the place of definitions ------------------------------------------------------------------------------------


def as_keras(objective: Objective, ids: Iterable[str], shapes: Mapping[str, Shapes]) -> Objective:
    """The objective with what Keras computes instead, by the laws of these entries, in the parts that show them.

    shapes   those of the inputs of each layer, by name
    """
    for known in ids:
        law, entry = load_laws()[known], get_departure(known)
        if law.in_model:
            objective = law.change(objective)
            continue
        model = objective.model
        among = (*model.layers.values(), *filter(None, objective.losses))
        layers = {
            name: _changed(layer, entry, law.change, among=among, shapes=shapes.get(name))
            for name, layer in model.layers.items()
        }
        losses = tuple(
            None if loss is None else _changed(loss, entry, law.change, among=among) for loss in objective.losses
        )
        objective = replace(objective, model=replace(model, layers=layers), losses=losses)
    return objective


def _changed(
    specification: Any,
    entry: Departure,
    change: Callable[[Any], Any],
    *,
    among: tuple[Any, ...],
    shapes: Shapes | None = None,
) -> Any:
    """A specification with a law in the place of each part of it that shows the entry; itself where none does."""

    def inside(value: Any) -> Any:
        if isinstance(value, tuple):
            parts = tuple(map(inside, value))
            return parts if any(a is not b for a, b in zip(parts, value, strict=True)) else value
        return _changed(value, entry, change, among=among) if is_dataclass(value) else value

    held = {own.name: getattr(specification, own.name) for own in fields(specification) if own.init}
    new = {name: inside(value) for name, value in held.items()}
    if any(new[name] is not value for name, value in held.items()):
        specification = replace(specification, **new)
    others = list_parts(among)
    shows = any(condition.holds(specification, others, shapes) for condition in entry.applies)
    return change(specification) if shows else specification


def with_activation(specification: Any, name: str, function: Callable[..., Any]) -> Any:
    """A specification in which a function is called wherever the activation of that name was."""
    held = (*ACTIVATION_FIELDS, "function")
    found = [field for field in held if getattr(specification, field, None) == name]
    return replace(specification, **{field: Variant.of(name, function) for field in found}) if found else specification


def altered(specification: Any, methods: type) -> Any:
    """A specification with methods of another class in the place of its own; `super()` are its own."""
    cls = type(specification)
    values = {own.name: getattr(specification, own.name) for own in fields(specification) if own.init}
    return specification if issubclass(cls, methods) else _made(methods, cls, values)


def _made(methods: type, cls: type, values: Mapping[str, Any]) -> Any:
    return _altered_class(methods, cls)(**values)


@cache
def _altered_class(methods: type, cls: Any) -> type:
    def reduced(self: Any) -> Any:
        values = {own.name: getattr(self, own.name) for own in fields(self) if own.init}
        return _made, (methods, cls, values)

    made = type(cls.__name__, (methods, cls), {"__reduce__": reduced, "__doc__": cls.__doc__})
    if hasattr(cls, "accepts"):
        made.accepts = cls.accepts  # type: ignore[attr-defined]
    return made


def rounded(value: Any) -> Any:
    """A number, or (nested) tuples of numbers, as float32 holds it."""
    return tuple(map(rounded, value)) if isinstance(value, tuple) else float(np.float32(value))
