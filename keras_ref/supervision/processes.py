"""Start a command under supervise.py, which bounds it, and leaves nothing of it behind, however this process ends."""

from __future__ import annotations

import json
import os
import selectors
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from keras_ref.supervision import supervise
from keras_ref.supervision.supervise import WATCHED, End, Limits, describe_end, remove_folder
from keras_ref.undoing import undoing

#: bytes that a target may print
OUTPUT = 2**26
#: bytes that a supervisor says at its end, at most: the last of an error stream as JSON
SAID = 2**20
#: bytes of the longest file that a command is asked to write
LONGEST_DOCUMENT = 2**28
#: seconds after its time limit in which a command and its supervisor end
GRACE = 5.0
#: seconds for which the system can be asked to wait at a time
LONGEST_WAIT = 1e6
#: of the machine's memory, where no limit is given
SHARE = 0.9
#: the supervisors that this process waits for, in any of its threads
_RUNNING: set[subprocess.Popen[bytes]] = set()


def run_limited(
    command: list[str], limits: Limits, environment: Mapping[str, str] | None = None, *, waiting: str = ""
) -> End:
    """Run a command to its end, or to that of its limits. A command that ends its supervisor was stopped.

    environment   all variables of its process; those of this one where left out. Its temporary files are in a folder of
    its own, which is then removed
    waiting       a folder in which the caller waits for what the command writes; it is removed, too, where the caller
    ends first, by a signal that leaves it no time

    Raises: OSError where there is no place for that folder.
    """
    with (
        making_folder() as folder,
        _supervising(command, limits, environment=environment, folders=(folder, waiting)) as process,
    ):
        said = _read_said(process, limits.seconds + GRACE)
    return _read_end(said, process.returncode)


def end_running() -> None:
    """End all commands under supervision, those that other threads wait for."""
    for process in list(_RUNNING):
        process.terminate()


@contextmanager
def making_folder() -> Iterator[str]:
    """A folder for temporary files, which is removed whatever has been put there. Raises: OSError."""
    folder = tempfile.mkdtemp(prefix="gradtwin-")
    with undoing(_remove_all, folder):
        yield folder


def _remove_all(folder: str) -> None:
    """Kill what still has its temporary files in a folder, which ends otherwise with its supervisor; remove that.

    Where a command has killed its supervisor, nothing else tells its processes from others.
    """
    marked = f"TMPDIR={folder}\0".encode()
    for _ in range(100):
        if not sum(_kill_marked(one, marked) for one in Path("/proc").glob("[0-9]*")):
            break
        time.sleep(0.01)
    remove_folder(folder)


def _kill_marked(process: Path, marked: bytes) -> bool:
    """Kill a process that has something in its environment. Returns whether it has."""
    with suppress(OSError):
        if marked in (process / "environ").read_bytes():
            os.kill(int(process.name), signal.SIGKILL)
            return True
    return False


class Talk:
    """A command under supervision that reads requests and writes answers. Closed, or collected, it ends.

    requests   what the command reads as its standard input
    answers    what it writes to its standard output; the end of the file is the end of the command

    stderr     where its error stream goes; a file counts as output that is limited
    """

    def __init__(
        self,
        command: list[str],
        limits: Limits,
        *,
        environment: Mapping[str, str] | None = None,
        stderr: IO[bytes] | int = subprocess.DEVNULL,
    ) -> None:
        self._folder = tempfile.mkdtemp(prefix="gradtwin-")
        (read, requests), (answers, write) = os.pipe(), os.pipe()
        self.requests: BinaryIO = os.fdopen(requests, "wb")
        self.answers: BinaryIO = os.fdopen(answers, "rb", buffering=0)
        self._end: End | None = None
        try:
            self._supervisor = _start(
                command,
                limits,
                environment=environment,
                stderr=stderr,
                channels=(read, write),
                folders=(self._folder, ""),
            )
        except BaseException:
            remove_folder(self._folder)
            raise
        finally:
            os.close(read)
            os.close(write)

    def end(self) -> End:
        """How the command has ended, whose answers have ended; one that goes on without them is stopped."""
        if self._end is None:
            with suppress(OSError):
                self.requests.close()
            said = _read_said(self._supervisor, GRACE)
            self.close()
            self._end = _read_end(said, self._supervisor.returncode)
        return self._end

    def kill(self, limit: str) -> None:
        """End the command, which has passed a limit; that is what `end` then says."""
        self._end = End(status=-signal.SIGKILL, limit=limit, stderr="")
        self.close()

    def close(self) -> None:
        """End the command, and whatever it has left."""
        self._supervisor.terminate()
        try:
            self._supervisor.wait(GRACE)
        except subprocess.TimeoutExpired:  # the command has stopped it; with it the command ends
            self._supervisor.kill()
            self._supervisor.wait()
        _remove_all(self._folder)
        for stream in (self.requests, self.answers, self._supervisor.stdin, self._supervisor.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


@contextmanager
def _supervising(
    command: list[str], limits: Limits, *, environment: Mapping[str, str] | None, folders: tuple[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with _start(command, limits, environment=environment, folders=folders) as process:
        _RUNNING.add(process)
        try:
            yield process
        finally:
            _RUNNING.discard(process)
            if process.stdin is not None:
                process.stdin.close()


def _start(
    command: list[str],
    limits: Limits,
    *,
    environment: Mapping[str, str] | None,
    folders: tuple[str, str],
    stderr: IO[bytes] | int | None = None,
    channels: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """A supervisor, which ends the command where its standard input is closed: when this process ends.

    folders   where the command has its temporary files, and where this process waits for what it writes, "" for none
    """
    told: dict[str, Any] = {**vars(limits), "channels": channels, "folder": folders[0], "waiting": folders[1]}
    return subprocess.Popen(  # noqa: S603 (a command of gradtwin's own)
        # with nothing from its surroundings: a module of a user may be called as one of Python's own
        [sys.executable, "-I", supervise.__file__, json.dumps(told), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env={**(_make_environment() if environment is None else environment), "TMPDIR": folders[0]},
        start_new_session=True,
        pass_fds=channels,
    )


def _read_said(supervisor: subprocess.Popen[bytes], seconds: float) -> bytes:
    """What a supervisor says at its end; one that a command has stopped says nothing, and is killed after a time.

    So is one that says too much: its command has written there.
    """
    if supervisor.stdout is None:
        return b""
    said, until = b"", time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        told = selector.register(supervisor.stdout, selectors.EVENT_READ).fd
        while (left := until - time.monotonic()) > 0 and len(said) <= SAID:
            if selector.select(min(left, LONGEST_WAIT)):
                part = os.read(told, 2**16)
                if not part:
                    return said
                said += part
    supervisor.kill()
    return b""


def _read_end(said: bytes, status: int) -> End:
    if said:
        with suppress(ValueError, TypeError, RecursionError):  # a command has written there
            return End(**json.loads(said))
    how = f"stopped, for the process that supervises it {describe_end(status)}"
    return End(status=status, limit=how.replace("killed", "was killed"), stderr="")


def _make_environment() -> dict[str, str]:
    """This process's environment without GitHub's variables: the parent annotates the findings, once."""
    kept = {name: value for name, value in os.environ.items() if name not in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY")}
    return {**kept, WATCHED: "1"}


def read_document(path: Path) -> Any:
    """The JSON in a file that a command was asked to write; None where it is too long, or is no JSON."""
    with suppress(ValueError, RecursionError):
        return json.loads(read_written(path), parse_constant=_refuse_constant)
    return None


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def read_written(path: Path) -> str:
    """The text of a file that a command was asked to write; "" where there is no plain file, a longer one, or no text.

    The command may have put something else there: what a link leads to is not read, and a pipe is not waited for.
    """
    with suppress(OSError, ValueError):
        opened = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(opened, "rb") as file:
            if stat.S_ISREG(os.fstat(opened).st_mode):
                text = file.read(LONGEST_DOCUMENT + 1)
                return text.decode() if len(text) <= LONGEST_DOCUMENT else ""
    return ""


def default_memory() -> int:
    """Bytes of memory that a target may take where no limit is given; 0 for any."""
    return int(SHARE * memory_of_machine())


def memory_of_machine() -> int:
    """Bytes of memory that this machine has, or that the container allows; 0 where nothing says so."""
    with suppress(ValueError, OSError):
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        with suppress(ValueError, OSError):
            physical = min(physical, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
        return physical
    return 0
