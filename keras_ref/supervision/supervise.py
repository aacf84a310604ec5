"""Run a command within limits, and leave nothing of it behind: the process between gradtwin and what it isolates.

    python supervise.py LIMITS command …        LIMITS as JSON: {"seconds", "bytes", "output", "channels", "folder"}

It is started in a session of its own, and so is the command: a signal to one does not reach the other. The command and
all its descendants are killed when it ends, when a limit is passed, and when standard input is closed, which happens
when the parent ends, however it does. On Linux orphans among the descendants come to this process and are killed too;
elsewhere, those that leave the process group escape. One line of JSON on standard output says how it ended:

    {"status": -6, "limit": "", "stderr": "its last lines"}

Channels are two files that this process was given, for the command's standard input and output: whoever started this
process talks to the command through them. Its error stream is then that of this process, a file whose size counts. The
folder is where the command has its temporary files; it is removed with whatever is in it.

Only Python's own library is imported: this process has to be small and quick.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: set in the environment of a process whose end gradtwin sees, and whose options are all given to it
WATCHED = "GRADTWIN_WATCHED"
#: seconds between two looks at the memory
INTERVAL = 0.1
#: bytes of the last output that are kept
KEPT = 2**16
#: the lines of /proc/PID/status on memory that is no file's
RESIDENT = re.compile(r"^(RssAnon|RssShmem):\s+(\d+) kB$", re.MULTILINE)
#: how the link of an open file begins that is in memory, and counts as memory
IN_MEMORY = ("/memfd:", "/dev/shm/")  # noqa: S108 (nothing is written there)
#: how a folder is opened, and nothing else
OPENED = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
#: prctl(2): orphaned descendants become children of this process; the signal that a process gets when its parent ends
PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG = 36, 1


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds, bytes of memory (0: any) and bytes of output that a command may take."""

    seconds: float
    bytes: int
    output: int


@dataclass(frozen=True, kw_only=True)
class End:
    """How a command ended: its exit status (negative: a signal), the limit that it passed, its last lines."""

    status: int
    limit: str
    stderr: str


def supervise(limits: Limits, command: list[str], channels: tuple[int, ...] = ()) -> End:
    """Run a command to its end, or to that of its limits; kill whatever is left of it.

    channels   files for its standard input and output, which then stay with whoever started this process
    """
    _adopt_orphans()
    requests, answers = channels or (subprocess.DEVNULL, subprocess.PIPE)
    with subprocess.Popen(
        command,
        stdin=requests,
        stdout=answers,
        stderr=None if channels else subprocess.PIPE,
        start_new_session=True,
        preexec_fn=_end_with_parent,  # noqa: PLW1509 (this process has one thread)
    ) as process:
        for one in channels:  # or the answers would not end with the command
            os.close(one)
        try:
            limit, stderr = _watch(process, limits)
        finally:
            kill_tree(process.pid)
            with suppress(ProcessLookupError):
                process.kill()
        status = process.wait()
    kill_tree(0)
    return End(status=status, limit=limit, stderr=stderr)


def describe_end(status: int) -> str:
    """How a process ended: "killed by SIGABRT", "ended with exit status 3". A shell's 128 + n is a signal too."""
    number = -status if status < 0 else status - 128 if status > 128 else 0
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"ended with exit status {status}"


def _watch(process: subprocess.Popen[bytes], limits: Limits) -> tuple[str, str]:
    """(the limit that was passed, the last of what was written to stderr) of a process, when it has ended or has to."""
    begun, written, last = time.monotonic(), 0, b""
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdout, process.stderr, sys.stdin):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ)
        while process.poll() is None:
            for key, _ in selector.select(INTERVAL):
                chunk = os.read(key.fd, KEPT)
                if not chunk and key.fileobj is sys.stdin:
                    return "its parent has ended", ""
                if not chunk:
                    selector.unregister(key.fileobj)
                written += len(chunk)
                last = (last + chunk)[-KEPT:] if key.fileobj is process.stderr else last
            size = written if process.stderr is not None else os.fstat(2).st_size
            limit = _describe_limit(limits, seconds=time.monotonic() - begun, written=size, process=process.pid)
            if limit:
                return limit, _decode_text(last)
    return "", _decode_text(last + _read_rest(process))


def _describe_limit(limits: Limits, *, seconds: float, written: int, process: int) -> str:
    """The limit that was passed, in words; "" where none was."""
    if seconds > limits.seconds:
        return f"stopped after the time limit of {limits.seconds:g} s"
    if limits.bytes and measure_memory(process) > limits.bytes:
        return f"stopped at the memory limit of {limits.bytes / 2**20:.0f} MiB"
    if written > limits.output:
        return f"stopped after {limits.output / 2**20:.0f} MiB of output"
    return ""


def _read_rest(process: subprocess.Popen[bytes]) -> bytes:
    """What is still in the pipe of a process that has ended; its children may keep that open, and write on."""
    if process.stderr is None:
        return b""
    os.set_blocking(process.stderr.fileno(), False)
    with suppress(BlockingIOError):
        return os.read(process.stderr.fileno(), KEPT)
    return b""


def _decode_text(last: bytes) -> str:
    return last[-KEPT:].decode("utf-8", errors="replace")


# Processes ------------------------------------------------------------------------------------------------------------


def _adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_with_parent() -> None:
    """Let this process be killed when its parent is (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def find_descendants() -> list[int]:
    """All processes below this one; without /proc, none."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            # the name of a program, in parentheses, may hold anything
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            children.setdefault(int(parent), []).append(int(folder.name))
    found, queue = list[int](), [os.getpid()]
    while queue:
        own = children.get(queue.pop(), [])
        found += own
        queue += own
    return found


def measure_memory(process: int) -> int:
    """Bytes of memory that a process and the descendants of this one have for themselves; 0 where nothing says so.

    Shared memory counts: several processes that have the same have it once, which the kernel says only of the largest.
    So do open files in memory, which are the same memory where they are mapped.
    """
    anonymous = shared = 0
    files = dict[tuple[int, int], int]()
    for one in {process, *find_descendants()}:
        with suppress(OSError, ValueError):
            found = dict(RESIDENT.findall(Path(f"/proc/{one}/status").read_text()))
            anonymous += int(found.get("RssAnon", 0)) * 1024
            shared = max(shared, int(found.get("RssShmem", 0)) * 1024)
            files |= _measure_files(one)
    return anonymous + max(shared, sum(files.values()))


def _measure_files(process: int) -> dict[tuple[int, int], int]:
    """{device and number of an open file of a process that is in memory: its bytes}."""
    found = {}
    with os.scandir(f"/proc/{process}/fd") as entries:
        for entry in entries:
            with suppress(OSError):
                if os.readlink(entry.path).startswith(IN_MEMORY):  # noqa: PTH115
                    status = entry.stat()
                    found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return found


def kill_tree(group: int) -> None:
    """Kill a process group (0: none) and all descendants, those too that they have while they are killed."""
    with suppress(ProcessLookupError, PermissionError):
        if group:
            os.killpg(group, signal.SIGKILL)
    for _ in range(100):
        left = find_descendants()
        if not left:
            return
        for one in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(one, signal.SIGKILL)
        for one in left:
            if one != group:  # whose status is still wanted
                with suppress(ChildProcessError):
                    os.waitpid(one, os.WNOHANG)
        if left == [group]:
            return
        time.sleep(0.01)


# Files ----------------------------------------------------------------------------------------------------------------


def remove_folder(folder: str) -> None:
    """Remove a folder and all that a command has put there, of any depth and with any permissions, as far as that goes.

    What a link leads to stays, also where a link is in the place of the folder itself.
    """
    with suppress(OSError):
        os.unlink(folder)  # noqa: PTH108 (where it is a link, or a file)
    with suppress(OSError):
        os.chmod(folder, 0o700)  # noqa: PTH101
        _clear_folder(os.open(folder, OPENED))
        os.rmdir(folder)  # noqa: PTH106


def _clear_folder(here: int) -> None:
    """Empty an open folder, which is then closed. One is open at a time, and no path is longer than a name."""
    down = list[str]()
    try:
        while True:
            name = _remove_files(here)
            if not name and not down:
                return
            if name:
                os.chmod(name, 0o700, dir_fd=here)
            before, here = here, os.open(name or "..", OPENED, dir_fd=here)
            os.close(before)
            if name:
                down.append(name)
            else:
                os.rmdir(down.pop(), dir_fd=here)
    finally:
        os.close(here)


def _remove_files(folder: int) -> str:
    """Remove the files of an open folder. Returns the name of a folder in it; "" where there is none."""
    name = ""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                name = entry.name
            else:
                os.unlink(entry.name, dir_fd=folder)
    return name


def main() -> None:
    """Read the limits and the command from the arguments; print how the command ended."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))  # which kills the command on the way
    given, *command = sys.argv[1:]
    limits = json.loads(given)
    channels, folder = limits.pop("channels", ()), limits.pop("folder", "")
    try:
        end = supervise(Limits(**limits), command, tuple(channels))
        with suppress(OSError):
            print(json.dumps(vars(end)), flush=True)
            os.close(1)  # the parent need not wait for what follows
    finally:
        remove_folder(folder)


if __name__ == "__main__":
    main()
