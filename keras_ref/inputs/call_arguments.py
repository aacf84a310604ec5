"""The arguments of a call of a layer or function: arrays are data, the rest stays as it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.errors import BadInput
from keras_ref.evaluation.changed_state.restoration import Restoration
from keras_ref.evaluation.changed_state.traced_functions import trace_anew
from keras_ref.evaluation.keras_objects.keras_parts import list_layers
from keras_ref.evaluation.loss_function import Data
from keras_ref.inputs.arrays import as_arrays


@dataclass(frozen=True)
class CallArguments:
    """The arguments of one call.

    x            the arrays, by parameter; the array alone where there is one
    data         names of the parameters that are arrays
    positional   names of the parameters that are passed by position, in order
    fixed        all other arguments, by parameter
    """

    x: Any
    data: tuple[str, ...]
    positional: tuple[str, ...]
    fixed: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        inputs: Sequence[Any],
        keywords: Mapping[str, Any],
        *,
        may_lack_data: bool = False,
    ) -> CallArguments:
        """From a call: numbers by position are arrays, numbers by keyword are not.

        Raises: BadInput without arrays, unless they may be lacking.
        """
        names = _name_parameters(function, len(inputs))
        given = {**dict(zip(names, map(_convert_to_array, inputs), strict=True)), **keywords}
        given = {name: as_arrays(value) for name, value in given.items()}
        data = tuple(name for name, value in given.items() if _is_data(value))
        if not data and not may_lack_data:
            raise BadInput(
                "A check must have at least one array to call with. Received: none. "
                "Pass the inputs after the layer or function."
            )
        x = given[data[0]] if len(data) == 1 else {name: given[name] for name in data}
        return cls(x, data, names, {name: value for name, value in given.items() if name not in data})

    @property
    def has_float64(self) -> bool:
        """Whether any of the arrays is in float64, which is what NumPy makes where nothing is said."""
        return any(tf.as_dtype(leaf.dtype) == tf.float64 for leaf in tf.nest.flatten(self.x))

    def call(self, function: Callable[..., Any], x: Any, **more: Any) -> Any:
        """Call a function with these arguments, `x` in place of the arrays, and `more` in place of others."""
        given = {**self.fixed, **more, **({self.data[0]: x} if len(self.data) == 1 else dict(x))}
        keywords = {name: value for name, value in given.items() if name not in self.positional}
        return function(*(given[name] for name in self.positional), **keywords)

    def find_touched(
        self, function: Callable[..., Any], keras_objects: Sequence[Any]
    ) -> tuple[list[tf.Variable], str | None]:
        """(TensorFlow variables, dtype) that a trace of the call uses: those it reads or writes, and that of its data.

        The attributes of the Keras objects, which the function holds, are afterwards what they were. The dtype is None
        where the data are used as given. Without variables where the call cannot be traced.
        """
        for dtype in (None, "float32", "float64", "float16", "bfloat16"):
            x = Data(self.x).tensors(dtype).x
            try:
                with Restoration() as restoration:
                    for layer in (layer for one in keras_objects for layer in list_layers(one)):
                        restoration.keep_attributes(layer)
                    trace_anew(restoration, {}, None)  # the user's functions keep the traces that they have
                    graph = tf.function(partial(self.call, function, x), autograph=False).get_concrete_function().graph
            except Exception:  # noqa: BLE001, S112 (what user code raises here, the check meets again and reports)
                continue
            return list(graph.variables), dtype
        return [], None


def _name_parameters(function: Callable[..., Any], count: int) -> tuple[str, ...]:
    """Names of `count` positional arguments: those of the function's parameters where it has them, else 0, 1, …"""
    try:
        known = [
            p.name
            for p in inspect.signature(function).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        known = []
    return tuple(known[i] if i < len(known) else str(i) for i in range(count))


def _convert_to_array(value: Any) -> Any:
    """A number, or a list of nothing but numbers, as an array; anything else as it is."""
    leaves = tf.nest.flatten(value)
    plain = leaves and all(
        isinstance(leaf, float) or (isinstance(leaf, int) and not isinstance(leaf, bool)) for leaf in leaves
    )
    return np.asarray(value) if plain and isinstance(value, (list, tuple, float)) else value


def _is_data(value: Any) -> bool:
    """Whether a value is an array or tensor, or a nesting of them."""
    leaves = tf.nest.flatten(value)
    return bool(leaves) and all(
        isinstance(leaf, (np.ndarray, np.generic, tf.Tensor, tf.RaggedTensor, tf.SparseTensor)) for leaf in leaves
    )


def find_keras_objects(function: Callable[..., Any]) -> list[Any]:
    """The Keras layers and losses that a function is, is a method of, or uses as closed-over or global variables.

    Those of functions that it uses so are among them, where they are closed over or of the same module.
    """
    found = {id(one): one for one in _find_reached(function, set())}
    return [one for one in found.values() if isinstance(one, (keras.layers.Layer, keras.losses.Loss))]


def _find_reached(function: Any, seen: set[int]) -> list[Any]:
    """What a function is, is a method of, and uses."""
    function = getattr(function, "func", function)  # of a functools.partial
    function = getattr(function, "python_function", function)  # of a tf.function
    found = [function, getattr(function, "__self__", None)]
    if not inspect.isfunction(function) or id(function) in seen:
        return found
    seen.add(id(function))
    names = inspect.getclosurevars(function)
    closed_over = _list_parts(list(names.nonlocals.values()), set())
    of_module = _list_parts(list(names.globals.values()), set())
    followed = [one for one in closed_over if callable(one)]
    followed += [one for one in of_module if callable(one) and getattr(one, "__module__", "") == function.__module__]
    found += [*closed_over, *of_module]
    for one in followed:
        if not isinstance(one, (type, keras.layers.Layer, keras.losses.Loss)):
            found += _find_reached(one, seen)
    return found


def _list_parts(value: Any, seen: set[int]) -> list[Any]:
    """What lists, tuples and dictionaries hold, whatever their keys: TensorFlow sorts those, which not all can be."""
    if not isinstance(value, (list, tuple, dict)) or id(value) in seen:
        return [value]
    seen.add(id(value))
    inside = value.values() if isinstance(value, dict) else value
    return [part for one in list(inside) for part in _list_parts(one, seen)]
