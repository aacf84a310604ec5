"""Data in the forms that people keep them in (data sets, frames, tensors of other libraries) as arrays and tensors."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.errors import BadInput
from keras_ref.evaluation.changed_state.reached_resources import taking_data
from keras_ref.evaluation.keras_objects.keras_classes import KerasVariable
from keras_ref.evaluation.loss_function import Data

#: what is data as it is; variables are no data, and symbols hold none
KEPT = (np.ndarray, np.generic, tf.Tensor, tf.SparseTensor, tf.RaggedTensor)
NO_DATA = (tf.Variable, KerasVariable, keras.KerasTensor)


def as_array(value: Any) -> Any:
    """A frame or series (pandas, polars), or a tensor of torch or JAX, as an array; anything else as it is."""
    if value is None or isinstance(value, (*KEPT, *NO_DATA)):
        return value
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if hasattr(value, "to_numpy"):
        return value.to_numpy()
    return np.asarray(value) if hasattr(value, "__array__") else value


def as_arrays(value: Any) -> Any:
    """The same for every leaf of a nesting."""
    return tf.nest.map_structure(as_array, value)


def convert_data(x: Any, y: Any = None, sample_weight: Any = None, *, batches: int = 1) -> Data:
    """Data as arrays; of a data set its first batches, one after another.

    x   what fit() takes: arrays, frames, tensors; or batches (x, y, sample_weight): a tf.data.Dataset, a
        keras.utils.PyDataset, a DataLoader of PyTorch, or a generator, which has given away what is taken
    Raises: BadInput where a data set comes with targets, or holds nothing.
    """
    if not is_data_set(x):
        return Data(as_arrays(x), as_arrays(y), as_arrays(sample_weight))
    if y is not None or sample_weight is not None:
        raise BadInput(
            f"`x` must hold the targets and weights itself where it is a data set. Received: a {type(x).__name__} and "
            "`y` or `sample_weight`. Leave them out, or pass arrays."
        )
    taken = take_first_batches(x, batches)
    if not taken:
        raise BadInput("A data set must hold a batch. Received: an empty one. Pass data.")
    parts = zip(*(keras.utils.unpack_x_y_sample_weight(batch) for batch in taken), strict=True)
    return Data(*(as_arrays(_join_batches(part)) for part in parts))


def is_data_set(x: Any) -> bool:
    """Whether data are batches, one after another, and not one batch."""
    library = sys.modules.get("torch.utils.data")
    loader = () if library is None else (library.DataLoader,)
    return isinstance(x, (tf.data.Dataset, keras.utils.PyDataset, Iterator, *loader))


def take_first_batches(x: Any, batches: int) -> list[Any]:
    """The first batches of a data set, lists as tuples: a DataLoader has [x, y]."""
    with taking_data():
        found = [x[i] for i in range(min(batches, len(x)))] if isinstance(x, keras.utils.PyDataset) else x
        return [tuple(one) if isinstance(one, list) else one for one in itertools.islice(iter(found), batches)]


def count_samples(x: Any) -> int:
    """How many samples data hold: that of the first of nested ones."""
    first = tf.nest.flatten(x)[0]
    return int(first.nrows()) if isinstance(first, tf.RaggedTensor) else int(np.shape(first)[0] or 0)


def take_samples(part: Any, start: int, count: int) -> Any:
    """`count` samples of x, y or weights from one on, or as many as there are."""

    def take(leaf: Any) -> Any:
        if isinstance(leaf, tf.SparseTensor):
            left = min(count, leaf.shape[0] - start)
            return tf.sparse.slice(leaf, [start, *[0] * (len(leaf.shape) - 1)], [left, *leaf.shape[1:]])
        if isinstance(leaf, tf.RaggedTensor):
            return leaf[start : start + count]
        return None if leaf is None else np.asarray(leaf)[start : start + count]

    return tf.nest.map_structure(take, part)


def _join_batches(parts: tuple[Any, ...]) -> Any:
    """The batches of x, of y or of weights as one, along the first axis."""
    parts = tuple(as_arrays(part) for part in parts)
    if len(parts) == 1 or parts[0] is None:
        return parts[0]

    def join(*leaves: Any) -> Any:
        if isinstance(leaves[0], tf.SparseTensor):
            return tf.sparse.concat(0, leaves)
        return tf.concat(leaves, axis=0)

    return tf.nest.map_structure(join, *parts)
