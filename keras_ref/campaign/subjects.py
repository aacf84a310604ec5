"""The operations that the campaign checks: those of keras.ops and of TensorFlow's modules, and how each is called."""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

#: the modules whose public functions are subjects
MODULES = (
    "keras.ops",
    "tensorflow.math",
    "tensorflow.linalg",
    "tensorflow.nn",
    "tensorflow.signal",
    "tensorflow.image",
    "tensorflow.sparse",
)
#: how a function is called that subjects.toml says nothing of: the first of these that gives a float from floats
CALLS: tuple[tuple[str, ...], ...] = (
    ("vector",),
    ("vector", "vector"),
    ("vector", "vector", "vector"),
    ("matrix",),
    ("matrix", "matrix"),
    ("images",),
    ("vectors",),
    ("matrix", "integer"),
)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An operation and how it is called.

    arguments   the kind of each positional argument (see points.py); those of floats are differentiated
    options     keywords
    """

    name: str
    arguments: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def function(self) -> Callable[..., Any]:
        """The operation itself."""
        return find_function(self.name)


@dataclass(frozen=True, kw_only=True)
class NotCalled:
    """An operation that is not checked, and why."""

    name: str
    reason: str


def find_function(name: str) -> Callable[..., Any]:
    """The function of a full name, as in "tensorflow.math.xlogy"."""
    module, _, attribute = name.rpartition(".")
    found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return found


def list_names(modules: Iterable[str] = MODULES) -> tuple[str, ...]:
    """The full names of all public functions of the modules, each function once."""
    found: dict[int, str] = {}
    for module in modules:
        for name, value in sorted(vars(importlib.import_module(module)).items()):
            if not name.startswith("_") and callable(value) and not isinstance(value, type):
                found.setdefault(id(value), f"{module}.{name}")
    return tuple(found.values())


def find_subject(name: str, make: Callable[[tuple[str, ...]], list[Any]]) -> Subject | NotCalled:
    """How a function is called.

    make   makes arguments of these kinds: the generic point
    """
    said = _said().get(name, {})
    if "reason" in said:
        return NotCalled(name=name, reason=said["reason"])
    options = said.get("options", {})
    calls = (tuple(said["arguments"]),) if "arguments" in said else CALLS
    reasons = []
    for arguments in calls:
        reason = _try(find_function(name), make(arguments), options)
        if not reason:
            return Subject(name=name, arguments=arguments, options=options)
        reasons.append(reason)
    best = (
        "gives no floats" if "gives no floats" in reasons else "has no gradient" if "has no gradient" in reasons else ""
    )
    return NotCalled(name=name, reason=best or f"takes other arguments ({reasons[0]})")


def _try(function: Callable[..., Any], values: list[Any], options: Mapping[str, Any]) -> str:
    """Why a function cannot be checked with these arguments; "" if it can."""
    import tensorflow as tf

    tensors = tf.nest.map_structure(
        lambda v: tf.constant(v) if isinstance(v, np.ndarray) and v.dtype.kind == "f" else v, values
    )
    watched = [t for t in tf.nest.flatten(tensors) if isinstance(t, tf.Tensor)]
    try:
        with tf.GradientTape() as tape:
            tape.watch(watched)
            outputs = [o for o in tf.nest.flatten(function(*tensors, **options)) if _is_float(o)]
            total = tf.add_n([tf.reduce_sum(tf.cast(o, tf.float64)) for o in outputs]) if outputs else None
        if total is None:
            return "gives no floats"
        gradients = tape.gradient(total, watched)
    except Exception as error:  # noqa: BLE001 (whatever a function says of arguments that it does not take)
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:80] if str(error).strip() else ''}"
    return "" if any(g is not None for g in gradients) else "has no gradient"


def _is_float(value: Any) -> bool:
    import tensorflow as tf

    return isinstance(value, tf.Tensor) and value.dtype.is_floating


@cache
def _said() -> dict[str, Any]:
    """What subjects.toml says, by name."""
    with Path(__file__).with_name("subjects.toml").open("rb") as file:
        return tomllib.load(file)
