"""Errors that users see, one sentence each: the rule, what was received, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class BadInput(ValueError):
    """A check refuses what it was given; the message is one sentence in three parts: rule, what was received, what to do."""


class UserCodeFailed(Exception):
    """What is checked raised an error of its own, which is the cause of this one."""

    @property
    def error(self) -> BaseException:
        """The subject's own error."""
        return self.__cause__ or self


@contextmanager
def running_user_code() -> Iterator[None]:
    """Around code of the subject: what it raises is told apart from what a check raises."""
    try:
        yield
    except (BadInput, UserCodeFailed, AssertionError):
        raise
    except Exception as error:
        raise UserCodeFailed(str(error)) from error


@contextmanager
def errors_as_bad_input() -> Iterator[None]:
    """Around a whole check: what the subject raised becomes one sentence. Raises: BadInput."""
    try:
        yield
    except UserCodeFailed as failed:
        raise BadInput(
            f"A subject must run on the data it is checked on. Received: {type(failed.error).__name__}: {short(failed.error)} Call it on them by itself first."
        ) from failed.error


class CouldNotRun(Exception):
    """The work could not be done; the message is one line: what was wrong, what to do. Exit status 2."""


def short(error: Any) -> str:
    """The text of an error as one sentence of at most 160 characters, without colours and names made up by TensorFlow."""
    plain = error.args[0] if isinstance(error, KeyError) and error.args else error  # whose text is a repr
    text = re.sub(r"\x1b\[[0-9;]*m|__inference_\S+|\[Op:\w+\]( name:)?|\{\{function_node [^}]*\}\}", "", str(plain))
    text = " ".join(text.split()).rstrip(".: ")
    return text + "." if len(text) <= 160 else text[:159] + "…"
