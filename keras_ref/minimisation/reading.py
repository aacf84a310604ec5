"""Live objects as expressions: layers, models, losses and optimizers by their configurations, arrays by their values,
functions and classes by their public names or their source."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from types import ModuleType
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.api_export import get_name_from_symbol

from keras_ref.minimisation.expressions import Call, Expression, Imported, Listing, Table, Values, is_dotted_name
from keras_ref.minimisation.source import NotWritable, inline_source

#: entries of a configuration that say nothing of what is computed
NAMES = frozenset(("name", "dtype", "trainable", "autocast", "build_config", "registered_name"))
#: where TensorFlow's and NumPy's functions are looked for by identity
HOMES = ("tensorflow", *(f"tensorflow.{m}" for m in ("math", "linalg", "nn", "signal", "image", "sparse", "raw_ops")))
#: classes that are made from a configuration
CONFIGURED = (
    keras.layers.Layer,
    keras.losses.Loss,
    keras.optimizers.Optimizer,
    keras.optimizers.schedules.LearningRateSchedule,
    keras.initializers.Initializer,
    keras.regularizers.Regularizer,
    keras.constraints.Constraint,
    keras.DTypePolicy,
)


def express(value: Any) -> Expression:
    """A live value as an expression. Raises: NotWritable."""
    for kinds, write in RULES:
        if isinstance(value, kinds):
            return write(value)
    return find_reference(value) if callable(value) and hasattr(value, "__name__") else _read_remembered(value)


def _read_mapping(value: Mapping[Any, Any]) -> Table:
    return Table(tuple((key, express(item)) for key, item in value.items()))


def _read_module(value: ModuleType) -> Imported:
    if not is_dotted_name(value.__name__):
        raise NotWritable(f"a module {value.__name__!r} cannot be imported by its name")
    return Imported(value.__name__, "")


def _read_partial(value: functools.partial[Any]) -> Call:
    keywords = tuple((name, express(item)) for name, item in value.keywords.items())
    return Call(Imported("functools", "partial"), tuple(map(express, (value.func, *value.args))), keywords)


def _read_sequential(layers: Iterable[Any]) -> Call:
    return Call(Imported("keras", "Sequential"), (Listing(tuple(map(express, layers))),))


def _read_model(value: Any) -> Call:
    layers = _find_chain(value)
    if layers is not None:
        return _read_sequential(layers)
    if type(value).__module__.startswith("keras."):
        raise NotWritable("a functional model with branches cannot be written layer by layer")
    return _read_configured(value)


def find_reference(value: Any) -> Expression:
    """A function or class by its public name, or by its source. Raises: NotWritable."""
    found = find_public_name(value)
    if found:
        return found
    module, name = getattr(value, "__module__", "") or "", getattr(value, "__qualname__", "")
    can_be_imported = is_dotted_name(module) and module != "__main__" and is_dotted_name(name)
    if can_be_imported and _find(module, name) is value:
        return Imported(module, name)
    return inline_source(value, express)


def find_public_name(value: Any) -> Imported | None:
    """The name by which users of Keras, TensorFlow and NumPy know an object; None for other objects."""
    try:
        exported = get_name_from_symbol(value)
    except TypeError:  # what cannot be looked up by hash
        exported = None
    if exported:
        module, _, name = exported.rpartition(".")
        # a function of losses is exported as a metric too
        module = "keras.losses" if module == "keras.metrics" and _find("keras.losses", name) is value else module
        if _find(module, name) is value:
            return Imported(module, name)
    home = _index_by_identity().get(id(value))
    return None if home is None else Imported(*home)


@cache
def _index_by_identity() -> dict[int, tuple[str, str]]:
    found: dict[int, tuple[str, str]] = {}
    # the shortest home last, which stays; `tf.` itself repeats the most used functions of its modules
    for home in ("numpy", *HOMES[1:], HOMES[0]):
        for name, item in vars(importlib.import_module(home)).items():
            if not name.startswith("_") and callable(item):
                found.setdefault(id(item), (home, name))
    return found


def _find(module: str, name: str) -> Any:
    try:
        return functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError, ValueError):
        return None


def _find_chain(model: Any) -> list[Any] | None:
    """The layers of a functional model in which each takes the output of the one before; else None."""
    if not getattr(model, "_is_graph_network", False) and not hasattr(model, "_operations"):
        return None
    if len(model.inputs or ()) != 1 or len(model.outputs or ()) != 1:
        return None
    tensor, layers = model.outputs[0], list[Any]()
    while True:
        operation, node, _ = tensor._keras_history  # noqa: SLF001 (Keras has no public way to its graph)
        if isinstance(operation, keras.layers.InputLayer):
            return layers[::-1] if tensor is model.inputs[0] and len(layers) == len(model.layers) - 1 else None
        arguments = operation._inbound_nodes[node].arguments  # noqa: SLF001
        if len(arguments.keras_tensors) != 1 or not isinstance(operation, keras.layers.Layer):
            return None
        layers.append(operation)
        tensor = arguments.keras_tensors[0]


def _read_configured(value: Any) -> Call:
    """An object of Keras's, or of a class of the user's, by what its configuration says beyond the defaults."""
    function = find_reference(type(value))
    kind: Any = type(value)
    usual = _find_usual_configuration(kind)
    given = tuple(
        (name, _read_entry(value, name, item))
        for name, item in _walk_configuration(value)
        if name not in NAMES and not _is_same(usual.get(name, inspect.Parameter.empty), item)
    )
    return Call(function, (), given)


def _walk_configuration(value: Any) -> Iterator[tuple[str, Any]]:
    """The configuration of an object; of one that has none, its attributes of the names of its parameters."""
    parameters = inspect.signature(type(value).__init__).parameters
    try:
        # a loss leaves the keywords of its function out of its configuration
        config = {**value.get_config(), **getattr(value, "_fn_kwargs", {})}
    except Exception:  # noqa: BLE001 (a part that is the user's may raise anything where it has no configuration)
        config = {}
        for name, parameter in parameters.items():
            if name == "self" or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                continue
            found = getattr(value, name, getattr(value, f"_{name}", parameter.default))
            if found is inspect.Parameter.empty:
                raise NotWritable(
                    f"{type(value).__name__} has no get_config, and keeps no attribute {name!r}"
                ) from None
            config[name] = found
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    yield from ((name, item) for name, item in config.items() if takes_all or name in parameters)


def _read_entry(owner: Any, name: str, item: Any) -> Expression:
    """An entry of a configuration: what Keras serialized, or the attribute of that name where Keras cannot make it."""
    live = getattr(owner, name, None)
    if isinstance(item, Mapping) and not isinstance(live, Mapping):
        if inspect.isfunction(live):
            return express(live)
        try:
            return express(keras.saving.deserialize_keras_object(item))
        except (TypeError, ValueError, ImportError):
            return express(live)
    return _shorten_number(item) if isinstance(item, float) else express(item)


def _shorten_number(number: float) -> float:
    """A number that float32 keeps as the shortest decimal that it is read from."""
    short = float(str(np.float32(number)))
    return short if np.float32(number) == number and np.isfinite(number) else number


@cache
def _find_usual_configuration(kind: Any) -> Mapping[str, Any]:
    """The configuration of an object that was given nothing but what it must be given."""
    parameters = inspect.signature(kind.__init__).parameters.values()
    needed = {
        p.name: 1 for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"
    }
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    try:
        config = dict(kind(**needed).get_config())
    except Exception:  # noqa: BLE001 (a constructor that does not take 1: only defaults in the signature are known)
        return defaults
    return {**defaults, **{name: item for name, item in config.items() if name not in needed}}


def _is_same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except ValueError:  # arrays
        return False


def _read_remembered(value: Any) -> Expression:
    """An object of a class that is not Keras's, by its attributes of the names of its parameters."""
    kind = type(value)
    if kind.__module__ in ("builtins", "types"):
        raise NotWritable(f"a {kind.__name__} cannot be written")
    try:
        given = tuple((name, express(item)) for name, item in _walk_configuration(value))
    except (AttributeError, TypeError, ValueError) as error:
        raise NotWritable(f"{kind.__name__} does not say how it was made") from error
    return Call(find_reference(kind), (), given)


#: how values of a kind are written, by the first rule that fits
RULES: tuple[tuple[Any, Callable[[Any], Expression]], ...] = (
    ((np.ndarray, np.generic, tf.Tensor, tf.Variable, keras.Variable), lambda value: Values(np.array(value))),
    ((type(None), bool, int, float, complex, str), lambda value: value),
    (Mapping, _read_mapping),
    (list, lambda value: Listing(tuple(map(express, value)))),
    (tuple, lambda value: tuple(map(express, value))),
    (functools.partial, _read_partial),
    (tf.DType, lambda value: value.name),
    (keras.Sequential, lambda value: _read_sequential(value.layers)),
    (keras.Model, _read_model),
    (CONFIGURED, _read_configured),
    (ModuleType, _read_module),
)
