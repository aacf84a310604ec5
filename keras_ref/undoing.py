"""What belongs to the whole process, changed for the time of a block: put back whatever ends the block."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


@contextmanager
def undoing(undo: Callable[..., Any], *arguments: Any) -> Iterator[None]:
    """Run undo(*arguments) when the block ends: twice, so that an interruption of the first run is made up for.

    The change itself belongs inside the block: one before it is not undone where an interruption comes between. It must
    be harmless to undo a change that was not made, or was undone already.
    """
    try:
        try:
            yield
        finally:
            undo(*arguments)
    finally:
        undo(*arguments)


@contextmanager
def keeping_streams() -> Iterator[None]:
    """Around code of a user that may close or replace the standard streams: there are some afterwards."""
    with undoing(_return_streams, sys.stdout, sys.stderr):
        yield


def _return_streams(out: TextIO | None, err: TextIO | None) -> None:
    sys.stdout, sys.stderr = _open_again(out, 1), _open_again(err, 2)


def _open_again(stream: TextIO | None, number: int) -> TextIO | None:
    """A stream; another one for its file where it was closed, which leaves the file open."""
    if stream is None or not stream.closed:
        return stream
    try:
        return open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    except OSError:
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123


@contextmanager
def staying_here() -> Iterator[None]:
    """Around code of a user that may change the working directory: a relative path means afterwards what it meant."""
    try:
        here = os.open(".", os.O_RDONLY)
    except OSError:  # a folder that may not be read
        yield
        return
    try:
        with undoing(_return_to, here):
            yield
    finally:
        os.close(here)


def _return_to(here: int) -> None:
    with suppress(OSError):
        os.fchdir(here)
