"""What rounding does to a law, by Monte Carlo arithmetic (Parker 1997): every operation is off by a whole unit in the
last place, up or down at random.

Rounding to nearest errs by half a unit at most, by 1/√12 of one in the root mean square. Two ways of computing the same
differ by √2 of that, 0.41 units where a repetition moves by 1. Twice the worst of ROLLS repetitions is then passed by
chance once in 10⁷ entries (errors taken as normal). What one operation amplifies (1 - βᵏ, a difference of powers) the
repetitions show amplified, which no factor on the spread of the arguments does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any

import numpy as np

from keras_ref.own_modules import rounding as scratch_rounding
from scratch.arrays import Array
from scratch.differences import UNIT
from scratch.rounding import Rounding
from scratch.schedules import Schedule

#: how often a law is repeated, and by how many units each operation is off then
ROLLS, UNIT_STEPS = 16, (1.0, -1.0)


def make_noisy(value: Any, generator: np.random.Generator, *, unit: float = UNIT) -> Any:
    """A number or array, to be computed with noisily: off by `unit`, relative, in every operation."""
    sizes = tuple(step * unit / UNIT for step in UNIT_STEPS)
    return scratch_rounding.make_noisy(np.array(value, float), Rounding(generator, sizes=sizes))


@dataclass(frozen=True)
class _Off(Schedule):
    """A schedule whose rates are off by rounding.

    That is a few units of their own, and of the initial rate that they are parts of (1 + cos π cancels). The unit is of
    the precision that they are computed in, where that is known to be less (a GivenSchedule, a step in float32).
    """

    inner: Schedule
    own: float
    initial: float

    def __call__(self, step: int) -> float:
        rate = self.inner(step)
        return max(
            0.0,
            rate * (1 + self.own) + self.initial * max(abs(rate), getattr(self.inner, "initial_learning_rate", 0.0)),
        )


@cache
def _drop_validation(cls: type) -> type:
    """The class without the validation of its fields, also where a wrapper makes another of what is inside it."""
    return type(cls.__name__, (cls,), {"__post_init__": lambda _: None})


def make_noisy_law(
    spec: Any, generator: np.random.Generator, *, unit: float = UNIT, made: dict[int, Any] | None = None
) -> Any:
    """A specification every operation on whose numbers is off by rounding. The numbers themselves are exact in float64,
    and off by a unit in a lower precision, to which Keras rounds them (0.999 is no float32).

    unit   the distance of 1 from the next number in the precision of the operations
    One object under two names stays one. The result is for running, not for comparing: its fields are not checked.
    """
    made = {} if made is None else made
    if id(spec) not in made:
        cls: Any = type(spec)
        copy: Any = object.__new__(_drop_validation(cls))
        made[id(spec)] = copy
        for field in fields(spec):
            value = getattr(spec, field.name)
            if type(value) is float:
                kept = value if unit == UNIT else value * (1 + unit * generator.choice(UNIT_STEPS))
                value = make_noisy(kept, generator, unit=unit)
            elif isinstance(value, Schedule):
                value = _Off(value, *(4 * max(getattr(value, "unit", UNIT), unit) * generator.choice([-1.0, 1.0], 2)))
            elif isinstance(value, tuple) and value and isinstance(value[0], tuple):
                value = tuple((key, make_noisy_law(one, generator, unit=unit, made=made)) for key, one in value)
            elif is_dataclass(value):
                value = make_noisy_law(value, generator, unit=unit, made=made)
            object.__setattr__(copy, field.name, value)
    return made[id(spec)]


def update_worst(spread: Mapping[str, Array], there: Mapping[str, Any], centre: Mapping[str, Any]) -> None:
    """Let `spread`, the largest distances so far, take in those of another repetition, in place: of a large weight no
    array more than one is made. What is not finite is judged by itself."""
    with np.errstate(invalid="ignore"):
        for name, largest in spread.items():
            distance = np.asarray(there[name], float) - np.asarray(centre[name], float)
            np.fmax(largest, np.abs(distance, out=np.asarray(distance)), out=largest)
