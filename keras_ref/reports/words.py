"""What the columns of every table of verdicts are called, and what they mean: the same words on all fronts."""

from __future__ import annotations

from collections.abc import Iterable

#: the difference at the entry `worst`, which need not be the largest of all
WORST = "difference at the worst"
ALLOWED = "allowed difference"
SEEN = "smallest error it would have seen"
#: what the two names mean that do not say it themselves
LEGEND = (
    "the worst: the entry whose difference is the largest beside what is allowed; smallest error it would have seen: a "
    "larger error of a single entry fails, a smaller one may pass"
)

#: what the input of a model with one input is called; those of one with several have a colon and their key behind it
INPUT = "input"


def is_input(name: str) -> bool:
    """Whether a name in a report is that of an input: of no variable (`naming.find_path`)."""
    return name == INPUT or name.startswith(f"{INPUT}:")


def count_variables(names: Iterable[str]) -> str:
    """How many variables and inputs these are: "3 variables and the input", "1 variable and 2 inputs", "the input"."""
    given = [*names]
    inputs = sum(map(is_input, given))
    variables = len(given) - inputs
    parts = [f"{variables} variable{'' if variables == 1 else 's'}"] if variables or not inputs else []
    parts += ["the input" if inputs == 1 else f"{inputs} inputs"] if inputs else []
    return " and ".join(parts)
