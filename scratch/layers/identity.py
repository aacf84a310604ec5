"""Identity, and Lambda, a layer around a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from scratch.arrays import Array
from scratch.fields import Domain, HashableDict, Shape, Size
from scratch.layers.base import Layer, Weights
from scratch.registry import layer


@layer
class Identity(Layer):
    """y = x. Shapes  any. Keras   Identity. Source  keras.io/api/layers/core_layers/identity"""

    @property
    def elementwise(self) -> bool:
        return True

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return inputs[0]


def doubled_and_shifted(x: Any, by: float = 1.0) -> Any:
    """2·x + by"""
    return 2.0 * x + by


def squared_and_reversed(x: Any) -> Any:
    """x², the features in reverse order."""
    return (x * x)[..., ::-1]


@dataclass(frozen=True)
class Function(Domain):
    """A function that works on NumPy arrays as it does on tensors: operators, slices, methods that both have."""

    examples: ClassVar[tuple[Any, ...]] = (doubled_and_shifted, squared_and_reversed)

    @property
    def rule(self) -> str:
        return "must be a function"

    def holds(self, value: Any) -> bool:
        return callable(value)


@dataclass(frozen=True)
class Keywords(Domain):
    """Keyword arguments by name."""

    examples: ClassVar[tuple[Any, ...]] = ({},)

    @property
    def rule(self) -> str:
        return "must map names to values"

    def holds(self, value: Any) -> bool:
        return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)

    def normalise(self, value: Any) -> Any:
        return HashableDict(value)


@layer
class Lambda(Layer):
    """y = function(x, **arguments): the function that Keras calls too, so its own definition is not checked.

    Functions that return arrays for arrays have a twin (operators, slices, x.sum(…)), which lets the rest of the model
    be checked; functions that call TensorFlow or keras.ops have none.
    Shapes  those of the function
    Keras   Lambda, without `mask`
    Source  keras.io/api/layers/core_layers/lambda
    """

    function: Annotated[Callable[..., Any], Function()]
    arguments: Annotated[dict[str, Any], Keywords()] | None = None

    def couples_batch(self, *, training: bool) -> bool:
        # The function may do anything.
        return True

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        x = inputs[0] if len(inputs) == 1 else list(inputs)
        y = self.function(x, **(self.arguments or {}))
        if not isinstance(y, np.ndarray):
            raise ValueError(  # noqa: TRY004 (a value that the field does not allow)
                "`function` of a Lambda must turn NumPy arrays into a NumPy array to have a twin. Received: "
                f"{type(y).__module__}.{type(y).__name__}. "
                "Write it with operators and slices, or as a layer of your own."
            )
        return y

    def compute_mask(self, *inputs: Array, mask: Any = None) -> None:
        return None

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return ((size(1, 3), size(1, 4)),)

    @classmethod
    def examples(cls) -> tuple[Lambda, ...]:
        """Small legal specifications."""
        return cls(doubled_and_shifted), cls(doubled_and_shifted, {"by": -0.5}), cls(squared_and_reversed)
