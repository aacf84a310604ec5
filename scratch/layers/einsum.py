"""EinsumDense: a dense layer whose product is given as an einsum equation."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np

from scratch.arrays import Array
from scratch.fields import Domain, Shape, Size, is_integer
from scratch.layers.base import Activation, Layer, Response, Weights, activate
from scratch.registry import layer


class Terms(NamedTuple):
    """A parsed equation: the letters of input, kernel and output; the side of the dots, "left", "right" or ""."""

    input: str
    kernel: str
    output: str
    dots: str


def parsed(equation: str) -> Terms | None:
    """The parsed equation, or None where it is not legal."""
    found = re.fullmatch(r"(\.\.\.)?([a-zA-Z]+)(\.\.\.)?,([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)(\.\.\.)?", equation)
    if found is None:
        return None
    left, ins, right, kernel, out_left, outs, out_right = found.groups()
    if (left, right) != (out_left, out_right) or (left and right):
        return None
    letters = [ins, kernel, outs]
    free = "" if left else ins[0]
    legal = (
        all(len(set(term)) == len(term) for term in letters)
        and set(outs) <= set(ins) | set(kernel)
        and set(kernel) <= set(ins) | set(outs)
        and (bool(left) or (outs[0] == free and free not in kernel))
        and not (right and len(ins) < 2)
    )
    return Terms(ins, kernel, outs, "left" if left else "right" if right else "") if legal else None


@dataclass(frozen=True)
class Equation(Domain):
    """An einsum equation of input and kernel, of the form ab,bc->ac, ...b,bc->...c or ab...,bc->ac....

    No letter occurs twice in a term, each letter of the output occurs in another term, and the batch (dots on the left,
    else the first letter) does not occur in the kernel.
    """

    @property
    def rule(self) -> str:
        return "must be an equation like 'ab,bc->ac', '...b,bc->...c' or 'ab...,bc->ac...' with the batch in front"

    def holds(self, value: Any) -> bool:
        return isinstance(value, str) and parsed(value) is not None


@dataclass(frozen=True)
class Sizes(Domain):
    """Sizes of the output; None stands for the size of the input."""

    @property
    def rule(self) -> str:
        return "must be an integer from 1 on, or a tuple of such and of None"

    def holds(self, value: Any) -> bool:
        sizes = (value,) if is_integer(value) else value
        return isinstance(sizes, (tuple, list)) and all(n is None or (is_integer(n) and n > 0) for n in sizes)

    def normalise(self, value: Any) -> tuple[int | None, ...]:
        return (int(value),) if is_integer(value) else tuple(value)


@layer
class EinsumDense(Layer):
    """y = activation(einsum(equation, x, kernel) + bias), the bias along the letters in `bias_axes`.

    Shapes  x, kernel, y as in the equation; `output_shape` without the batch and the axes of the dots; bias: the
            letters of the output from the first in `bias_axes` on, with size 1 for other letters and for dots after
    Keras   EinsumDense, without LoRA and quantization
    Source  keras.io/api/layers/core_layers/einsum_dense
    """

    equation: Annotated[str, Equation()]
    output_shape: Annotated[int | tuple[int | None, ...], Sizes()]
    activation: Activation = "linear"
    bias_axes: str | None = None

    #: bounds of the sizes of examples that no field determines
    _SMALL: ClassVar[tuple[int, int]] = (1, 3)

    @cached_property
    def terms(self) -> Terms:
        """The parsed equation."""
        return parsed(self.equation)  # type: ignore[return-value]

    @cached_property
    def given(self) -> dict[str, int | None]:
        """The sizes that `output_shape` gives, by letter of the output."""
        letters = self.terms.output if self.terms.dots == "left" else self.terms.output[1:]
        return dict(zip(letters, self.output_shape, strict=True))  # type: ignore[arg-type]

    def check(self) -> None:
        _, kernel, output, dots = self.terms
        sized = output if dots == "left" else output[1:]
        if len(self.output_shape) != len(sized):  # type: ignore[arg-type]
            raise ValueError(
                f"`output_shape` must have one size for each of {sized!r}. Received: output_shape={self.output_shape}. "
                "Leave out the batch and the axes of the dots."
            )
        unknown = [letter for letter in kernel if self.given.get(letter, 1) is None]
        if unknown:
            raise ValueError(
                f"`output_shape` must give the size of every letter of the kernel. Received: {self.output_shape} in "
                f"{self.equation!r}, where {unknown[0]!r} is None. Pass its size."
            )
        if self.bias_axes is not None and (not self.bias_axes or not set(self.bias_axes) <= set(sized)):
            raise ValueError(
                f"`bias_axes` must be letters of {sized!r}. Received: bias_axes={self.bias_axes!r}. "
                "Pass some of them or None."
            )

    def _sizes(self, x: Shape) -> dict[str, Any]:
        """The size of every letter, for an input of shape x."""
        ins = self.terms.input
        own = x[len(x) - len(ins) :] if self.terms.dots == "left" else x[: len(ins)]
        return dict(zip(ins, own, strict=True)) | {a: n for a, n in self.given.items() if n is not None}

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        (x,) = inputs
        sizes, (ins, kernel, output, dots) = self._sizes(x), self.terms
        shapes: dict[str, Shape] = {"kernel": tuple(sizes[a] for a in kernel)}
        if self.bias_axes is not None:
            letters = output[min(output.index(a) for a in self.bias_axes) :]
            after = (1,) * (len(x) - len(ins)) if dots == "right" else ()
            shapes["bias"] = (*(sizes[a] if a in self.bias_axes else 1 for a in letters), *after)
        return shapes

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        y = np.einsum(self.equation, inputs[0], weights["kernel"])
        return activate(self.activation, y if self.bias_axes is None else y + weights["bias"])

    def compute_mask(self, *inputs: Array, mask: Array | None = None) -> None:
        return None

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        shape: tuple[int, ...] = tuple(self.given.get(a) or size(*self._SMALL) for a in self.terms.input)
        dots = tuple(size(*self._SMALL) for _ in range(size(1, 2) if self.terms.dots == "left" else size(0, 1)))
        if not self.terms.dots:
            return (shape,)
        return (dots + shape if self.terms.dots == "left" else shape + dots,)

    def responses(self, weights: Weights, name: str, *inputs: Array) -> Response | None:
        ins, kernel, output, dots = self.terms
        (x,) = inputs
        last = output[-1]
        if dots == "right" or last in ins or last not in kernel or (name == "bias" and last not in str(self.bias_axes)):
            return None
        count = weights["kernel"].shape[kernel.index(last)]
        if name == "bias":
            # One feature for each index of the bias without its last axis: the places of the output it is added to.
            shape, lead = weights["bias"].shape, np.einsum(self.equation, x, weights["kernel"]).shape[:-1]
            number = math.prod(shape[:-1])
            places = np.eye(number).reshape(number, *(1,) * (len(lead) + 1 - len(shape)), *shape[:-1])
            features = np.broadcast_to(places, (number, *lead))
            feature, channel = np.divmod(np.arange(math.prod(shape)), count)
            return Response(features, feature, channel)
        rest = kernel.replace(last, "")
        spare = next(a for a in "zyxwvutsrqponmlkjihgfedcbaZ" if a not in ins + kernel + output)
        sizes = [n for a, n in zip(kernel, weights["kernel"].shape, strict=True) if a != last]
        dot = "..." if dots else ""
        if set(rest) & set(output):
            places = np.eye(math.prod(sizes)).reshape(-1, *sizes)
            features = np.einsum(f"{dot}{ins},{spare}{rest}->{spare}{dot}{output[:-1]}", x, places)
        else:
            features = np.einsum(f"{dot}{ins}->{rest}{dot}{output[:-1]}", x)
            features = features.reshape(-1, *features.shape[len(rest) :])
        index = np.indices(weights["kernel"].shape).reshape(len(kernel), -1)
        inner = [i for i, a in enumerate(kernel) if a != last]
        feature = np.ravel_multi_index(tuple(index[inner]), tuple(sizes)) if inner else np.zeros(count, int)
        return Response(features, feature, index[kernel.index(last)])

    @classmethod
    def examples(cls) -> tuple[EinsumDense, ...]:
        """Small legal specifications: plain, batched, with dots on either side, several letters at once."""
        return (
            cls("ab,bc->ac", 2, bias_axes="c"),
            cls("abc,cd->abd", (None, 2), "tanh", "d"),
            cls("abc,cd->abd", (2, 3), bias_axes="bd"),
            cls("abc,bcd->abd", (2, 3)),
            cls("...x,xy->...y", (3,), "sigmoid", "y"),
            cls("...xy,xyz->...z", 2, bias_axes="z"),
            cls("ab...,bc->ac...", 2, bias_axes="c"),
            cls("abc,cde->abde", (None, 2, 2), bias_axes="de"),
            cls("abcd,cde->abe", (None, 3), "relu"),
            cls("abc,dc->adb", (2, None), bias_axes="d"),
        )
