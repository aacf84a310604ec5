"""What every layer is: a frozen specification with pure functions of weights and inputs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from scratch import registry
from scratch.arrays import Array
from scratch.fields import Domain, Real, Shape, Size
from scratch.registry import Registered

Weights = Mapping[str, Array]
Activation = Annotated[str, Registered("activation")]


def activate(name: str, x: Array, **arguments: Any) -> Array:
    """The registered activation `name` of x."""
    return registry.get("activation", name)(x, **arguments)


class Layer:
    """Base of the layers. A subclass decorated with `@layer` gives `forward` and, if it has weights, `weight_shapes`.

    Shapes are tuples with the batch first; `forward` follows the dtype it is given (float32, float64, complex128).
    """

    #: what the parameters of `forward` say it takes beside weights and inputs: "training", "mask", "draw", "held", …
    accepts: ClassVar[frozenset[str]] = frozenset()
    held_per_sample: ClassVar[bool] = False

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

    def couples_batch(self, training: bool) -> bool:
        """Whether an output sample depends on other samples of the batch (batch normalization in training)."""
        return False

    @property
    def elementwise(self) -> bool:
        """Whether each output entry depends on the input entry at the same place only."""
        return False

    def forward(self, weights: Weights, *inputs: Array) -> Any:
        """The output array, or a tuple of arrays. May take training=, mask=, draw= and call arguments by keyword.

        `mask` is the input's boolean mask or None (a tuple of them for several inputs); `draw` maps a name to the
        random array that the layer uses instead of drawing one.
        """
        raise TypeError(f"{type(self).__name__} gives no forward: write its law in scratch/layers/.")

    def updates(self, weights: Weights, *inputs: Array, **call: Any) -> dict[str, Array]:
        """New values of the weights in `state` after a call with training=True."""
        return {}

    def held(self, weights: Weights, *inputs: Array, **call: Any) -> dict[str, Array]:
        """What is constant under differentiation (a stopped gradient, a mask that values decide on), for a layer whose
        `forward` takes `held`; where it differs per sample `held_per_sample` says so, and the first axis is the batch.
        """
        return {}

    def compute_mask(self, *inputs: Array, mask: Any = None) -> Any:
        """The mask of the output: by default that of a single input, and none for several."""
        return mask if len(inputs) == 1 else None

    def draw_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        """Name and shape of every random array that `forward` takes as `draw` in training."""
        return {}

    # What examples are made of (read by keras_ref.strategies; nothing here draws anything) --------------------

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        """Legal input shapes for this specification; `size(low, high)` chooses each integer."""
        return ((size(1, 3), size(1, 4)),)

    def input_domains(self) -> tuple[Domain, ...]:
        """What the entries of each input may be; one domain stands for all inputs."""
        return (Real(),)

    def weight_domains(self) -> Mapping[str, Domain]:
        """Weights whose entries may not be any real number (variances are positive), by name."""
        return {}

    # The fast way to nudge a weight ----------------------------------------------------------------------------

    def responses(self, weights: Weights, name: str, *inputs: Array) -> tuple[Array, Array, Array] | None:
        """For a weight in which the output *before* `self.activation` is linear and where one entry moves one channel
        (last axis) only: (features, feature, channel), so that nudging the flat entry e by t adds
        t · features[feature[e]] to channel[e]. `features` has shape (k, *output.shape[:-1]). None: no such structure.
        """
        return None
