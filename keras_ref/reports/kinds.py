"""The kinds of verdict a comparison can end in, from the worst to the best."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Kind(StrEnum):
    """What a comparison found of one variable. The members are in order, the worst first."""

    CRASH = "crash"
    MISMATCH = "mismatch"
    NAN = "nan"
    MODE_DEPENDENT = "mode-dependent"
    NONDETERMINISTIC = "nondeterministic"
    INACCURATE = "inaccurate"
    UNDECIDED = "undecided"
    KINK = "kink"
    DISCONNECTED = "disconnected"
    SURROGATE = "surrogate"
    SYMMETRIZED = "symmetrized"
    DEPARTURE = "departure"
    MATCH = "match"

    @property
    def failing(self) -> bool:
        """Whether a verdict of this kind fails a check."""
        return self in FAILING

    @property
    def rank(self) -> int:
        """0 for the worst kind, and so on."""
        return ORDER.index(self)


#: all kinds, the worst first: a variable's verdict is the worst of its entries'
ORDER: tuple[Kind, ...] = tuple(Kind)
#: kinds that fail a check
FAILING = frozenset(
    (
        Kind.CRASH,
        Kind.MISMATCH,
        Kind.NAN,
        Kind.MODE_DEPENDENT,
        Kind.NONDETERMINISTIC,
        Kind.INACCURATE,
        Kind.UNDECIDED,
    )
)


def find_worst(kinds: Iterable[str]) -> Kind:
    """The worst of several kinds, given as members or as their text."""
    return min(map(Kind, kinds), key=ORDER.index)
