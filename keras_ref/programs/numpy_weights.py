"""The weights of a student's program, however it keeps them: a dictionary, a list, or arrays that an object holds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from keras_ref.programs.program import is_nested
from scratch.arrays import Array

#: names under which a module or object keeps all of its weights
HOLDERS = ("weights", "params", "parameters", "WEIGHTS", "PARAMETERS", "theta")
#: functions that make them
MAKERS = (
    "initial_weights",
    "init_weights",
    "initialize_weights",
    "make_weights",
    "init_params",
    "initialize",
    "initialize_parameters",
    "init",
)


@dataclass(frozen=True)
class WeightStore:
    """Where the weights of a program are.

    owner     the module or object
    holder    the name under which it keeps all of them; "" where each is an attribute, or they are arguments only
    made      the weights as it made them; None where it has none of its own
    """

    owner: Any
    holder: str
    made: Any

    @classmethod
    def of(cls, owner: Any, *, call: Callable[[Callable[[], Any]], Any]) -> WeightStore:
        """The store of a module or object; `call` calls a function that makes weights."""
        for name in HOLDERS:
            value = getattr(owner, name, None)
            if isinstance(value, (Mapping, list, tuple)) and len(value):
                return cls(owner, name, value)
        for name in MAKERS:
            maker: Callable[[], Any] | None = getattr(owner, name, None)
            if callable(maker) and _needs_no_argument(
                maker
            ):  # one that takes sizes cannot be called: nobody knows them
                value = call(maker)
                if isinstance(value, (Mapping, list, tuple)):
                    return cls(owner, "", value)
        if isinstance(owner, ModuleType):
            return cls(owner, "", None)
        own = {name: value for name, value in list_attributes(owner).items() if is_weight(value)}
        return cls(owner, "", own or None)

    @property
    def _is_attributes(self) -> bool:
        return not isinstance(self.owner, ModuleType) and not self.holder and isinstance(self.made, dict)

    def values(self) -> dict[str, Any]:
        """The weights by name; {} where the program takes those that it is given."""
        return dict(name_arrays(self.made)) if self.made is not None else {}

    def put(self, weights: Mapping[str, Array]) -> Any:
        """The weights as the program keeps them, put where it keeps them; returned for those that take an argument."""
        made = rebuild(self.made, weights) if self.made is not None else list(weights.values())
        if self.holder:
            setattr(self.owner, self.holder, made)
        elif self._is_attributes and all(hasattr(self.owner, name) for name in weights):
            for name, value in weights.items():
                setattr(self.owner, name, np.array(value))
        return made

    def read(self, made: Any, like: Mapping[str, Array]) -> dict[str, Array]:
        """The weights after a step: from where the program keeps them, else from what it returned or changed."""
        if self._is_attributes and all(hasattr(self.owner, name) for name in like):
            return {name: np.array(getattr(self.owner, name)) for name in like}
        kept = getattr(self.owner, self.holder) if self.holder else None
        given = made if isinstance(made, (Mapping, list, tuple)) else kept
        found = dict(name_arrays(given))
        if set(found) != set(like) and len(found) == len(like):
            found = dict(zip(like, found.values(), strict=True))
        return {name: np.array(found[name]) for name in like}


def _needs_no_argument(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):
        return False
    return True


def list_attributes(owner: Any) -> dict[str, Any]:
    """{name: value} of what an object holds, in a dictionary or in slots."""
    slots = [name for cls in type(owner).__mro__ for name in vars(cls).get("__slots__", ())]
    return {name: getattr(owner, name) for name in slots if hasattr(owner, name)} | getattr(owner, "__dict__", {})


def is_weight(value: Any) -> bool:
    """Whether an attribute is a weight: an array of floats with at least one axis."""
    return isinstance(value, np.ndarray) and value.ndim > 0 and value.dtype.kind == "f"


def name_arrays(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The arrays in a dictionary or list, by their keys, joined by slashes."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from name_arrays(part, f"{prefix}{key}/")
    elif is_nested(value) and not _is_matrix(value):
        for i, part in enumerate(value):
            yield from name_arrays(part, f"{prefix}{i}/")
    elif value is not None:
        yield prefix.rstrip("/"), np.asarray(value, dtype=float)


def _is_matrix(value: Any) -> bool:
    """Whether nested lists are one array: all numbers, in rows of the same length."""
    if not isinstance(value, list) or any(isinstance(part, np.ndarray) for part in value):
        return False
    try:
        return np.asarray(value).dtype.kind in "fi"
    except ValueError:
        return False


def rebuild(made: Any, weights: Mapping[str, Array], prefix: str = "") -> Any:
    """A copy of a dictionary or list with other arrays in it."""
    if isinstance(made, Mapping):
        return {key: rebuild(part, weights, f"{prefix}{key}/") for key, part in made.items()}
    if is_nested(made) and not _is_matrix(made):
        return [rebuild(part, weights, f"{prefix}{i}/") for i, part in enumerate(made)]
    return None if made is None else np.array(weights[prefix.rstrip("/")])


def name_gradients(made: Any, owner: Any, weights: Mapping[str, Array]) -> Iterator[tuple[str, Array | None]]:
    """The gradient of each weight: by its name, by its name with d, grad_ or d_ before it, or in the same order.

    None where there is none. Where nothing is returned, the object's own attributes are looked through.
    """
    if made is None:
        made = getattr(owner, "gradients", None) or getattr(owner, "grads", None) or list_attributes(owner)
    if isinstance(made, Mapping):
        by_key = dict(name_arrays({str(k): v for k, v in made.items() if not callable(v) and not isinstance(v, str)}))
        for name in weights:
            keys = (name, *(f"{before}{name}" for before in ("d", "grad_", "d_", "g_", "delta_", "grad")))
            yield name, next((np.asarray(by_key[key]) for key in keys if key in by_key), None)
        return
    found = [value for _, value in name_arrays(list(made) if isinstance(made, tuple) else made)]
    for i, name in enumerate(weights):
        yield name, np.asarray(found[i]) if i < len(found) else None
