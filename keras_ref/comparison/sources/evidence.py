"""What a comparison starts from, and what comes out of it: two frozen records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from keras_ref.comparison.sources.autodiff import Autodiff
from keras_ref.comparison.sources.differenced_loss import DifferencedLoss
from keras_ref.comparison.sources.oracles import Oracle
from keras_ref.comparison.sources.settings import Approximation, Settings
from keras_ref.evaluation.loss_function import LossFunction
from keras_ref.reports.verdict import Verdict
from scratch.arrays import Array


@dataclass(frozen=True)
class Preparation:
    """When a check began and when all was traced (seconds of time.perf_counter), and the evaluations by then."""

    started: float
    traced: float
    evaluations: int


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that a comparison needs, gathered once.

    subject       what is checked, by name
    loss          its loss as a function of weights and inputs in float64
    oracles       the losses that are differenced; Keras's own forward pass first where it is one of them
    autodiff      autodiff's gradient at the point
    names         the variables and inputs to compare
    settings      the options of the check
    contracted    makes the loss's slope along a direction, as autodiff has it: the "loss" of a second derivative
    surrogates    names whose gradient passes through a layer that quantizes or is declared a surrogate
    notes         what is worth saying of the evidence itself
    preparation   how long it took to gather, where that is reported
    """

    subject: str
    loss: DifferencedLoss
    oracles: tuple[Oracle, ...]
    autodiff: Autodiff
    names: tuple[str, ...]
    settings: Settings
    contracted: Callable[[Mapping[str, Array]], LossFunction]
    surrogates: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    preparation: Preparation | None = None

    @property
    def entries(self) -> int:
        """How many entries the variables and inputs to compare have in all."""
        return sum(self.size(name) for name in self.names)

    def size(self, name: str) -> int:
        """How many entries a variable or input has."""
        return int(self.loss.values[name].size)

    def expectation(self, name: str) -> str | Approximation | None:
        """What the gradient of a variable or input is declared to be by its name; None for a derivative."""
        return self.settings.expectation(name, self.subject)

    def is_meant_to_differ(self, name: str) -> bool:
        """Whether the gradient of a variable or input is known to be no derivative, by its name or a layer."""
        return name in self.surrogates or self.expectation(name) is not None


@dataclass(frozen=True)
class Outcome:
    """What was found: verdicts, and notes on them. Two outcomes are joined with +."""

    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.verdicts + other.verdicts, self.notes + other.notes)

    @property
    def failed(self) -> bool:
        """Whether a verdict fails."""
        return any(verdict.failed for verdict in self.verdicts)

    def with_notes(self, *notes: str) -> Outcome:
        """The same with more notes."""
        return replace(self, notes=self.notes + notes)

    def each(self, change: Callable[[Verdict], Verdict]) -> Outcome:
        """The same with every verdict changed."""
        return replace(self, verdicts=tuple(map(change, self.verdicts)))


#: a pure function that adds to what is known of an outcome: another kind, a reason, a note
Annotator = Callable[[Outcome], Outcome]


def annotate(outcome: Outcome, annotators: Iterable[Annotator]) -> Outcome:
    """The outcome after each of the annotators, in order."""
    for annotator in annotators:
        outcome = annotator(outcome)
    return outcome
