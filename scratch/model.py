"""A model is a directed graph of layers; a chain is the simple case. Weights are arguments: {"dense/kernel": array}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from scratch.arrays import Array
from scratch.calls import Call, as_masks, as_tuple, keywords_of
from scratch.fields import Shape
from scratch.layers.base import Layer, Weights
from scratch.naming import default_names, weights_of


@dataclass(frozen=True)
class Run:
    """What one forward pass left behind: every tensor and mask of the graph, the new state weights, and by first output of
    a call what is constant under differentiation (`Layer.held`)."""

    tensors: Mapping[str, Array]
    masks: Mapping[str, Array | None]
    updates: Mapping[str, Array]
    held: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """inputs {name: shape with the batch as None}, layers {name: layer}, calls in order, names of the output tensors.

    `regularizers` {weight name: regularizer} and `activity_regularizers` {layer name: regularizer} add to the loss,
    `constraints` {weight name: constraint} act after each update, `frozen` names weights that are not trained.
    Raises ValueError where the graph names what is not there.
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
        """A chain of layers on one input of shape `input_shape` (without the batch), named as Keras would name them."""
        named = layers if isinstance(layers, Mapping) else dict(zip(default_names(layers), layers, strict=True))
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
        """Shape of every tensor, unknown sizes being those of a batch of two (found by running the layers on zeros)."""
        return {name: tensor.shape for name, tensor in self._rehearsal[0].items()}

    @cached_property
    def weight_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """{"dense/kernel": shape, …} in the order of the calls."""
        return self._rehearsal[1]

    @cached_property
    def _rehearsal(self) -> tuple[dict[str, Array], dict[str, tuple[int, ...]]]:
        tensors: dict[str, Array] = {
            name: np.zeros(tuple(2 if size is None else size for size in shape)) for name, shape in self.inputs.items()
        }
        shapes: dict[str, tuple[int, ...]] = {}
        for call in self.calls:
            layer = self.layers[call.layer]
            inputs = [tensors[name] for name in call.inputs]
            own = layer.weight_shapes(*(x.shape for x in inputs))
            shapes.update({f"{call.layer}/{name}": tuple(int(n or 0) for n in shape) for name, shape in own.items()})
            with np.errstate(all="ignore"):
                outputs = as_tuple(
                    layer.forward(
                        {n: np.ones(s) for n, s in own.items()}, *inputs, **keywords_of(call, layer, tensors, {})
                    )  # type: ignore[arg-type]
                )
            tensors.update(zip(call.outputs, outputs, strict=False))
        return tensors, shapes

    @cached_property
    def state(self) -> frozenset[str]:
        """Names of the weights that gradients do not train: moving averages."""
        return frozenset(f"{name}/{own}" for name, layer in self.layers.items() for own in layer.state)

    @cached_property
    def activity(self) -> Mapping[str, Any]:
        """{layer name: what its outputs add to the loss, before division by the batch size}."""
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
        """One forward pass, everything kept. `draws` is {first output of a call: {name: random array}}.

        `point` is a run whose held values, and masks made of values, are taken in place of this one's own.
        """
        tensors = dict(self.named_inputs(inputs))
        known: dict[str, Array | None] = {name: (masks or {}).get(name) for name in tensors}
        updates: dict[str, Array] = {}
        held: dict[str, Mapping[str, Array]] = {}
        for call in self.calls:
            layer = self.layers[call.layer]
            own = weights_of({**weights, **updates} if updates else weights, call.layer)
            arguments = [tensors[name] for name in call.inputs]
            mask = tuple(known[name] for name in call.inputs) if len(call.inputs) > 1 else known[call.inputs[0]]
            context = {"training": training, "mask": mask, "draw": (draws or {}).get(call.outputs[0])}
            keywords = keywords_of(call, layer, tensors, context)
            if "held" in layer.accepts:
                held[call.outputs[0]] = (
                    point.held[call.outputs[0]] if point else layer.held(own, *arguments, **keywords)
                )
                keywords["held"] = held[call.outputs[0]]
            outputs = as_tuple(layer.forward(own, *arguments, **keywords))
            tensors.update(zip(call.outputs, outputs, strict=False))
            fixed = point is not None and layer.stopped_per_sample
            out_masks = (
                point.masks[call.outputs[0]]
                if fixed
                else layer.compute_mask(*arguments, mask=keywords.get("mask", mask))
            )  # type: ignore[union-attr]
            known.update(zip(call.outputs, as_masks(out_masks, len(call.outputs)), strict=True))
            if training and layer.state:
                new = layer.updates(own, *arguments, **keywords)
                updates.update({f"{call.layer}/{name}": value for name, value in new.items()})
        return Run(tensors, known, updates, held)

    def forward(self, weights: Weights, inputs: Any, **options: Any) -> Any:
        """The output array (a tuple of them for several outputs); options as for `run`."""
        tensors = self.run(weights, inputs, **options).tensors
        outputs = tuple(tensors[name] for name in self.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _repr_html_(self) -> str:
        from html import escape

        def weights(layer: str) -> str:
            return (
                ", ".join(
                    f"{name} {_shown(shape)}"
                    for name, shape in self.weight_shapes.items()
                    if name.startswith(layer + "/")
                )
                or "none"
            )

        heads = ("layer", "what it is", "inputs", "output shape (batch of two)", "weights")
        rows = [(name, "input", "", _shown(shape), "none") for name, shape in self.inputs.items()]
        for call in self.calls:
            shape = " and ".join(_shown(self.shapes[name]) for name in call.outputs)
            rows.append((call.layer, repr(self.layers[call.layer]), ", ".join(call.inputs), shape, weights(call.layer)))
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        return f"<table><caption>Model of {len(self.calls)} calls</caption><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{body}</table>"

    def named_inputs(self, inputs: Any) -> dict[str, Array]:
        """Inputs given as an array, a sequence in order, or a mapping by name, as a mapping by name.

        Raises: ValueError where their number, names or shapes are not the model's.
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
                    f"Input {name!r} must have shape {_shown(shape)}. Received: {_shown(given[name].shape)}. "
                    "Reshape the data or change the model's input shape."
                )
        return {name: given[name] for name in self.inputs}


def fits(shape: tuple[int, ...], expected: Shape) -> bool:
    """Whether `shape` is `expected`, None standing for any size."""
    return len(shape) == len(expected) and all(e in (None, s) for s, e in zip(shape, expected, strict=True))


def _shown(shape: Shape) -> str:
    return (
        "(" + ", ".join("any" if size is None else str(size) for size in shape) + ("," if len(shape) == 1 else "") + ")"
    )
