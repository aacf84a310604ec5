"""Base of the layers: frozen specifications with pure functions of weights and inputs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np

from scratch import registry
from scratch.arrays import Array
from scratch.fields import Domain, Real, Shape, Size
from scratch.registry import Registered

Weights = Mapping[str, Array]
Activation = Annotated[str, Registered("activation")]


class Response(NamedTuple):
    """How the output of a layer *before* its activation moves with one weight in which it is linear.

    A step t of the weight's flat entry e adds t · features[feature[e]] to channel channel[e] (of the last axis).
    Shapes  features (k, *output.shape[:-1])   feature, channel (weight.size,), of integers
    """

    features: Array
    feature: Array
    channel: Array


def shift_response(shape: tuple[int, ...]) -> Response:
    """The response to an offset with one entry for each channel, of an output of this shape (…, channels)."""
    channels = np.arange(shape[-1])
    return Response(np.ones((1, *shape[:-1])), np.zeros_like(channels), channels)


def activate(name: str, x: Array, **arguments: Any) -> Array:
    """The registered activation `name` of x."""
    y: Array = registry.get("activation", name)(x, **arguments)
    return y


class Layer:
    """Base of the layers. A subclass decorated with `@layer` defines `forward` and, if it has weights, `weight_shapes`.

    Shapes are tuples with the batch first; `forward` computes in the dtype of its arguments (float32, float64,
    complex128). `inputs` are the arrays, or for methods that return shapes the shapes, that a call takes in order;
    `call` the keyword arguments of `forward` for that call.
    """

    #: names of the parameters of `forward`: beside weights and inputs "training", "mask", "draw", "stopped", …
    accepts: ClassVar[frozenset[str]] = frozenset()
    #: whether what `stopped` returns has the batch as its first axis
    stopped_per_sample: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.accepts = frozenset(inspect.signature(cls.forward).parameters)

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        """Name and shape of every weight, trainable ones first, for inputs of these shapes."""
        return {}

    @property
    def state(self) -> tuple[str, ...]:
        """Names of the weights that are not trained by gradients (moving averages)."""
        return ()

    def couples_batch(self, *, training: bool) -> bool:
        """Whether a sample of the output depends on other samples of the batch (batch normalization in training)."""
        return False

    @property
    def elementwise(self) -> bool:
        """Whether each output entry depends on the input entry at the same place only."""
        return False

    def forward(self, weights: Weights, *inputs: Array) -> Any:
        """The output array, or a tuple of arrays.

        A layer may take by keyword: `training`; `mask`, the boolean mask of the input or None (a tuple of them for
        several inputs); `draw`, the random arrays that it uses in place of its own, by name. It may take `stopped`,
        what the method of that name returned, and the arguments of its call. Raises: TypeError in a class that defines
        none.
        """
        raise TypeError(f"{type(self).__name__} must define `forward`: write it in scratch/layers/.")

    def updates(self, weights: Weights, *inputs: Array, **call: Any) -> dict[str, Array]:
        """New values of the weights in `state` after a call with training=True."""
        return {}

    def stopped(self, weights: Weights, *inputs: Array, **call: Any) -> dict[str, Array]:
        """What a layer whose `forward` takes `stopped` treats as constant under differentiation, by name.

        These are stopped gradients, and masks that depend on values. The first axis is the batch where
        `stopped_per_sample` is set.
        """
        return {}

    def compute_mask(self, *inputs: Array, mask: Any = None) -> Any:
        """The mask of the output: by default that of a single input, and none for several."""
        return mask if len(inputs) == 1 else None

    def draw_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        """Name and shape of every random array that `forward` takes as `draw` in training."""
        return {}

    # Examples: what the Hypothesis strategies read --------------------------------------------------------------

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        """Legal input shapes for this specification; `size(low, high)` chooses each integer."""
        return ((size(1, 3), size(1, 4)),)

    def input_domains(self) -> tuple[Domain, ...]:
        """The domain of the entries of each input; one domain stands for all inputs."""
        return (Real(),)

    def weight_domains(self) -> Mapping[str, Domain]:
        """The domains of weights whose entries may not be any real number (variances are positive), by name."""
        return {}

    # Linear structure: what the engine uses to nudge a weight without a whole forward pass ----------------------

    def responses(self, weights: Weights, name: str, *inputs: Array) -> Response | None:
        """The response of the output *before* `self.activation` to the entries of the weight `name`.

        Only for a weight in which that output is linear, and whose entries each move one channel (last axis): None
        for every other weight.
        """
        return None
