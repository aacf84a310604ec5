"""The greedy search: candidates of one pass after another, until none is smaller and has the same finding.

A candidate is shown first (its text is run: milliseconds), and what a pass came to is checked (a second). Where the
check does not find the same, the pass is done again with a check of each step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from keras_ref.minimisation.expressions import Expression
from keras_ref.minimisation.reductions import PASSES, weigh
from scratch.progress import Progress


class Case(Protocol):
    """What can be made smaller."""

    @property
    def tree(self) -> Expression:
        """What the passes reduce."""

    def with_tree(self, tree: Expression) -> Any:
        """The case with another tree."""

    def simpler(self) -> Iterator[Any]:
        """Simpler cases that the passes do not give."""


SomeCase = TypeVar("SomeCase", bound=Case)


@dataclass
class Search:
    """A search and what it came to: `tried` candidates, of which `checked` were checked.

    shows      whether a case shows something, quickly
    has_same   whether the check has the same finding
    text_of    the text of a case, whose length counts
    until      the time.monotonic() at which it ends
    """

    shows: Callable[[Any], bool]
    has_same: Callable[[Any], bool]
    text_of: Callable[[Any], str]
    until: float
    progress: Progress | None = None
    tried: int = 0
    checked: int = 0
    finished: bool = False
    best: Any = None
    _failed: set[Any] = field(default_factory=set)

    def run(self, case: SomeCase) -> SomeCase:
        """The smallest case. `best` is the smallest so far, also where a KeyboardInterrupt ends the search."""
        self.best = case
        changed = True
        while changed:
            before = self.best
            for name, candidates in self._passes():
                self._say(name)
                self._pass(candidates)
                if time.monotonic() >= self.until:
                    return self.best  # type: ignore[no-any-return]
            changed = self.best != before
        self.finished = True
        return self.best  # type: ignore[no-any-return]

    def _passes(self) -> Iterator[tuple[str, Callable[[Any], Iterator[Any]]]]:
        yield "parts", lambda case: case.simpler()
        for one in PASSES:
            yield one.what, lambda case, one=one: (case.with_tree(t) for t in one.candidates(case.tree))  # type: ignore[misc]

    def _pass(self, candidates: Callable[[Any], Iterator[Any]]) -> None:
        quick = self._descend(self.best, candidates, check_each=False)
        if quick == self.best:
            return
        if self._has_same(quick):
            self.best = quick
        else:
            self.best = self._descend(self.best, candidates, check_each=True)

    def _descend(self, case: Any, candidates: Callable[[Any], Iterator[Any]], *, check_each: bool) -> Any:
        """The smallest case that one pass reaches."""
        size = self._weigh(case)
        smaller = True
        while smaller:
            smaller = False
            for candidate in candidates(case):
                if time.monotonic() >= self.until:
                    return case
                weight = self._weigh(candidate)
                if weight is None or size is None or weight >= size or candidate in self._failed:
                    continue
                self.tried += 1
                if not self.shows(candidate) or (check_each and not self._has_same(candidate)):
                    self._failed.add(candidate)
                    continue
                case, size, smaller = candidate, weight, True
                if check_each:
                    self.best = case
                break
        return case

    def _has_same(self, case: Any) -> bool:
        self.checked += 1
        return self.has_same(case)

    def _weigh(self, case: Any) -> tuple[Any, ...] | None:
        try:
            return weigh(case.tree, self.text_of(case))
        except Exception:  # noqa: BLE001 (a candidate that cannot be written is no candidate)
            return None

    def _say(self, what: str) -> None:
        if self.progress is not None:
            self.progress(self.tried, self.tried + 1, f"{what}: {len(self.text_of(self.best).splitlines())} lines")
