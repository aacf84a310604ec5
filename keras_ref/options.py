"""Every option once, for both fronts: the command line reads this table, and so does the pytest plugin."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
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
        Option("effort", str, "auto", "full: every entry; auto: every entry of a small model, sampled ones of a large one.", ("auto", "full")),
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


class SubjectFailed(Exception):
    """What is checked raised an error of its own, which is the cause of this one."""

    @property
    def error(self) -> BaseException:
        """The subject's own error."""
        return self.__cause__ or self


@contextmanager
def the_subject() -> Iterator[None]:
    """Around code of the subject: what it raises is told apart from what a check raises."""
    try:
        yield
    except (BadInput, SubjectFailed, AssertionError):
        raise
    except Exception as error:
        raise SubjectFailed(str(error)) from error


@contextmanager
def refused() -> Iterator[None]:
    """Around a whole check: what the subject raised becomes one sentence. Raises: BadInput."""
    try:
        yield
    except SubjectFailed as failed:
        raise BadInput(
            f"A subject must run on the data it is checked on. Received: {type(failed.error).__name__}: {short(failed.error)} Call it on them by itself first."
        ) from failed.error


class CouldNotRun(Exception):
    """The work could not be done; the message is one line: what was wrong, what to do. Exit status 2."""


def short(error: Any) -> str:
    """The text of an error as one sentence of at most 160 characters, without colours and names made up by TensorFlow."""
    text = re.sub(r"\x1b\[[0-9;]*m|__inference_\S+|\[Op:\w+\]( name:)?|\{\{function_node [^}]*\}\}", "", str(error))
    text = " ".join(text.split()).rstrip(".: ")
    return text + "." if len(text) <= 160 else text[:159] + "…"
