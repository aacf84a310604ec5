"""Every option once, for both fronts: the command line reads this table, and so does the pytest plugin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from keras_ref.errors import BadInput, CouldNotRun


@dataclass(frozen=True)
class Option:
    """An option of a check: its name (with dashes), type, default and help; `many`: it may be given several times."""

    name: str
    type: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    many: bool = False


OPTIONS: dict[str, Option] = {
    option.name: option
    for option in (
        Option(
            "effort",
            str,
            "auto",
            "Which entries to compare. full: every one; auto: every one of a small model, a sample of a large one; fast: "
            "all together along random directions, bisected where they disagree.",
            ("auto", "full", "fast"),
        ),
        Option(
            "budget",
            str,
            "",
            "Time that --effort auto may take for each model, such as 60s or 5m; the report says how much was compared.",
        ),
        Option("seed", int, 0, "Seed of all that is drawn: data, cotangents, sampled entries. It is printed."),
        Option(
            "variables",
            str,
            "*",
            "Check only variables (and inputs) whose path matches this glob; the model's name in front may be left out.",
        ),
        Option(
            "training",
            bool,
            False,
            "Check the forward pass of training (batch statistics, dropout) instead of inference.",
        ),
        Option(
            "mode",
            str,
            "eager",
            "How autodiff runs: eager, function or jit_compile; several, joined by commas, are compared with each other.",
            ("eager", "function", "jit_compile"),
        ),
        Option(
            "expect",
            str,
            (),
            "GLOB=surrogate: gradients that are meant not to be the derivative (straight-through, stop_gradient).",
            many=True,
        ),
        Option(
            "allow",
            str,
            (),
            "A kind of verdict that does not fail the check: undecided (no estimate is sharp enough), kink (never fails).",
            ("kink", "undecided"),
            many=True,
        ),
        Option("steps", int, 3, "Training steps to compare."),
        Option("batch-size", int, 0, "Samples in a training step, in order; 0 for all."),
        Option("import", str, (), "A module to import first, such as one that registers custom classes.", many=True),
        Option(
            "unsafe", bool, False, "Load .keras files that hold code (a Lambda layer). Only for files that you trust."
        ),
        Option("json", str, "", "Write the report as JSON to this file; gradtwin replay runs it again."),
        Option(
            "isolate",
            bool,
            False,
            "Run each target in a process of its own; a crash becomes a verdict with the signal's name.",
        ),
        Option("html", str, "", "Write the report as a page to this file."),
    )
}


def matches_variable(path: str, pattern: str, model: str) -> bool:
    """Whether a variable's path matches a glob, with or without the model's own name in front: nobody writes sequential_3."""
    return fnmatchcase(path, pattern) or fnmatchcase(path.removeprefix(f"{model}/"), pattern)


def require_choice(name: str, given: Any) -> Any:
    """What was given for an option, one of its choices (several joined by commas). Raises: CouldNotRun for anything else."""
    option = OPTIONS[name]
    for one in given if option.many else str(given).split(","):
        if option.choices and one not in option.choices:
            raise CouldNotRun(
                f"--{name} must be one of {', '.join(option.choices)}. Received: {one!r}. Choose one of them."
            )
    return given


def parse_expectations(given: tuple[str, ...]) -> dict[str, str]:
    """{glob: "surrogate"} of --expect GLOB=surrogate. Raises: CouldNotRun."""
    pairs = {}
    for one in given:
        glob, _, word = one.rpartition("=")
        if not glob or word != "surrogate":
            raise CouldNotRun(
                f"--expect must be GLOB=surrogate. Received: {one!r}. Pass --expect 'quant*/kernel=surrogate', say."
            )
        pairs[glob] = word
    return pairs


def require_minimum(name: str, given: int) -> int:
    """A number that may not be negative (nor 0, of steps). Raises: CouldNotRun."""
    least = 1 if name == "steps" else 0
    if given < least:
        raise CouldNotRun(
            f"--{name} must be at least {least}. Received: {given}. Pass {max(least, OPTIONS[name].default)}, say."
        )
    return given


#: what a unit of time is in seconds
UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_budget(budget: Any) -> float | None:
    """Seconds of a budget: a number, or text such as 60s, 5m, 1h; None for none. Raises: BadInput."""
    if budget is None or budget == "":
        return None
    found = (
        re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([smh]?)\s*", str(budget)) if not isinstance(budget, bool) else None
    )
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not seconds > 0:
        raise BadInput(
            f"`budget` must be a time such as 60s, 5m or 1h. Received: {budget!r}. Pass seconds, or a number with s, m or h."
        )
    return seconds
