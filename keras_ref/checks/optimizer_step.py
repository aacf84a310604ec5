"""One training step of the twin: the optimizer's law from Keras's own place, how far it may be off, and what departs in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import keras
import numpy as np

from keras_ref.comparison.monte_carlo_arithmetic import ROLLS, noisy, noisy_law, worst
from keras_ref.evaluation.sparse_gradient import SparseGradient
from keras_ref.translation import departures
from keras_ref.translation.exceptions import optimizers as mirrors
from keras_ref.translation.from_keras import reflected
from scratch.arrays import Array
from scratch.optimizers.base import Optimizer, State


@dataclass(frozen=True)
class Slot:
    """What an update check carries from step to step: the twin's optimizer and its state, and each variable's constraint."""

    optimizer: Optimizer
    state: State
    constraints: Mapping[str, Any]
    paths: Mapping[str, str]
    excluded: frozenset[str]
    #: how far the state may be from Keras's, by the names of `flat`
    doubt: Mapping[Any, Array] = field(default_factory=dict)


def slot_of(model: keras.Model, names: Mapping[int, str], values: Mapping[str, Array]) -> Slot:
    """The optimizer twin of a compiled model, in the state the model's optimizer is in. Raises: NoTwin."""
    optimizer = model.optimizer
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    spec = reflected(optimizer, "optimizer")
    by_path = {v.path: names[id(v)] for v in model.trainable_variables}
    paths = mirrors.paths_of(by_path)
    started = int(np.asarray(optimizer.iterations.numpy())) or _touched(optimizer)
    state = mirrors.state_of(optimizer, by_path) if started else spec.init(values, paths=paths)
    constraints = {
        names[id(v)]: reflected(v.constraint, "constraint")
        for v in model.trainable_variables
        if getattr(v, "constraint", None) is not None
    }
    return Slot(spec, state, constraints, paths, mirrors.excluded_from_weight_decay(optimizer, by_path))


def _touched(optimizer: Any) -> bool:
    accumulated = getattr(optimizer, "_accumulated_gradients", None) or []
    return any(np.any(a.numpy()) for a in accumulated)


def step_of(slot: Slot, weights: Mapping[str, Array], gradients: Mapping[str, Array]) -> tuple[dict[str, Array], State]:
    """Optimizer and constraints: the whole update of the trained weights."""
    scale = slot.optimizer.loss_scale(slot.state)
    return slot.optimizer.step(
        weights,
        {name: g * scale for name, g in gradients.items()},
        slot.state,
        constraints=slot.constraints,
        excluded_from_weight_decay=slot.excluded,
        paths=slot.paths,
    )


def flat(weights: Mapping[str, Array], state: State) -> dict[Any, Any]:
    """Everything that a step leaves behind: weights by name, slots by name and slot, what is shared by (“”, name)."""
    slots = {(name, key): value for name, own in state.slots.items() for key, value in own.items()}
    return {**weights, **slots, **{("", key): value for key, value in state.shared.items()}}


def carried(
    slot: Slot, weights: Mapping[str, Array], gradients: Mapping[str, Array], errors: Mapping[str, Array], *, seed: int
) -> dict[Any, Array]:
    """How far what a step leaves behind may be off, entry by entry: by errors of the gradient, doubts of the state, rounding."""
    centre = flat(*step_of(slot, weights, gradients))
    spread = {name: np.zeros(np.shape(value)) for name, value in centre.items()}
    generator = np.random.default_rng(seed)
    for k in range(ROLLS):
        # all up, all down, then patterns
        signs = {
            n: np.full(e.shape, 1.0 - 2 * k) if k < 2 else generator.choice([-1.0, 1.0], e.shape)
            for n, e in errors.items()
        }
        moved = {
            n: g.moved(signs[n] * errors[n]) if isinstance(g, SparseGradient) else g + signs[n] * errors[n]
            for n, g in gradients.items()
        }
        start = {n: noisy(w, generator) for n, w in weights.items()}
        rolled = replace(slot, optimizer=noisy_law(slot.optimizer, generator), state=_rolled(slot, generator))
        with np.errstate(all="ignore"):
            spread = worst(spread, flat(*step_of(rolled, start, moved)), centre)
    return {name: 2 * s for name, s in spread.items()}


def _rolled(slot: Slot, generator: np.random.Generator) -> State:
    """The state off by its doubts, to be computed with noisily; counts are exact."""

    def off(value: Any, name: tuple[str, str]) -> Any:
        if np.asarray(value).dtype.kind != "f":
            return value
        doubt = slot.doubt.get(name, np.zeros(np.shape(value)))
        return noisy(value + doubt * generator.choice([-1.0, 1.0], np.shape(value)), generator)

    slots = {
        name: {key: off(value, (name, key)) for key, value in own.items()} for name, own in slot.state.slots.items()
    }
    return replace(
        slot.state, slots=slots, shared={key: off(value, ("", key)) for key, value in slot.state.shared.items()}
    )


def explained_by(
    slot: Slot,
    weights: Mapping[str, Array],
    exact: Mapping[str, Array],
    rows: Mapping[str, SparseGradient],
    errors: Mapping[str, Array],
    *,
    seed: int,
) -> Callable[[str, Array], str]:
    """For a variable and what Keras made of it: the ids of the known departures that give just that; "" where none does.

    The law with Keras's departures in it, and rows of one index treated one by one, must lead to Keras's step.
    """
    ids = departures.find_departures([slot.optimizer])
    as_keras = replace(slot, optimizer=mirrors.as_keras(slot.optimizer))

    @cache
    def law() -> tuple[dict[Any, Any], dict[Any, Array]]:
        with np.errstate(all="ignore"):
            gradients = {**exact, **rows}
            return flat(*step_of(as_keras, weights, gradients)), carried(
                as_keras, weights, gradients, errors, seed=seed
            )

    def explained(name: str, value: Array) -> str:
        values, within = law()
        with np.errstate(invalid="ignore"):
            same = (np.abs(value - values[name]) <= within[name]) | (np.isnan(value) & np.isnan(values[name]))
        # rows reach other variables too, by a norm that all share
        sparse = (
            (d.id for d in departures.load_departures() if d.id.startswith("sparse-rows-"))
            if any(r.repeated for r in rows.values())
            else ()
        )
        return ", ".join(dict.fromkeys((*ids, *sparse))) if same.all() else ""

    return explained
