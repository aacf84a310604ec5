"""A line on the terminal while the modules of the command load, which takes seconds on a machine that is busy.

Only Python's own library is imported: this line is there before anything else is.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: seconds between two looks at the clock
EVERY = 0.5


@contextmanager
def showing_first_line() -> Iterator[None]:
    """While the block lasts, a terminal shows that the command starts, and for how long; afterwards nothing of it.

    A thread writes the line, so a module that is slow to load does not stop it. The cursor stays at the beginning of
    the line: whatever else is printed, the sentence of Ctrl-C among it, is longer and takes its place.
    """
    if sys.stdout is None or not sys.stdout.isatty() or os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        yield
        return
    ended, begun = threading.Event(), time.monotonic()

    def write(text: str) -> None:
        with suppress(OSError):  # what cannot be printed is said where the command prints
            os.write(1, f"{text}\r".encode("ascii"))

    def show() -> str:
        text = f"gradtwin starts: {time.monotonic() - begun:.0f} s"
        write(text)
        return text

    def repeat() -> None:
        while not ended.wait(EVERY):
            show()

    thread = threading.Thread(target=repeat, name="first line", daemon=True)
    try:
        show()
        thread.start()
        yield
    finally:
        ended.set()
        thread.join()
        write(" " * len(show()))
