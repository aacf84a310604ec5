"""How Ctrl-C ends the command: one sentence, and the status that a shell gives a process that SIGINT has ended.

Only Python's own library is imported: command.py needs this module before any other.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

INTERRUPTED = 130
SENTENCE = "Interrupted; the model is what it was."


class Said:
    """Whether the sentence has been said in this process: a second Ctrl-C while the command ends says it no more."""

    sentence = False


def end_interrupted(*_: Any) -> NoReturn:
    """End this process at once, where there is nothing to put back. It is a handler of SIGINT, too."""
    if not Said.sentence:
        with suppress(OSError):
            os.write(2, f"gradtwin: {SENTENCE}\n".encode("ascii"))
    os._exit(INTERRUPTED)


@contextmanager
def saying() -> Iterator[bool]:
    """Around what says the sentence: whether it has still to be said. Ctrl-C is forgotten meanwhile."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        with suppress(ValueError):  # in another thread than the main one, which gets no signals
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        yield not Said.sentence
        Said.sentence = True
    finally:
        with suppress(ValueError, TypeError):  # or where no handler of Python's was there
            signal.signal(signal.SIGINT, handler)


def let_interruptions_end() -> None:
    """Let Ctrl-C end this process at once, unless whoever started it has it ignored (nohup does)."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_interrupted)


def let_interruptions_raise() -> None:
    """Let Ctrl-C be a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is end_interrupted:
        signal.signal(signal.SIGINT, signal.default_int_handler)
