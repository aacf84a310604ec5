"""Complex variables and inputs as arrays of real numbers, so that one mechanism differences and compares everything.

An array of complex numbers becomes one of real numbers with a last axis of two: the real and the imaginary part. The
gradient of a real loss L by z = a + ib is in TensorFlow's convention ∂L/∂a + i ∂L/∂b, so that its two parts are the
slopes of L along those two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from scratch.arrays import Array


def is_real_or_complex(dtype: Any) -> bool:
    """Whether a dtype, given by name or as TensorFlow's, has gradients: a floating or a complex one."""
    dtype = tf.as_dtype(dtype)
    return bool(dtype.is_floating or dtype.is_complex)


def dtype_in(precision: str, own: Any) -> Any:
    """The dtype that takes the place of `own` in a floating precision: a complex one of that precision where it is."""
    if tf.as_dtype(own).is_complex:
        return "complex128" if precision == "float64" else "complex64"
    return precision


def real_values(value: Any) -> Array:
    """An array in float64; of a complex one its real and imaginary parts, along a new last axis."""
    value = np.asarray(value)
    parts: Array = np.stack([value.real, value.imag], axis=-1) if np.iscomplexobj(value) else value
    return parts.astype(float)


def split_real_parts(tensor: Any) -> Any:
    """A tensor as it is; of a complex one its real and imaginary parts, along a new last axis."""
    tensor = tf.convert_to_tensor(tensor)
    return tf.stack([tf.math.real(tensor), tf.math.imag(tensor)], axis=-1) if tensor.dtype.is_complex else tensor


def from_real_parts(parts: Any, dtype: Any) -> Any:
    """The tensor of a dtype whose real parts, as `split_real_parts` has them, are given."""
    dtype = tf.as_dtype(dtype)
    if not dtype.is_complex:
        return tf.cast(parts, dtype)
    parts = tf.cast(parts, dtype.real_dtype)
    return tf.complex(parts[..., 0], parts[..., 1])
