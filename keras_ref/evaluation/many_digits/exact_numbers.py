"""Numbers of many digits (mpmath) in NumPy arrays of objects, and running an operation of a graph by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context, execute

ZERO, ONE = mpmath.mpf(0), mpmath.mpf(1)


class Missing(Exception):
    """An operation that is not carried out in many digits here."""


#: products of one operation in many digits: some ten seconds
MOST = 2_000_000


def bounded(count: int) -> None:
    """Raises: Missing for an operation of more products than are computed in many digits."""
    if count > MOST:
        raise Missing(f"an operation of {count:,} products")


def exact(value: Any) -> Any:
    """Floats as an object array of mpmath numbers, exactly; anything else as a NumPy array."""
    array = np.asarray(value)
    if array.dtype.kind == "c":
        return each(lambda z: mpmath.mpc(z.real, z.imag))(array.astype(complex))
    if array.dtype.kind != "f" and str(array.dtype) != "bfloat16":
        return array
    return each(mpmath.mpf)(array.astype(float))


def as_array(value: Any) -> Any:
    """A number that NumPy took out of an array of objects, as an array again."""
    if isinstance(value, (mpmath.mpf, mpmath.mpc)):
        return np.asarray(value, object)
    return np.asarray(value) if isinstance(value, np.generic) else value


def each(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of numbers as one of arrays."""
    return lambda *arrays: np.asarray(np.frompyfunc(function, len(arrays), 1)(*arrays), object)


def mean(terms: list[Any]) -> Any:
    """The mean of numbers."""
    return mpmath.fsum(terms) / len(terms)


def zeros(shape: Any) -> Any:
    """An array of zeros."""
    found = np.empty(tuple(int(n) for n in shape), object)
    found.fill(ZERO)
    return found


def attributes(o: Any, replaced: dict[str, Any]) -> list[Any]:
    """The attributes of an operation as they are handed to TensorFlow, some of them replaced."""
    flat: list[Any] = []
    for name in o.op_def.attr:
        value = replaced.get(name.name, o.get_attr(name.name))
        if isinstance(value, tf.DType):
            value = value.as_datatype_enum
        elif isinstance(value, tf.TensorShape):
            value = value.as_proto()
        elif isinstance(value, list) and value and isinstance(value[0], tf.DType):
            value = [v.as_datatype_enum for v in value]
        flat += [name.name, value]
    return flat


def eagerly(o: Any, inputs: list[Any]) -> list[Any]:
    """An operation as TensorFlow runs it."""
    tensors = [
        i if isinstance(i, tf.Tensor) else tf.constant(i, t.dtype) for i, t in zip(inputs, o.inputs, strict=True)
    ]
    found = execute.execute(o.type.encode(), len(o.outputs), tensors, tuple(attributes(o, {})), context.context())
    return [f if f.dtype == tf.resource else f.numpy() for f in found]


def moved(o: Any, inputs: list[Any]) -> list[Any]:
    """An operation that only moves numbers: TensorFlow moves their places, 0 being what it fills in."""
    numbers: list[Any] = [ZERO]
    replaced: dict[str, Any] = {}
    tensors = []
    for value, tensor, argument in zip(inputs, o.inputs, arguments(o), strict=True):
        if isinstance(value, np.ndarray) and value.dtype == object:
            tensors.append(
                tf.constant(np.arange(len(numbers), len(numbers) + value.size).reshape(value.shape), tf.int64)
            )
            numbers += list(value.ravel())
            replaced[argument.type_attr] = tf.int64
        else:
            tensors.append(tf.constant(value, tensor.dtype))
    found = execute.execute(o.type.encode(), len(o.outputs), tensors, tuple(attributes(o, replaced)), context.context())
    table = np.array([*numbers, None], object)[:-1]
    return [
        table[f.numpy()] if f.dtype == tf.int64 and (t.dtype.is_floating or t.dtype.is_complex) else f.numpy()
        for f, t in zip(found, o.outputs, strict=True)
    ]


def arguments(o: Any) -> list[Any]:
    """The definition of the argument that each input of an operation belongs to."""
    found: list[Any] = []
    for argument in o.op_def.input_arg:
        if argument.number_attr:
            found += [argument] * int(o.get_attr(argument.number_attr))
        elif argument.type_list_attr:
            found += [argument] * len(o.get_attr(argument.type_list_attr))
        else:
            found.append(argument)
    return found
