"""Situations as people meet them, each with what a check must say of it, known before the check is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from keras_ref.errors import BadInput
from keras_ref.reports.verdict import Report


@dataclass(frozen=True, kw_only=True)
class Situation:
    """A check, and what is right.

    ok        whether the report passes; None: the check refuses, with one sentence
    failures  the kinds of verdicts that fail, all of them
    says      what the report or the refusal must contain, and `never` what it must not
    """

    check: Callable[[], Report]
    ok: bool | None
    failures: frozenset[str]
    says: tuple[str, ...]
    never: tuple[str, ...]
    slow: bool

    def judge(self) -> None:
        """Run the check. Raises: AssertionError where it says something else."""
        if self.ok is None:
            with pytest.raises(BadInput) as refusal:
                self.check()
            text = str(refusal.value)
        else:
            report = self.check()
            text = f"{report!r}\n{report.explain()}"
            assert report.ok is self.ok, text
            assert {str(v.verdict) for v in report.failures} == self.failures, text
        assert [part for part in self.says if part not in text] == [], text
        assert [part for part in self.never if part in text] == [], text


@dataclass(frozen=True)
class Situations:
    """A table of situations by name."""

    rows: dict[str, Situation] = field(default_factory=dict)

    def add(
        self,
        *,
        ok: bool | None = True,
        fails: str = "",
        says: tuple[str, ...] = (),
        never: tuple[str, ...] = (),
        slow: bool = False,
    ) -> Callable[[Callable[[], Report]], Callable[[], Report]]:
        """A decorator for the function that runs a check; what it does is its name. `fails`: kinds, one a word."""

        def added(check: Callable[[], Report]) -> Callable[[], Report]:
            name = check.__name__.strip("_").replace("_", " ")
            assert name not in self.rows, name
            self.rows[name] = Situation(
                check=check,
                ok=ok and not fails,
                failures=frozenset(fails.split()),
                says=says,
                never=never,
                slow=slow,
            )
            return check

        return added

    def parameters(self) -> list[Any]:
        """The names of all rows as parameters of a test, those that take long marked as slow."""
        return [pytest.param(name, marks=[pytest.mark.slow] * row.slow) for name, row in self.rows.items()]
