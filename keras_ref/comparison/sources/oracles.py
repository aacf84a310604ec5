"""The losses that are differenced: that of Keras's own forward pass, and that of the NumPy twin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, Protocol, Self

import numpy as np

from keras_ref.comparison.sources.differenced_loss import DifferencedLoss, NudgedLoss
from keras_ref.comparison.sources.noise import measure_noise, measure_noise_along
from keras_ref.comparison.sources.points import RememberedResults
from keras_ref.evaluation.directional_loss import DirectionalLoss
from keras_ref.evaluation.loss_function import LossFunction
from scratch.arrays import Array
from scratch.differences import UNIT
from scratch.gradient import Nudges
from scratch.noise import ROLLS

#: forward passes of a twin at a point: the loss there, and its noise
WITH_NOISE = 1 + ROLLS


@dataclass
class Passes:
    """How many whole forward passes an oracle has taken, at its point and at others."""

    count: int = 0


class Oracle(Protocol):
    """A loss that can be evaluated at a point and beside it, and what is known of it. Nothing about gradients.

    Of the methods, `name` is that of a variable or input; `direction` is {name: array in the shape of its value}.
    Losses and noise are absolute, in units of the loss; offsets and steps in units of the values.

    name               what a report calls it
    values             the point: arrays by name
    base, noise        the loss at the point, and the absolute noise of a loss near it
    supports_complex   whether `losses` takes complex offsets
    of_forward_pass    whether it is the loss of Keras's own forward pass, whose gradient autodiff takes
    specifications     the definitions that it follows; none where it follows Keras's code
    inputs             which of the names are inputs, not variables
    """

    name: str
    values: Mapping[str, Array]
    base: float
    noise: float
    supports_complex: bool = False
    of_forward_pass: bool = False
    specifications: tuple[Any, ...] = ()
    inputs: frozenset[str] = frozenset()

    @property
    def passes(self) -> int:
        """The whole forward passes so far that its loss does not count."""
        return 0

    @property
    def passes_singly(self) -> bool:
        """Whether each loss takes an eager pass of its own, thousands of times as long as one of many in a graph."""
        return False

    def covers(self, name: str) -> bool:
        """Whether the entries of a variable or input can be moved."""
        return name in self.values

    def losses(self, name: str, entries: Array, offsets: Array) -> Array:
        """Losses (m, e) with flat entry entries[j] of `name` moved by offsets[i, j]: (e,), (m, e) → (m, e)."""
        ...

    def directional(self, direction: Mapping[str, Array], steps: Array) -> Array:
        """Losses (m,) at the point + step · direction for each of `steps`, (m,); what is left out of it stays."""
        ...

    def moved(self, values: Mapping[str, Array]) -> Self:
        """The same loss at another point, `values` in the same shapes by name, with its noise there."""
        ...

    def with_noise(self, noise: float) -> Self:
        """The same with another noise."""
        ...

    def with_noise_beside(self, noise: float) -> Oracle:
        """The same whose noise, and that along each name, is no less than what is found beside the point."""
        return self.with_noise(max(self.noise, noise))

    def noise_along(self, name: str) -> float:
        """The noise of losses in which one variable or input moves alone; `noise` where that is all that is known."""
        del name
        return self.noise

    def measured_noise(self, *, seed: int) -> float:
        """The noise near the point, measured where `noise` is only assumed; `seed` draws the places."""
        del seed
        return self.noise

    def branch_losses(self, name: str, entries: Array, offsets: Array) -> Array | None:
        """`losses` with every decision (a comparison, an index) as it is at the point, off by rounding.

        entries (e,), offsets (m, e) → (m, e); None where decisions cannot be held.
        """
        del name, entries, offsets
        return None

    def branch_directional(self, direction: Mapping[str, Array], steps: Array) -> Array | None:
        """`directional` with every decision as it is at the point: steps (m,) → (m,), or None, as `branch_losses`."""
        del direction, steps
        return None


class MovedOracle(Oracle, Protocol):
    """An oracle that is made once at each of the points beside its own: its noise is measured there."""

    def moved(self, values: Mapping[str, Array]) -> Self:
        return self._others.compute(values, self._move)

    @cached_property
    def _others(self) -> RememberedResults[Self]:
        """The oracles at other points; no function of this one, which would then hold itself."""
        return RememberedResults()

    def _move(self, values: Mapping[str, Array]) -> Self:
        """The same loss at another point, with its noise there."""
        ...


@dataclass(frozen=True, kw_only=True)
class TwinOracle(MovedOracle):
    """The loss of the NumPy twin. `names` maps the names of Keras's variables and inputs to those of the twin."""

    nudges: Nudges
    make: Callable[[Mapping[str, Array]], Nudges]
    names: Mapping[str, str]
    values: Mapping[str, Array]
    base: float
    noise: float
    name: str = "twin"
    supports_complex: bool = True
    of_forward_pass: bool = False
    specifications: tuple[Any, ...] = ()
    inputs: frozenset[str] = frozenset()
    taken: Passes = field(default_factory=Passes)

    @classmethod
    def at(
        cls,
        make: Callable[[Mapping[str, Array]], Nudges],
        *,
        names: Mapping[str, str],
        values: Mapping[str, Array],
        specifications: tuple[Any, ...] = (),
    ) -> TwinOracle:
        """The oracle at a point, its noise measured there.

        make   builds the nudges from values by the names of the loss function
        """
        nudges = make(values)
        return cls(
            nudges=nudges,
            make=make,
            names=names,
            values=values,
            base=nudges.base,
            noise=nudges.noise,
            specifications=specifications,
            taken=Passes(WITH_NOISE),
        )

    @property
    def passes(self) -> int:
        return self.taken.count

    def covers(self, name: str) -> bool:
        return name in self.names

    def losses(self, name: str, entries: Array, offsets: Array) -> Array:
        return self.nudges.losses(self.names[name], entries, offsets)

    def directional(self, direction: Mapping[str, Array], steps: Array) -> Array:
        self.taken.count += len(steps)
        return np.asarray(self.nudges.directional({self.names[n]: v for n, v in direction.items()}, steps))

    def _move(self, values: Mapping[str, Array]) -> Self:
        nudges = self.make(values)
        self.taken.count += WITH_NOISE
        return replace(self, nudges=nudges, values=values, base=nudges.base, noise=nudges.noise)

    def with_noise(self, noise: float) -> TwinOracle:
        return replace(self, noise=noise)


@dataclass(frozen=True, kw_only=True)
class ForwardOracle(MovedOracle):
    """The loss of Keras's own forward pass in float64.

    `seed` draws the directions that its noise may have to be measured along; `least_noise` is what was found beside.
    """

    loss: NudgedLoss
    values: Mapping[str, Array]
    base: float
    noise: float
    name: str = "forward"
    supports_complex: bool = False
    of_forward_pass: bool = True
    specifications: tuple[Any, ...] = ()
    inputs: frozenset[str] = frozenset()
    seed: int = 0
    least_noise: float = 0.0

    @classmethod
    def at(
        cls,
        loss: DifferencedLoss,
        values: Mapping[str, Array],
        *,
        seed: int = 0,
        inputs: frozenset[str] = frozenset(),
    ) -> ForwardOracle:
        """The oracle at a point, its noise measured there."""
        return cls(loss=loss, values=values, base=0.0, noise=0.0, seed=seed, inputs=inputs).moved(values)

    def losses(self, name: str, entries: Array, offsets: Array) -> Array:
        return self.loss.losses(name, entries, offsets, at=self.values)

    @property
    def passes_singly(self) -> bool:
        return self.loss.passes_singly

    def branch_losses(self, name: str, entries: Array, offsets: Array) -> Array | None:
        if self.loss.graph is None:
            return None
        return self.loss.branch_losses(name, entries, offsets, at=self.values)

    def branch_directional(self, direction: Mapping[str, Array], steps: Array) -> Array | None:
        return None if self.loss.graph is None else self.loss.branch_directional(direction, steps, at=self.values)

    def directional(self, direction: Mapping[str, Array], steps: Array) -> Array:
        return self.loss.directional(direction, steps, at=self.values)

    def _move(self, values: Mapping[str, Array]) -> Self:
        base = float(self.loss.directional({}, np.zeros(1), at=values)[0])
        return replace(self, values=values, base=base, noise=self._measure_noise(values, base), least_noise=0.0)

    def _measure_noise(self, values: Mapping[str, Array], base: float) -> float:
        return measure_noise(self.loss, values, base, seed=self.seed)

    def noise_along(self, name: str) -> float:
        return self._noise_along(name)

    @cached_property
    def _noise_along(self) -> Callable[[str], float]:
        def along(name: str) -> float:
            found = measure_noise_along(self.loss, name, self.values, self.base, whole=self.noise)
            return max(found, self.least_noise)

        return cache(along)

    def with_noise(self, noise: float) -> Self:
        return replace(self, noise=noise)

    def with_noise_beside(self, noise: float) -> Self:
        return replace(self, noise=max(self.noise, noise), least_noise=noise)


@dataclass(frozen=True, kw_only=True)
class DirectionalOracle(ForwardOracle):
    """Keras's own forward pass, for directions that move every entry at once.

    Its noise is assumed to be one unit in the last place of the loss; it is measured where a comparison is in doubt,
    since that costs as much as several directions do.
    """

    loss: DirectionalLoss

    @classmethod
    def of(cls, loss: LossFunction) -> DirectionalOracle:
        """The oracle at the loss's own point."""
        point, inputs = DirectionalLoss(loss), frozenset(loss.inputs)
        return cls(loss=point, values=loss.values, base=0.0, noise=0.0, inputs=inputs).moved(loss.values)

    def _measure_noise(self, values: Mapping[str, Array], base: float) -> float:
        return UNIT * abs(base)

    def measured_noise(self, *, seed: int) -> float:
        return self._measured_noise(seed)

    @cached_property
    def _measured_noise(self) -> Callable[[int], float]:
        return cache(lambda seed: measure_noise(self.loss, self.values, self.base, seed=seed))


@dataclass(frozen=True)
class Oracles:
    """The oracles of a check, Keras's own forward pass first, and notes on them."""

    oracles: tuple[Oracle, ...]
    notes: tuple[str, ...] = ()
