"""Names of layers and of weights: Keras's default layer names, and the prefixes that weights carry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def weights_of(weights: Mapping[str, T], layer: str) -> dict[str, T]:
    """The entries of one layer (or of one part of a wrapper layer), without the prefix "layer/"."""
    prefix = layer + "/"
    return {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}


def add_prefix(layer: str, weights: Mapping[str, T]) -> dict[str, T]:
    """The entries of one layer with the prefix "layer/": the inverse of `weights_of`."""
    return {f"{layer}/{name}": value for name, value in weights.items()}


def make_default_names(layers: Iterable[object]) -> list[str]:
    """dense, dense_1, …: the names that Keras gives to layers of these classes in a fresh session."""
    names: list[str] = []
    for layer in layers:
        base = convert_to_snake_case(type(layer).__name__)
        count = sum(
            name == base or (name.rsplit("_", 1)[0] == base and name.rsplit("_", 1)[1].isdigit()) for name in names
        )
        names.append(base if count == 0 else f"{base}_{count}")
    return names


def convert_to_snake_case(name: str) -> str:
    """A class name as the base of layer names: Conv2DTranspose → conv2d_transpose. Source: keras.utils.naming."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
