"""How a check is done: the options that all checks of gradients share, validated once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from keras_ref.errors import BadInput
from keras_ref.evaluation.arguments import describe_value
from keras_ref.evaluation.graphs.gradient_modes import MODES
from keras_ref.options import SharedExpectations, matches_variable, parse_budget
from scratch.differences import Scheme
from scratch.progress import Progress

#: what a gradient may be declared to be: anything, or the derivative with what tf.stop_gradient returns held
SURROGATE, STOP_GRADIENT = "surrogate", "stop_gradient"


@dataclass(frozen=True)
class Approximation:
    """A gradient that is declared to be exact up to a share of its largest entry, as a value of `expect`.

    An analytic gradient of a forward pass that is a truncated series is an example. `relative` is the share, between 0
    and 1, without a unit. Raises: BadInput (a ValueError) for a share outside of that.
    """

    relative: float

    def __post_init__(self) -> None:
        if isinstance(self.relative, bool) or not isinstance(self.relative, Real) or not 0 < self.relative < 1:
            raise BadInput(
                f"`relative` must lie between 0 and 1. Received: {describe_value(self.relative)}. Pass 1e-8, say."
            )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of a check, as check_gradients explains them.

    Raises: BadInput for a value that is not legal.
    """

    wrt: Sequence[str] = ("weights", "inputs")
    effort: str = "auto"
    variables: str = "*"
    modes: Sequence[str] = ("eager",)
    expect: Mapping[str, str | Approximation] | None = field(default=None)
    oracles: Sequence[str] = ("forward", "twin")
    scheme: Scheme | None = None
    most: int | None = None
    seed: int = 0
    order: int = 1
    forward_mode: bool = False
    digits: bool = False
    progress: Progress | None = None
    replay: str = ""
    budget: float | str | None = None

    def __post_init__(self) -> None:
        parse_budget(self.budget)
        for name, given, legal in (
            ("wrt", self.wrt, ("weights", "inputs")),
            ("modes", self.modes, tuple(MODES)),
            ("oracles", self.oracles, ("forward", "twin")),
            ("order", (self.order,), (1, 2)),
            ("effort", (self.effort,), ("auto", "full", "fast")),
            ("expect", self._words_expected, (SURROGATE, STOP_GRADIENT)),
        ):
            for one in given:
                require_one_of(name, one, legal=legal)

    @property
    def along_directions(self) -> bool:
        """Whether everything is compared along random directions."""
        return self.effort == "fast"

    @property
    def oracles_differenced(self) -> tuple[str, ...]:
        """The oracles that are differenced: along directions one, Keras's own forward pass where it is asked for."""
        return ("forward",) if self.along_directions and "forward" in self.oracles else tuple(self.oracles)

    @property
    def seconds(self) -> float | None:
        """The budget in seconds."""
        return parse_budget(self.budget)

    @property
    def watch_weights(self) -> bool:
        """Whether gradients of the weights are compared."""
        return "weights" in self.wrt

    @property
    def watch_inputs(self) -> bool:
        """Whether gradients of the inputs are compared."""
        return "inputs" in self.wrt

    @property
    def _words_expected(self) -> list[str]:
        return [one for one in (self.expect or {}).values() if not isinstance(one, Approximation)]

    def expectation(self, name: str, subject: str) -> str | Approximation | None:
        """What the gradient of a variable or input is declared to be by its name; None for a derivative."""
        found = (one for pattern, one in (self.expect or {}).items() if matches_variable(name, pattern, subject))
        return next(found, None)

    def select(self, names: Iterable[str], subject: str) -> tuple[str, ...]:
        """The variables and inputs that `variables` matches. Raises: BadInput where there are none."""
        known = list(names)
        found = tuple(name for name in known if matches_variable(name, self.variables, subject))
        if not found:
            raise BadInput(
                f"`variables` must match at least one variable. Received: {self.variables!r}, where there are "
                f"{', '.join(known) or 'none'}. Correct the pattern."
            )
        return found

    def require_expected(self, names: Iterable[str], subject: str) -> None:
        """Require that every pattern of `expect` matches a variable or input: one that does not is misspelt.

        Those of a whole project or of several targets may be about another one; and where only weights or only inputs
        are compared, the names of the others are not known.

        Raises: BadInput.
        """
        if isinstance(self.expect, SharedExpectations) or not (self.watch_weights and self.watch_inputs):
            return
        known = list(names)
        for pattern in self.expect or {}:
            if not any(matches_variable(name, pattern, subject) for name in known):
                raise BadInput(
                    f"`expect` must match at least one variable. Received: {pattern!r}, where there are "
                    f"{', '.join(known) or 'none'}. Correct the pattern."
                )

    def report_progress(self, done: int, total: int, what: str) -> None:
        """Tell the caller how far the check is, if it asked for that."""
        if self.progress is not None:
            self.progress(done, total, what)


def require_one_of(name: str, value: Any, *, legal: Sequence[Any]) -> None:
    """Raises: BadInput for an option's value that is not legal."""
    if value not in legal:
        raise BadInput(
            f"`{name}` must be one of {', '.join(map(str, legal))}. Received: {value!r}. Choose one of them."
        )
