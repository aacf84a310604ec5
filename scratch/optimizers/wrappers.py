"""Optimizers around others: dynamic loss scaling, and different optimizers for different weights."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np

from scratch.arrays import Array
from scratch.fields import Above, AtLeast, Domain
from scratch.optimizers.base import Optimizer, Slots, State, Weights, only, with_gradient
from scratch.optimizers.sgd import SGD
from scratch.registry import optimizer


@optimizer
class LossScaleOptimizer(Optimizer):
    """Gradients of scale·loss. All finite: the inner optimizer takes them divided by scale, and after
    dynamic_growth_steps such steps the scale doubles. Otherwise the scale is halved, and nothing else changes.

    Keras   LossScaleOptimizer (the inner optimizer's own loss_scale_factor is ignored)
    Source  keras.io/api/optimizers/loss_scale_optimizer; Micikevicius et al. 2018, section 3.2
    """

    inner_optimizer: Optimizer = field(default_factory=SGD)
    initial_scale: Annotated[float, Above(0.0, small=(1.0, 1024.0))] = 2.0**15
    dynamic_growth_steps: Annotated[int, AtLeast(1, small=(1, 3))] = 2000

    def check(self) -> None:
        """Shared arguments belong to the inner optimizer."""
        only(self, ())
        if isinstance(self.inner_optimizer, LossScaleOptimizer):
            raise ValueError(  # noqa: TRY004 (a value that the field does not allow)
                "LossScaleOptimizer may not wrap another. Received: a LossScaleOptimizer inside. Unwrap it."
            )

    @property
    def inner(self) -> Optimizer:
        """The inner optimizer without a loss scale of its own."""
        return replace(self.inner_optimizer, loss_scale_factor=None)

    def loss_scale(self, state: State) -> float:
        return state.shared["dynamic_scale"]

    def rate(self, iterations: int) -> float:
        return self.inner.rate(iterations)

    def init(self, weights: Weights, *, paths: Mapping[str, str] | None = None) -> State:
        state = self.inner.init(weights, paths=paths)
        own = {"dynamic_scale": float(self.initial_scale), "step_counter": 0}
        return replace(state, shared={**state.shared, **own})

    def step(
        self,
        weights: Weights,
        gradients: Mapping[str, Array | None],
        state: State,
        **options: Any,
    ) -> tuple[dict[str, Array], State]:
        present, scale, count = (
            with_gradient(gradients, weights),
            self.loss_scale(state),
            state.shared["step_counter"] + 1,
        )
        if not all(np.isfinite(gradient).all() for gradient in present.values()):
            halved = {**state.shared, "dynamic_scale": scale * 0.5, "step_counter": 0}
            return dict(weights), replace(state, shared=halved)
        divided = {name: gradient / scale for name, gradient in present.items()}
        new, after = self.inner.step(weights, divided, state, **options)
        grown = count == self.dynamic_growth_steps
        own = {"dynamic_scale": scale * 2.0 if grown else scale, "step_counter": 0 if grown else count}
        return new, replace(after, shared={**after.shared, **own})

    def finalize(self, weights: Weights, state: State, *, paths: Mapping[str, str] | None = None) -> dict[str, Array]:
        return self.inner.finalize(weights, state, paths=paths)


@dataclass(frozen=True)
class Routes(Domain):
    """A mapping, or pairs, of a path or regular expression and an optimizer."""

    @property
    def rule(self) -> str:
        return "must map paths or regular expressions to optimizers"

    def holds(self, value: Any) -> bool:
        pairs = list(value.items()) if isinstance(value, Mapping) else value
        if not isinstance(pairs, Sequence) or isinstance(pairs, str):
            return False
        if not all(isinstance(p, Sequence) and len(p) == 2 and isinstance(p[0], str) for p in pairs):
            return False
        return len({p[0] for p in pairs}) == len(pairs) and all(isinstance(p[1], Optimizer) for p in pairs)

    def normalise(self, value: Any) -> tuple[tuple[str, Optimizer], ...]:
        return tuple((p[0], p[1]) for p in (value.items() if isinstance(value, Mapping) else value))


@optimizer
class MultiOptimizer(Optimizer):
    """w ← the update of w by the optimizer whose pattern equals its path, or else matches all of it, or by default.

    One optimizer object with several patterns is one optimizer: its weights share a global norm.
    Keras   MultiOptimizer of an OptimizerMap (default_optimizer, optimizer_map); loss_scale_factor is that of all
    Source  keras.io/api/optimizers/multi_optimizer
    """

    default_optimizer: Optimizer = field(default_factory=SGD)
    optimizer_map: Annotated[tuple[Any, ...], Routes()] = ()

    def check(self) -> None:
        """Shared arguments belong to the optimizers inside, which are no wrappers."""
        only(self, ("loss_scale_factor",))
        for inner in self.optimizers:
            if isinstance(inner, (LossScaleOptimizer, MultiOptimizer)):
                raise ValueError(  # noqa: TRY004 (a value that the field does not allow)
                    f"MultiOptimizer may not hold a wrapper. Received: {type(inner).__name__}. "
                    "Wrap MultiOptimizer instead."
                )

    @property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """The optimizers inside, each object once; the default is last unless it is in the map."""
        found: list[Optimizer] = []
        for inner in (*(inner for _, inner in self.optimizer_map), self.default_optimizer):
            if all(inner is not other for other in found):
                found.append(inner)
        return tuple(found)

    def optimizer_of(self, path: str) -> int:
        """The index in `optimizers` of that for this path. Raises: ValueError if several patterns match."""
        exact = [inner for pattern, inner in self.optimizer_map if pattern == path]
        matches = exact or [inner for pattern, inner in self.optimizer_map if re.fullmatch(pattern, path)]
        if len(matches) > 1:
            raise ValueError(
                f"At most one pattern may match a path. Received: {len(matches)} for {path!r}. Narrow the patterns."
            )
        chosen = matches[0] if matches else self.default_optimizer
        return next(i for i, inner in enumerate(self.optimizers) if inner is chosen)

    def _parts(self, names: Collection[str], paths: Mapping[str, str] | None) -> dict[int, list[str]]:
        parts: dict[int, list[str]] = {}
        for name in names:
            parts.setdefault(self.optimizer_of((paths or {}).get(name, name)), []).append(name)
        return dict(sorted(parts.items()))

    def _inner(self, i: int) -> Optimizer:
        return replace(self.optimizers[i], loss_scale_factor=self.loss_scale_factor)

    def _part_of(self, state: State, i: int, names: Collection[str]) -> State:
        own = {key.split("/", 1)[1]: value for key, value in state.shared.items() if key.startswith(f"{i}/")}
        return State(state.iterations, {name: state.slots[name] for name in names}, own)

    def init(self, weights: Weights, *, paths: Mapping[str, str] | None = None) -> State:
        slots: dict[str, Slots] = {}
        shared: dict[str, float] = {}
        for i, names in self._parts(weights, paths).items():
            part = self._inner(i).init({name: weights[name] for name in names}, paths=paths)
            slots.update({name: part.slots[name] for name in names})
            shared.update({f"{i}/{key}": value for key, value in part.shared.items()})
        return State(0, {name: slots[name] for name in weights}, shared)

    def step(
        self,
        weights: Weights,
        gradients: Mapping[str, Array | None],
        state: State,
        *,
        paths: Mapping[str, str] | None = None,
        **options: Any,
    ) -> tuple[dict[str, Array], State]:
        present = with_gradient(gradients, weights)
        new, slots, shared = dict(weights), dict(state.slots), dict(state.shared)
        for i, names in self._parts(state.slots, paths).items():
            mine = {name: present[name] for name in names if name in present}
            if mine:
                moved, part = self._inner(i).step(
                    {name: weights[name] for name in names},
                    mine,
                    self._part_of(state, i, names),
                    paths=paths,
                    **options,
                )
                new.update(moved)
                slots.update(part.slots)
                shared.update({f"{i}/{key}": value for key, value in part.shared.items()})
        return new, State(state.iterations + 1, slots, shared)

    def finalize(self, weights: Weights, state: State, *, paths: Mapping[str, str] | None = None) -> dict[str, Array]:
        new = dict(weights)
        for i, names in self._parts(state.slots, paths).items():
            part = {name: weights[name] for name in names}
            new.update(self._inner(i).finalize(part, self._part_of(state, i, names), paths=paths))
        return new
