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
            "full: every entry; auto: every entry of a small model, sampled ones of a large one; fast: a few random directions, bisected where they disagree.",
            ("auto", "full", "fast"),
        ),
        Option(
            "budget",
            str,
            "",
            "Time that effort auto may take of each model, as 60s or 5m; it says how much of it was compared.",
        ),
        Option("seed", int, 0, "Seed of drawn data, cotangents and sampled entries; printed, and enough to replay."),
        Option(
            "variables",
            str,
            "*",
            "Only variables (or inputs) whose path matches this glob, with or without the model's name in front.",
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
            "How autodiff runs: eager, function or jit_compile; several, joined by commas, are compared.",
            ("eager", "function", "jit_compile"),
        ),
        Option(
            "expect",
            str,
            (),
            "GLOB=surrogate: gradients that are meant to differ (straight-through, stop_gradient).",
            many=True,
        ),
        Option(
            "allow",
            str,
            (),
            "undecided: entries that no estimate can decide do not fail; kink: nor does a kink (it never does).",
            ("kink", "undecided"),
            many=True,
        ),
        Option("steps", int, 3, "Training steps to compare."),
        Option("batch-size", int, 0, "Samples a step takes, in order; 0 for all."),
        Option("import", str, (), "A module to import first: one that registers a file's custom classes.", many=True),
        Option("unsafe", bool, False, "Load .keras files that hold code (a Lambda); only files that you trust."),
        Option("json", str, "", "Write the report as JSON to this file; gradtwin replay runs it again."),
        Option(
            "isolate",
            bool,
            False,
            "Run each target in a process of its own: a crash is a verdict with the signal's name.",
        ),
        Option("html", str, "", "Write the report as one small page to this file."),
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
