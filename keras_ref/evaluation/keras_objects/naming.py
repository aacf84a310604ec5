"""Names of variables and inputs in reports, and inputs by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ref.evaluation.keras_objects.leaves import name_leaves
from keras_ref.evaluation.keras_objects.real_parts import is_real_or_complex
from keras_ref.reports.words import is_input


def find_path(variable: Any) -> str:
    """What a variable is called in a report: Keras's path, or TensorFlow's name; never as an input is called.

    A variable named "input" is "variable:input": by its own name it would take the place of the model's input.
    """
    path = read_path(variable)
    return f"variable:{path}" if is_input(path) else path


def read_path(variable: Any) -> str:
    """Keras's path of a variable, or TensorFlow's name."""
    return str(getattr(variable, "path", None) or variable.name.split(":")[0])


def make_unique(names: list[str]) -> list[str]:
    """The names, ":1", ":2", … added to those that came before."""
    counts: dict[str, int] = {}
    found = []
    for name in names:
        counts[name] = counts.get(name, -1) + 1
        found.append(f"{name}:{counts[name]}" if counts[name] else name)
    return found


def values_of(leaf: Any) -> Any:
    """What a leaf of inputs is differentiated by: the tensor itself; the values of a sparse or ragged one."""
    if isinstance(leaf, tf.SparseTensor):
        return leaf.values
    return leaf.flat_values if isinstance(leaf, tf.RaggedTensor) else leaf


def with_values(leaf: Any, values: Any) -> Any:
    """A leaf of inputs with other values in the places of `values_of`."""
    if isinstance(leaf, tf.SparseTensor):
        return tf.SparseTensor(leaf.indices, values, leaf.dense_shape)
    return leaf.with_flat_values(values) if isinstance(leaf, tf.RaggedTensor) else values


def is_differentiable(leaf: Any) -> bool:
    """Whether a leaf of inputs holds floats, or complex numbers, that can be moved: none of them is infinite."""
    return is_real_or_complex(leaf.dtype) and bool(np.isfinite(np.asarray(values_of(leaf)).astype(complex)).all())


def find_float_inputs(x: Any) -> dict[str, Any]:
    """The tensors of nested inputs that can be moved, by name; of sparse and ragged ones their values."""
    return {name: values_of(t) for name, t in name_leaves(x).items() if t is not None and is_differentiable(t)}


def replace_inputs(x: Any, replacements: Mapping[str, Any]) -> Any:
    """Nested inputs with those leaves replaced that have a replacement by name."""
    return tf.nest.pack_sequence_as(
        x,
        [
            with_values(leaf, replacements[name]) if name in replacements else leaf
            for name, leaf in name_leaves(x).items()
        ],
    )
