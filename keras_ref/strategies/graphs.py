"""Strategies for models, their weights and inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from keras_ref.own_modules import fields as domains
from keras_ref.strategies.arrays import PATTERNS, samples
from keras_ref.strategies.specifications import specifications
from keras_ref.translation.departures import find_departures, nested_specifications
from scratch.arrays import Array
from scratch.calls import Call
from scratch.layers.base import Layer
from scratch.model import Model
from scratch.naming import convert_to_snake_case


def departures_of(model: Model) -> tuple[str, ...]:
    """Ids of the known departures that the layers of a scratch `model` may show."""
    return find_departures(model.layers.values())


def sizes(draw: DrawFn) -> domains.Size:
    """The function `size(low, high)` by which definitions choose the sizes of their inputs, drawn by Hypothesis."""
    return lambda low, high: draw(st.integers(low, max(low, high)))


def model_of(layer: Layer, shapes: tuple[tuple[int, ...], ...], **keywords: Any) -> Model:
    """A model of one layer on inputs of these shapes, the batch first; `keywords` are those of the layer's call.

    The batch may be of any size, but for layers that keep a state. Raises: ValueError where the layer does not take
    such inputs.
    """
    name = convert_to_snake_case(type(layer).__name__)
    # a layer that keeps a state from call to call has one for each sample, so the batch is fixed
    fixed = any(getattr(part, "stateful", False) for part in nested_specifications(layer))
    inputs = {f"x{i}": shape if fixed else (None, *shape[1:]) for i, shape in enumerate(shapes)}
    arrays = [
        np.zeros(shape, dtype=int if isinstance(d, domains.Index) else float)
        for shape, d in zip(shapes, _list_input_domains(layer, len(shapes)), strict=True)
    ]
    weights = {n: np.ones([k or 1 for k in shape]) for n, shape in layer.weight_shapes(*shapes).items()}
    with np.errstate(all="ignore"):
        output = layer.forward(weights, *arrays, **keywords)
    count = len(output) if isinstance(output, (tuple, list)) else 1
    outputs = tuple(f"y{i}" for i in range(count))
    return Model(inputs, {name: layer}, (Call(name, tuple(inputs), outputs, keywords),), outputs)


def _list_input_domains(layer: Layer, count: int) -> tuple[domains.Domain, ...]:
    """The domain of each of `count` inputs: the last that the layer states counts for all further ones."""
    own = layer.input_domains()
    return tuple(own[min(i, len(own) - 1)] for i in range(count))


@st.composite
def input_shapes_of(draw: DrawFn, layer: Layer) -> tuple[tuple[int, ...], ...]:
    """Legal input shapes of a `layer`, the batch first, one batch size for all."""
    shapes = layer.input_shapes(sizes(draw))
    return tuple(tuple(int(n) for n in shape if n is not None) for shape in shapes)


@st.composite
def models(draw: DrawFn, names: tuple[str, ...] = ("Dense", "Activation", "Flatten"), *, longest: int = 3) -> Model:
    """Chains of up to `longest` layers, of the kinds in `names` and a last Dense one, on 1 to 4 features.

    Fields are drawn by `specifications`, activations included. Raises: ValueError for a name that is not registered;
    TypeError for a field that states no domain.
    """
    chain = [
        draw(specifications("layer", draw(st.sampled_from(names)))) for _ in range(draw(st.integers(0, longest - 1)))
    ]
    head = draw(specifications("layer", "Dense"))
    shape = (draw(st.integers(1, 4)),)
    return Model.chain([*chain, head], shape)


def weights_of(model: Any, patterns: tuple[str, ...] = PATTERNS) -> SearchStrategy[dict[str, Array]]:
    """Weights for a model, special ones included: float64 arrays in the shapes of the weights, by `patterns`.

    Of a scratch.Model {"dense/kernel": array}, each from the domain its layer states. Of a built keras.Model or keras
    layer {variable path: array} in the order of `weights`, so that model.set_weights(list(drawn.values())) takes them;
    what is not trained (moving averages) keeps its value. `patterns` are those of `special_points`.
    Raises: ValueError, when it draws, for a Keras model or layer that is not built.
    """
    return _weights(model, patterns) if isinstance(model, Model) else of_keras().weights(model, patterns)


@st.composite
def _weights(draw: DrawFn, model: Model, patterns: tuple[str, ...]) -> dict[str, Array]:
    drawn = {}
    for name, shape in model.weight_shapes.items():
        layer, _, part = name.partition("/")
        own = model.layers[layer].weight_domains() if layer in model.layers else {}
        drawn[name] = draw(samples(tuple(shape), own.get(part, domains.Real()), patterns))
    return drawn


def inputs_of(model: Any, batch: int | None = None, patterns: tuple[str, ...] = PATTERNS) -> SearchStrategy[Any]:
    """Arrays for a model's inputs, special ones included; 1 to 4 samples, or `batch`.

    Of a scratch.Model {input name: array}. Of a keras.Model what it takes: one array, a list, a dictionary. Of a built
    keras layer one array, or a list of those that it was built for. `patterns` are those of `special_points`.
    Raises: ValueError, when it draws, for a Keras model or layer that is not built or does not state its inputs.
    """
    return _inputs(model, batch, patterns) if isinstance(model, Model) else of_keras().inputs(model, batch, patterns)


def of_keras() -> Any:
    """The module of strategies for Keras models: imported only when asked for, because it imports TensorFlow."""
    from keras_ref.strategies import of_keras

    return of_keras


@st.composite
def _inputs(draw: DrawFn, model: Model, batch: int | None, patterns: tuple[str, ...]) -> dict[str, Array]:
    size = draw(st.integers(1, 4)) if batch is None else batch
    wanted: dict[str, domains.Domain] = {}
    for call in model.calls:
        own = model.layers[call.layer].input_domains()
        for i, name in enumerate(call.inputs):
            if name in model.inputs:
                wanted.setdefault(name, own[min(i, len(own) - 1)])
    return {
        name: draw(
            samples(
                tuple(size if i == 0 and n is None else n or 2 for i, n in enumerate(shape)),
                wanted.get(name, domains.Real()),
                patterns,
            )
        )
        for name, shape in model.inputs.items()
    }
