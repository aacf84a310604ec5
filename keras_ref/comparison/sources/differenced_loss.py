"""What a comparison asks of a loss: values at and beside a point, and its gradient by autodiff."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from keras_ref.evaluation.backward_errors import Refused
from keras_ref.evaluation.loss_function import Data
from scratch.arrays import Array


class NudgedLoss(Protocol):
    """A loss at and beside a point, and its rounding: what an oracle asks of LossFunction, DirectionalLoss and a
    program's loss (program_loss.py).

    `at` is another point than the loss's own, as values by name. Values are float64 arrays by name, of the shapes of
    the variables and inputs; those of complex ones have a last axis of two.
    """

    @property
    def unit(self) -> float:
        """The unit roundoff of the computation."""
        ...

    @property
    def graph(self) -> Any:
        """The loss as a graph of TensorFlow; None where there is none."""
        ...

    @property
    def passes_singly(self) -> bool:
        """Whether each loss takes an eager pass of its own."""
        ...

    def losses(self, name: str, entries: Array, offsets: Array, *, at: Mapping[str, Array] | None = None) -> Array:
        """Losses (m, e) with entry entries[j] of `name` moved by offsets[i, j]."""
        ...

    def directional(
        self, direction: Mapping[str, Array], steps: Array, *, at: Mapping[str, Array] | None = None
    ) -> Array:
        """Losses (m,) along the point + step · direction."""
        ...

    def branch_losses(
        self, name: str, entries: Array, offsets: Array, *, at: Mapping[str, Array] | None = None
    ) -> Array:
        """`losses` with every decision as at the point; asked only where there is a graph."""
        ...

    def branch_directional(
        self, direction: Mapping[str, Array], steps: Array, *, at: Mapping[str, Array] | None = None
    ) -> Array:
        """`directional` with every decision as at the point; asked only where there is a graph."""
        ...

    def noise(self, *, at: Mapping[str, Array] | None = None) -> float:
        """The absolute rounding error of the loss; nan where its operations are out of reach."""
        ...

    def noise_along(self, name: str, *, at: Mapping[str, Array] | None = None) -> float:
        """That of losses in which one variable or input moves alone; asked only where there is a graph."""
        ...


class DifferencedLoss(NudgedLoss, Protocol):
    """A loss as a function of variables and inputs by name, with its gradient: LossFunction, and a program's.

    values         the point
    variables      the framework's own variables by name; inputs the names that are inputs
    data           inputs, targets and sample weights
    unit           unit roundoff of the computation; opaque_unit that of Python inside a graph, 0 without
    refused        why the last gradient cannot be compared, by name
    estimated      why rounding is estimated from differences, of "loss" or "gradient": its measurement is at fault
    seen           the loss at the point, as each mode of autodiff computed it last
    evaluations    forward passes so far
    """

    values: dict[str, Array]
    data: Data
    unit: float
    opaque_unit: float
    refused: dict[str, Refused]
    estimated: dict[str, str]
    seen: dict[str, float]
    evaluations: int

    @property
    def variables(self) -> Mapping[str, Any]: ...

    @property
    def inputs(self) -> Mapping[str, Any]: ...

    @property
    def untracked(self) -> list[Any]:
        """TensorFlow's own trainable variables that the loss reads, which are no weights of a Keras object."""
        ...

    def gradient(self, mode: str = "eager", *, at: Mapping[str, Array] | None = None) -> dict[str, Array | None]:
        """The gradient by autodiff; None where autodiff gives None."""
        ...

    def gradient_rounding(self, *, at: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Its rounding error. Raises: UserCodeFailed where its operations are out of reach."""
        ...
