"""Data for a check: what the user gave, validated against the model; or drawn from the model's inputs with a seed."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.errors import BadInput, join_names
from keras_ref.evaluation.arguments import ARRAYS
from keras_ref.evaluation.changed_state import keras_2
from keras_ref.evaluation.changed_state.float64 import is_float
from keras_ref.evaluation.changed_state.restoration import restore_variables
from keras_ref.evaluation.keras_objects.keras_parts import compiled_losses_of, list_by_output, list_layers
from keras_ref.evaluation.keras_objects.naming import values_of
from keras_ref.evaluation.keras_objects.real_parts import is_real_or_complex
from scratch.arrays import Array

#: samples that are drawn
BATCH = 4


def _format_shape(shape: Any) -> str:
    """A shape in a message, "any" for a size that is not fixed."""
    sizes = ["any" if size is None else str(size) for size in shape]
    return "(" + ", ".join(sizes) + ("," if len(sizes) == 1 else "") + ")"


def validate_data(model: Any, x: Any, y: Any = None, sample_weight: Any = None) -> None:
    """Validate data that a model is checked on.

    Raises: BadInput where they are empty, not finite, not of the model's input shapes, or differ in their samples.
    """
    if x is None:
        raise BadInput("`x` must hold the inputs of the model. Received: None. Pass a batch of them.")
    ARRAYS.require("x", x)
    for name, value in (("x", x), ("y", y), ("sample_weight", sample_weight)):
        require_finite_numbers(name, value, strings=name == "x" and _takes_strings(model))
        _require_samples(name, value)
    if y is not None:
        require_labels_in_range(model, y)
    specs = getattr(model, "inputs", None)
    leaves = [_read_shape(leaf) for leaf in tf.nest.flatten(x)]
    if specs and len(specs) != len(leaves):
        raise BadInput(
            f"`x` must have one array per input of the model ({len(specs)}). Received: {len(leaves)}. "
            "Pass a list or a dictionary."
        )
    if specs and not isinstance(x, dict):
        for spec, leaf in zip(specs, leaves, strict=True):
            shape = tuple(spec.shape)
            if len(shape) != len(leaf) or any(None not in (s, n) and s != n for s, n in zip(shape, leaf, strict=False)):
                raise BadInput(
                    f"Input {spec.name!r} must have shape {_format_shape(shape)}. Received: {_format_shape(leaf)}. "
                    "Reshape the data or change the model's input shape."
                )
    samples = {
        _read_shape(leaf)[0] or 0
        for part in (x, y)
        for leaf in tf.nest.flatten(part)
        if leaf is not None and _read_shape(leaf)
    }
    if len(samples) > 1:
        raise BadInput(
            f"`x` and `y` must have the same number of samples. Received: {sorted(samples)}. Pass matching batches."
        )


def _require_samples(name: str, value: Any) -> None:
    """Raises: BadInput for an empty batch."""
    for shape in (_read_shape(leaf) for leaf in tf.nest.flatten(value) if leaf is not None):
        if shape[:1] == (0,):
            raise BadInput(
                f"`{name}` must hold at least one sample. Received: an empty batch of shape {shape}. Pass data."
            )


def apply_class_weight(y: Any, sample_weight: Any, class_weight: Any) -> Any:
    """The sample weights (batch,) that mean the same as `class_weight` {class: weight} in fit(). Raises: BadInput.

    `sample_weight` as it is where no class weights are given.
    """
    if class_weight is None:
        return sample_weight
    if sample_weight is not None or y is None or len(tf.nest.flatten(y)) != 1:
        targets = "no targets" if y is None else f"{len(tf.nest.flatten(y))} targets"
        received = targets if sample_weight is None else "sample_weight too"
        raise BadInput(
            f"`class_weight` must come with one target and no sample_weight. Received: {received}. "
            "Pass sample_weight=, one weight a sample."
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
    """Require class indices that the output of a sparse crossentropy has. Raises: BadInput."""
    outputs = getattr(model, "outputs", None) or []
    losses, targets = compiled_losses_of(model, len(outputs)), list_by_output(model, y, len(outputs))
    for output, loss, target in zip(outputs, losses, targets, strict=False):
        if "sparse_categorical" not in _name_of(loss) or target is None or output.shape[-1] is None:
            continue
        labels, ignored = np.asarray(target), getattr(loss, "ignore_class", None)
        outside = np.argwhere(
            ((labels < 0) | (labels >= output.shape[-1])) & (labels != (-1e9 if ignored is None else ignored))
        )
        if len(outside):
            place = tuple(int(i) for i in outside[0])
            raise BadInput(
                f"`y` must hold classes from 0 to {output.shape[-1] - 1}, which the output has. "
                f"Received: {labels[place]} at index {place}. Correct the labels, or widen the output."
            )


#: what is not finite and yet has a meaning: masks that are added to scores, labels that are missing
NOT_FINITE = {"x": np.isinf, "inputs": np.isinf, "y": np.isnan}


def _takes_strings(model: Any) -> bool:
    """Whether strings may be inputs of a model: one of its inputs says so, or it does not state them."""
    specs = getattr(model, "inputs", None)
    return not specs or any(spec.dtype == "string" for spec in specs)


def require_finite_numbers(name: str, value: Any, *, strings: bool = True) -> None:
    """Require arrays of numbers, or of strings if they may be; `name` is that of the argument. Raises: BadInput.

    Numbers must be finite, but for infinities among inputs and missing labels.
    """
    for leaf in tf.nest.flatten(value):
        if leaf is None:
            continue
        array = np.asarray(values_of(leaf))
        if strings and (array.dtype.kind in "US" or _holds_words(array)):
            continue
        if array.dtype.kind not in "fiubc" and array.dtype.name != "bfloat16":
            raise BadInput(
                f"`{name}` must be numbers. Received: dtype {array.dtype}. Convert it to floats or integers."
            )
        numbers = array.astype(complex) if is_real_or_complex(array.dtype) else np.zeros(0)
        bad = ~np.isfinite(numbers)
        if name in NOT_FINITE:
            bad &= ~NOT_FINITE[name](numbers)
        if bad.any():
            place = tuple(int(i) for i in np.argwhere(bad)[0])
            raise BadInput(f"`{name}` must be finite. Received: {array[place]} at index {place}. Clean the data first.")


def _holds_words(array: Array) -> bool:
    return bool(array.dtype.hasobject) and all(isinstance(one, (str, bytes)) for one in array.flat)


def _read_shape(leaf: Any) -> tuple[int | None, ...]:
    """The shape of an array or tensor, None for sizes that differ from row to row."""
    if isinstance(leaf, tf.RaggedTensor):
        return (int(leaf.nrows()), *leaf.shape[1:])
    return tuple(leaf.shape) if isinstance(leaf, tf.SparseTensor) else np.shape(leaf)


def require_finite_weights(model: Any, *, needs_trainable: bool = True) -> None:
    """Require a built model with weights that are finite, some of them trainable if it needs any. Raises: BadInput."""
    if not getattr(model, "built", True) and not keras_2.is_never_called(model):
        raise BadInput(
            f"A model must be built. Received: {model.name!r}, unbuilt. Call it once on data, or give it an Input."
        )
    if needs_trainable and not model.trainable_variables:
        raise BadInput(
            f"A model must have trainable weights to be checked. Received: {model.name!r}, which has none. "
            "Check its inputs with check_gradients and wrt=('inputs',), or a model with weights."
        )
    require_finite_variables(model.variables)


def require_finite_variables(variables: Any) -> None:
    """Require variables whose values are finite. Raises: BadInput."""
    for variable in variables:
        value = np.asarray(variable.numpy())
        numbers = value if value.dtype.kind in "fc" else value.astype(complex)  # bfloat16 is no number of NumPy's
        if is_real_or_complex(variable.dtype) and not np.isfinite(numbers).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(numbers))[0])
            raise BadInput(
                f"Weight {getattr(variable, 'path', variable.name)!r} must be finite. "
                f"Received: {value[place]} at index {place}. Correct the value."
            )


def draw_inputs(model: Any, *, seed: int = 0, batch: int = BATCH) -> Any:
    """Random inputs for a model, nested as it takes them: normal floats, small integers.

    Shapes  those of the model's inputs; an unknown batch is `batch`, any other unknown size 4.
    Raises: BadInput where the model has no known inputs.
    """
    if not getattr(model, "inputs", None):
        raise BadInput(
            f"A model must state its inputs for data to be drawn. Received: {model.name!r}, which does not. "
            "Pass data (--data file.npz with arrays x and y), or give the model an Input."
        )
    generator, below = np.random.default_rng(seed), _find_smallest_vocabulary(model)

    def draw(spec: Any) -> Array:
        unknown = (batch, *(4 for _ in spec.shape[1:]))
        shape = tuple(default if size is None else size for size, default in zip(spec.shape, unknown, strict=False))
        if is_float(spec.dtype):
            return generator.normal(size=shape)
        return generator.integers(0, below, size=shape).astype(tf.as_dtype(spec.dtype).as_numpy_dtype)

    structure = getattr(model, "_inputs_struct", None)
    functional = getattr(model, "_functional", None)
    structure = structure if structure is not None else getattr(functional, "_inputs_struct", model.inputs)
    if isinstance(structure, (list, tuple)) and len(structure) == 1:
        structure = structure[0]
    return keras.tree.map_structure(draw, structure)


def _find_smallest_vocabulary(model: Any) -> int:
    """The smallest vocabulary of a model's embeddings, below which integer inputs are drawn; 2 without embeddings."""
    every = (*list_layers(model), *keras_2.list_layers(model))
    return min((layer.input_dim for layer in every if type(layer).__name__ == "Embedding"), default=2)


def _name_of(loss: Any) -> str:
    """What a loss is called, in lower case."""
    name = loss if isinstance(loss, str) else getattr(loss, "name", None) or getattr(loss, "__name__", "")
    return str(name).lower()


def compute_outputs(model: Any, x: Any) -> Any:
    """The outputs of a model for x; states, seeds and moving averages stay as they are."""
    with keras.StatelessScope(), restore_variables(model.variables if keras_2.is_model(model) else ()):
        return model(x)


def nest_numbered(model: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Inputs and targets that a file numbers, x0, x1, … and y0, y1, …, nested as the model names them.

    A dictionary's names are sorted where it is flattened (y10 comes before y2): a list would be permuted in silence.
    Raises: BadInput where the model's names are not those of the file.
    """
    structure = getattr(model, "_inputs_struct", None)
    if isinstance(x, list) and isinstance(structure, dict):
        x = _name_arrays("x", x, structure)
    if isinstance(y, list):
        outputs = compute_outputs(model, x)
        y = _name_arrays("y", y, outputs) if isinstance(outputs, dict) else y
    return x, y


def _name_arrays(name: str, arrays: list[Array], structure: dict[str, Any]) -> dict[str, Array]:
    named = {f"{name}{i}": array for i, array in enumerate(arrays)}
    if {*named} != {*structure}:
        raise BadInput(
            f"Arrays that are numbered must be those of a model that numbers its own. Received: {join_names(named)} "
            f"for {join_names(structure)}. Return (model, x, y) with dictionaries from a factory."
        )
    return named


def draw_targets(model: Any, outputs: Any, *, seed: int = 0) -> Any:
    """Random targets for a model's compiled loss, of the shapes of its outputs and nested as they are.

    Class indices (…,), one-hot rows, zeros and ones, positive numbers or normal numbers, as the loss asks.
    """
    generator = np.random.default_rng(seed + 1)
    flat = tf.nest.flatten(outputs)

    def draw(output: Any, loss: Any) -> Array:
        shape, name = tuple(output.shape), _name_of(loss)
        if "sparse" in name and "crossentropy" in name:
            return generator.integers(0, shape[-1], size=shape[:-1])
        if "categorical" in name:
            return np.eye(shape[-1])[generator.integers(0, shape[-1], size=shape[:-1])]
        if "binary" in name or "hinge" in name or name in ("dice", "tversky", "bce"):
            return generator.integers(0, 2, size=shape).astype(float)
        if "kl" in name or "poisson" in name or "log" in name:
            return generator.uniform(0.1, 1.0, size=shape)
        return generator.normal(size=shape)

    targets = [draw(output, loss) for output, loss in zip(flat, compiled_losses_of(model, len(flat)), strict=True)]
    return targets[0] if len(targets) == 1 else tf.nest.pack_sequence_as(outputs, targets)
