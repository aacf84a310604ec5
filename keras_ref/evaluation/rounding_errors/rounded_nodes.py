"""Nodes that are written into a function beside its own: draws that move tensors by units in the last place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2

from keras_ref.evaluation.graphs.function_definitions import Definition, make_type_attribute
from keras_ref.evaluation.graphs.operation_rounding import unit_of
from scratch.arrays import Array
from scratch.rounding import SIGNED

#: by how many units results are off, up or down; complex ones in four directions
REAL = np.array(SIGNED)
COMPLEX = np.array([size * turn for size in SIGNED[: len(SIGNED) // 2] for turn in (1, 1j, -1, -1j)])
#: the argument that chooses how entries are off: 0, each by itself; 1, all of a tensor in one direction; 2, not at all
COMMON = "rounding__common"
BY_THEMSELVES, IN_COMMON, NOT_OFF = range(3)
#: what the generators of random numbers start from; each has a second seed of its own
SEED = 87654321


class RoundedNodes:
    """Writes nodes into the definition `new`; `seeds` numbers the generators of random numbers."""

    def __init__(self, new: Definition, seeds: Iterator[int]) -> None:
        self.new, self.seeds = new, seeds
        #: references of constants by what they hold
        self.constants: dict[Any, str] = {}
        self.each_by_itself = ""
        #: references of what COMMON amounts to: numbers by dtype, ranges by length, two units by dtype
        self.not_off: dict[Any, str] = {}
        self.ranges: dict[int, tuple[str, str]] = {}
        self.units: dict[Any, str] = {}
        #: references of tensors → their shapes, where they are known; references of shapes → those that are drawn in
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.drawn_shapes: dict[str, str] = {}

    def _add(self, op: str, inputs: Iterable[str], *, output: str = "output", **attributes: Any) -> str:
        """Add a node of our own; returns the reference of its first output."""
        node = self.new.node_def.add(name=f"rounding_{len(self.new.node_def)}", op=op, input=list(inputs))
        for key, value in attributes.items():
            node.attr[key].CopyFrom(value)
        return f"{node.name}:{output}:0"

    def _add_constant(self, value: Array | float, dtype: Any, key: Any = None) -> str:
        key = (value, dtype) if key is None else key
        if key not in self.constants:
            tensor = attr_value_pb2.AttrValue(tensor=tf.make_tensor_proto(value, dtype=dtype))
            self.constants[key] = self._add("Const", [], value=tensor, dtype=make_type_attribute(dtype))
        return self.constants[key]

    def _perturb(self, tensor: str, dtype: Any, units: float) -> str:
        """A tensor whose entries are off by so many units in the last place, up or down at random."""
        whole = make_type_attribute(tf.int32)
        if not self.each_by_itself:
            self.each_by_itself = self._add("Sub", [self._add_constant(1, tf.int32), COMMON], output="z", T=whole)
        own = self._add_shape(tensor, dtype)
        if own not in self.drawn_shapes:  # the tensor's own shape, or one number for all of it
            shape = self._add("Mul", [own, self.each_by_itself], output="z", T=whole)
            self.drawn_shapes[own] = self._add("Maximum", [shape, self._add_constant(1, tf.int32)], output="z", T=whole)
        sizes = REAL if dtype.is_floating else COMPLEX
        factor = self._draw(self.drawn_shapes[own], 1 + units * unit_of(dtype) * sizes, dtype)
        return self._add("Mul", [tensor, factor], output="z", T=make_type_attribute(dtype))

    def _add_shape(self, tensor: str, dtype: Any) -> str:
        """The shape of a tensor: a constant where it is known, shared by all tensors that have it."""
        known = self.shapes.get(tensor)
        if known is None:
            return self._add("Shape", [tensor], T=make_type_attribute(dtype), out_type=make_type_attribute(tf.int32))
        return self._add_constant(np.array(known, np.int32), tf.int32, ("shape", known))

    def _draw(self, shape: str, values: Array, dtype: Any) -> str:
        """A tensor of the given shape whose entries are drawn from `values`; all 1 where nothing is to be off."""
        whole, table = (
            make_type_attribute(tf.int32),
            self._add_constant(np.append(values, 1), dtype, (dtype, values.tobytes())),
        )
        drawn = self._add(
            "RandomUniformInt",
            [shape, *self._range(len(values))],
            T=whole,
            Tout=whole,
            **self._make_seeds(),
        )
        inputs = [table, drawn, self._add_constant(0, tf.int32)]
        return self._add("GatherV2", inputs, Tparams=make_type_attribute(dtype), Tindices=whole, Taxis=whole)

    def _add_zero_where_exact(self, dtype: Any) -> str:
        """1 where nothing is to be off, else 0."""
        if dtype not in self.not_off:
            two = self._add_constant(NOT_OFF, tf.int32)
            whole = self._add("Div", [COMMON, two], output="z", T=make_type_attribute(tf.int32))
            cast = {"SrcT": make_type_attribute(tf.int32), "DstT": make_type_attribute(dtype)}
            self.not_off[dtype] = whole if dtype == tf.int32 else self._add("Cast", [whole], output="y", **cast)
        return self.not_off[dtype]

    def _range(self, count: int) -> tuple[str, str]:
        """The numbers 0 to `count` - 1, or `count` alone where nothing is to be off: the first, and that behind."""
        if count not in self.ranges:
            whole, off = make_type_attribute(tf.int32), self._add_zero_where_exact(tf.int32)
            number = self._add_constant(count, tf.int32)
            low = self._add("Mul", [number, off], output="z", T=whole)
            self.ranges[count] = low, self._add("AddV2", [number, off], output="z", T=whole)
        return self.ranges[count]

    def _make_seeds(self) -> dict[str, Any]:
        """Attributes of a generator that nothing else has, the same in every run."""
        second = attr_value_pb2.AttrValue(i=next(self.seeds))
        return {"seed": attr_value_pb2.AttrValue(i=SEED), "seed2": second}

    def _add_two_units(self, dtype: Any) -> str:
        """Two units in the last place of 1, or 0 where nothing is to be off."""
        if dtype not in self.units:
            kind = make_type_attribute(dtype)
            moves = self._add(
                "Sub", [self._add_constant(1.0, dtype), self._add_zero_where_exact(dtype)], output="z", T=kind
            )
            unit = self._add_constant(2 * unit_of(dtype), dtype)
            self.units[dtype] = self._add("Mul", [moves, unit], output="z", T=kind)
        return self.units[dtype]
