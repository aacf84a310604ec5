"""What the columns of every table of verdicts are called, and what they mean: the same words on all fronts."""

from __future__ import annotations

#: the difference at the entry `worst`, which need not be the largest of all
WORST = "difference at the worst"
ALLOWED = "allowed difference"
SEEN = "smallest error it would have seen"
#: what the two names mean that do not say it themselves
LEGEND = (
    "the worst: the entry whose difference is the largest beside what is allowed; smallest error it would have seen: a "
    "larger error of a single entry fails, a smaller one may pass"
)
