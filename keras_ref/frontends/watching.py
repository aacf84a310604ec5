"""Watch the process that runs targets: one that kills it (abort, a signal, _exit in C) could not run, the others go on.

No process can say of itself that it was killed. So this one forks before TensorFlow is loaded, which takes about a
millisecond: the child does the work, with this terminal and these files, and writes into a journal what it begins and
what it found. Where it dies in the middle of a target, the next child goes on after that target.

Watching needs what Linux has; elsewhere, and in a process that has loaded TensorFlow (which cannot be forked), the
targets run unwatched.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer

from keras_ref.errors import CouldNotRun
from keras_ref.frontends.exit_status import COULD_NOT, complain
from keras_ref.frontends.isolation import describe_end
from keras_ref.frontends.supervise import WATCHED

#: prctl(2): the signal that this process gets when its parent ends
PR_SET_PDEATHSIG = 1
#: signals that are sent to the command, and are meant for the process that does the work
PASSED_ON = frozenset((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
#: sigaction(2): the kernel sent it, as a terminal's Ctrl-C, which reaches the child by itself
SI_KERNEL = 0x80


class Journal:
    """What became of each target, by its place: lines of JSON in a file that has no name and that children share."""

    def __init__(self) -> None:
        # it lives as long as the command, whose processes have no common block to close it in
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115

    def write(self, place: int, **what: Any) -> None:
        """Append a line on the target in this place."""
        self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps({"place": place, **what}) + "\n")
        self._file.flush()

    def read(self) -> dict[int, dict[str, Any]]:
        """The last line on each target that was begun."""
        self._file.seek(0)
        return {line["place"]: line for line in map(json.loads, self._file)}

    @contextmanager
    def running(self, place: int) -> Iterator[None]:
        """Around the run of a target. Whatever it raises ends the block: it is still begun where the process died."""
        self.write(place, begun=True)
        try:
            yield
        except BaseException:
            self.write(place)
            raise

    @property
    def begun(self) -> int | None:
        """The place of the target in the middle of which the process died; None where it was between two."""
        return next((place for place, line in self.read().items() if line.get("begun")), None)


def watch(journal: Journal, targets: tuple[str, ...]) -> None:
    """Go on in a child, and watch it from here; where there is no watching, in this process.

    Raises: typer.Exit with the child's exit status, here.
    """
    if sys.platform != "linux" or "tensorflow" in sys.modules or WATCHED in os.environ:
        return
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {*PASSED_ON, signal.SIGCHLD})
    worst = 0
    while True:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        parent, child = os.getpid(), os.fork()
        if child == 0:
            _end_with(parent)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            return
        status, sent = _wait(child)
        place = journal.begun
        if place is None or -status in sent:  # it ended by itself, or was meant to end
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            raise _ended_as(status, worst)
        error = CouldNotRun(
            f"A target must leave the process running. Received: {targets[place]}, whose process was "
            f"{describe_end(status)}. Look at the operation that ends it; --isolate shows the last of what it wrote."
        )
        complain(error)
        journal.write(place, refused=str(error), status=COULD_NOT)
        worst = COULD_NOT


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


def _ended_as(status: int, worst: int) -> typer.Exit:
    """End by the signal that ended the child; else what ends this process with the child's status."""
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return typer.Exit(max(status, worst))


def _end_with(parent: int) -> None:
    """Let this process end when its parent does."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # which has ended already
        os.kill(os.getpid(), signal.SIGTERM)
