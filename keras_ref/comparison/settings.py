"""How a check is done: the options that all checks of gradients share, validated once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras_ref.errors import BadInput
from keras_ref.evaluation.gradient_modes import MODES
from keras_ref.options import matches_variable, parse_budget
from scratch.differences import Scheme
from scratch.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of a check, as check_gradients explains them.

    Raises: BadInput for a value that is not legal.
    """

    wrt: Sequence[str] = ("weights", "inputs")
    effort: str = "auto"
    variables: str = "*"
    modes: Sequence[str] = ("eager",)
    expect: Mapping[str, str] | None = field(default=None)
    oracles: Sequence[str] = ("forward", "twin")
    scheme: Scheme | None = None
    most: int | None = None
    seed: int = 0
    order: int = 1
    forward_mode: bool = False
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
            ("expect", (self.expect or {}).values(), ("surrogate",)),
        ):
            for one in given:
                require_one_of(name, one, legal=legal)

    @property
    def along_directions(self) -> bool:
        """Whether everything is compared along random directions; they are taken of Keras's own forward pass."""
        return self.effort == "fast" and "forward" in self.oracles

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

    def expects_surrogate(self, name: str, subject: str) -> bool:
        """Whether the gradient of a variable or input of a subject is declared a surrogate by its name."""
        return any(matches_variable(name, pattern, subject) for pattern in self.expect or {})

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
