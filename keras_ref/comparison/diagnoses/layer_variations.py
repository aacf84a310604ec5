"""Explanations of a forward pass that differs: one setting of the layer that is another one in the other program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any, Literal, get_args, get_origin

import numpy as np

from keras_ref.own_modules import registry
from scratch.arrays import Array
from scratch.layers.base import Layer
from scratch.naming import weights_of

#: numbers that frameworks choose otherwise, by the name of the setting. Source: the documentation of Keras and PyTorch
NUMBERS: Mapping[str, tuple[float, ...]] = {
    "epsilon": (1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12),
    "negative_slope": (0.01, 0.1, 0.2, 0.3),
    "alpha": (0.01, 0.1, 0.2, 0.3, 1.0),
}


def build_definition(class_name: str, config: Mapping[str, Any]) -> Layer | None:
    """The layer of scratch for a class of Keras and its configuration; None where there is none of them."""
    if class_name not in registry.names("layer"):
        return None
    cls = registry.get("layer", class_name)
    known = {one.name for one in fields(cls) if one.init}
    given = {key: tuple(v) if isinstance(v, list) else v for key, v in config.items() if key in known}
    try:
        layer: Layer = cls(**given)
    except (TypeError, ValueError):
        return None
    return layer


def vary_layer(layer: Any) -> Iterator[tuple[str, Layer]]:
    """The layer with one setting changed, and the setting in words."""
    cls: Any = type(layer)
    hints = registry.read_hints(cls)
    for one in fields(layer):
        value, hint = getattr(layer, one.name), hints[one.name]
        for other, words in _list_other_values(one.name, value, hint):
            try:
                yield words, replace(layer, **{one.name: other})
            except (TypeError, ValueError):
                continue


def _list_other_values(name: str, value: Any, hint: Any) -> Iterator[tuple[Any, str]]:
    """Other values of a setting, in words."""
    if isinstance(value, bool):
        yield not value, f"{name}={not value}"
    elif name.endswith("activation") and isinstance(value, str):
        approximate = registry.Variant.of("gelu", partial(registry.get("activation", "gelu"), approximate=True))
        yield approximate, "the tanh approximation of gelu"
        yield from ((other, other) for other in registry.names("activation") if other != value)
    elif name in NUMBERS and isinstance(value, (int, float)):
        yield from ((other, f"{name}={other:g}") for other in NUMBERS[name] if other != value)
    elif get_origin(hint) is Literal or isinstance(value, str):
        options = get_args(hint) if get_origin(hint) is Literal else ()
        yield from ((other, f"{name}={other!r}") for other in options if other != value)


def describe_change(layer: Any, changed: Any) -> str:
    """The setting of the layer that is changed in the other, in words."""
    for one in fields(layer):
        if getattr(layer, one.name) != getattr(changed, one.name) or type(getattr(layer, one.name)) is not type(
            getattr(changed, one.name)
        ):
            value = getattr(layer, one.name)
            if one.name.endswith("activation"):
                approximate = isinstance(getattr(changed, one.name), registry.Variant)
                return "erf" if value == "gelu" and approximate else str(value)
            return f"{one.name}={value:g}" if isinstance(value, float) else f"{one.name}={value!r}"
    return "another setting"


def compute_output(layer: Layer, weights: Mapping[str, Array], inputs: Array, *, training: bool) -> Array | None:
    """What a layer makes of an input; None where they do not fit."""
    try:
        shapes = layer.weight_shapes(inputs.shape)
        own = dict(zip(shapes, weights.values(), strict=True))
        options = {"training": training} if "training" in layer.accepts else {}
        with np.errstate(all="ignore"):
            made = layer.forward(own, inputs, **options)
    except (TypeError, ValueError, IndexError, KeyError, AttributeError):
        return None
    return np.asarray(made[0] if isinstance(made, tuple) else made)


def pick_weights(weights: Mapping[str, Array], layer: str) -> dict[str, Array]:
    """The weights of a layer, by what stands behind its name."""
    return dict(weights_of(weights, layer))
