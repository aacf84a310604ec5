"""How Ctrl-C ends the command: one sentence, and the status that a shell gives a process that SIGINT has ended.

Only Python's own library is imported: command.py needs this module before any other.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Any, NoReturn

INTERRUPTED = 130
SENTENCE = "Interrupted; the model is what it was."


def end_interrupted(*_: Any) -> NoReturn:
    """End this process at once, where there is nothing to put back. It is a handler of SIGINT, too."""
    with suppress(OSError):
        os.write(2, f"gradtwin: {SENTENCE}\n".encode("ascii"))
    os._exit(INTERRUPTED)


def let_interruptions_end() -> None:
    """Let Ctrl-C end this process at once, unless whoever started it has it ignored (nohup does)."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_interrupted)


def let_interruptions_raise() -> None:
    """Let Ctrl-C be a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is end_interrupted:
        signal.signal(signal.SIGINT, signal.default_int_handler)
