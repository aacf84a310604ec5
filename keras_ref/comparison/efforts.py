"""How much is compared: every entry, as many as a budget allows, or all together along random directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from keras_ref.comparison.directions.bisection import compare_along_directions
from keras_ref.comparison.entries.entrywise import compare_entries
from keras_ref.comparison.sources.evidence import Evidence, Outcome
from keras_ref.comparison.time_budget import compare_within_budget, sample_entries

#: entries that effort "auto" compares of one variable, where there are more than LARGE in all and no budget is given
LARGE, SAMPLED = 4096, 64
#: seconds that effort "auto" may take of a subject of more than LARGE entries
BUDGET = 60.0


class Effort(Protocol):
    """A way to compare the evidence."""

    def compare(self, evidence: Evidence) -> Outcome:
        """The verdicts on all variables and inputs, and notes on how much was compared."""
        ...


@dataclass(frozen=True)
class Full:
    """Every entry by itself; or at most so many of each variable, drawn with the seed."""

    most: int | None = None
    note: str = ""

    def compare(self, evidence: Evidence) -> Outcome:
        """One verdict for every variable and oracle."""
        settings, verdicts = evidence.settings, []
        for i, name in enumerate(evidence.names):
            entries = sample_entries(evidence.size(name), most=self.most, seed=settings.seed + i)
            verdicts += [
                compare_entries(
                    oracle,
                    name,
                    autodiff=evidence.autodiff,
                    entries=entries,
                    seed=settings.seed,
                    scheme=settings.scheme,
                )
                for oracle in evidence.oracles
                if oracle.covers(name)
            ]
            settings.report_progress(i + 1, len(evidence.names), name)
        return Outcome(tuple(verdicts), (self.note,) if self.note else ())


@dataclass(frozen=True)
class Budgeted:
    """As many entries as fit into the seconds (at most `most` of each variable); the rest along random directions."""

    seconds: float
    most: int | None = None

    def compare(self, evidence: Evidence) -> Outcome:
        """One verdict for every variable and oracle."""
        return compare_within_budget(evidence, seconds=self.seconds, most=self.most)


@dataclass(frozen=True)
class Directional:
    """All entries together along random directions, bisected where they disagree."""

    def compare(self, evidence: Evidence) -> Outcome:
        """One verdict for every variable, by Keras's own forward pass."""
        return compare_along_directions(evidence)


def choose_effort(evidence: Evidence) -> Effort:
    """The effort that the settings ask for. "auto" compares every entry of a small subject, unless told otherwise."""
    settings = evidence.settings
    if settings.along_directions:
        return Directional()
    large, budget = evidence.entries > LARGE, settings.seconds
    if settings.effort != "auto" or settings.most is not None or not (large or budget is not None):
        return Full(settings.most)
    if settings.scheme is None and evidence.oracles[0].of_forward_pass:
        return Budgeted(BUDGET, SAMPLED) if budget is None else Budgeted(budget)
    if not large:
        return Full()
    return Full(
        SAMPLED,
        f"{SAMPLED} entries of each variable are compared, drawn with seed {settings.seed}; "
        "effort='full' compares all.",
    )
