"""Watch the process that runs targets: one that kills it (abort, a signal, _exit in C) could not run, the others go on.

No process can say of itself that it was killed. So this one forks before TensorFlow is loaded, which takes about a
millisecond: the child does the work, with this terminal and these files, and writes into a journal what it begins and
what it found. Where it dies in the middle of a target, the next child goes on after that target.

Watching needs what Linux has; elsewhere, and in a process that has loaded TensorFlow (which cannot be forked), the
targets run unwatched.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from keras_ref.errors import CouldNotRun
from keras_ref.frontends.endings.interruption import INTERRUPTED
from keras_ref.supervision.supervise import WATCHED, describe_end, end_with_parent

#: signals that are sent to the command, and are meant for the process that does the work
PASSED_ON = frozenset((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
#: sigaction(2): the kernel sent it, as a terminal's Ctrl-C, which reaches the child by itself
SI_KERNEL = 0x80


class Journal:
    """What became of each target, by its name: lines of JSON in a file that has no name and that children share.

    It is in memory: a disk may be full, and half a journal would accuse a target of what it has not done.
    """

    def __init__(self) -> None:
        make = getattr(os, "memfd_create", None)  # of Linux, where alone there are children
        self._file = os.fdopen(make("journal"), "w+", encoding="utf-8") if make is not None else io.StringIO()

    def close(self) -> None:
        """Let go of the file, which is gone with the last of the processes that share it."""
        self._file.close()

    def write(self, target: str, **what: Any) -> None:
        """Append a line on a target."""
        self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps({"target": target, **what}) + "\n")
        self._file.flush()

    def read(self) -> dict[str, dict[str, Any]]:
        """The last line on each target that was begun."""
        return {line["target"]: line for line in self._read_lines()}

    def _read_lines(self) -> list[dict[str, Any]]:
        self._file.seek(0)
        return [json.loads(line) for line in self._file]

    @contextmanager
    def running(self, target: str) -> Iterator[None]:
        """Around the run of a target. However the block ends: where the process died in it, the target is still begun.

        What the block has written of the target stays the last line.
        """
        self.write(target, begun=True)
        try:
            yield
        finally:
            if target == self.begun:
                self.write(target)

    @property
    def begun(self) -> str | None:
        """The target in the middle of which the process died; None where it was between two."""
        return next((target for target, line in self.read().items() if line.get("begun")), None)

    @property
    def dead(self) -> dict[str, str]:
        """{target: sentence} of those that have ended their process."""
        return {line["target"]: line["refused"] for line in self._read_lines() if line.get("dead")}


def can_watch() -> bool:
    """Whether this process can fork, has not loaded what must not be forked, and nobody watches it already."""
    return sys.platform == "linux" and "tensorflow" not in sys.modules and WATCHED not in os.environ


def watch(journal: Journal) -> int | None:
    """Go on in a child, and watch it from here. Returns None in the child; here, the exit status of the last child.

    What it finds of a target that has ended its process is one sentence on stderr, and a line in the journal.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {*PASSED_ON, signal.SIGCHLD})
    while True:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        parent, child = os.getpid(), os.fork()
        if child == 0:
            _end_with(parent)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            return None
        status, sent = _wait(child)
        target = journal.begun
        if target is None or -status in sent:  # it ended by itself, or was meant to end
            if status == INTERRUPTED:  # the child has said so; Ctrl-C that has come here as well says it no more
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            return _translate_status(status)
        from keras_ref.frontends.endings.exit_status import (  # which loads what the pytest plugin has not
            COULD_NOT,
            complain,
        )

        error = CouldNotRun(
            f"A target must leave the process running. Received: {target}, whose process {'was ' * (status < 0)}"
            f"{describe_end(status)}. Look at the operation that ends it; with --isolate its last words are shown."
        )
        complain(error)
        journal.write(target, refused=str(error), status=COULD_NOT, dead=True)


def _wait(child: int) -> tuple[int, frozenset[int]]:
    """(the exit status of a child, negative for a signal; the signals that were passed on to it)."""
    sent = set()
    while True:
        info = signal.sigwaitinfo({*PASSED_ON, signal.SIGCHLD})
        if info.si_signo in PASSED_ON and info.si_code != SI_KERNEL:
            with suppress(ProcessLookupError):
                os.kill(child, info.si_signo)
            sent.add(info.si_signo)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), frozenset(sent)


def _translate_status(status: int) -> int:
    """An exit status; where a signal ended the child, it ends this process, too."""
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _end_with(parent: int) -> None:
    """Let this process end when its parent does."""
    end_with_parent(signal.SIGTERM)
    if os.getppid() != parent:  # which has ended already
        os.kill(os.getpid(), signal.SIGTERM)
