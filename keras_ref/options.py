"""Every option of a check once, for all fronts: the command line and the pytest plugin read this table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from keras_ref.errors import BadInput, CouldNotRun


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option of a check.

    name     as on the command line, without the dashes in front
    type     of one value
    default  where the option is not given
    help     one sentence
    choices  the legal values; empty where any is legal
    many     whether it may be given several times
    """

    name: str
    type: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    many: bool = False


_ALL = (
    Option(
        name="effort",
        type=str,
        default="auto",
        choices=("auto", "full", "fast"),
        help="How much is compared: full, every entry of every gradient; auto, every entry of a small model and a "
        "sample of a large one; fast, a few random directions, narrowed down to the wrong entries where they disagree.",
    ),
    Option(
        name="budget",
        type=str,
        default="",
        help="Time that effort auto may take for each model, as 60s or 5m; the report says how much was compared.",
    ),
    Option(
        name="seed",
        type=int,
        default=0,
        help="Seed of all that is random: data that you do not give, and which entries and directions are compared.",
    ),
    Option(
        name="variables",
        type=str,
        default="*",
        help="Compare only the variables (or inputs) whose path matches this pattern, such as 'dense*/kernel'.",
    ),
    Option(
        name="wrt",
        type=str,
        default=(),
        choices=("weights", "inputs"),
        many=True,
        help="Compare the gradients with respect to weights or inputs alone; both where left out.",
    ),
    Option(
        name="batches",
        type=int,
        default=1,
        help="How many batches are taken, as one, where the data of a target are a data set (tf.data, PyDataset).",
    ),
    Option(
        name="training",
        type=bool,
        default=False,
        help="Check the forward pass as it is in training (batch statistics, dropout) instead of inference.",
    ),
    Option(
        name="mode",
        type=str,
        default="eager",
        choices=("eager", "function", "jit_compile"),
        help="How TensorFlow runs the gradient: eager, function or jit_compile; several, joined by commas, are "
        "compared with one another.",
    ),
    Option(
        name="digits",
        type=bool,
        default=False,
        help="Compare the digits of the smallest gradients too with a forward pass in many digits (needs mpmath): "
        "inaccurate is what has lost more than half of those that it could have.",
    ),
    Option(
        name="backend",
        type=str,
        default="tensorflow",
        choices=("tensorflow", "jax", "torch"),
        help="The backend of Keras that is checked; on jax and torch a process of its own computes losses and "
        "gradients.",
    ),
    Option(
        name="expect",
        type=str,
        default=(),
        many=True,
        help="PATTERN=surrogate: the gradient of these variables differs on purpose (straight-through); "
        "PATTERN=stop_gradient: it does so by tf.stop_gradient alone, and is compared with its value held.",
    ),
    Option(
        name="allow",
        type=str,
        default=(),
        choices=("kink", "undecided"),
        many=True,
        help="A verdict that does not fail the check: undecided (the comparison was too coarse); a kink never fails.",
    ),
    Option(name="steps", type=int, default=3, help="Number of training steps whose updates are compared."),
    Option(
        name="batch-size",
        type=int,
        default=0,
        help="Samples in each training step, taken in order; 0 for all.",
    ),
    Option(
        name="import",
        type=str,
        default=(),
        many=True,
        help="Import this module first: one that registers the custom classes of a .keras file.",
    ),
    Option(
        name="unsafe",
        type=bool,
        default=False,
        help="Load .keras files that hold code (a Lambda layer); only for files that you trust.",
    ),
    Option(
        name="json",
        type=str,
        default="",
        help="Write the report as JSON to this file; gradtwin replay runs the check again from it.",
    ),
    Option(
        name="isolate",
        type=bool,
        default=False,
        help="Run each target in a process of its own, so that a crash becomes a verdict with the signal's name.",
    ),
    Option(
        name="time-limit",
        type=str,
        default="1h",
        help="Time that an isolated target may take, as 60s, 5m or 1h; then it is killed, and that is its verdict.",
    ),
    Option(
        name="memory-limit",
        type=str,
        default="",
        help="Memory that an isolated target may take, as 500M or 8G; nine tenths of the machine's where left out.",
    ),
    Option(
        name="force",
        type=bool,
        default=False,
        help="Overwrite files that gradtwin did not write; never those that the command reads.",
    ),
    Option(name="html", type=str, default="", help="Write the report as one small HTML page to this file."),
)
OPTIONS: Mapping[str, Option] = {option.name: option for option in _ALL}


def matches_variable(path: str, pattern: str, model: str) -> bool:
    """Whether a variable's path matches a glob pattern, with or without the name of the model in front.

    Without it, a pattern does not depend on names that Keras makes up, such as sequential_3.
    """
    return fnmatchcase(path, pattern) or fnmatchcase(path.removeprefix(f"{model}/"), pattern)


def require_choice(name: str, given: Any) -> Any:
    """Return what was given for an option: one of its choices, or several. Raises: CouldNotRun for anything else.

    Several are a list for an option with `many`, else joined by commas.
    """
    option = OPTIONS[name]
    for one in given if option.many else str(given).split(","):
        if option.choices and one not in option.choices:
            raise CouldNotRun(
                f"--{name} must be one of {', '.join(option.choices)}. Received: {one!r}. Choose one of them."
            )
    return given


def parse_expectations(given: tuple[str, ...]) -> dict[str, str]:
    """{pattern: what} of --expect PATTERN=what, "surrogate" or "stop_gradient", any number of times.

    Raises: CouldNotRun.
    """
    pairs = {}
    for one in given:
        glob, _, word = one.rpartition("=")
        if not glob or word not in ("surrogate", "stop_gradient"):
            raise CouldNotRun(
                f"--expect must be GLOB=surrogate or GLOB=stop_gradient. Received: {one!r}. "
                "Pass --expect 'quant*/kernel=surrogate', say."
            )
        pairs[glob] = word
    return pairs


def require_minimum(name: str, given: int) -> int:
    """Return a number given for an option, which may not be negative (steps, batches: nor 0). Raises: CouldNotRun."""
    least = 1 if name in ("steps", "batches") else 0
    if given < least:
        raise CouldNotRun(
            f"--{name} must be at least {least}. Received: {given}. Pass {max(least, OPTIONS[name].default)}, say."
        )
    return given


#: {unit of time: seconds}
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_budget(budget: Any) -> float | None:
    """The seconds of a budget, a number or text such as 60s, 5m, 1h; None where none is given. Raises: BadInput."""
    if budget is None or budget == "":
        return None
    seconds = _measure("" if isinstance(budget, bool) else str(budget), _UNITS)
    if not seconds > 0:
        raise BadInput(
            f"`budget` must be a time such as 60s, 5m or 1h. Received: {budget!r}. "
            "Pass seconds, or a number with s, m or h."
        )
    return seconds


#: {unit of memory: bytes}
_SIZES = {"": 1.0, "K": 2.0**10, "M": 2.0**20, "G": 2.0**30}


def parse_time_limit(text: str) -> float:
    """The seconds of --time-limit. Raises: CouldNotRun."""
    seconds = _measure(text, _UNITS)
    if not seconds > 0:
        raise CouldNotRun(
            f"--time-limit must be a time such as 60s, 5m or 1h. Received: {text!r}. Pass seconds, or a number with s, "
            "m or h."
        )
    return seconds


def parse_memory_limit(text: str) -> int:
    """The bytes of --memory-limit, 0 where none is given. Raises: CouldNotRun."""
    size = _measure(text, _SIZES) if text else 0.0
    if text and not size > 0:
        raise CouldNotRun(
            f"--memory-limit must be a size such as 500M or 8G. Received: {text!r}. Pass bytes, or a number with K, M "
            "or G."
        )
    return int(size)


def _measure(text: str, units: Mapping[str, float]) -> float:
    """A number times its unit; 0 for a text that is no such thing."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Z]?)\s*", text, re.ASCII)
    return float(found[1]) * units[found[2]] if found and found[2] in units else 0.0
