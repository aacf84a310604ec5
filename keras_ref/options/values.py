"""Values of options: which are legal, and texts such as 5m or 8G read as numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from keras_ref.errors import BadInput, CouldNotRun
from keras_ref.options.table import OPTIONS


def matches_variable(path: str, pattern: str, model: str) -> bool:
    """Whether a variable's path matches a glob pattern, with or without the name of the model in front.

    Without it, a pattern does not depend on names that Keras makes up, such as sequential_3.
    """
    return fnmatchcase(path, pattern) or fnmatchcase(path.removeprefix(f"{model}/"), pattern)


def require_choice(name: str, given: Any) -> Any:
    """Return what was given for an option: one of its choices, or several. Raises: CouldNotRun for anything else.

    Several are a list for an option with `many`, a text with commas for one with `joined`.
    """
    option = OPTIONS[name]
    for one in given if option.many else str(given).split(",") if option.joined else (given,):
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


#: the least and the largest number that an option takes, where not 0 and any
_LEAST, _MOST = {"steps": 1, "batches": 1}, {"workers": 1024}


def require_count(name: str, given: int) -> int:
    """Return a number given for an option, which may not be negative (steps, batches: nor 0), nor, for workers, more
    than a machine can have. Raises: CouldNotRun.
    """
    least, most = _LEAST.get(name, 0), _MOST.get(name, given)
    if not least <= given <= most:
        bound = f"at least {least}" if given < least else f"at most {most}"
        raise CouldNotRun(
            f"--{name} must be {bound}. Received: {given}. Pass {max(least, OPTIONS[name].default)}, say."
        )
    return given


def require_seconds(option: str, given: float) -> float:
    """Return seconds given for an option: a number above 0, and finite. Raises: CouldNotRun."""
    if not 0 < given < math.inf:
        raise CouldNotRun(f"{option} must be a number of seconds above 0. Received: {given:g}. Pass 60, say.")
    return given


def require_path(name: str, given: str) -> str:
    """Return what was given for an option, or an argument, that names a file or a folder. Raises: CouldNotRun.

    An empty text is no path that was left out: a variable of a script that was not set would make a command write
    nothing, and say nothing. What a shell or other commands read as something else is no name of a file either.
    """
    if given not in {"", "-", "~"} and not given.startswith("~/"):
        return given
    advice = {
        "": "Pass a path, or leave it out",
        "-": "Pass ./- for a file of that name; /dev/stdout is what the command prints to, and its input is not read",
    }
    what = advice.get(given, "Pass the path with $HOME: a shell replaces ~ only where a word begins with it")
    raise CouldNotRun(f"{name} must name a file. Received: {given!r}. {what}.")


def require_address(given: str) -> str:
    """Return what was given for --cluster: an address, or nothing. Raises: CouldNotRun for anything else."""
    if given and not re.fullmatch(r"[a-z]+://\S+", given):
        raise CouldNotRun(
            f"--cluster must be an address such as tcp://host:8786. Received: {given!r}. Pass that of a Dask scheduler."
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


def parse_time_limit(text: str, option: str = "--time-limit") -> float:
    """The seconds of --time-limit, or of another option. Raises: CouldNotRun."""
    seconds = _measure(text, _UNITS)
    if not seconds > 0:
        raise CouldNotRun(
            f"{option} must be a time such as 60s, 5m or 1h. Received: {text!r}. Pass seconds, or a number with s, "
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
    """A number times its unit; 0 for a text that is no such thing, or that is more than a number can be."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Z]?)\s*", text, re.ASCII)
    size = float(found[1]) * units[found[2]] if found and found[2] in units else 0.0
    return size if math.isfinite(size) else 0.0


def require_legal(given: Mapping[str, Any]) -> None:
    """Require values that the options take, by name. Raises: CouldNotRun for the first that is not."""
    for name, value in given.items():
        require_choice(name, value)
    parse_expectations(given.get("expect", ()))
    parse_time_limit(given.get("time-limit", OPTIONS["time-limit"].default))
    parse_memory_limit(given.get("memory-limit", OPTIONS["memory-limit"].default))
    require_address(given.get("cluster", OPTIONS["cluster"].default))
    for name in ("steps", "batches", "batch-size", "seed", "workers"):
        require_count(name, given.get(name, OPTIONS[name].default))
