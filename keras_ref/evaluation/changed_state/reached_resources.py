"""Resources of TensorFlow that are no variables: tables and iterators of data sets get back what they held.

Whoever uses one takes its handle first, as that of a variable (reached_variables.py): what it holds is remembered then.
A queue tells what it holds to nobody but who takes it out: a call that uses one is refused. Summaries are not written.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.data.ops.iterator_ops import OwnedIterator
from tensorflow.python.framework import ops
from tensorflow.python.ops import summary_ops_v2
from tensorflow.python.ops.data_flow_ops import Barrier, ConditionalAccumulatorBase, QueueBase
from tensorflow.python.ops.lookup_ops import DenseHashTable, MutableHashTable
from tensorflow.python.trackable.resource import CapturableResource

from keras_ref.errors import BadInput
from keras_ref.evaluation.changed_state.reached_variables import is_computing_for
from keras_ref.evaluation.changed_state.restoration import Restoration, has_same_bits
from scratch.arrays import Array

#: what SerializeIterator does where a state lies outside of the iterator, as that of a generator does: it raises
_FAIL = 2


class _Taking(threading.local):
    """Whether this thread takes the data that it was given."""

    is_on: bool = False


_TAKING = _Taking()


@contextmanager
def taking_data() -> Iterator[None]:
    """Around the taking of data from what a verb was given, which is meant to go on: nothing of that is remembered."""
    before, _TAKING.is_on = _TAKING.is_on, True
    try:
        yield
    finally:
        _TAKING.is_on = before


def keep_reached_resources(restoration: Restoration) -> None:
    """Remember, until the restoration, what tables and iterators hold when they are first used by this thread.

    Raises, where a call uses it: BadInput for a queue, or an iterator whose place cannot be remembered.
    """
    for owner, name, keep in _WATCHED:
        _watch(restoration, owner, name, keep)
    original, thread = summary_ops_v2._should_record_summaries_internal, threading.get_ident()

    def is_recorded(default_state: Any) -> Any:
        return tf.constant(False) if is_computing_for(thread) else original(default_state)  # noqa: FBT003

    restoration.undo_by(setattr, summary_ops_v2, original.__name__, original)
    setattr(summary_ops_v2, original.__name__, is_recorded)


def _watch(restoration: Restoration, owner: type, name: str, keep: Callable[[Restoration, Any], None]) -> None:
    """Until the restoration, keep an object of a class before the attribute that has its handle is first read."""
    thread, original = threading.get_ident(), vars(owner).get(name)
    made: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
    kept: dict[int, Any] = {}  # which stay alive, or another could have the identity of one

    def get(one: Any) -> Any:
        if made.get(id(one)) is not one and id(one) not in kept and is_computing_for(thread) and not _TAKING.is_on:
            kept[id(one)] = one  # before what it holds is read, by its handle
            try:
                if ops.executing_eagerly_outside_functions():
                    with tf.init_scope():
                        keep(restoration, one)
            except BaseException:
                del kept[id(one)]  # refused whenever it is used
                raise
        if original is not None:
            return original.fget(one)
        try:
            return vars(one)[name]
        except KeyError as error:
            raise AttributeError(name) from error

    def put(one: Any, value: Any) -> None:
        made[id(one)] = one  # what a check makes itself needs no restoration
        if original is not None:
            original.fset(one, value)
        else:
            vars(one)[name] = value

    restoration.undo_by(*((_remove_attribute, owner, name) if original is None else (setattr, owner, name, original)))
    setattr(owner, name, property(get, put))


def _remove_attribute(owner: type, name: str) -> None:
    """Delete an attribute of a class, if it has it."""
    if name in vars(owner):
        delattr(owner, name)


# Tables ---------------------------------------------------------------------------------------------------------------


def _keep_resource(restoration: Restoration, one: Any) -> None:
    """Remember what a table holds that can be written; other resources of its kind cannot."""
    if isinstance(one, (MutableHashTable, DenseHashTable)):
        restoration.undo_by(_restore_table, one, *_read_table(one))


def _read_table(table: Any) -> list[Array]:
    """Keys and values of a table, copied: a dense table gives away the memory that it goes on to write."""
    return [part.numpy() for part in table.export()]  # numpy() copies


def _restore_table(table: Any, keys: Array, values: Array) -> None:
    """Let a table have these keys and values, unless it has them bit for bit."""
    with tf.init_scope():
        present = _read_table(table)
        if all(has_same_bits(now, then) for now, then in zip(present, (keys, values), strict=True)):
            return
        if isinstance(table, MutableHashTable):
            tf.raw_ops.LookupTableImportV2(table_handle=table.resource_handle, keys=keys, values=values)
            return
        # an import leaves what a dense table has; its export has a row for every place, most without a key
        table.remove(tf.constant(_select_keys(table, present[0])[0]))
        table.insert(*_select_keys(table, keys, values))


def _select_keys(table: Any, *exported: Array) -> list[Array]:
    """Of what a dense table exports, the keys and the values beside them, in the shapes of the table."""
    none = [tf.convert_to_tensor(one).numpy() for one in (table._empty_key, table._deleted_key)]
    shapes = (np.shape(none[0]), table._value_shape)
    rows = [one.reshape(len(one), *shape) for one, shape in zip(exported, shapes, strict=False)]
    is_key = np.all([np.reshape(rows[0] != one, (len(rows[0]), -1)).any(axis=1) for one in none], axis=0)
    return [one[is_key] for one in rows]


# Iterators and queues -------------------------------------------------------------------------------------------------


def _keep_iterator(restoration: Restoration, iterator: Any) -> None:
    """Remember the place of an iterator. Raises: BadInput where it has a state that lies elsewhere."""
    handle = iterator._iterator_resource
    try:
        place = tf.raw_ops.SerializeIterator(resource_handle=handle, external_state_policy=_FAIL)
    except tf.errors.OpError as error:
        raise BadInput(
            "What a call takes from an iterator must go back to it after the check. Received: an iterator of a data "
            f"set whose place cannot be saved ({type(error).__name__}: a generator, random draws without a seed of "
            "their own). Take the data from it before the check, and pass them."
        ) from error
    restoration.undo_by(partial(tf.raw_ops.DeserializeIterator, resource_handle=handle, serialized=place))


def _refuse_queue(_: Restoration, one: Any) -> None:
    """Raises: BadInput."""
    raise BadInput(
        "A call must not use what a check cannot put back. Received: a call that uses a "
        f"{type(one).__name__} of TensorFlow's, which tells what it holds only to who takes it out. Take the data from "
        "it before the check, and pass them."
    )


#: (class, the attribute that has the handle, what is done before it is first read)
_WATCHED: tuple[tuple[type, str, Callable[[Restoration, Any], None]], ...] = (
    (CapturableResource, "_resource_handle", _keep_resource),
    (OwnedIterator, "_iterator_resource", _keep_iterator),
    (QueueBase, "_queue_ref", _refuse_queue),
    (ConditionalAccumulatorBase, "_accumulator_ref", _refuse_queue),
    (Barrier, "_barrier_ref", _refuse_queue),
)
