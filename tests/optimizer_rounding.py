"""What rounding may do to one step of an optimizer, and where two steps differ by more than that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
from optimizer_cases import Moment, dense, step

from scratch.arrays import Array
from scratch.differences import UNIT
from scratch.schedules import Schedule


@dataclass(frozen=True)
class Rolled(Schedule):
    """A schedule whose rates are off by rounding; its steps are whole numbers, which are exact."""

    inner: Schedule
    factor: float

    def __call__(self, step: int) -> float:
        return self.inner(step) * self.factor


def numbers(spec: Any) -> list[float]:
    """Every number in the fields of a specification."""
    found: list[float] = []
    for field in fields(spec):
        value = getattr(spec, field.name)
        found += [
            float(one) for one in (value if isinstance(value, tuple) else (value,)) if isinstance(one, (int, float))
        ]
    return found


def rolled_fields(spec: Any, generator: np.random.Generator) -> Any:
    """A specification with every float that is no whole number moved by a unit in the last place."""
    values = {f.name: getattr(spec, f.name) for f in fields(spec)}
    moved = {
        n: v * (1 + UNIT * generator.choice([-1, 1]))
        for n, v in values.items()
        if isinstance(v, float) and not v.is_integer()
    }
    return replace(spec, **moved)


#: moments are kept as β·m + (1 - β)·g or as m + (1 - β)·(g - m), which cancels: β is as good as off by a unit of 1
DECAYS = re.compile(r"(adam_)?beta_[12]|rho|ema_momentum")


def rolled(spec: Any, generator: np.random.Generator, made: dict[int, Any] | None = None) -> Any:
    """A specification with every number in it moved by a unit in the last place; one object stays one."""
    made = {} if made is None else made
    if id(spec) in made:
        return made[id(spec)]
    if isinstance(spec, Schedule):
        return Rolled(spec, 1 + 4 * UNIT * generator.choice([-1, 1]))
    values = {}
    for field in fields(spec):
        value, sign = getattr(spec, field.name), generator.choice([-1, 1])
        if isinstance(value, tuple):
            values[field.name] = (
                tuple((key, rolled(one, generator, made)) for key, one in value)
                if value and isinstance(value[0], tuple)
                else value
            )
        elif is_dataclass(value):
            values[field.name] = rolled(value, generator, made)
        elif isinstance(value, float):
            values[field.name] = abs(value + UNIT * sign) if DECAYS.fullmatch(field.name) else value * (1 + UNIT * sign)
    try:
        made[id(spec)] = replace(spec, **values)
    except ValueError:
        # what passes an end of its domain stays: 1.0 is legal, its neighbour is not, and all other fields are rolled
        made[id(spec)] = replace(spec, **{name: value for name, value in values.items() if _legal(spec, name, value)})
    return made[id(spec)]


def _legal(spec: Any, name: str, value: Any) -> bool:
    try:
        replace(spec, **{name: value})
    except ValueError:
        return False
    return True


class Noisy(np.ndarray):
    """Monte Carlo arithmetic (Parker 1997): the result of every operation is off by a random unit in the last place."""

    generator = np.random.default_rng(0)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **keywords: Any) -> Any:
        plain = [i.view(np.ndarray) if isinstance(i, Noisy) else i for i in inputs]
        result = np.asarray(getattr(ufunc, method)(*plain, **keywords))
        if result.dtype.kind != "f":
            return result
        return (result * (1 + UNIT * Noisy.generator.choice([-1.0, 1.0], result.shape))).view(Noisy)


def flat(at: Moment) -> dict[str, Array]:
    """Everything that a step leaves behind, by name: weights, slots, and what all weights share."""
    found = {name: np.asarray(w) for name, w in at.weights.items()}
    found |= {f"{name}.{slot}": np.asarray(v) for name, own in at.state.slots.items() for slot, v in own.items()}
    return found | {
        f"shared.{name}": np.asarray(v) for name, v in at.state.shared.items() if not name.endswith("weight_sum")
    }


#: how often a step is repeated in noisy arithmetic
ROLLS = 6


def allowed(spec: Any, at: Moment, gradients: Mapping[str, Any], **how: Any) -> dict[str, Array]:
    """What rounding may do to one step: how far it moves when every operation of the law is off by a unit in the last
    place, gradients by four (the operations that see them alone: scaling, averaging, clipping, squaring) and every
    hyper-parameter by one (the scalars made of them).

    Rounding is to half a UNIT, so that this is twice what each side does; the largest of ROLLS random patterns is
    doubled once more for the pattern that was not met. What no pattern shows, the order of the sum w + Δw, is eight
    units of its terms. An estimate, not a bound.
    """
    centre = flat(step(spec, at, gradients, **how))
    spread = {name: np.zeros(value.shape) for name, value in centre.items()}
    for seed in range(ROLLS):
        Noisy.generator = g = np.random.default_rng(seed)
        slots = {name: {k: v.view(Noisy) for k, v in own.items()} for name, own in at.state.slots.items()}
        start = Moment({name: w.view(Noisy) for name, w in at.weights.items()}, replace(at.state, slots=slots))
        moved = {
            name: None if v is None else v * (1 + 4 * UNIT * g.choice([-1.0, 1.0], np.shape(v)))
            for name, v in dense(gradients).items()
        }
        there = flat(step(rolled(spec, g), start, moved, **how))
        with np.errstate(invalid="ignore"):
            spread = {name: np.fmax(s, np.abs(there[name] - centre[name])) for name, s in spread.items()}
    floor = _floor(at, centre)
    return {name: 2 * s + floor[name] for name, s in spread.items()}


def _floor(at: Moment, after: Mapping[str, Array]) -> dict[str, Array]:
    before = flat(at)
    with np.errstate(invalid="ignore"):
        return {name: 8 * UNIT * (np.abs(before[name]) + np.abs(value - before[name])) for name, value in after.items()}


def departing(spec: Any, at: Moment, gradients: Mapping[str, Any], theirs: Moment, **how: Any) -> list[str]:
    """Where a step of Keras is not that of the specification, one line each."""
    ours = step(spec, at, gradients, **how)
    # most steps differ by less than the last term of `allowed`, which costs nothing
    return differing(ours, theirs, _floor(at, flat(ours))) and differing(
        ours, theirs, allowed(spec, at, gradients, **how)
    )


def differing(ours: Moment, theirs: Moment, within: Mapping[str, Array]) -> list[str]:
    """Where two moments differ by more than rounding, one line each; NaN agrees with NaN."""
    mine, keras_values = flat(ours), flat(theirs)
    lines = [f"{name}: kept by one side alone" for name in sorted(mine.keys() ^ keras_values.keys())]
    for name in mine.keys() & keras_values.keys():
        value, other = mine[name], keras_values[name]
        same = np.isnan(value) & np.isnan(other)
        with np.errstate(invalid="ignore"):
            wrong = ~((np.abs(value - other) <= within[name]) | same)
        if wrong.any():
            i = tuple(np.argwhere(wrong)[0])
            lines.append(
                f"{name}{list(map(int, i))}: twin {value[i]!r}, Keras {other[i]!r}, allowed {within[name][i]:.1e}"
            )
    if ours.state.iterations != theirs.state.iterations:
        lines.append(f"iterations: twin {ours.state.iterations}, Keras {theirs.state.iterations}")
    return lines
