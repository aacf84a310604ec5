"""How the command ends: an exit status for each way, and one sentence on stderr.

0    nothing failed
1    a finding, and nothing else
2    the command could not do its work: bad input, an output that cannot be written
3    an error of gradtwin's own, with the request to report it
130  interrupted by Ctrl-C
141  nobody reads what it prints (a broken pipe), as a shell says of a process that SIGPIPE killed
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import typer

from keras_ref.errors import BadInput, CouldNotRun, NobodyReads, find_place, refuse_temporary_files, shorten_error
from keras_ref.frontends.endings.interruption import INTERRUPTED, SENTENCE, Said, saying
from keras_ref.reports import github
from keras_ref.reports.escaping import make_printable
from keras_ref.undoing import let_packages_warn

FINDING, COULD_NOT, INTERNAL, BROKEN_PIPE = 1, 2, 3, 141


class WatchedEnded(Exception):
    """The process that did the work has ended with a status, and has said why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.exit_code = status


def run_application(command: Callable[..., Any]) -> int:
    """Run a Typer application. Returns the exit status of the process, all output flushed.

    An error that a user can mend is one line on stderr.
    """
    Said.sentence = False
    try:
        _open_closed_streams()
        if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal's encoding lacks is shown as an escape
            sys.stdout.reconfigure(errors="backslashreplace")
        with warnings.catch_warnings():
            return _flush_all(_run(command))
    except KeyboardInterrupt:  # while it said how it ended
        return _flush_all(_report_interruption())
    except Exception as error:  # noqa: BLE001 (of gradtwin's own, for the same reason)
        return _flush_all(complain_of_own(error))
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 (Python would end with 1, which is a finding)
        return _flush_all(_report_failure(COULD_NOT, explain_end("the code of a target", error)))


def _open_closed_streams() -> None:
    """Put the null device where a standard stream is closed.

    The next file that is opened would have the stream's number, and what C++ code logs would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 (for as long as the process lives)


def _run(command: Callable[..., Any]) -> int:
    from keras_ref.inputs.targets import quiet_tensorflow

    try:
        _require_stdout()
        quiet_tensorflow()
        let_packages_warn()
        status = _call_application(command)
        sys.stdout.flush()
    except (typer.Exit, WatchedEnded) as ended:
        return _flush(ended.exit_code)
    except (CouldNotRun, BadInput) as error:
        return _report_failure(COULD_NOT, error)
    except (KeyboardInterrupt, typer.Abort):
        return _report_interruption()
    except (BrokenPipeError, NobodyReads):
        return BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 (each has its own exit status)
        return _report_unexpected(error)
    return status


def _call_application(command: Callable[..., Any]) -> int:
    """The exit status that a Typer application returns.

    Raises: KeyboardInterrupt, of which Typer makes a status; NobodyReads, where Typer and Rich end the process with 1.
    """
    try:
        status = int(command(prog_name="gradtwin", standalone_mode=False) or 0)
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):
            raise NobodyReads from ended
        raise
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    return status


def _report_unexpected(error: Exception) -> int:
    """The exit status of an error that no part of the command expects."""
    # Click's own errors (an unknown command, a missing argument) have a message for the user
    if hasattr(error, "format_message"):
        message = error.format_message()
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "gradtwin"
        return _report_failure(
            COULD_NOT, f"{message}{'' if message.endswith(('.', '?')) else '.'} See {command} --help."
        )
    if isinstance(error, OSError) and _has_lost_reader():
        return BROKEN_PIPE
    missing = _find_missing_place(error) if isinstance(error, OSError) else ""
    if missing:
        return _report_failure(COULD_NOT, missing)
    reason = _explain_stdout_fault(error)
    if reason:
        return _report_failure(
            COULD_NOT,
            f"The output must be writable. Received: {reason}. Redirect it to where there is space; --json writes a "
            "file.",
        )
    return complain_of_own(error)


def _has_lost_reader() -> bool:
    """Whether nobody is at the other end of standard output: a terminal that hung up, a connection that was reset.

    The error of a write to them is no BrokenPipeError.
    """
    if not hasattr(select, "poll"):
        return False
    asked = select.poll()
    asked.register(1, 0)  # what is always told: errors, and that the other end is gone
    return any(told & (select.POLLERR | select.POLLHUP) for _, told in asked.poll(0))


def _find_missing_place(error: OSError) -> str:
    """What is said where the working directory, or every folder for temporary files, is missing or full; else ""."""
    try:
        Path.cwd()
    except OSError as gone:
        return (
            f"The working directory must exist. Received: one that does not ({gone.strerror}). Change to another "
            "folder."
        )
    try:
        place = tempfile.gettempdir()
    except OSError:
        return str(refuse_temporary_files("none"))
    # outputs have sentences of their own
    is_there = isinstance(error.filename, str) and Path(error.filename).is_relative_to(place)
    return str(refuse_temporary_files(f"{place}: {error.strerror}")) if is_there else ""


def explain_end(target: str, error: BaseException) -> CouldNotRun:
    """What is said where code of a user raises what is no Exception, as a cancelled task and a skipped test do."""
    refusal = CouldNotRun(
        f"A target must leave the process running. Received: {target}, which raised {type(error).__name__}, by which "
        f"a process ends: {shorten_error(error, find_place(error))} Take that out of it."
    )
    refusal.__cause__ = error
    return refusal


def complain_of_own(error: Exception) -> int:
    """Print an error of gradtwin's own with its trace, and the request to report it. Returns its exit status."""
    with suppress(OSError):
        traceback.print_exception(error)
    return _report_failure(
        INTERNAL,
        f"This is an error of gradtwin's own. Received: {type(error).__name__}: {shorten_error(error)} Please report "
        "it with the lines above; it says nothing about the model.",
    )


def _flush(status: int) -> int:
    """An exit status, if everything that was printed has arrived."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return BROKEN_PIPE
    except OSError as error:
        return _report_unexpected(error)
    return status


def _require_stdout() -> None:
    """Raises: CouldNotRun where the command was started with a closed output."""
    if sys.stdout is None:
        raise CouldNotRun("The output must be open. Received: a closed stdout. Redirect it, to /dev/null if need be.")


def _explain_stdout_fault(error: Exception) -> str:
    """Why the output cannot be written; "" where an error is another one."""
    if not isinstance(error, OSError):
        return ""
    try:
        sys.stdout.flush()
    except OSError as again:
        return str(again.strerror)
    of_outputs = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF)
    return str(error.strerror) if error.filename is None and error.errno in of_outputs else ""


def _flush_all(status: int) -> int:
    """An exit status, when both streams have been flushed or let go of."""
    for stream in (sys.stdout, sys.stderr):
        _let_go_of(stream)
    return status


def _let_go_of(stream: TextIO | None) -> None:
    """Keep the interpreter from failing, with a status of its own, at what could not be printed."""
    if stream is None or stream.closed:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def complain(sentence: Exception | str) -> None:
    """Print one line on stderr, and an annotation in GitHub Actions; with GRADTWIN_TRACEBACK the trace behind it."""
    line = make_printable(" ".join(str(sentence).split()))
    if isinstance(sentence, Exception) and sentence.__cause__ is not None and os.environ.get("GRADTWIN_TRACEBACK"):
        traceback.print_exception(sentence.__cause__)
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            print(f"gradtwin: {line}", file=sys.stderr)
    if github.is_active():
        print(github.format_annotation("gradtwin could not run", line))
        with suppress(CouldNotRun):  # the annotation says it, where the summary cannot be written
            github.append_refusal(line)


def _report_failure(status: int, sentence: Exception | str) -> int:
    with suppress(OSError):
        complain(sentence)
    return status


def _report_interruption() -> int:
    """The exit status of Ctrl-C, whose sentence is said once."""
    with saying() as is_new:
        return _report_failure(INTERRUPTED, SENTENCE) if is_new else INTERRUPTED
