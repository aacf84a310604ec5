"""Explain where two programs part: the evidence for the tables of this folder, from what was measured of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ref.comparison.diagnoses.arrays import factors
from keras_ref.comparison.diagnoses.chain import STEP, ChainLayer, ChainPoint, activate, is_elementwise
from keras_ref.comparison.diagnoses.layer_variations import (
    build_definition,
    compute_output,
    describe_change,
    pick_weights,
    vary_layer,
)
from keras_ref.comparison.diagnoses.step_variations import StepOf, explain_step
from keras_ref.comparison.diagnoses.table import Cause, Gradients, explain_gradients
from keras_ref.comparison.two_programs.program_comparison import Both, Side, to_a
from keras_ref.own_modules import registry
from keras_ref.programs.program import Definition, Facts, Point, Stage, flatten_arrays
from keras_ref.reports.comparison import Row
from scratch.arrays import Array

#: so many tensors before a layer are tried as its input
BACK = 12
#: layers that leave a matrix of samples and features as it is
IDENTITIES = ("Dropout", "Flatten", "InputLayer", "GaussianNoise", "GaussianDropout", "AlphaDropout")


def explain_parting(both: Both, row: Row) -> str:
    """What explains a row to rounding; "" where nothing does."""
    if row.difference == np.inf and row.stage == Stage.FORWARD:
        return ""
    explain = {
        Stage.FORWARD: _explain_forward,
        Stage.LOSS: _explain_loss,
        Stage.GRADIENT: _explain_gradient,
        Stage.UPDATE: _explain_update,
    }.get(Stage(row.stage))
    return explain(both, row) if explain is not None else ""


# Forward --------------------------------------------------------------------------------------------------------------


def _explain_forward(both: Both, row: Row) -> str:
    for own, other, mine, yours in ((both.a, both.b, row.a, row.b), (both.b, both.a, row.b, row.a)):
        letters = ("A", "B") if own is both.a else ("B", "A")
        theirs = other.measured.trace.tensors[yours]
        layer = _find_definition(own.facts, mine)
        if layer is None:
            continue
        weights = pick_weights(own.point.weights, mine.split(":")[0])
        for inputs in _find_inputs(own, mine):
            made = compute_output(layer, weights, inputs, training=own.point.training)
            target = own.measured.trace.tensors[mine]
            if made is None or made.shape != target.shape or not _is_near(made, target, row):
                continue
            for words, changed in vary_layer(layer):
                value = compute_output(changed, weights, inputs, training=own.point.training)
                if value is not None and value.shape == theirs.shape and _is_near(value, theirs, row):
                    return f"{letters[0]} uses {describe_change(layer, changed)}, {letters[1]} {words}"
    return ""


def _is_near(value: Array, wanted: Array, row: Row) -> bool:
    """Whether a proposal gives an output: to rounding, or to float32 constants, far below the difference."""
    return bool(np.max(np.abs(value - wanted), initial=0.0) <= max(10 * row.allowed, 1e-3 * row.difference))


def _find_definition(facts: Facts, name: str) -> Any:
    found = next((one for one in facts.layers if one.name == name.split(":", maxsplit=1)[0]), None)
    return None if found is None else build_definition(found.class_name, found.config)


def _find_inputs(side: Side, name: str) -> list[Array]:
    """What may be the input of a layer: the tensors before it, the nearest first, and the inputs of the model."""
    names = list(side.measured.trace.tensors)
    before = names[: names.index(name)][::-1][:BACK]
    arrays = [side.measured.trace.tensors[n] for n in before]
    return [*arrays, *(np.asarray(a) for a in flatten_arrays(side.point.x))]


# Loss -----------------------------------------------------------------------------------------------------------------


def _explain_loss(both: Both, row: Row) -> str:
    a, b = row.value_a, row.value_b
    found = Gradients(
        wrong={}, right={}, allowed={}, samples=count_samples(both.a.point), outputs=count_outputs(both.a)
    )
    for factor, words in factors(found):
        if abs(b - factor * a) <= row.allowed * max(1.0, abs(factor)):
            return f"B's is A's × {words}"
    return ""


def count_samples(point: Point) -> int:
    """The size of the batch."""
    arrays = flatten_arrays(point.x)
    return len(arrays[0]) if arrays and arrays[0].ndim else 0


def count_outputs(side: Side) -> int:
    """How many numbers a program puts out for a sample."""
    output, samples = side.measured.trace.tensors.get("output"), count_samples(side.point)
    return 0 if output is None or not samples else output.size // samples


# Gradient -------------------------------------------------------------------------------------------------------------


def _explain_gradient(both: Both, row: Row) -> str:
    if row.right == "both":
        return ""
    cause = None
    for letter in ("B", "A") if row.right != "B" else ("A",):
        cause = explain_side(both, letter)
        if cause is not None:
            return f"{letter}'s: {cause.words}"
        if row.right == "A":
            break
    return ""


def explain_side(both: Both, letter: str) -> Cause | None:
    """What explains the gradients of one side, those of the other being right."""
    wrong: dict[str, Array] = {}
    right: dict[str, Array] = {}
    allowed: dict[str, float] = {}
    a, b = both.a.measured, both.b.measured
    for pair in reversed(both.matching.pairs):
        first, second = a.trace.gradient.get(pair.a.name), both.gradient_of_b(pair)
        if first is None or second is None or np.shape(first) != np.shape(second):
            continue
        wrong[pair.a.name], right[pair.a.name] = (second, first) if letter == "B" else (first, second)
        allowed[pair.a.name] = a.gradient[pair.a.name] + b.gradient.get(pair.b.name, 0.0)
    order = sorted(wrong, key=lambda n: bool(np.max(np.abs(wrong[n] - right[n]), initial=0.0) <= allowed[n]))
    return explain_gradients(
        Gradients(
            wrong={name: wrong[name] for name in order},
            right=right,
            allowed=allowed,
            weights=both.a.point.weights,
            samples=count_samples(both.a.point),
            outputs=count_outputs(both.a),
            chain=build_chain(both.a.facts, both.a.point),
            indices=_find_indices(both.a.point),
        )
    )


def _find_indices(point: Point) -> Array | None:
    arrays = flatten_arrays(point.x)
    return arrays[0] if arrays and arrays[0].dtype.kind in "iu" else None


def build_chain(facts: Facts, point: Point) -> ChainPoint | None:
    """The program as a chain of dense layers at the point; None where it is none, or its loss is not known."""
    layers = list_chain_layers(facts.layers, facts)
    arrays, targets = flatten_arrays(point.x), flatten_arrays(point.y)
    if layers is None or len(arrays) != 1 or arrays[0].ndim != 2:
        return None
    x = np.asarray(arrays[0], dtype=float)
    weights = {name: np.asarray(value, dtype=float) for name, value in point.weights.items()}
    if point.cotangent is not None:
        slope = np.asarray(flatten_arrays(point.cotangent)[0])
        if not is_elementwise(layers[-1].activation):
            return None
        return ChainPoint(layers, weights, x=x, y=slope, slope=slope, fused=False)
    loss = find_loss(facts.loss)
    if loss is None or len(targets) != 1:
        return None
    bare = ChainPoint(layers, weights, x=x, y=np.asarray(targets[0]), slope=np.zeros(1), fused=False)
    z, a = bare.passed
    last = layers[-1].activation
    fused = last in ("softmax", "sigmoid") and "rossentropy" in type(loss).__name__

    def value(output: Array) -> Any:
        return loss(bare.y, activate(last, output) if fused else output)

    return ChainPoint(layers, weights, x=x, y=bare.y, slope=_slope(value, z[-1] if fused else a[-1]), fused=fused)


def _slope(function: Any, at: Array) -> Array:
    """The slope of a function by every entry, by complex steps."""
    found = np.empty(at.shape)
    for place in np.ndindex(at.shape):
        moved = at.astype(complex)
        moved[place] += 1j * STEP
        found[place] = np.imag(function(moved)) / STEP
    return found


def list_chain_layers(layers: Sequence[Definition], facts: Facts) -> list[ChainLayer] | None:
    """Dense layers in a row, an activation of its own belonging to the layer before it; None for anything else."""
    names = {weight.name for weight in facts.weights}
    found: list[ChainLayer] = []
    for one in layers:
        activation = _name_activation(one)
        if one.class_name == "Dense":
            bias = f"{one.name}/bias"
            found.append(ChainLayer(f"{one.name}/kernel", bias if bias in names else "", activation))
        elif one.class_name in IDENTITIES:
            continue
        elif activation and found and found[-1].activation == "linear":
            found[-1] = ChainLayer(found[-1].kernel, found[-1].bias, activation)
        else:
            return None
    known = all(layer.activation in registry.names("activation") for layer in found)
    return found if found and known else None


def _name_activation(one: Definition) -> str:
    """The activation of a layer, "" where it has none that is known by its name."""
    if one.class_name == "ReLU" and not one.config.get("negative_slope"):
        return "relu"
    if one.class_name == "Softmax":
        return "softmax"
    activation = one.config.get("activation", "")
    return activation if isinstance(activation, str) else ""


def find_loss(given: Definition | None) -> Any:
    """The loss of scratch of a name of Keras ("mse", "mean_squared_error", "MeanSquaredError"); None without one."""
    if given is None:
        return None
    short = {"mse": "MeanSquaredError", "mae": "MeanAbsoluteError", "bce": "BinaryCrossentropy"}
    name = short.get(given.class_name.lower(), given.class_name)
    camel = name if name[:1].isupper() else "".join(part.title() for part in name.split("_"))
    return registry.get("loss", camel)() if camel in registry.names("loss") else None


# Update ---------------------------------------------------------------------------------------------------------------


def _explain_update(both: Both, row: Row) -> str:
    pair = next(p for p in both.matching.pairs if p.a.name == row.a)
    a, b = both.a.measured.trace, both.b.measured.trace
    after_a = tuple(np.asarray(step[pair.a.name], dtype=float) for step in a.steps)
    values = (to_a(pair, step.get(pair.b.name)) for step in b.steps)
    after_b = tuple(np.asarray(value, dtype=float) for value in values if value is not None)
    if any(value.shape != after_a[0].shape for value in after_b):
        return ""
    step = int(row.note.split(":")[0].removeprefix("step ")) - 1 if row.note.startswith("step") else 0
    optimizer = both.a.facts.optimizer
    return explain_step(
        StepOf(
            name=row.a,
            start=np.asarray(both.a.point.weights[pair.a.name], dtype=float),
            a=after_a,
            b=after_b,
            gradient=_compute_gradient_of_step(both, pair.a.name),
            optimizer=None if optimizer is None else (optimizer.class_name, optimizer.config),
            samples=count_samples(both.a.point),
            momentum=_momentum(both.a.facts, pair.a.name),
        ),
        step,
        row.allowed,
    )


def _compute_gradient_of_step(both: Both, name: str) -> Array | None:
    """A's gradient at the start: that of the step, unless layers tell training from inference."""
    found = both.a.measured.trace.gradient.get(name)
    return None if found is None else np.asarray(found, dtype=float)


def _momentum(facts: Facts, name: str) -> float | None:
    layer = name.rsplit("/", 1)[0]
    config: Mapping[str, Any] = next((one.config for one in facts.layers if one.name == layer), {})
    value = config.get("momentum")
    return float(value) if isinstance(value, (int, float)) else None
