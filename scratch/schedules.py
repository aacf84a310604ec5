"""Learning-rate schedules: functions of the number of steps taken.

In their formulas r is the initial learning rate, s the number of steps taken and n the number of steps of the decay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

from scratch.fields import Above, AtLeast, Between, Numbers
from scratch.registry import schedule

Rate = Annotated[float, AtLeast(0.0, small=(0.01, 0.5))]
Steps = Annotated[float, Above(0.0, small=(1, 6))]
Fraction = Annotated[float, Between(0.0, 1.0, small=(0.0, 0.5))]


@dataclass(frozen=True)
class Schedule:
    """Base of the schedules: a subclass decorated with `@schedule` defines `__call__`."""

    def __call__(self, step: int) -> float:
        """The learning rate of the step after `step` steps, steps that only accumulate gradients included.

        Raises: TypeError in a class that defines none.
        """
        raise TypeError(f"{type(self).__name__} must define `__call__`: write it in scratch/schedules.py.")


@dataclass(frozen=True)
class PeriodicDecay(Schedule):
    """Base of the schedules that decay once in every `decay_steps` steps n: s/n of step s, or with staircase ⌊s/n⌋."""

    initial_learning_rate: Rate
    decay_steps: Steps
    decay_rate: Annotated[float, AtLeast(0.0, small=(0.1, 1.0))]
    staircase: bool = False

    def periods(self, step: int) -> float:
        """How many periods have passed by a step."""
        passed = step / self.decay_steps
        return math.floor(passed) if self.staircase else passed


@schedule
class ExponentialDecay(PeriodicDecay):
    """r · d^(s/n);  staircase: s/n rounded down.

    Source  keras.io/api/optimizers/learning_rate_schedules/exponential_decay
    """

    def __call__(self, step: int) -> float:
        return float(self.initial_learning_rate * self.decay_rate ** self.periods(step))


@schedule
class InverseTimeDecay(PeriodicDecay):
    """r / (1 + d·s/n);  staircase: s/n rounded down.

    Source  keras.io/api/optimizers/learning_rate_schedules/inverse_time_decay
    """

    def __call__(self, step: int) -> float:
        return self.initial_learning_rate / (1 + self.decay_rate * self.periods(step))


@schedule
class PiecewiseConstantDecay(Schedule):
    """values[i] where boundaries[i - 1] < s ≤ boundaries[i]; values[0] up to the first boundary, the last after all.

    Source  keras.io/api/optimizers/learning_rate_schedules/piecewise_constant_decay
    """

    boundaries: Annotated[tuple[Any, ...], Numbers(increasing=True)]
    values: Annotated[tuple[Any, ...], Numbers()]

    def check(self) -> None:
        """One value more than boundaries."""
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"`values` must have one element more than `boundaries`. Received: {len(self.values)} values and "
                f"{len(self.boundaries)} boundaries. Add or drop values."
            )

    def __call__(self, step: int) -> float:
        return float(self.values[sum(step > boundary for boundary in self.boundaries)])

    @classmethod
    def examples(cls) -> tuple[PiecewiseConstantDecay, ...]:
        """Small legal specifications: one boundary, several."""
        return cls((2,), (0.5, 0.25)), cls((1, 4), (0.125, 0.5, 0.25)), cls((0, 1, 9), (1.0, 0.0, 0.5, 0.125))


@schedule
class PolynomialDecay(Schedule):
    """(r - e)·(1 - min(s, n)/n)^power + e;  cycle: n ← n·ceil(s/n) (n at step 0) in place of the minimum.

    Source  keras.io/api/optimizers/learning_rate_schedules/polynomial_decay
    """

    initial_learning_rate: Rate
    decay_steps: Steps
    end_learning_rate: Rate = 0.0001
    power: Annotated[float, AtLeast(0.0, small=(0.5, 2.0))] = 1.0
    cycle: bool = False

    def __call__(self, step: int) -> float:
        steps = self.decay_steps * (max(1, math.ceil(step / self.decay_steps)) if self.cycle else 1)
        remaining = 1 - min(step, steps) / steps
        return float(
            (self.initial_learning_rate - self.end_learning_rate) * remaining**self.power + self.end_learning_rate
        )


@schedule
class CosineDecay(Schedule):
    """p·((1 - α)·(1 + cos(π·min(s, n)/n))/2 + α), where the peak p is r; with a `warmup_target` the rate first goes
    linearly from r to that target in `warmup_steps` steps, and the cosine starts there with the target as its peak.

    Keras   CosineDecay (the pseudo-code of the warm-up on its page omits r; its text and its code do not)
    Source  Loshchilov & Hutter 2016, equation 5; Goyal et al. 2017, section 2.2 (gradual warm-up)
    """

    initial_learning_rate: Rate
    decay_steps: Steps
    alpha: Fraction = 0.0
    warmup_target: Rate | None = None
    warmup_steps: Annotated[int, AtLeast(0, small=(0, 4))] = 0

    def __call__(self, step: int) -> float:
        peak, start = self.initial_learning_rate, 0
        if self.warmup_target is not None:
            peak, start = self.warmup_target, self.warmup_steps
            if step < start:
                return self.initial_learning_rate + (peak - self.initial_learning_rate) * step / start
        cosine = (1 + math.cos(math.pi * min(step - start, self.decay_steps) / self.decay_steps)) / 2
        return peak * ((1 - self.alpha) * cosine + self.alpha)


@schedule
class CosineDecayRestarts(Schedule):
    """r·(α + (m_mulⁱ - α)·(1 + cos(π·f))/2), f being the completed fraction of period i, which lasts n·t_mulⁱ steps:
    period i falls from m_mulⁱ·r, "the new learning rate", to α·r, "the minimum".

    Keras   CosineDecayRestarts; it computes (1 - α)·m_mulⁱ in place of m_mulⁱ - α, which differs where m_mul ≠ 1 and
            α ≠ 0, and finds i by a float32 logarithm, which misses some restarts (t_mul=1.2)
    Source  Loshchilov & Hutter 2016, equation 5, section 4.1 for the shrinking maximum
    """

    initial_learning_rate: Rate
    first_decay_steps: Steps
    t_mul: Annotated[float, AtLeast(1.0, small=(1.0, 3.0))] = 2.0
    m_mul: Annotated[float, AtLeast(0.0, small=(0.5, 1.5))] = 1.0
    alpha: Fraction = 0.0

    def __call__(self, step: int) -> float:
        periods, length = step / self.first_decay_steps, 1.0
        # periods of equal lengths are counted in one step
        period = int(periods + 1e-12) if self.t_mul == 1 else 0
        start = float(period)
        # steps are whole numbers: a step this close to the end of a period has reached it, up to rounding
        while (periods - start) / length > 1 - 1e-12:
            period, start, length = period + 1, start + length, length * self.t_mul
        fraction = max(0.0, (periods - start) / length)
        peak = self.amplitude(period)
        return self.initial_learning_rate * (self.alpha + (peak - self.alpha) * (1 + math.cos(math.pi * fraction)) / 2)

    def amplitude(self, period: int) -> float:
        """The factor of the initial learning rate at the start of a period, infinite where it overflows."""
        try:
            return float(self.m_mul**period)
        except OverflowError:
            return math.inf
