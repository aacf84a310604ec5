"""Every option of a check once: its name, type, default, legal values and help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: how the help shows a path to a file, and to a folder
FILE, FOLDER = "FILE", "FOLDER"


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option of a check.

    name     as on the command line, without the dashes in front
    type     of one value
    default  where the option is not given
    help     one sentence
    choices  the legal values; empty where any is legal
    many     whether it may be given several times
    joined   whether one text may hold several of the choices, joined by commas
    metavar  what the help shows in the place of a value; FILE where it is a path (values.py:require_path)
    setting  whether [tool.gradtwin] in pyproject.toml may give it
    """

    name: str
    type: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    many: bool = False
    joined: bool = False
    setting: bool = False
    metavar: str | None = None

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
        "sample of a large one. With fast a few random directions, narrowed down to the wrong entries where they "
        "disagree.",
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
        joined=True,
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
        metavar=FILE,
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
        help="Address of a running Dask scheduler, such as tcp://host:8786, whose workers compute these losses "
        "instead of processes on this machine.",
    ),
    Option(
        name="force",
        type=bool,
        default=False,
        help="Overwrite files that this command did not write; never those that it reads.",
    ),
    Option(
        name="html",
        type=str,
        default="",
        metavar=FILE,
        help="Write the report as one small HTML page to this file.",
    ),
    Option(
        name="junit",
        type=str,
        default="",
        metavar=FILE,
        help="Write a test for each verdict as JUnit XML to this file, which CI systems show.",
    ),
)
OPTIONS: Mapping[str, Option] = {option.name: option for option in _ALL}
#: the options that a project may set for all fronts
SETTINGS: tuple[str, ...] = tuple(option.name for option in _ALL if option.setting)
