"""Wrappers: layers that hold other layers. The names of weights and draws begin with the name of the part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from scratch.arrays import Array
from scratch.fields import Domain, Shape, Size
from scratch.layers.base import Layer, Response, Weights
from scratch.layers.recurrent import GRU, LSTM, RNN, Recurrent, SimpleRNN, flat
from scratch.layers.recurrent_cells import Cell, Draw, GRUCell, LSTMCell, StackedRNNCells
from scratch.naming import add_prefix, weights_of
from scratch.registry import every, layer


def accepted(part: Layer, context: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of training, mask, draw, … that the forward pass of a part accepts."""
    return {name: value for name, value in context.items() if name in part.accepts}


@layer
class TimeDistributed(Layer):
    """y[:, t] = layer(x[:, t]) for every time step t, with the same weights, mask[:, t] and a draw of its own.

    The state of the layer is updated once for each time step, in order.
    Shapes  x (batch, time, …), several inputs alike; draws (time, …)   →   y (batch, time, …)
    Keras   TimeDistributed
    Source  keras.io/api/layers/recurrent_layers/time_distributed
    """

    layer: Layer

    def check(self) -> None:
        several = getattr(self.layer, "return_state", False) or getattr(self.layer, "merge_mode", "") is None
        if several or (isinstance(self.layer, Cell) and self.layer.one_step):
            raise ValueError(
                f"`layer` of TimeDistributed must return one array. Received: layer={self.layer!r}. "
                "Pass a layer with one output."
            )

    @property
    def state(self) -> tuple[str, ...]:
        return tuple(add_prefix("layer", dict.fromkeys(self.layer.state)))

    @property
    def elementwise(self) -> bool:
        return self.layer.elementwise

    def couples_batch(self, *, training: bool) -> bool:
        return self.layer.couples_batch(training=training)

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return add_prefix("layer", self.layer.weight_shapes(*((x[0], *x[2:]) for x in inputs)))

    def weight_domains(self) -> Mapping[str, Domain]:
        return add_prefix("layer", self.layer.weight_domains())

    def draw_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        shapes = self.layer.draw_shapes(*((x[0], *x[2:]) for x in inputs))
        return add_prefix("layer", {name: (inputs[0][1], *shape) for name, shape in shapes.items()})

    def _run_steps(
        self, weights: Weights, inputs: tuple[Array, ...], *, training: bool, mask: Any, draw: Draw
    ) -> tuple[list[Array], dict[str, Array]]:
        own, drawn, outputs = weights_of(weights, "layer"), weights_of(draw or {}, "layer"), []
        for t in range(inputs[0].shape[1]):
            step = tuple(x[:, t] for x in inputs)
            at = tuple(None if m is None else m[:, t] for m in (mask if isinstance(mask, tuple) else (mask,)))
            context = {"training": training, "mask": at if isinstance(mask, tuple) else at[0]}
            context["draw"] = {name: array[t] for name, array in drawn.items()} if draw else None
            keywords = accepted(self.layer, context)
            outputs.append(self.layer.forward(own, *step, **keywords))
            if training and self.layer.state:
                own |= self.layer.updates(own, *step, **keywords)
        return outputs, {name: own[name] for name in self.layer.state}

    def forward(
        self, weights: Weights, *inputs: Array, training: bool = False, mask: Any = None, draw: Draw = None
    ) -> Array:
        return np.stack(self._run_steps(weights, inputs, training=training, mask=mask, draw=draw)[0], axis=1)

    def updates(self, weights: Weights, *inputs: Array, **call: Any) -> dict[str, Array]:
        new = self._run_steps(weights, inputs, training=True, mask=call.get("mask"), draw=call.get("draw"))[1]
        return add_prefix("layer", new)

    def compute_mask(self, *inputs: Array, mask: Any = None) -> Any:
        return mask[0] if isinstance(mask, tuple) else mask

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        time = size(1, 3)
        # Keras requires an axis beside batch and time; layers that take (batch,) here take (batch, n) too.
        inner = [x if len(x) > 1 else (*x, size(1, 3)) for x in self.layer.input_shapes(size)]
        states = "initial_state" in self.layer.accepts  # first states of an inner sequence are not passed
        return tuple((x[0], time, *x[1:]) for x in (inner[:1] if states else inner))

    def input_domains(self) -> tuple[Domain, ...]:
        return self.layer.input_domains()

    def responses(self, weights: Weights, name: str, *inputs: Array) -> Response | None:
        if getattr(self.layer, "activation", "linear") != "linear":
            return None
        own, part = weights_of(weights, "layer"), name.removeprefix("layer/")
        steps = (tuple(x[:, t] for x in inputs) for t in range(inputs[0].shape[1]))
        found = [self.layer.responses(own, part, *step) for step in steps]
        known = [response for response in found if response is not None]
        if len(known) < len(found):
            return None
        _, feature, channel = known[0]
        if all(np.array_equal(own, feature) and len(f) == len(known[0][0]) for f, own, _ in known):
            return Response(np.stack([features for features, _, _ in known], axis=2), feature, channel)
        # features differ from step to step (the indices of an embedding do): one feature for each entry
        features = np.stack([features[own] for features, own, _ in known], axis=2)
        return Response(features, np.arange(len(feature)), channel)

    @classmethod
    def examples(cls) -> tuple[TimeDistributed, ...]:
        """Small legal specifications: layers that are linear, recurrent, have state, draws, masks, or take indices."""
        known = every("layer")
        wanted: dict[str, dict[str, Any]] = {
            "Dense": {"units": 2, "activation": "tanh"},
            "Activation": {"activation": "softmax"},
            "Conv1D": {"filters": 2, "kernel_size": 2},
            "BatchNormalization": {},
            "Dropout": {"rate": 0.5},
            "Embedding": {"input_dim": 3, "output_dim": 2},
            "LSTM": {"units": 2, "return_sequences": True},
            "GRU": {"units": 1},
        }
        return tuple(cls(known[name](**fields)) for name, fields in wanted.items() if name in known)


MergeMode = Literal["concat", "sum", "ave", "mul"] | None


@layer
class Bidirectional(Layer):
    """The merger of y = layer(x) and y' = backward_layer(x), which reads x from its last step to its first.

    With `return_sequences` y' is reversed into the order of y, and masked steps are zeros in both. Weights are
    "forward/…" and "backward/…", as are draws. States: those of `layer`, then those of `backward_layer`.
    Shapes  x (batch, time, …), all first states   →   y (batch, …), both if `merge_mode` is None, all last states
    Keras   Bidirectional (without `backward_layer`: a copy of `layer` with go_backwards=True and its own weights)
    Source  Schuster & Paliwal 1997; keras.io/api/layers/recurrent_layers/bidirectional
    """

    layer: Recurrent
    merge_mode: MergeMode = "concat"
    backward_layer: Recurrent | None = None

    @cached_property
    def parts(self) -> dict[str, Recurrent]:
        """The two layers, by the prefix of the names of their weights."""
        backward = self.backward_layer or replace(self.layer, go_backwards=True)
        both = {"forward": self.layer, "backward": backward}
        return {name: replace(part, zero_output_for_mask=part.return_sequences) for name, part in both.items()}

    def check(self) -> None:
        forward, backward = self.parts.values()
        if forward.go_backwards == backward.go_backwards:
            raise ValueError(
                "`layer` and `backward_layer` of Bidirectional must differ in go_backwards. Received: "
                f"go_backwards={forward.go_backwards} for both. Change one of them."
            )
        for name in ("return_sequences", "return_state", "stateful"):
            if getattr(forward, name) != getattr(backward, name):
                raise ValueError(
                    f"`layer` and `backward_layer` of Bidirectional must agree in {name}. Received: "
                    f"{getattr(forward, name)} and {getattr(backward, name)}. Change one of them."
                )

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        forward, backward = (part.output_shape(inputs[0]) for part in self.parts.values())
        same = len(forward) if self.merge_mode in ("sum", "ave", "mul") else -1
        if self.merge_mode is not None and (len(forward) != len(backward) or forward[:same] != backward[:same]):
            raise ValueError(
                f"Outputs merged by {self.merge_mode!r} must agree in shape. Received: {forward} and {backward}. "
                "Change one of the layers or merge_mode."
            )
        shapes = [add_prefix(name, part.weight_shapes(inputs[0])) for name, part in self.parts.items()]
        return shapes[0] | shapes[1]

    def draw_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        shapes = [add_prefix(name, part.draw_shapes(inputs[0])) for name, part in self.parts.items()]
        return shapes[0] | shapes[1]

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        x, *given = self.layer.input_shapes(size)
        return x, *(s for part in self.parts.values() for s in part.state_shapes(x) if given)

    def _calls(self, x: Array, states: Any, initial_state: Any, call: Mapping[str, Any]) -> Any:
        """The name, the layer and the keywords of the call of each part."""
        states = flat(initial_state) or tuple(states)
        mask, draw = call.get("mask"), call.get("draw")
        for name, part in self.parts.items():
            count = len(part.state_shapes(x.shape))
            own, states = states[:count], states[count:]
            yield (
                name,
                part,
                {
                    "initial_state": own or None,
                    "mask": mask[0] if isinstance(mask, tuple) else mask,
                    "draw": weights_of(draw, name) if draw else None,
                    "training": call.get("training", False),
                },
            )

    def forward(
        self,
        weights: Weights,
        *inputs: Array,
        initial_state: Any = None,
        training: bool = False,
        mask: Any = None,
        draw: Draw = None,
    ) -> Any:
        x, *states = inputs
        call = {"training": training, "mask": mask, "draw": draw}
        outputs: list[Array] = []
        last: list[Array] = []
        for name, part, keywords in self._calls(x, states, initial_state, call):
            found = part.forward(weights_of(weights, name), x, **keywords)
            outputs.append(found[0] if self.layer.return_state else found)
            last.extend(found[1:] if self.layer.return_state else ())
        merged = self._merged(outputs[0], outputs[1][:, ::-1] if self.layer.return_sequences else outputs[1])
        return (*merged, *last) if len(merged) + len(last) > 1 else merged[0]

    def _merged(self, y: Array, back: Array) -> tuple[Array, ...]:
        if self.merge_mode is None:
            return y, back
        if self.merge_mode == "concat":
            return (np.concatenate((y, back), axis=-1),)
        return (y * back if self.merge_mode == "mul" else (y + back) / (2 if self.merge_mode == "ave" else 1),)

    def updates(self, weights: Weights, *inputs: Array, **call: Any) -> dict[str, Array]:
        x, *states = inputs
        new: dict[str, Array] = {}
        for name, part, keywords in self._calls(x, states, call.get("initial_state"), call):
            new |= add_prefix(name, part.updates(weights_of(weights, name), x, **keywords))
        return new

    def compute_mask(self, *inputs: Array, mask: Any = None) -> Any:
        forward = next(iter(self.parts.values())).compute_mask(*inputs, mask=mask)
        return (forward, forward) if self.merge_mode is None else forward

    @classmethod
    def examples(cls) -> tuple[Bidirectional, ...]:
        """Small legal specifications: every merge mode, states, another backward layer, a stack of cells."""
        stack = RNN(StackedRNNCells((LSTMCell(1), GRUCell(2))), return_state=True)
        return (
            cls(LSTM(2)),
            cls(SimpleRNN(2, return_sequences=True), "sum"),
            cls(GRU(2, return_sequences=True, return_state=True), "ave"),
            cls(SimpleRNN(1, return_sequences=True), "mul", GRU(1, return_sequences=True, go_backwards=True)),
            cls(LSTM(1, return_state=True), None, LSTM(2, "relu", return_state=True, go_backwards=True)),
            cls(stack, "sum"),
            cls(GRU(1, go_backwards=True, return_sequences=True), "concat", SimpleRNN(2, return_sequences=True)),
        )
