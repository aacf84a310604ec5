"""Base of the optimizers: a pure step from (weights, gradients, state) to (weights, state), in one shared order."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Annotated, Any, ClassVar

import numpy as np

from scratch.arrays import Array
from scratch.fields import Above, AtLeast, Between
from scratch.schedules import Schedule

Weights = Mapping[str, Array]
Slots = Mapping[str, Array]
LearningRate = Annotated[float, AtLeast(0.0, small=(0.0, 0.5))] | Schedule
Decay = Annotated[float, Between(0.0, 1.0, open_high=True, small=(0.0, 0.999))]
Epsilon = Annotated[float, Above(0.0, small=(1e-8, 1e-3))]
Strength = Annotated[float, AtLeast(0.0, small=(0.0, 0.5))]
Bound = Annotated[float, Above(0.0, small=(0.1, 2.0))]


@dataclass(frozen=True)
class State:
    """The state of an optimizer.

    `iterations` counts the steps, steps that only accumulate gradients included; `slots` holds one dictionary for each
    weight, by the endings of the names of Keras's variables; `shared` is common to all weights (Nadam's product, …).
    """

    iterations: int = 0
    slots: Mapping[str, Slots] = field(default_factory=dict)
    shared: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Base of the optimizers: a subclass decorated with `@optimizer` defines `slots` and `update`.

    A step: drop missing gradients · divide by the loss scale (`loss_scale_factor`, or 1) · average n of them
    (`gradient_accumulation_steps`; the other n - 1 steps end here) · clip (`clipnorm`, `clipvalue` or
    `global_clipnorm`) · w ← w - η·λ·w (λ = `weight_decay`) · update · constrain · with `use_ema`
    a ← μ·a + (1 - μ)·w (μ = `ema_momentum`, at first 0), every `ema_overwrite_frequency` updates w ← a · count.
    Schedules take the number of steps, bias corrections the number of updates: `iterations`, counted from 0.

    Shapes  a weight, its gradient and most slots alike; `rate`, the learning rate η, is a number
    Raises  ValueError for more than one way of clipping
    Keras   arguments of every optimizer; there averages precede constraints, and both act in accumulating steps too
    Source  keras.io/api/optimizers ("weights … as the weight values change after each training batch", "will not be
            updated at every step"); constraints: keras.io/api/layers/constraints ("after each gradient update")
    """

    weight_decay: Strength | None = None
    clipnorm: Bound | None = None
    clipvalue: Bound | None = None
    global_clipnorm: Bound | None = None
    use_ema: bool = False
    ema_momentum: Annotated[float, Between(0.0, 1.0, small=(0.0, 0.99))] = 0.99
    ema_overwrite_frequency: Annotated[int, AtLeast(1, small=(1, 3))] | None = None
    loss_scale_factor: Annotated[float, Above(0.0, small=(1.0, 1024.0))] | None = None
    gradient_accumulation_steps: Annotated[int, AtLeast(2, small=(2, 3))] | None = None

    #: names of the parameters of `update`
    accepts: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.accepts = frozenset(inspect.signature(cls.update).parameters)
        cls.__repr__ = _shown  # type: ignore[method-assign]

    def check(self) -> None:
        """At most one way of clipping. Raises: ValueError for several."""
        ways = [name for name in ("clipnorm", "clipvalue", "global_clipnorm") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise ValueError(
                "At most one of `clipnorm`, `clipvalue` and `global_clipnorm` may be set. "
                f"Received: {', '.join(ways)}. Drop the others."
            )

    # What a subclass defines --------------------------------------------------------------------------------------

    def slots(self, weight: Array) -> dict[str, Array]:
        """{name: array}: the slots of one weight before the first step, most of them in its shape."""
        return {}

    def slots_of(self, path: str, weight: Array) -> dict[str, Array]:
        """The slots of one weight before the first step, where they depend on its path."""
        return self.slots(weight)

    def shared(self) -> dict[str, float]:
        """The shared state before the first step."""
        return {}

    def advance(self, shared: Mapping[str, float], *, rate: float, iterations: int) -> dict[str, float]:
        """The shared state after the update that follows `iterations` others, computed before the weights change."""
        return {}

    def update(
        self, weight: Array, gradient: Array, slots: Slots, *, rate: float, iterations: int
    ) -> tuple[Array, dict[str, Array]]:
        """One update of one weight: its new value and its new slots.

        May also take `path=`, `shared=` and `weight_decay=` (that of the weight, 0 where it is excluded); an update
        that takes the weight decay applies it itself. Raises: TypeError in a class that defines none.
        """
        raise TypeError(f"{type(self).__name__} must define `update`: write it in scratch/optimizers/.")

    def decay_of(self, path: str, weight: Array) -> float:
        """The weight decay λ of one weight, by its path."""
        return self.weight_decay or 0.0

    # What all optimizers share ------------------------------------------------------------------------------------

    def rate(self, iterations: int) -> float:
        """The learning rate of the step after `iterations` steps."""
        rate: Any = self.learning_rate  # type: ignore[attr-defined]
        return float(rate(iterations) if isinstance(rate, Schedule) else rate)

    def loss_scale(self, state: State) -> float:
        """The factor of the loss before gradients are computed, in this state; a step divides the gradients by it."""
        return self.loss_scale_factor or 1.0

    def init(self, weights: Weights, *, paths: Mapping[str, str] | None = None) -> State:
        """The state before the first step. Patterns are matched with `paths` {weight name: path}, else with names."""
        slots = {}
        for name, weight in weights.items():
            slots[name] = dict(self.slots_of((paths or {}).get(name, name), weight))
            if self.use_ema:
                slots[name]["average"] = np.zeros_like(weight)
            if self.gradient_accumulation_steps:
                slots[name]["gradient_accumulator"] = np.zeros_like(weight)
        return State(0, slots, self.shared())

    def step(
        self,
        weights: Weights,
        gradients: Mapping[str, Array | None],
        state: State,
        *,
        constraints: Mapping[str, Callable[[Array], Array]] | None = None,
        excluded_from_weight_decay: Collection[str] = (),
        paths: Mapping[str, str] | None = None,
    ) -> tuple[dict[str, Array], State]:
        """The new weights and the new state; weights without a gradient stay as they are.

        `constraints` and `excluded_from_weight_decay` refer to the names of weights, `paths` is {weight name: path}.
        Raises: ValueError where no weight has a gradient; TypeError of a class without `update`.
        """
        scale = self.loss_scale(state)
        present = {name: g / scale if scale != 1 else g for name, g in with_gradient(gradients, weights).items()}
        new, slots = dict(weights), {name: dict(own) for name, own in state.slots.items()}
        every = self.gradient_accumulation_steps or 1
        iterations = state.iterations // every
        if every > 1:
            present = {name: slots[name]["gradient_accumulator"] + g for name, g in present.items()}
            if (state.iterations + 1) % every:
                for name, total in present.items():
                    slots[name]["gradient_accumulator"] = total
                self.wait(new, slots, updated=present, constraints=constraints or {}, iterations=iterations)
                return new, State(state.iterations + 1, slots, state.shared)
            present = {name: total / every for name, total in present.items()}
            for own in slots.values():
                own["gradient_accumulator"] = np.zeros_like(own["gradient_accumulator"])
        rate = self.rate(state.iterations)
        shared = {**state.shared, **self.advance(state.shared, rate=rate, iterations=iterations)}
        for name, gradient in self.clipped(present).items():
            path, weight = (paths or {}).get(name, name), new[name]
            decay = 0.0 if name in excluded_from_weight_decay else self.decay_of(path, weight)
            context = {"path": path, "shared": shared, "weight_decay": decay}
            if decay and "weight_decay" not in self.accepts:
                weight = weight - weight * decay * rate
            wanted = {key: value for key, value in context.items() if key in self.accepts}
            new[name], own = self.update(weight, gradient, slots[name], rate=rate, iterations=iterations, **wanted)
            slots[name].update(own)
        self.settle(new, slots, updated=present, constraints=constraints or {}, iterations=iterations)
        return new, State(state.iterations + 1, slots, shared)

    def clipped(self, gradients: Weights) -> dict[str, Array]:
        """g·c / max(‖g‖, c) with ‖g‖ of each gradient or of all together, or every entry clipped to [-c, c]."""
        if self.clipvalue is not None:
            return {name: np.clip(g, -self.clipvalue, self.clipvalue) for name, g in gradients.items()}
        bound = self.clipnorm or self.global_clipnorm
        if bound is None:
            return dict(gradients)
        squares = {name: float(np.sum(g * g)) for name, g in gradients.items()}
        if self.global_clipnorm is not None:
            squares = dict.fromkeys(squares, sum(squares.values()))
        return {name: g * (bound / max(math.sqrt(squares[name]), bound)) for name, g in gradients.items()}

    def settle(
        self,
        weights: dict[str, Array],
        slots: dict[str, dict[str, Array]],
        updated: Collection[str],
        constraints: Mapping[str, Callable[[Array], Array]],
        iterations: int,
    ) -> None:
        """Apply, in place, what follows an update: constraints of the updated weights, moving averages of all."""
        constrain(weights, updated, constraints)
        self.average(weights, slots, iterations)

    def wait(
        self,
        weights: dict[str, Array],
        slots: dict[str, dict[str, Array]],
        updated: Collection[str],
        constraints: Mapping[str, Callable[[Array], Array]],
        iterations: int,
    ) -> None:
        """Apply in place what follows a step that only accumulates gradients: nothing."""

    def average(self, weights: dict[str, Array], slots: dict[str, dict[str, Array]], iterations: int) -> None:
        """Update the moving averages; every `ema_overwrite_frequency` updates replace the weights by them."""
        if not self.use_ema:
            return
        momentum = self.ema_momentum if iterations else 0.0
        for name, own in slots.items():
            own["average"] = momentum * own["average"] + (1 - momentum) * weights[name]
            if self.ema_overwrite_frequency and (iterations + 1) % self.ema_overwrite_frequency == 0:
                weights[name] = own["average"]

    def finalize(self, weights: Weights, state: State, *, paths: Mapping[str, str] | None = None) -> dict[str, Array]:
        """The weights at the end of training, in this state: with `use_ema` their moving averages.

        `paths` is {weight name: path}.
        """
        averages = {name: own["average"] for name, own in state.slots.items()} if self.use_ema else {}
        return {**weights, **averages}


def _shown(self: Any) -> str:
    """The call that makes an optimizer, without defaults."""
    own_first = sorted(fields(self), key=lambda f: bool(f.kw_only))
    values = {f.name: (getattr(self, f.name), f.default) for f in own_first}
    given = [f"{name}={value!r}" for name, (value, default) in values.items() if default is MISSING or value != default]
    return f"{type(self).__name__}({', '.join(given)})"


def with_gradient(gradients: Mapping[str, Array | None], weights: Weights) -> dict[str, Array]:
    """The gradients that are not None, in the dtype of their weights. Raises: ValueError if there is none."""
    present = {name: np.asanyarray(g, dtype=weights[name].dtype) for name, g in gradients.items() if g is not None}
    if not present:
        raise ValueError(
            "A step needs the gradient of at least one weight. "
            f"Received: none for {', '.join(weights) or 'no weight'}. Pass gradients={{name: array}}."
        )
    return present


def constrain(weights: dict[str, Array], names: Collection[str], constraints: Mapping[str, Any]) -> None:
    """Apply the constraints of the named weights, in place."""
    for name in names:
        if name in constraints:
            weights[name] = constraints[name](weights[name])


def only(optimizer: Optimizer, allowed: Collection[str]) -> None:
    """Refuse shared arguments that belong to the optimizers inside a wrapper. Raises: ValueError."""
    for shared in fields(Optimizer):
        value = getattr(optimizer, shared.name)
        if shared.name not in allowed and value != shared.default:
            raise ValueError(
                f"{type(optimizer).__name__} does not take `{shared.name}`. Received: {shared.name}={value!r}. "
                f"Set `{shared.name}` on the optimizer inside it."
            )
