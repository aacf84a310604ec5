"""What the attributes of an object hold, by kinds that change in place: how each is remembered, and put back."""

from __future__ import annotations

import random
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

#: bytes up to which an array is remembered, and items up to which a container is looked into
ARRAY, ITEMS = 2**24, 2**14


def steps_to_undo(value: Any, seen: set[int]) -> Iterator[Callable[[], Any]]:
    """The steps that put a value back which changes in place, and what is in it; none for one of another kind.

    seen   identities of what was remembered already: containers may hold themselves
    """
    plain = getattr(value, "__wrapped__", value)  # TensorFlow wraps dictionaries that it tracks
    kind = next((one for one in _KINDS if isinstance(plain, one)), None)
    if kind is None or id(plain) in seen:
        return
    seen.add(id(plain))
    remember, inside = _KINDS[kind]
    yield from remember(plain)
    items = inside(plain)
    for item in items if len(items) <= ITEMS else ():
        yield from steps_to_undo(item, seen)


def restore_contents(container: Any, items: Any) -> None:
    """Give a list, dictionary or set other items, past its own methods: Keras's lists track, and may be locked."""
    if isinstance(container, list):
        list.__setitem__(container, slice(None), list(items))
    elif isinstance(container, dict):
        dict.clear(container)
        dict.update(container, items)
    else:
        set.clear(container)
        set.update(container, items)


def _keep_items(container: Any) -> Iterable[Callable[[], Any]]:
    return (partial(restore_contents, container, container.copy()),)


def _restore_queue(queue: deque[Any], items: tuple[Any, ...]) -> None:
    queue.clear()
    queue.extend(items)


def _keep_array(array: Any) -> Iterable[Callable[[], Any]]:
    if array.nbytes > ARRAY or array.dtype.hasobject or not array.flags.writeable:
        return ()
    return (partial(_restore_array, array, array.copy()),)


def _restore_array(array: Any, before: Any) -> None:
    if array.tobytes() != before.tobytes():
        array[...] = before


def _keep_nothing(_: Any) -> tuple[Any, ...]:
    return ()


#: {kind: (the steps that put one back, what is in it)}
_KINDS: dict[type, tuple[Callable[[Any], Iterable[Callable[[], Any]]], Callable[[Any], Any]]] = {
    list: (_keep_items, lambda items: items),
    dict: (_keep_items, lambda table: table.values()),
    set: (_keep_items, _keep_nothing),
    tuple: (lambda _: (), lambda items: items),
    types.SimpleNamespace: (lambda space: _keep_items(vars(space)), lambda space: vars(space).values()),
    deque: (lambda queue: (partial(_restore_queue, queue, tuple(queue)),), lambda queue: queue),
    bytearray: (lambda data: (partial(data.__setitem__, slice(None), bytes(data)),), _keep_nothing),
    np.ndarray: (_keep_array, _keep_nothing),
    np.random.Generator: (
        lambda one: (partial(setattr, one.bit_generator, "state", one.bit_generator.state),),
        _keep_nothing,
    ),
    np.random.RandomState: (lambda one: (partial(one.set_state, one.get_state()),), _keep_nothing),
    random.Random: (lambda one: (partial(one.setstate, one.getstate()),), _keep_nothing),
}
