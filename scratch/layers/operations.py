"""Operations on tensors between the layers of a functional graph, and two layers that keras.applications adds."""

# ruff: noqa: ARG005, FBT001, FBT002, PLW0108 (the functions here have the parameters of keras.ops)

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from scratch import registry
from scratch.arrays import Array, absolute
from scratch.fields import AtLeast, Domain, Real, Shape, Size
from scratch.layers.base import Layer, Weights
from scratch.layers.identity import Keywords
from scratch.registry import layer


class _Input:
    """The type of `INPUT`."""

    def __repr__(self) -> str:
        return "INPUT"


#: the place of the next tensor among `Operation.arguments`
INPUT = _Input()


def _larger(x: Any, y: Any) -> Array:
    result: Array = np.where(np.real(x) >= np.real(y), x, y)
    return result


def _smaller(x: Any, y: Any) -> Array:
    result: Array = np.where(np.real(x) <= np.real(y), x, y)
    return result


def _clip(x: Any, x_min: Any, x_max: Any) -> Array:
    return _smaller(_larger(x, x_min), x_max)


def _extreme(sign: int) -> Callable[..., Array]:
    """The largest (sign 1) or smallest (sign -1) entries by real part, the first of equal ones."""

    def extreme(x: Array, axis: Any = None, keepdims: bool = False, initial: Any = None) -> Array:
        axes = tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim for a in np.atleast_1d(axis))
        rest = [a for a in range(x.ndim) if a not in axes]
        rows = np.transpose(x, [*rest, *axes]).reshape(*(x.shape[a] for a in rest), -1)
        best = np.take_along_axis(rows, np.argmax(sign * rows.real, axis=-1)[..., None], axis=-1)[..., 0]
        best = np.expand_dims(best, axes) if keepdims else best
        return best if initial is None else (_larger if sign > 0 else _smaller)(best, initial)

    return extreme


def _cast(x: Array, dtype: str) -> Array:
    """Booleans and integers as numbers; floats keep the precision that they have."""
    if dtype == "bool":
        y: Array = x != 0
        return y
    return x.astype(np.float64 if dtype.startswith(("float", "bfloat")) else dtype) if x.dtype.kind in "biu" else x


def _transpose(x: Array, axes: Any = None) -> Array:
    return np.transpose(x, axes)


def _variance(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    centred = x - x.mean(axis=axis, keepdims=True)
    y: Array = (centred * centred).mean(axis=axis, keepdims=keepdims)
    return y


#: operations of which an output entry depends on the input entries at its place only, with broadcasting
ELEMENTWISE: Mapping[str, Callable[..., Any]] = {
    "absolute": absolute,
    "add": np.add,
    "cast": _cast,
    "clip": _clip,
    "cos": np.cos,
    "divide": np.divide,
    "equal": np.equal,
    "exp": np.exp,
    "expm1": np.expm1,
    "greater": lambda x, y: np.real(x) > np.real(y),
    "greater_equal": lambda x, y: np.real(x) >= np.real(y),
    "less": lambda x, y: np.real(x) < np.real(y),
    "less_equal": lambda x, y: np.real(x) <= np.real(y),
    "log": np.log,
    "log1p": np.log1p,
    "logical_and": np.logical_and,
    "logical_not": np.logical_not,
    "logical_or": np.logical_or,
    "maximum": _larger,
    "minimum": _smaller,
    "multiply": np.multiply,
    "negative": np.negative,
    "not_equal": np.not_equal,
    "ones_like": lambda x, dtype=None: np.ones_like(x),
    "power": np.power,
    "reciprocal": lambda x: 1 / x,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sin": np.sin,
    "sqrt": np.sqrt,
    "square": lambda x: x * x,
    "subtract": np.subtract,
    "true_divide": np.true_divide,
    "where": np.where,
    "zeros_like": lambda x, dtype=None: np.zeros_like(x),
}

#: all other operations: along axes, and of shapes
SHAPING: Mapping[str, Callable[..., Any]] = {
    "any": lambda x, axis=None, keepdims=False: np.any(x, axis=axis, keepdims=keepdims),
    "all": lambda x, axis=None, keepdims=False: np.all(x, axis=axis, keepdims=keepdims),
    "broadcast_to": np.broadcast_to,
    "concatenate": lambda xs, axis=-1: np.concatenate(xs, axis=axis),
    "expand_dims": np.expand_dims,
    "flip": np.flip,
    "get_item": lambda x, key: x[key],
    "matmul": np.matmul,
    "max": _extreme(1),
    "mean": lambda x, axis=None, keepdims=False: x.mean(axis=axis, keepdims=keepdims),
    "min": _extreme(-1),
    "moveaxis": np.moveaxis,
    "prod": lambda x, axis=None, keepdims=False, dtype=None: x.prod(axis=axis, keepdims=keepdims),
    "repeat": np.repeat,
    "reshape": lambda x, newshape: np.reshape(x, newshape),
    "roll": np.roll,
    "split": lambda x, indices_or_sections, axis=0: tuple(np.split(x, indices_or_sections, axis=axis)),
    "squeeze": np.squeeze,
    "stack": lambda xs, axis=0: np.stack(xs, axis=axis),
    "sum": lambda x, axis=None, keepdims=False: x.sum(axis=axis, keepdims=keepdims),
    "swapaxes": np.swapaxes,
    "tile": np.tile,
    "transpose": _transpose,
    "var": _variance,
}


def law_of(name: str) -> Callable[..., Any] | None:
    """The function of that name in the two tables or among the activations, or None."""
    if isinstance(name, registry.Variant):
        law: Callable[..., Any] = name.definition
        return law
    return ELEMENTWISE.get(name) or SHAPING.get(name) or registry.every("activation").get(name)


@dataclass(frozen=True)
class Function(Domain):
    """The name of an operation that `law_of` knows."""

    @property
    def rule(self) -> str:
        return "must name an operation of scratch/layers/operations.py or a registered activation"

    def holds(self, value: Any) -> bool:
        return isinstance(value, str) and law_of(value) is not None


@layer
class Operation(Layer):
    """y = function(x₁, x₂, …): an operation of a graph that is not a layer.

    `arguments` are its positional arguments with INPUT in the place of each tensor (empty: the tensors in order),
    `keywords` the others. `per_sample` declares that the batch is the first axis of every tensor and that no sample
    of y depends on another. The output has no mask.
    Shapes  those of the NumPy function
    Keras   the function of keras.ops of that name
    Source  keras.io/api/ops
    """

    function: Annotated[str, Function()]
    arguments: tuple[Any, ...] = ()
    keywords: Annotated[dict[str, Any], Keywords()] | None = None
    per_sample: bool = False

    def couples_batch(self, *, training: bool) -> bool:
        return not self.per_sample

    @property
    def elementwise(self) -> bool:
        flat = _flat(self.arguments)
        alone = _count_inputs(flat) == 1 and all(item is INPUT or np.ndim(item) == 0 for item in flat)
        return alone and self.per_sample and self.function in ELEMENTWISE

    def forward(self, weights: Weights, *inputs: Array) -> Any:
        y = law_of(self.function)(*filled_with(self.arguments, inputs), **(self.keywords or {}))  # type: ignore[misc]
        return y if isinstance(y, tuple) else np.asanyarray(y)

    def compute_mask(self, *inputs: Array, mask: Any = None) -> None:
        return None

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        shape = (size(1, 3), size(2, 3))
        return (shape,) * max(_count_inputs(_flat(self.arguments)), 1)

    @classmethod
    def examples(cls) -> tuple[Operation, ...]:
        """Small legal specifications: constants before and after a tensor, two tensors, axes, an activation."""
        two = (INPUT, INPUT)
        return (
            cls("add", two, per_sample=True),
            cls("subtract", (1.0, INPUT), per_sample=True),
            cls("multiply", (INPUT, 0.5), per_sample=True),
            cls("maximum", two, per_sample=True),
            cls("minimum", (INPUT, 0.25), per_sample=True),
            cls("clip", (INPUT,), {"x_min": -0.5, "x_max": 1.0}, per_sample=True),
            cls("absolute", (INPUT,), per_sample=True),
            cls("exp", (INPUT,), per_sample=True),
            cls("square", (INPUT,), per_sample=True),
            cls("mean", (INPUT,), {"axis": -1, "keepdims": True}, per_sample=True),
            cls("sum", (INPUT,), {"axis": 1}, per_sample=True),
            cls("max", (INPUT,), {"axis": 1}, per_sample=True),
            cls("get_item", (INPUT, (slice(None), slice(0, 1)))),
            cls("concatenate", (two,), {"axis": -1}, per_sample=True),
            cls("stack", (two,), {"axis": 1}, per_sample=True),
            cls("transpose", (INPUT,), {"axes": (0, 1)}),
            cls("expand_dims", (INPUT,), {"axis": -1}, per_sample=True),
            cls("softmax", (INPUT,), {"axis": -1}, per_sample=True),
            cls("relu", (INPUT,), per_sample=True),
        )


def _flat(arguments: Any) -> list[Any]:
    return [leaf for item in arguments for leaf in (_flat(item) if isinstance(item, (tuple, list)) else [item])]


def _count_inputs(flat: list[Any]) -> int:
    """How many tensors an operation takes; list.count would compare INPUT with the entries of an array."""
    return sum(item is INPUT for item in flat)


def filled_with(arguments: tuple[Any, ...], tensors: Sequence[Any]) -> tuple[Any, ...]:
    """The arguments of an operation with the tensors in the places of INPUT, in order."""
    return _filled(arguments, iter(tensors)) if arguments else tuple(tensors)


def _filled(arguments: Any, tensors: Any) -> tuple[Any, ...]:
    return tuple(
        _filled(item, tensors) if isinstance(item, (tuple, list)) else next(tensors) if item is INPUT else item
        for item in arguments
    )


@layer
class LayerScale(Layer):
    """y = gamma · x. Shapes  x (…, n), gamma (n,). Keras   the layer of that name in ConvNeXt.

    Source  Touvron et al. 2021, "Going deeper with image transformers", equation 5
    """

    projection_dim: Annotated[int, AtLeast(1)]

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {"gamma": (self.projection_dim,)}

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return weights["gamma"] * inputs[0]

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return ((size(1, 3), size(1, 3), self.projection_dim),)


@layer
class CustomScaleLayer(Layer):
    """y = x₁ + scale · x₂. Shapes  x₁, x₂ and y (batch, …). Keras   the layer of that name in InceptionResNetV2.

    Source  Szegedy et al. 2016, "Inception-v4, Inception-ResNet and the impact of residual connections", section 3.3
    """

    scale: Annotated[float, Real()]

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return inputs[0] + inputs[1] * self.scale

    def compute_mask(self, *inputs: Array, mask: Any = None) -> None:
        return None

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        shape = (size(1, 3), size(1, 3))
        return shape, shape
