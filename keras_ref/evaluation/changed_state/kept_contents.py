"""What objects of a user hold, by kinds that change in place: how each is remembered, and put back."""

from __future__ import annotations

import io
import math
import random
import sys
import threading
import types
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from keras_ref.evaluation.keras_objects.nesting import ATOMS, walk_everything

#: what puts something back; it can run twice
Step: TypeAlias = Callable[[], Any]


@dataclass(frozen=True)
class Kind:
    """Values that change in place: the steps that put one back, and what is in it."""

    steps: Callable[[Any], Iterable[Step]]
    inside: Callable[[Any], Collection[Any]] = lambda _: ()


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What is remembered: arrays of so many bytes, and all together; what is in containers of so many items; levels."""

    array: float = math.inf
    arrays: float = math.inf
    items: float = math.inf
    levels: float = math.inf


#: of the attributes of layers, losses and optimizers, which are remembered several times in a check
ATTRIBUTES = Reach(array=2**24, items=2**14)
#: of what the arguments of a verb lead to, which is remembered once
REACHED = Reach(array=2**24, arrays=2**28, items=2**14)


def find_content_kind(value: Any) -> Kind | None:
    """The kind of a value, as Python and NumPy have them; None where it is of no such kind."""
    if type(value) in ATOMS or not isinstance(value, _CHANGING):
        return None
    if _is_tracked_list(value):
        return _TRACKED_LIST
    return next(kind for cls, kind in _KINDS.items() if isinstance(value, cls))


def _is_tracked_list(value: Any) -> bool:
    """Whether TensorFlow has wrapped a list. It is not imported for that: programs in NumPy run without it."""
    module = sys.modules.get("tensorflow.python.trackable.data_structures")
    return module is not None and isinstance(value, module.ListWrapper)


def steps_to_undo(
    *values: Any,
    reach: Reach = ATTRIBUTES,
    without: Collection[int] = (),
    kind_of: Callable[[Any], Kind | None] = find_content_kind,
) -> Iterator[Step]:
    """The steps that put values back which change in place, and what is in them.

    without   the identities of values that are left alone, with what is in them
    """
    plain: Any = None
    kind: Kind | None = None

    def inside(_: Any) -> Collection[Any] | None:  # of the value that was given last
        if kind is None:
            return None
        parts = kind.inside(plain)
        return parts if len(parts) <= reach.items else ()

    values, left = tuple(value for value in values if type(value) not in ATOMS), reach.arrays
    for value in walk_everything(values, inside, levels=reach.levels):
        plain = _unwrap_container(value)
        kind = None if id(plain) in without else kind_of(plain)
        if kind is None:
            continue
        if isinstance(plain, np.ndarray):
            if plain.nbytes > min(reach.array, left):
                continue
            left -= plain.nbytes
        yield from kind.steps(plain)


def _unwrap_container(value: Any) -> Any:
    """A container without what TensorFlow wraps those in that it tracks."""
    return getattr(value, "__wrapped__", value) if isinstance(value, (dict, list, tuple)) else value


def restore_contents(container: Any, items: Any) -> None:
    """Give a list, dictionary or set other items, past its own methods: Keras's lists track, and may be locked."""
    if isinstance(container, list):
        list.__setitem__(container, slice(None), list(items))
    elif isinstance(container, dict):
        table = OrderedDict if isinstance(container, OrderedDict) else dict  # which has an order of its own
        table.clear(container)
        table.update(container, items)
    else:
        set.clear(container)
        set.update(container, items)


def _keep_items(container: Any) -> Iterable[Step]:
    return (partial(restore_contents, container, container.copy()),)


def _restore_queue(queue: deque[Any], items: tuple[Any, ...]) -> None:
    queue.clear()
    queue.extend(items)


def _keep_array(array: Any) -> Iterable[Step]:
    return (partial(_restore_array, array, array.copy()),) if array.flags.writeable else ()


def _restore_array(array: Any, before: Any) -> None:
    if array.tobytes() != before.tobytes():
        array[...] = before


def _restore_file(file: Any, held: Any, place: int) -> None:
    """Give a file in memory what it held, and the place in it where it is read and written."""
    if file.closed:  # which no file undoes
        return
    if file.getvalue() != held:
        file.seek(0)
        file.truncate()
        file.write(held)
    file.seek(place)


def _keep_context(variable: ContextVar[Any]) -> Iterable[Step]:
    """One that has no value, nor a default, cannot lose the one that it gets."""
    try:
        return (partial(variable.set, variable.get()),)
    except LookupError:
        return ()


_KINDS: dict[type, Kind] = {
    list: Kind(_keep_items, lambda items: items),
    dict: Kind(_keep_items, lambda table: table.values()),
    set: Kind(_keep_items, lambda items: items),
    tuple: Kind(lambda _: (), lambda items: items),
    frozenset: Kind(lambda _: (), lambda items: items),
    types.SimpleNamespace: Kind(lambda space: _keep_items(vars(space)), lambda space: vars(space).values()),
    deque: Kind(lambda queue: (partial(_restore_queue, queue, tuple(queue)),), lambda queue: queue),
    memoryview: Kind(lambda _: (), lambda view: (view.obj,)),
    threading.local: Kind(lambda local: _keep_items(vars(local)), lambda local: vars(local).values()),
    ContextVar: Kind(_keep_context),
    array: Kind(lambda data: (partial(data.__setitem__, slice(None), data[:]),)),
    io.BytesIO: Kind(lambda data: (partial(_restore_file, data, data.getvalue(), data.tell()),)),
    io.StringIO: Kind(lambda text: (partial(_restore_file, text, text.getvalue(), text.tell()),)),
    bytearray: Kind(lambda data: (partial(data.__setitem__, slice(None), bytes(data)),)),
    np.ndarray: Kind(_keep_array),
    np.random.Generator: Kind(lambda one: (partial(setattr, one.bit_generator, "state", one.bit_generator.state),)),
    np.random.RandomState: Kind(lambda one: (partial(one.set_state, one.get_state()),)),
    random.Random: Kind(lambda one: (partial(one.setstate, one.getstate()),)),
}
_CHANGING = tuple(_KINDS)
#: what TensorFlow has in the place of a list that it tracks: the list is an attribute of it
_TRACKED_LIST = Kind(lambda wrapper: _keep_items(vars(wrapper)), lambda wrapper: vars(wrapper).values())
