"""Data for a check: what the user gave, verified against the model; or drawn from the model's inputs with a seed."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.errors import BadInput
from keras_ref.evaluation.float64 import is_float
from scratch.arrays import Array

BATCH = 4


def _shown(shape: Any) -> str:
    sizes = ["any" if size is None else str(size) for size in shape]
    return "(" + ", ".join(sizes) + ("," if len(sizes) == 1 else "") + ")"


def validate_data(model: Any, x: Any, y: Any = None, sample_weight: Any = None) -> None:
    """Refuse data that cannot be checked. Raises: BadInput: empty, not finite, or not of the model's input shapes."""
    for name, value in (("x", x), ("y", y), ("sample_weight", sample_weight)):
        require_finite_numbers(name, value)
        for array in (np.asarray(leaf) for leaf in tf.nest.flatten(value) if leaf is not None):
            if array.ndim and len(array) == 0:
                raise BadInput(
                    f"`{name}` must hold at least one sample. Received: an empty batch of shape {array.shape}. Pass data."
                )
    if y is not None:
        require_labels_in_range(model, y)
    specs = getattr(model, "inputs", None)
    leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(x)]
    if specs and len(specs) != len(leaves):
        raise BadInput(
            f"`x` must have one array per input of the model ({len(specs)}). Received: {len(leaves)}. Pass a list or a dictionary."
        )
    if specs and not isinstance(x, dict):
        for spec, leaf in zip(specs, leaves, strict=True):
            shape = tuple(spec.shape)
            if len(shape) != leaf.ndim or any(s not in (None, n) for s, n in zip(shape, leaf.shape, strict=False)):
                raise BadInput(
                    f"Input {spec.name!r} must have shape {_shown(shape)}. Received: {_shown(leaf.shape)}. "
                    "Reshape the data or change the model's input shape."
                )
    samples = {
        len(np.asarray(leaf)) for part in (x, y) for leaf in tf.nest.flatten(part) if leaf is not None and np.ndim(leaf)
    }
    if len(samples) > 1:
        raise BadInput(
            f"`x` and `y` must have the same number of samples. Received: {sorted(samples)}. Pass matching batches."
        )


def apply_class_weight(y: Any, sample_weight: Any, class_weight: Any) -> Any:
    """Sample weights that say what `class_weight` {class: weight} says, as fit() reads it. Raises: BadInput."""
    if class_weight is None:
        return sample_weight
    if sample_weight is not None or y is None or len(tf.nest.flatten(y)) != 1:
        received = (
            "sample_weight too"
            if sample_weight is not None
            else "no targets"
            if y is None
            else f"{len(tf.nest.flatten(y))} targets"
        )
        raise BadInput(
            f"`class_weight` must come with one target and no sample_weight. Received: {received}. Pass sample_weight=, one weight a sample."
        )
    labels = np.asarray(tf.nest.flatten(y)[0])
    labels = labels.argmax(-1) if labels.ndim > 1 and labels.shape[-1] > 1 else labels.reshape(len(labels))
    missing = sorted(set(labels.astype(int).tolist()) - set(class_weight))
    if missing:
        raise BadInput(
            f"`class_weight` must have a weight for every class of `y`. Received: none for {missing}. Add them."
        )
    return np.array([float(class_weight[int(label)]) for label in labels])


def require_labels_in_range(model: Any, y: Any) -> None:
    """Refuse class indices beyond the classes of a sparse crossentropy's output. Raises: BadInput."""
    outputs, losses = getattr(model, "outputs", None) or [], getattr(model, "loss", None)
    flat = keras.tree.flatten(losses) if isinstance(losses, (list, tuple, dict)) else [losses] * len(outputs)
    for output, loss, labels in zip(outputs, flat, tf.nest.flatten(y), strict=False):
        name = loss if isinstance(loss, str) else getattr(loss, "name", None) or getattr(loss, "__name__", "")
        if "sparse_categorical" not in str(name) or labels is None or output.shape[-1] is None:
            continue
        labels, ignored = np.asarray(labels), getattr(loss, "ignore_class", None)
        outside = np.argwhere(
            ((labels < 0) | (labels >= output.shape[-1])) & (labels != (-1e9 if ignored is None else ignored))
        )
        if len(outside):
            place = tuple(int(i) for i in outside[0])
            raise BadInput(
                f"`y` must hold classes from 0 to {output.shape[-1] - 1}, which the output has. "
                f"Received: {labels[place]} at index {place}. Correct the labels, or widen the output."
            )


def require_finite_numbers(name: str, value: Any) -> None:
    """Refuse what is not an array of finite real numbers, in any nesting. Raises: BadInput."""
    for leaf in tf.nest.flatten(value):
        if leaf is None:
            continue
        if isinstance(leaf, (tf.RaggedTensor, tf.SparseTensor)):
            raise BadInput(
                f"`{name}` must be dense. Received: a {type(leaf).__name__}. Convert it, and mask what is padding."
            )
        array = np.asarray(leaf)
        if array.dtype.kind not in "fiub" and array.dtype.name not in ("bfloat16",):
            raise BadInput(
                f"`{name}` must be numbers. Received: dtype {array.dtype}. Convert it to floats or integers."
            )
        floats = array.astype(float) if is_float(array.dtype) else np.zeros(0)
        if not np.isfinite(floats).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(floats))[0])
            raise BadInput(f"`{name}` must be finite. Received: {array[place]} at index {place}. Clean the data first.")


def require_finite_weights(model: Any) -> None:
    """Refuse a model whose weights are not finite or that has none. Raises: BadInput."""
    if not getattr(model, "built", True):
        raise BadInput(
            f"A model must be built. Received: {model.name!r}, unbuilt. Call it once on data, or give it an Input."
        )
    if not model.trainable_variables:
        raise BadInput(
            f"A model must have trainable weights to be checked. Received: {model.name!r}, which has none. "
            "Check its inputs with wrt=('inputs',), or a model with weights."
        )
    require_finite_variables(model.variables)


def require_finite_variables(variables: Any) -> None:
    """Refuse variables whose values are not finite. Raises: BadInput."""
    for variable in variables:
        value = np.asarray(variable.numpy())
        if is_float(variable.dtype) and not np.isfinite(value.astype(float)).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(value.astype(float)))[0])
            raise BadInput(
                f"Weight {getattr(variable, 'path', variable.name)!r} must be finite. Received: {value[place]} at index {place}. Correct the value."
            )


def draw_inputs(model: Any, *, seed: int = 0, batch: int = BATCH) -> Any:
    """Random inputs for a model, from its input specification: normal floats, small integers; unknown sizes are 4.

    Raises: BadInput where the model has no known inputs.
    """
    if not getattr(model, "inputs", None):
        raise BadInput(
            f"A model must state its inputs for data to be drawn. Received: {model.name!r}, which does not. "
            "Pass data (--data file.npz with arrays x and y), or give the model an Input."
        )
    generator = np.random.default_rng(seed)

    def one(spec: Any) -> Array:
        shape = tuple(
            batch if i == 0 and size is None else 4 if size is None else size for i, size in enumerate(spec.shape)
        )
        if is_float(spec.dtype):
            return generator.normal(size=shape)
        below = _vocabulary(model, spec)
        return generator.integers(0, below, size=shape).astype(spec.dtype if spec.dtype != "bool" else "bool")

    structure = getattr(model, "_inputs_struct", None)
    functional = getattr(model, "_functional", None)
    structure = structure if structure is not None else getattr(functional, "_inputs_struct", model.inputs)
    if isinstance(structure, (list, tuple)) and len(structure) == 1:
        structure = structure[0]
    return keras.tree.map_structure(one, structure)


def _vocabulary(model: Any, spec: Any) -> int:
    """The smallest vocabulary of the embeddings that read an integer input (2 where there is none)."""
    sizes = [layer.input_dim for layer in model._flatten_layers() if isinstance(layer, keras.layers.Embedding)]
    del spec
    return min(sizes, default=2)


def compute_outputs(model: Any, x: Any) -> Any:
    """What a model gives for x; states, seeds and averages stay as they are."""
    with keras.StatelessScope():
        return model(x)


def draw_targets(model: Any, outputs: Any, *, seed: int = 0) -> Any:
    """Random targets that fit the model's compiled loss: class indices, one-hot rows, zeros and ones, or normal numbers."""
    generator = np.random.default_rng(seed + 1)
    losses = getattr(model, "loss", None)
    flat = tf.nest.flatten(outputs)
    named = keras.tree.flatten(losses) if isinstance(losses, (list, tuple, dict)) else [losses] * len(flat)

    def one(output: Any, loss: Any) -> Array:
        shape = tuple(output.shape)
        name = (loss if isinstance(loss, str) else getattr(loss, "name", None) or getattr(loss, "__name__", "")) or ""
        name = name.lower()
        if "sparse" in name and "crossentropy" in name:
            return generator.integers(0, shape[-1], size=shape[:-1])
        if "categorical" in name:
            return np.eye(shape[-1])[generator.integers(0, shape[-1], size=shape[:-1])]
        if "binary" in name or "hinge" in name or name in ("dice", "tversky", "bce"):
            return generator.integers(0, 2, size=shape).astype(float)
        if "kl" in name or "poisson" in name or "log" in name:
            return generator.uniform(0.1, 1.0, size=shape)
        return generator.normal(size=shape)

    targets = [one(output, loss) for output, loss in zip(flat, named, strict=True)]
    return targets[0] if len(targets) == 1 else tf.nest.pack_sequence_as(outputs, targets)
