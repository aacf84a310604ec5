"""Every option of a check once, for all fronts: the command line and the pytest plugin read this table."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from keras_ref.errors import BadInput, CouldNotRun, short


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option of a check.

    name     as on the command line, without the dashes in front
    type     of one value
    default  where the option is not given
    help     one sentence
    choices  the legal values; empty where any is legal
    many     whether it may be given several times
    setting  whether [tool.gradtwin] in pyproject.toml may give it
    """

    name: str
    type: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    many: bool = False
    setting: bool = False

    @property
    def is_flag_of_settings(self) -> bool:
        """Whether it is a flag that pyproject.toml may set."""
        return self.setting and self.type is bool


_ALL = (
    Option(
        name="effort",
        type=str,
        default="auto",
        setting=True,
        choices=("auto", "full", "fast"),
        help="How much is compared: full, every entry of every gradient; auto, every entry of a small model and a "
        "sample of a large one; fast, a few random directions, narrowed down to the wrong entries where they disagree.",
    ),
    Option(
        name="budget",
        type=str,
        default="",
        setting=True,
        help="Time that effort auto may take for each model, as 60s or 5m; the report says how much was compared.",
    ),
    Option(
        name="seed",
        type=int,
        default=0,
        setting=True,
        help="Seed of all that is random: data that you do not give, and which entries and directions are compared.",
    ),
    Option(
        name="variables",
        type=str,
        default="*",
        setting=True,
        help="Compare only the variables (or inputs) whose path matches this pattern, such as 'dense*/kernel'.",
    ),
    Option(
        name="wrt",
        type=str,
        default=(),
        setting=True,
        choices=("weights", "inputs"),
        many=True,
        help="Compare the gradients with respect to weights or inputs alone; both where left out.",
    ),
    Option(
        name="batches",
        type=int,
        default=1,
        setting=True,
        help="How many batches are taken, as one, where the data of a target are a data set (tf.data, PyDataset).",
    ),
    Option(
        name="training",
        type=bool,
        default=False,
        setting=True,
        help="Check the forward pass as it is in training (batch statistics, dropout) instead of inference.",
    ),
    Option(
        name="mode",
        type=str,
        default="eager",
        setting=True,
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
        setting=True,
        choices=("tensorflow", "jax", "torch"),
        help="The backend of Keras that is checked; on jax and torch a process of its own computes losses and "
        "gradients.",
    ),
    Option(
        name="expect",
        type=str,
        default=(),
        setting=True,
        many=True,
        help="PATTERN=surrogate: the gradient of these variables differs on purpose (straight-through); "
        "PATTERN=stop_gradient: it does so by tf.stop_gradient alone, and is compared with its value held.",
    ),
    Option(
        name="allow",
        type=str,
        default=(),
        setting=True,
        choices=("kink", "undecided"),
        many=True,
        help="A verdict that does not fail the check: undecided (the comparison was too coarse); a kink never fails.",
    ),
    Option(
        name="steps",
        type=int,
        default=3,
        setting=True,
        help="Number of training steps whose updates are compared.",
    ),
    Option(
        name="batch-size",
        type=int,
        default=0,
        setting=True,
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
        name="minimise",
        type=bool,
        default=False,
        help="Make what fails small, and print a script of a few lines that shows it without gradtwin.",
    ),
    Option(
        name="isolate",
        type=bool,
        default=False,
        setting=True,
        help="Run each target in a process of its own, so that a crash becomes a verdict with the signal's name.",
    ),
    Option(
        name="time-limit",
        type=str,
        default="1h",
        setting=True,
        help="Time that an isolated target may take, as 60s, 5m or 1h; then it is killed, and that is its verdict.",
    ),
    Option(
        name="memory-limit",
        type=str,
        default="",
        setting=True,
        help="Memory that an isolated target may take, as 500M or 8G; nine tenths of the machine's where left out.",
    ),
    Option(
        name="workers",
        type=int,
        default=0,
        setting=True,
        help="Processes on this machine that compute the losses at nudged weights too, and check several targets at "
        "once; the results are the same, bit for bit.",
    ),
    Option(
        name="cluster",
        type=str,
        default="",
        setting=True,
        help="Address of a running Dask scheduler, such as tcp://host:8786, whose workers do so in the place of "
        "processes on this machine.",
    ),
    Option(
        name="force",
        type=bool,
        default=False,
        help="Overwrite files that this command did not write; never those that it reads.",
    ),
    Option(name="html", type=str, default="", help="Write the report as one small HTML page to this file."),
    Option(
        name="junit",
        type=str,
        default="",
        help="Write a test for each verdict as JUnit XML to this file, which CI systems show.",
    ),
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


class SharedExpectations(dict[str, str]):
    """{pattern: what} that is declared for several models: a pattern may match nothing in some of them."""


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


# [tool.gradtwin] in pyproject.toml ------------------------------------------------------------------------------------

#: the options that a project may set for all fronts
SETTINGS: tuple[str, ...] = tuple(option.name for option in _ALL if option.setting)


def read_settings(folder: Path) -> dict[str, Any]:
    """{option: value} of [tool.gradtwin] in the nearest pyproject.toml, in this folder or above it; {} without any.

    Raises: CouldNotRun for a file that is no TOML, a key that is no option, and a value that the option does not take.
    """
    file = next((path for one in (folder, *folder.parents) if (path := one / "pyproject.toml").is_file()), None)
    if file is None:
        return {}
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("gradtwin", {})
    except (OSError, ValueError, RecursionError) as error:
        raise CouldNotRun(f"pyproject.toml must be TOML. Received: {file}: {short(error)} Correct the file.") from error
    if not isinstance(table, dict):
        raise CouldNotRun(
            f"tool.gradtwin must be a table. Received: {short(repr(table))[:-1]} in {file}. Write [tool.gradtwin]."
        )
    return {name: _setting(name, value, file) for name, value in table.items()}


def _setting(name: str, value: Any, file: Path) -> Any:
    """The value of an option in pyproject.toml. Raises: CouldNotRun."""
    if name not in SETTINGS:
        raise CouldNotRun(
            f"[tool.gradtwin] must have options that a project may set. Received: {name!r} in {file}. Choose from "
            f"{', '.join(SETTINGS)}."
        )
    option = OPTIONS[name]
    given = value if option.many and isinstance(value, list) else [value]
    if not all(type(one) is option.type for one in given):
        kind = {str: "a text", int: "a whole number", bool: "true or false"}[option.type]
        raise CouldNotRun(
            f"{name} in [tool.gradtwin] must be {kind}{', or a list of them' if option.many else ''}. Received: "
            f"{short(repr(value))[:-1]} in {file}. Correct it."
        )
    taken = tuple(given) if option.many else value
    try:
        require_legal({name: taken})
    except CouldNotRun as error:
        raise CouldNotRun(f"[tool.gradtwin] in {file}: {error}") from error
    return taken


def require_legal(given: Mapping[str, Any]) -> None:
    """Require values that the options take, by name. Raises: CouldNotRun for the first that is not."""
    for name, value in given.items():
        require_choice(name, value)
    parse_expectations(given.get("expect", ()))
    parse_time_limit(given.get("time-limit", OPTIONS["time-limit"].default))
    parse_memory_limit(given.get("memory-limit", OPTIONS["memory-limit"].default))
    require_address(given.get("cluster", OPTIONS["cluster"].default))
    for name in ("steps", "batches", "seed", "workers"):
        require_minimum(name, given.get(name, OPTIONS[name].default))


def keywords_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options by their names as keywords of the public verbs: mode is `modes` there."""
    return {_KEYWORDS.get(name, name): _CONVERTED.get(name, _as_it_is)(value) for name, value in given.items()}


def project_keywords(settings: Mapping[str, Any], taken: Collection[str]) -> dict[str, Any]:
    """The settings of a project as keywords of a verb, as far as they are among the parameters that it takes."""
    keywords = {name: value for name, value in keywords_of(settings).items() if name in taken}
    # what a project expects is about some of its models
    return keywords | ({"expect": SharedExpectations(keywords["expect"])} if "expect" in keywords else {})


def _as_it_is(value: Any) -> Any:
    return value


_KEYWORDS = {"mode": "modes", "batch-size": "batch_size"}
_CONVERTED: Mapping[str, Callable[[Any], Any]] = {
    "mode": lambda modes: tuple(modes.split(",")),
    "expect": parse_expectations,
    "batch-size": lambda size: size or None,
}
