"""A model of Keras 2 (tf_keras) as that of Keras 3 with the same law: its graph, and the configuration of every layer.

The twin of the model of Keras 3 is then the twin of both. What the table does not have, or has in another form, has no
twin: a wrong law would accuse a right gradient.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.evaluation.keras_objects.keras_parts import list_by_output
from keras_ref.translation.specifications import NoTwin

#: layers whose law did not change from Keras 2 to 3
SAME_LAYERS = frozenset(
    (
        *("Activation", "BatchNormalization", "Dense", "ELU", "Embedding", "GroupNormalization", "LayerNormalization"),
        *("LeakyReLU", "Masking", "PReLU", "ReLU", "Rescaling", "Softmax", "UnitNormalization"),
        *("Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract"),
        *("Flatten", "Permute", "RepeatVector", "Reshape", "Dropout", "GaussianDropout", "GaussianNoise"),
        *("AdditiveAttention", "Attention", "MultiHeadAttention", "Bidirectional", "TimeDistributed"),
        *("GRU", "GRUCell", "LSTM", "LSTMCell", "SimpleRNN", "SimpleRNNCell", "RNN", "StackedRNNCells", "ConvLSTM2D"),
        *("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D"),
        *(f"Conv{n}D{end}" for n in (1, 2, 3) for end in ("", "Transpose")),
        *(f"{kind}Pooling{n}D" for n in (1, 2, 3) for kind in ("Average", "GlobalAverage", "GlobalMax", "Max")),
        *(f"{kind}{n}D" for n in (1, 2, 3) for kind in ("Cropping", "SpatialDropout", "UpSampling", "ZeroPadding")),
    )
)
#: activations whose law did not change; hard_sigmoid did (0.2·x + 0.5 became relu6(x + 3) / 6)
SAME_ACTIVATIONS = frozenset(
    (
        *("elu", "exponential", "gelu", "linear", "mish", "relu", "selu"),
        *("sigmoid", "softmax", "softplus", "softsign", "swish", "tanh"),
    )
)
#: losses whose law did not change
SAME_LOSSES = frozenset(
    (
        *("BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy", "KLDivergence", "Poisson"),
        *("CategoricalHinge", "CosineSimilarity", "Hinge", "Huber", "LogCosh", "SquaredHinge"),
        *("MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredError", "MeanSquaredLogarithmicError"),
    )
)
#: {class: {argument of Keras 2: that of Keras 3}}
RENAMED: Mapping[str, Mapping[str, str]] = {"LeakyReLU": {"alpha": "negative_slope"}}
#: arguments that are no part of the law
NO_LAW = frozenset(
    (
        *("batch_input_shape", "dtype", "implementation", "input_length", "rng_type", "sparse"),
        *("query_shape", "key_shape", "value_shape"),
    )
)
#: arguments that must have this value: with another one the law is not that of Keras 3
REQUIRED: Mapping[str, Any] = {"activity_regularizer": None, "stateful": False}
#: arguments of which a class of Keras 3 may have none, if they have this value in Keras 2
LAPSED: Mapping[str, Any] = {
    "groups": 1,
    "noise_shape": None,
    "ragged": False,
    "softmax_robust_masking": False,
    "time_major": False,
    "trainable": True,
    "unroll": False,
}
#: the layers inside another, as arguments and as attributes
INNER: Mapping[str, tuple[str, ...]] = {
    "backward_layer": ("backward_layer",),
    "cell": ("cell",),
    "cells": ("cells",),
    "layer": ("forward_layer", "layer"),
}


def load_library() -> Any:
    """tf_keras, which is there: an object of it was given."""
    return sys.modules["tf_keras"]


@dataclass
class Keras3Model:
    """A model of Keras 3 in the place of one of Keras 2.

    variables   the variable of Keras 2 by the identity of the one of Keras 3 that stands for it
    """

    model: keras.Model
    variables: dict[int, Any] = field(default_factory=dict)


def convert_model(model: Any, *, with_loss: bool, loss: Any = None) -> Keras3Model:
    """The model of Keras 3 with the law of one of Keras 2.

    with_loss   whether it is compiled with the losses of the other one, or with `loss`
    Raises: NoTwin.
    """
    translation = Translation()
    found = _build(lambda: translation.build_graph(model))
    if with_loss:
        compiled: Any = getattr(model, "compiled_loss", None)
        losses, weights = (loss, None) if loss is not None else (compiled._user_losses, compiled._user_loss_weights)
        count = len(found.outputs)
        found.compile(
            optimizer=None,
            loss=[convert_loss(one) for one in list_by_output(model, losses, count)],
            loss_weights=None if weights is None else list(list_by_output(model, weights, count)),
        )
    return Keras3Model(found, translation.variables)


def convert_loss(loss: Any) -> Any:
    """The loss of Keras 3 with the law of one of Keras 2: an object, a function, a name. Raises: NoTwin."""
    if loss is None:
        return None
    losses = load_library().losses
    given = losses.get(loss) if isinstance(loss, str) else loss
    for name in sorted(SAME_LOSSES):
        cls = getattr(losses, name)
        if type(given) is cls:
            config = {key: value for key, value in given.get_config().items() if key not in ("fn", "name")}
            reduction = config.pop("reduction")
            if reduction == "none":
                raise NoTwin("A loss must be reduced to have a twin. Received: reduction='none'.")
            return _make(name, keras.losses, config | ({} if reduction == "auto" else {"reduction": reduction}))
        if given is cls().fn:
            return getattr(keras.losses, name)()
    raise NoTwin(
        f"A loss of Keras 2 must have the law of one of Keras 3 to have a twin. Received: {_name_layer(given)}."
    )


class Translation:
    """Layers of Keras 2 and what stands for them: a shared layer is one layer."""

    def __init__(self) -> None:
        self.layers: dict[int, Any] = {}
        self.kept: list[Any] = []  # what identities are taken of
        self.variables: dict[int, Any] = {}

    def build_graph(self, model: Any) -> keras.Model:
        """The functional model of a Sequential or functional one. Raises: NoTwin for any other."""
        keras_2 = load_library()
        if type(model) not in (keras_2.Sequential, keras_2.src.engine.functional.Functional):
            raise NoTwin(
                f"A model must be Sequential or functional to have a twin. Received: {_name_layer(model)}, a subclass."
            )
        if not getattr(model, "_is_graph_network", False):
            raise NoTwin("A model of Keras 2 must state its inputs to have a twin. Received: one without an Input.")
        tensors: dict[int, Any] = {}
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                self._call(node, tensors)
        inputs, outputs = (
            [tensors[id(one)] for one in tf.nest.flatten(part)] for part in (model.inputs, model.outputs)
        )
        return keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0], name=_make_legal(model.name))

    def _call(self, node: Any, tensors: dict[int, Any]) -> None:
        """Call on the tensors of Keras 3 what a node calls on those of Keras 2."""
        flat = tf.nest.flatten(node.outputs)
        if node.is_input:
            shape = flat[0].shape[1:].as_list()
            tensors[id(flat[0])] = keras.Input(shape, dtype=_name_dtype(flat[0]), name=_make_legal(node.layer.name))
            return
        layer, is_first = node.layer, id(node.layer) not in self.layers
        if is_first:
            is_model = isinstance(layer, load_library().Model)
            self.layers[id(layer)] = self.build_graph(layer) if is_model else self.build_layer(layer)
            self.kept.append(layer)
        other = self.layers[id(layer)]
        arguments, keywords = tf.nest.map_structure(
            lambda value: tensors.get(id(value), value), (list(node.call_args), dict(node.call_kwargs))
        )
        made = other(*arguments, **{key: value for key, value in keywords.items() if value is not None})
        tensors |= zip(map(id, flat), keras.tree.flatten(made), strict=True)
        if is_first and not isinstance(layer, load_library().Model):
            self.pair(layer, other)

    def build_layer(self, layer: Any) -> Any:
        """A layer of Keras 3 with the configuration of one of Keras 2. Raises: NoTwin."""
        name = type(layer).__name__
        if name not in SAME_LAYERS or type(layer) is not getattr(load_library().layers, name):
            raise NoTwin(
                "A layer of Keras 2 must have the law of one of Keras 3 to have a twin. Received: "
                f"{_name_layer(layer)}."
            )
        config = {}
        with warnings.catch_warnings():
            # a regularizer that is a plain function cannot be saved, and Keras warns of that; it has no twin either
            warnings.simplefilter("ignore", UserWarning)
            given = layer.get_config()
        for key, value in given.items():
            if key in NO_LAW or key.endswith("_initializer"):
                continue
            if key in REQUIRED and value != REQUIRED[key]:
                raise NoTwin(f"A layer of Keras 2 must have {key}={REQUIRED[key]} to have a twin. Received: {value!r}.")
            if key in INNER:
                inner = next(getattr(layer, one) for one in INNER[key] if hasattr(layer, one))
                config[key] = (
                    list(map(self.build_layer, inner)) if isinstance(inner, (list, tuple)) else self.build_layer(inner)
                )
            elif key.endswith("activation"):
                config[key] = _name_activation(layer, key)
            elif key.endswith(("_regularizer", "_constraint")):
                config |= {} if value is None else {key: _of_keras(getattr(layer, key), key)}
            else:
                config[RENAMED.get(name, {}).get(key, key)] = _simplify(value)
        return _make(name, keras.layers, {**config, "name": _make_legal(layer.name)})

    def pair(self, layer: Any, other: Any) -> None:
        """Let the variables of a built layer stand for those of Keras 2, in order. Raises: NoTwin."""
        own = [v for v in layer.weights if v.dtype.is_floating]
        theirs = [v for v in other.weights if "float" in str(v.dtype)]
        if [tuple(v.shape) for v in own] != [tuple(v.shape) for v in theirs]:
            raise NoTwin(
                f"A layer must keep its weights as Keras 3 does to have a twin. Received: {_name_layer(layer)}."
            )
        self.variables |= {id(stand_in): variable for stand_in, variable in zip(theirs, own, strict=True)}


def _name_activation(layer: Any, key: str) -> str | None:
    """The name of an activation whose law did not change. Raises: NoTwin."""
    given = getattr(layer, key)
    activations = load_library().activations
    for name in sorted(SAME_ACTIVATIONS):
        if given is activations.get(name):
            return name
    if given is None:
        return None
    raise NoTwin(
        "An activation of Keras 2 must have the law of Keras 3's to have a twin. "
        f"Received: {_name_layer(given)} in {layer.name!r}."
    )


def _of_keras(given: Any, key: str) -> Any:
    """A regularizer or constraint of Keras 3 with the configuration of one of Keras 2. Raises: NoTwin."""
    kind = "regularizers" if key.endswith("_regularizer") else "constraints"
    name = type(given).__name__
    if type(given) is not getattr(getattr(load_library(), kind), name, None):
        raise NoTwin(f"A {kind[:-1]} must be one of Keras's to have a twin. Received: {_name_layer(given)}.")
    return _make(name, getattr(keras, kind), {k: _simplify(v) for k, v in given.get_config().items()})


def _make(name: str, home: Any, given: Mapping[str, Any]) -> Any:
    """An object of Keras 3 by its class and arguments. Raises: NoTwin."""
    cls = getattr(home, name)
    parameters = inspect.signature(cls).parameters
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    base = {"name", "trainable"} if takes_any else set()
    unknown = [key for key in given if key not in parameters and key not in base]
    config = {key: value for key, value in given.items() if key not in unknown}
    unknown = [key for key in unknown if key not in LAPSED or given[key] != LAPSED[key]]
    if unknown:
        raise NoTwin(
            f"A {name} of Keras 2 must have the arguments of Keras 3's to have a twin. Received: {', '.join(unknown)}."
        )
    return _build(lambda: cls(**config))


def _build(make: Callable[[], Any]) -> Any:
    """What Keras 3 makes. Raises: NoTwin where it refuses."""
    try:
        return make()
    except NoTwin:
        raise
    except (TypeError, ValueError, NotImplementedError, AttributeError) as error:
        raise NoTwin(
            f"Keras 3 must take what Keras 2 took to have a twin. Received: {' '.join(str(error).split())[:200]}"
        ) from error


def _name_dtype(tensor: Any) -> str | None:
    """The dtype of an integer or Boolean input; None for floats, which are those of the check."""
    return None if tensor.dtype.is_floating else str(tensor.dtype.name)


def _simplify(value: Any) -> Any:
    """A value of a configuration as Python has it; the one axis of a list of one."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, list):
        return list(value) if len(value) > 1 else value[0]
    return value


def _make_legal(name: str) -> str:
    """A name that Keras 3 takes."""
    return name.replace("/", "_")


def _name_layer(layer: Any) -> str:
    return str(getattr(layer, "__name__", None) or type(layer).__name__)
