"""A model: a directed graph of layers. Weights are arguments: {"dense/kernel": array, …}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Any

import numpy as np

from scratch.arrays import Array
from scratch.calls import Call, as_masks, as_tuple, make_keywords
from scratch.fields import Shape
from scratch.layers.base import Layer, Weights
from scratch.naming import add_prefix, make_default_names, weights_of


@dataclass(frozen=True)
class Run:
    """The result of one forward pass: every tensor and mask of the graph, and the new values of state weights.

    `stopped` is, by the first output of a call, what is constant under differentiation (`Layer.stopped`).
    """

    tensors: Mapping[str, Array]
    masks: Mapping[str, Array | None]
    updates: Mapping[str, Array]
    stopped: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A directed graph of layers.

    `inputs` is {name: shape, with the batch as None}, `layers` {name: layer}, `calls` the calls in order, `outputs` the
    names of the output tensors. `regularizers` {weight name: regularizer} and `activity_regularizers` {layer name:
    regularizer} add to the loss, `constraints` {weight name: constraint} act after each update, and `frozen` names
    weights that are not trained.
    Raises: ValueError where a call or an output names a layer or tensor that does not exist.
    """

    inputs: Mapping[str, Shape]
    layers: Mapping[str, Layer]
    calls: tuple[Call, ...]
    outputs: tuple[str, ...]
    regularizers: Mapping[str, Any] = field(default_factory=dict)
    activity_regularizers: Mapping[str, Any] = field(default_factory=dict)
    constraints: Mapping[str, Any] = field(default_factory=dict)
    frozen: frozenset[str] = frozenset()

    @classmethod
    def chain(
        cls, layers: Sequence[Layer] | Mapping[str, Layer], input_shape: Sequence[int | None], **more: Any
    ) -> Model:
        """A chain of layers on one input of shape `input_shape` (without the batch).

        `layers` are a sequence, which gets Keras's default names, or {name: layer}; `more` are other fields of a model.
        Raises: ValueError as the class.
        """
        named = layers if isinstance(layers, Mapping) else dict(zip(make_default_names(layers), layers, strict=True))
        calls, tensor = [], "input"
        for name in named:
            calls.append(Call(name, (tensor,), (name,)))
            tensor = name
        return cls({"input": (None, *input_shape)}, dict(named), tuple(calls), (tensor,), **more)

    def __post_init__(self) -> None:
        known = set(self.inputs)
        for call in self.calls:
            if call.layer not in self.layers:
                raise ValueError(
                    f"A call must name a layer of the model. Received: {call.layer!r}, where the layers are "
                    f"{', '.join(self.layers) or 'none'}. Add the layer or correct the name."
                )
            self._require(set(call.tensors) - known, f"A call of {call.layer!r} must take tensors made before it")
            known.update(call.outputs)
        self._require(set(self.outputs) - known, "The outputs of a model must be tensors of its graph")

    @staticmethod
    def _require(missing: set[str], rule: str) -> None:
        if missing:
            raise ValueError(f"{rule}. Received: {', '.join(sorted(missing))}. Reorder the calls or correct the name.")

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Shape of every tensor, unknown sizes being 2 (found by a forward pass on zeros)."""
        return {name: tensor.shape for name, tensor in self._trial[0].items()}

    @cached_property
    def weight_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """{"dense/kernel": shape, …} in the order of the calls."""
        return self._trial[1]

    @cached_property
    def _trial(self) -> tuple[dict[str, Array], dict[str, tuple[int, ...]]]:
        """The tensors of a forward pass on zeros with weights of ones, and the shapes of the weights."""
        tensors: dict[str, Array] = {
            name: np.zeros(tuple(2 if size is None else size for size in shape)) for name, shape in self.inputs.items()
        }
        shapes: dict[str, tuple[int, ...]] = {}
        for call in self.calls:
            layer = self.layers[call.layer]
            inputs = [tensors[name] for name in call.inputs]
            own = {
                name: tuple(int(n or 0) for n in shape)
                for name, shape in layer.weight_shapes(*(x.shape for x in inputs)).items()
            }
            shapes.update(add_prefix(call.layer, own))
            ones = {name: np.ones(shape) for name, shape in own.items()}
            with np.errstate(all="ignore"):
                outputs = as_tuple(layer.forward(ones, *inputs, **make_keywords(call, layer, tensors, {})))
            tensors.update(zip(call.outputs, outputs, strict=False))
        return tensors, shapes

    @cached_property
    def state(self) -> frozenset[str]:
        """Names of the weights that gradients do not train: moving averages."""
        return frozenset(f"{name}/{own}" for name, layer in self.layers.items() for own in layer.state)

    @cached_property
    def activity(self) -> Mapping[str, Any]:
        """{layer name: the function of its output that adds to the loss, before division by the batch size}."""
        own = {name: layer.penalty for name, layer in self.layers.items() if hasattr(layer, "penalty")}
        return own | dict(self.activity_regularizers)

    @cached_property
    def trainable(self) -> tuple[str, ...]:
        """Names of the weights that gradients train."""
        return tuple(name for name in self.weight_shapes if name not in self.state and name not in self.frozen)

    def run(
        self,
        weights: Weights,
        inputs: Any,
        *,
        training: bool = False,
        draws: Mapping[str, Mapping[str, Array]] | None = None,
        masks: Mapping[str, Array] | None = None,
        point: Run | None = None,
    ) -> Run:
        """One forward pass, with every tensor kept.

        weights    {"dense/kernel": array, …}, of the shapes in `weight_shapes`
        inputs     an array, a sequence in order, or a mapping by name, of the model's input shapes, batch first
        training   whether layers compute as in training (dropout, batch statistics)
        draws      {first output of a call: {name: random array}};   masks  {input name: mask}
        point      a run whose stopped values, and masks that depend on values, are used in place of new ones

        Raises: ValueError where the inputs are not those of the model.
        """
        tensors = dict(self.named_inputs(inputs))
        known: dict[str, Array | None] = {name: (masks or {}).get(name) for name in tensors}
        updates: dict[str, Array] = {}
        stopped: dict[str, Mapping[str, Array]] = {}
        for call in self.calls:
            layer = self.layers[call.layer]
            own = weights_of({**weights, **updates} if updates else weights, call.layer)
            arguments = [tensors[name] for name in call.inputs]
            mask = tuple(known[name] for name in call.inputs) if len(call.inputs) > 1 else known[call.inputs[0]]
            context = {"training": training, "mask": mask, "draw": (draws or {}).get(call.outputs[0])}
            keywords = make_keywords(call, layer, tensors, context)
            if "stopped" in layer.accepts:
                stopped[call.outputs[0]] = (
                    point.stopped[call.outputs[0]] if point else layer.stopped(own, *arguments, **keywords)
                )
                keywords["stopped"] = stopped[call.outputs[0]]
            outputs = as_tuple(layer.forward(own, *arguments, **keywords))
            tensors.update(zip(call.outputs, outputs, strict=False))
            if point is not None and layer.stopped_per_sample:
                out_masks: Any = point.masks[call.outputs[0]]
            else:
                out_masks = layer.compute_mask(*arguments, mask=keywords.get("mask", mask))
            known.update(zip(call.outputs, as_masks(out_masks, len(call.outputs)), strict=True))
            if training and layer.state:
                new = layer.updates(own, *arguments, **keywords)
                updates.update(add_prefix(call.layer, new))
        return Run(tensors, known, updates, stopped)

    def forward(self, weights: Weights, inputs: Any, **options: Any) -> Any:
        """The output array (a tuple of them for several outputs), batch first, at these weights and inputs.

        `options` are those of `run`. Raises: ValueError where the inputs are not those of the model.
        """
        tensors = self.run(weights, inputs, **options).tensors
        outputs = tuple(tensors[name] for name in self.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _repr_html_(self) -> str:
        heads = ("layer", "what it is", "inputs", "output shape (batch of two)", "weights")
        rows = [(name, "input", "", _show(shape), "none") for name, shape in self.inputs.items()]
        for call in self.calls:
            shape = " and ".join(_show(self.shapes[name]) for name in call.outputs)
            own = weights_of(self.weight_shapes, call.layer)
            weights = ", ".join(f"{call.layer}/{name} {_show(shape)}" for name, shape in own.items()) or "none"
            rows.append((call.layer, repr(self.layers[call.layer]), ", ".join(call.inputs), shape, weights))
        head = "".join(f"<th>{name}</th>" for name in heads)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        return f"<table><caption>Model of {len(self.calls)} calls</caption><tr>{head}</tr>{body}</table>"

    def named_inputs(self, inputs: Any) -> dict[str, Array]:
        """Inputs, given as an array, a sequence in order, or a mapping by name, as a mapping by name.

        Raises: ValueError where their number, names or shapes are not those of the model.
        """
        if isinstance(inputs, Mapping):
            given = {name: np.asarray(value) for name, value in inputs.items()}
        elif isinstance(inputs, (tuple, list)) and len(self.inputs) > 1:
            given = dict(zip(self.inputs, map(np.asarray, inputs), strict=False))
        else:
            given = {next(iter(self.inputs)): np.asarray(inputs)}
        if set(given) != set(self.inputs):
            raise ValueError(
                f"A model takes exactly its inputs ({', '.join(self.inputs)}). Received: {', '.join(given)}. "
                "Pass one array for each, in order or by name."
            )
        for name, shape in self.inputs.items():
            if not fits(given[name].shape, shape):
                raise ValueError(
                    f"Input {name!r} must have shape {_show(shape)}. Received: {_show(given[name].shape)}. "
                    "Reshape the data or change the model's input shape."
                )
        return {name: given[name] for name in self.inputs}


def fits(shape: tuple[int, ...], expected: Shape) -> bool:
    """Whether `shape` is `expected`, in which None stands for any size."""
    return len(shape) == len(expected) and all(e in (None, s) for s, e in zip(shape, expected, strict=True))


def _show(shape: Shape) -> str:
    sizes = ", ".join("any" if size is None else str(size) for size in shape)
    return f"({sizes},)" if len(shape) == 1 else f"({sizes})"
