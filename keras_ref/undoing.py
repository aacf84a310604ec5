"""What belongs to the whole process, changed for the time of a block: put back whatever ends the block."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


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
