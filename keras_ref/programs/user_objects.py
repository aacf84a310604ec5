"""What objects of the user hold, put back after a comparison: arrays, containers, attributes, generators."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

#: objects of these libraries are copied, or put back, by the programs that run them
LIBRARIES = frozenset(("builtins", "keras", "tensorflow", "tf_keras", "torch", "jax", "jaxlib", "scratch", "keras_ref"))
#: how deep objects are looked into
DEPTH = 8


@contextmanager
def left_as_they_are(*objects: Any) -> Iterator[None]:
    """At the end of the block the objects hold what they held, bit for bit, in the same arrays and containers.

    The random state of PyTorch too, if it is loaded.
    """
    seen: set[int] = set()
    with ExitStack() as stack:
        for step in [step for one in objects for step in _undo_steps(one, seen, DEPTH)]:
            stack.callback(step)
        if (torch := sys.modules.get("torch")) is not None:
            stack.callback(torch.random.set_rng_state, torch.random.get_rng_state())
        yield


def _undo_steps(value: Any, seen: set[int], depth: int) -> Iterator[Callable[[], Any]]:
    """What puts back a value, and all that it holds."""
    if id(value) in seen or not depth:
        return
    seen.add(id(value))
    step = _undo_step(value)
    if step is not None:
        yield step
    for one in _list_held(value):
        yield from _undo_steps(one, seen, depth - 1)


def _undo_step(value: Any) -> Callable[[], Any] | None:
    """What puts back a value itself; None where it cannot change."""
    if isinstance(value, np.ndarray):
        return partial(np.copyto, value, value.copy()) if value.flags.writeable else None
    if isinstance(value, list):
        return partial(value.__setitem__, slice(None), list(value))
    if isinstance(value, dict):
        return partial(_refill, value, dict(value))
    if isinstance(value, np.random.Generator):
        return partial(setattr, value.bit_generator, "state", value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return partial(value.set_state, value.get_state())
    return partial(_restore_attributes, value, dict(vars(value))) if _is_users(value) else None


def _list_held(value: Any) -> list[Any]:
    """What a value holds."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if isinstance(value, dict):
        return list(value.values())
    return [own for name, own in vars(value).items() if not name.startswith("__")] if _is_users(value) else []


def _is_users(value: Any) -> bool:
    """Whether a value is a module, or an object with attributes, that a user wrote."""
    home = (
        value.__name__
        if isinstance(value, ModuleType)
        else (value if isinstance(value, type) else type(value)).__module__
    )
    is_code = isinstance(value, (FunctionType, MethodType))
    is_library = home.partition(".")[0] in LIBRARIES | sys.stdlib_module_names | {"numpy"}
    return hasattr(value, "__dict__") and not is_code and not is_library


def _refill(container: dict[Any, Any], items: dict[Any, Any]) -> None:
    container.clear()
    container.update(items)


def _restore_attributes(owner: Any, table: dict[str, Any]) -> None:
    """Give an object, class or module its former attributes."""
    for name in set(vars(owner)) - set(table):
        delattr(owner, name)
    for name, own in table.items():
        if vars(owner).get(name) is not own:
            setattr(owner, name, own)
