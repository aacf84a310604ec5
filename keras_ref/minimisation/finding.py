"""What a finding is, and when another is the same.

Two findings are the same where three things are. They have the same kind of verdict (mismatch, nan, mode-dependent,
departure, …). It is by the same oracle (Keras's own forward pass differenced, the definition, a second derivative,
forward mode, a training step). The part at fault is the same: a layer of the same class, the same function, loss or
optimizer. A departure is one of those that were named (translation/departures). A case that holds that part alone has
it at fault by itself; one that holds more keeps the part in it, and the finding goes where it is taken out, since the
search tries that too. Not asked is that the size of the error stays, nor which entry is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from keras_ref.reports.verdict import Kind, Report, Verdict
from keras_ref.translation.departures import load_departures

#: verdicts that are findings: those that fail a check, and what Keras is known to compute otherwise
FINDINGS = (
    Kind.CRASH,
    Kind.MISMATCH,
    Kind.NAN,
    Kind.MODE_DEPENDENT,
    Kind.DEPARTURE,
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A finding, as far as another has to be the same.

    kind, oracle   of the verdict
    mode           how autodiff ran, where the verdict is about that
    departures     the ids of the departures that the verdict names
    """

    kind: Kind
    oracle: str
    mode: str = ""
    departures: frozenset[str] = frozenset()

    @classmethod
    def of(cls, verdict: Verdict) -> Finding:
        """What a verdict finds."""
        about_mode = verdict.verdict is Kind.MODE_DEPENDENT
        return cls(
            kind=verdict.verdict,
            oracle=verdict.oracle,
            mode=_name_mode(verdict.how) if about_mode else "",
            departures=_find_departures(verdict),
        )

    @property
    def claim(self) -> str:
        """The claim of a case (cases.CLAIMS) that shows it."""
        if self.mode:
            return self.mode
        return {"hessian": "hessian", "forward-mode": "forward-mode", "twin": "definition"}.get(self.oracle, "slope")

    def is_in(self, report: Report) -> bool:
        """Whether a report has it: of several departures at least one, and no other."""
        return any(self._is(Finding.of(v)) for v in report.verdicts if v.verdict in FINDINGS)

    def _is(self, other: Finding) -> bool:
        some = other.departures <= self.departures and bool(other.departures) == bool(self.departures)
        return some and replace(other, departures=self.departures) == self

    def __str__(self) -> str:
        return f"{self.kind} by the oracle {self.oracle!r}"


def _find_departures(verdict: Verdict) -> frozenset[str]:
    """The departures that the reason of a verdict names."""
    if verdict.verdict is not Kind.DEPARTURE:
        return frozenset()
    words = set(verdict.reason.replace(",", " ").replace(";", " ").replace(":", " ").split())
    return frozenset(words & {departure.id for departure in load_departures()})


def _name_mode(how: str) -> str:
    return "jit_compile" if "jit" in how or "compile" in how else "function"


def list_findings(report: Report) -> list[Finding]:
    """The findings of a report, the worst kind first, those of Keras's own forward pass before others."""
    order = ("forward", "twin")

    def rank(verdict: Verdict) -> tuple[bool, int, int]:
        place = order.index(verdict.oracle) if verdict.oracle in order else len(order)
        return not verdict.failed, verdict.verdict.rank, place

    return list(dict.fromkeys(map(Finding.of, sorted(_select_verdicts(report.verdicts), key=rank))))


def _select_verdicts(verdicts: Iterable[Verdict]) -> Iterable[Verdict]:
    return (v for v in verdicts if v.verdict in FINDINGS)
