"""The leaves of nested inputs by name. Importing this module does not import TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_ref.reports.words import INPUT


def name_leaves(x: Any) -> dict[str, Any]:
    """The leaves of nested inputs by name: "input" for one, "input:0", "input:key" for several, in tf.nest's order."""
    paths = _list_paths(x)
    return {_name(path, single=len(paths) == 1): leaf for path, leaf in paths}


def replace_leaves(x: Any, replacements: Mapping[str, Any]) -> Any:
    """Nested inputs with those leaves replaced that have a replacement by name; a tuple becomes a list."""
    single = len(_list_paths(x)) == 1

    def replaced(part: Any, path: tuple[Any, ...]) -> Any:
        if isinstance(part, Mapping):
            return {key: replaced(item, (*path, key)) for key, item in part.items()}
        if isinstance(part, (list, tuple)):
            return [replaced(item, (*path, i)) for i, item in enumerate(part)]
        return replacements.get(_name(path, single=single), part)

    return replaced(x, ())


def _name(path: tuple[Any, ...], *, single: bool) -> str:
    return INPUT if single else f"{INPUT}:" + "/".join(map(str, path))


def _list_paths(x: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    """(keys and indices on the way, leaf) of every leaf."""
    if isinstance(x, Mapping):
        return [pair for key in sorted(x) for pair in _list_paths(x[key], (*prefix, key))]
    if isinstance(x, (list, tuple)):
        return [pair for i, item in enumerate(x) for pair in _list_paths(item, (*prefix, i))]
    return [(prefix, x)]
