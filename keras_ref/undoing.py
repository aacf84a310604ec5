"""What belongs to the whole process, changed for the time of a block: put back whatever ends the block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
