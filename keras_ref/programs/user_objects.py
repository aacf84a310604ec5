"""What objects of the user hold, put back after a comparison: arrays, containers, attributes, generators."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import ModuleType
from typing import Any

from keras_ref.evaluation.changed_state.kept_contents import Kind, Reach, steps_to_undo
from keras_ref.evaluation.changed_state.kept_objects import find_kind, is_of_users, restore_table

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


#: modules that a user wrote, with all that they have as attributes
_MODULE = Kind(
    lambda module: (partial(restore_table, vars(module), dict(vars(module)), frozenset()),),
    lambda module: [value for name, value in vars(module).items() if not name.startswith("__")],
)


def _find_kind(value: Any) -> Kind | None:
    if isinstance(value, ModuleType):
        return _MODULE if is_of_users(value.__name__) else None
    return find_kind(value)
