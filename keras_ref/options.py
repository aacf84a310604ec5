"""Every option once, for both fronts: the command line reads this table, and so does the pytest plugin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Option:
    """An option of a check: its name (with dashes), type, default and help."""

    name: str
    type: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()


OPTIONS: dict[str, Option] = {
    option.name: option
    for option in (
        Option("effort", str, "auto", "full: every entry; auto: every entry of a small model, sampled ones of a large one; fast: a few random directions, bisected where they disagree.", ("auto", "full", "fast")),
        Option("budget", str, "", "Time that effort auto may take of each model, as 60s or 5m; it says how much of it was compared."),
        Option("seed", int, 0, "Seed of drawn data, cotangents and sampled entries; printed, and enough to replay."),
        Option("variables", str, "*", "Only variables (or inputs) whose path matches this glob."),
        Option("training", bool, False, "Check the forward pass of training (batch statistics, dropout) instead of inference."),
        Option("mode", str, "eager", "How autodiff runs: eager, function or jit_compile; several, joined by commas, are compared."),
        Option("json", str, "", "Write the report as JSON to this file."),
        Option("html", str, "", "Write the report as one small page to this file."),
    )
}


class BadInput(ValueError):
    """A check refuses what it was given; the message is one sentence in three parts: rule, what was received, what to do."""


class CouldNotRun(Exception):
    """The work could not be done; the message is one line: what was wrong, what to do. Exit status 2."""


#: what a unit of time is in seconds
UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(budget: Any) -> float | None:
    """Seconds of a budget: a number, or text such as 60s, 5m, 1h; None for none. Raises: BadInput."""
    if budget is None or budget == "":
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([smh]?)\s*", str(budget)) if not isinstance(budget, bool) else None
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not seconds > 0:
        raise BadInput(f"`budget` must be a time such as 60s, 5m or 1h. Received: {budget!r}. Pass seconds, or a number with s, m or h.")
    return seconds


def short(error: Any) -> str:
    """The text of an error as one sentence of at most 160 characters, without colours and names made up by TensorFlow."""
    text = re.sub(r"\x1b\[[0-9;]*m|__inference_\S+|\[Op:\w+\] name:", "", str(error))
    text = " ".join(text.split()).rstrip(".: ")
    return text + "." if len(text) <= 160 else text[:159] + "…"
