"""Progress where the output is no terminal, a CI log say: a line on the error stream now and then."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from typing import Self

from keras_ref.reports.escaping import make_printable

#: seconds between two lines: CI services stop a job that has printed nothing for ten minutes
EVERY = 60.0


class ProgressLines:
    """While the block lasts, each minute a line says what is being done, and for how long.

    It goes to the error stream, from a thread of its own: what the command prints is its report alone.
    """

    def __init__(self) -> None:
        self._label, self._what = "", ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._print, name="progress lines", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def begin(self, label: str) -> None:
        """Say from now on that this is being done."""
        self._label, self._what = label, ""

    def update(self, done: int, total: int, what: str) -> None:
        """`done` of `total` parts are finished; `what` names the part: a progress callback."""
        self._what = f", {what} ({done} of {total})"

    def _print(self) -> None:
        begun = time.monotonic()
        while not self._ended.wait(EVERY):
            line = f"still running after {time.monotonic() - begun:.0f} s: {self._label}{self._what}"
            if sys.stderr is None:  # it was closed when the command began
                return
            with suppress(OSError, ValueError):  # nor is one that is full or closed now a reason to end the command
                print(make_printable(line), file=sys.stderr, flush=True)  # noqa: T201 (what it is for)
