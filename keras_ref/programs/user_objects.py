"""What objects of the user hold, put back after a comparison: arrays, containers, attributes, generators."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

from keras_ref.evaluation.changed_state import kept_contents
from keras_ref.evaluation.changed_state.kept_contents import Kind, Reach, steps_to_undo

#: objects of these libraries are copied, or put back, by the programs that run them
LIBRARIES = frozenset(("builtins", "keras", "tensorflow", "tf_keras", "torch", "jax", "jaxlib", "scratch", "keras_ref"))
#: how deep objects are looked into
REACH = Reach(levels=8)


@contextmanager
def left_as_they_are(*objects: Any) -> Iterator[None]:
    """At the end of the block the objects hold what they held, bit for bit, in the same arrays and containers.

    The random state of PyTorch too, if it is loaded.
    """
    with ExitStack() as stack:
        for step in [*steps_to_undo(*objects, reach=REACH, kind_of=_find_kind)]:
            stack.callback(step)
        if (torch := sys.modules.get("torch")) is not None:
            stack.callback(torch.random.set_rng_state, torch.random.get_rng_state())
        yield


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


def _restore_attributes(owner: Any, table: dict[str, Any]) -> None:
    """Give an object, class or module its former attributes."""
    for name in set(vars(owner)) - set(table):
        delattr(owner, name)
    for name, own in table.items():
        if vars(owner).get(name) is not own:
            setattr(owner, name, own)


def _own_values(owner: Any) -> list[Any]:
    """What an object, class or module has as attributes."""
    return [value for name, value in vars(owner).items() if not name.startswith("__")]


#: objects with attributes, classes and modules that a user wrote
_USERS = Kind(lambda owner: (partial(_restore_attributes, owner, dict(vars(owner))),), _own_values)


def _find_kind(value: Any) -> Kind | None:
    return kept_contents.find_kind(value) or (_USERS if _is_users(value) else None)
