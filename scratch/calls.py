"""Calls of layers: which tensors and keyword arguments a layer of a graph is called with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from scratch.arrays import Array, leaves
from scratch.layers.base import Layer


@dataclass(frozen=True)
class Call:
    """One call of a layer.

    layer             the name of the layer
    inputs, outputs   the names of its input and output tensors, in order
    keywords          its keyword arguments: a value that is a `Tensor` is taken from the graph, any other is passed as
                      it is
    """

    layer: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of all tensors that the call takes: its inputs, and those in its keywords."""
        return (*self.inputs, *(leaf.name for leaf in leaves(self.keywords.values()) if isinstance(leaf, Tensor)))


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph, as the value of a call's keyword."""

    name: str


def make_keywords(call: Call, layer: Layer, tensors: Mapping[str, Array], context: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a call's forward pass.

    These are the call's own keywords with tensors filled in, and those entries of `context` (training, mask, draw,
    stopped) that the layer's `forward` accepts. Where a call gives one mask for each input, the masks that it leaves
    open (None) are those that the inputs carry.
    """
    own = {name: fill_value(value, tensors) for name, value in call.keywords.items()}
    carried = context.get("mask")
    if isinstance(own.get("mask"), list) and isinstance(carried, tuple):
        own["mask"] = [there if given is None else given for given, there in zip_longest(own["mask"], carried)]
    return {name: value for name, value in context.items() if name in layer.accepts} | own


def fill_value(value: Any, tensors: Mapping[str, Any]) -> Any:
    """A keyword's value in which each `Tensor`, in nested lists too, is replaced by its array."""
    if isinstance(value, (tuple, list)):
        return [fill_value(item, tensors) for item in value]
    return tensors[value.name] if isinstance(value, Tensor) else value


def as_tuple(value: Any) -> tuple[Any, ...]:
    """A tuple or list as a tuple, any other value as a tuple of one."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def as_masks(masks: Any, count: int) -> tuple[Any, ...]:
    """One mask for each of `count` outputs; outputs without one have None."""
    given = as_tuple(masks)
    return given + (None,) * (count - len(given))
