"""Importing TensorFlow, which takes seconds: on a terminal under a progress bar, whose clock goes on meanwhile."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from keras_ref.reports.terminal import make_console, make_ticker, show_progress


def start_tensorflow() -> None:
    """Import TensorFlow, with nothing of what it logs meanwhile."""
    with _showing("loading TensorFlow"):
        from keras_ref.inputs.targets import import_quietly

        import_quietly()


@contextmanager
def _showing(what: str) -> Iterator[None]:
    """A progress bar while the block lasts; on a terminal another process draws it.

    A library that is being loaded keeps Python's lock, and no thread of this process could draw meanwhile.
    """
    out = make_console()
    if not out.is_terminal or sys.platform != "linux" or "tensorflow" in sys.modules:  # which must not be forked
        with show_progress(out) as bar:
            make_ticker(bar, what)
            yield
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process says so, and ends
            os.close(write)
            with show_progress(out) as bar:
                make_ticker(bar, what)
                os.read(read, 1)  # until the other process closes it, or ends
        finally:
            os._exit(0)
    os.close(read)
    try:
        yield
    finally:
        os.close(write)
        os.waitpid(child, 0)
