"""Run a command within limits, and leave nothing of it behind: the process between gradtwin and what it isolates.

    python supervise.py LIMITS command …        LIMITS as JSON: {"seconds", "bytes", "output", "channels", "folder",
                                                "waiting"}

It is started in a session of its own, and so is the command: a signal to one does not reach the other. The command and
all its descendants are killed when it ends, when a limit is passed, and when standard input is closed, which happens
when the parent ends, however it does. On Linux orphans among the descendants come to this process and are killed too;
elsewhere, those that leave the process group escape. One line of JSON on standard output says how it ended:

    {"status": -6, "limit": "", "stderr": "its last lines"}

Channels are two files that this process was given, for the command's standard input and output: whoever started this
process talks to the command through them. Its error stream is then that of this process, a file whose size counts. The
folder is where the command has its temporary files; it is removed with whatever is in it. So is the one in which the
parent waits for what the command writes, where the parent has ended first.

Only Python's own library is imported: this process has to be small and quick.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import selectors
import signal
import stat
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
#: the limit of a command whose parent has ended
ALONE = "its parent has ended"
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
        preexec_fn=end_with_parent,  # noqa: PLW1509 (this process has one thread)
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
    begun, written, last, files = time.monotonic(), 0, b"", FilesInMemory()
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdout, process.stderr, sys.stdin):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ)
        while process.poll() is None:
            for key, _ in selector.select(INTERVAL):
                chunk = os.read(key.fd, KEPT)
                if not chunk and key.fileobj is sys.stdin:
                    return ALONE, ""
                if not chunk:
                    selector.unregister(key.fileobj)
                written += len(chunk)
                last = (last + chunk)[-KEPT:] if key.fileobj is process.stderr else last
            size = written if process.stderr is not None else os.fstat(2).st_size
            memory = measure_memory(process.pid, files) if limits.bytes else 0
            limit = _describe_limit(limits, seconds=time.monotonic() - begun, written=size, memory=memory)
            if limit:
                return limit, _decode_text(last)
    return "", _decode_text(last + _read_rest(process))


def _describe_limit(limits: Limits, *, seconds: float, written: int, memory: int) -> str:
    """The limit that was passed, in words; "" where none was."""
    if seconds > limits.seconds:
        return f"stopped after the time limit of {limits.seconds:g} s"
    if limits.bytes and memory > limits.bytes:
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


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Let this process get a signal when its parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


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


class FilesInMemory:
    """Files that lie in memory (/dev/shm, memfd), as processes are seen to have them open for writing.

    They take memory as long as they are there, whether anybody has mapped them or not. One that is written and closed
    between two looks is not seen.
    """

    def __init__(self) -> None:
        self._devices = _find_devices_in_memory()
        self._seen: dict[tuple[int, int], str] = {}
        self._processes: set[int] = set()

    def measure(self, processes: set[int]) -> int:
        """The bytes of what these processes have open now, or had before, and of segments that they have made."""
        self._processes |= processes
        taken: dict[tuple[int, int], int] = {}
        for one in processes:
            with suppress(OSError):
                for link in os.scandir(f"/proc/{one}/fd"):
                    with suppress(OSError):
                        self._look_at(link.path, taken)
        for key, path in list(self._seen.items()):
            with suppress(OSError):
                found = os.stat(path)  # noqa: PTH116 (a path of the kernel's, ten times a second)
                if (found.st_dev, found.st_ino) == key:
                    taken[key] = found.st_blocks * 512
            if key not in taken:
                del self._seen[key]
        return sum(taken.values()) + self._measure_segments()

    def _look_at(self, link: str, taken: dict[tuple[int, int], int]) -> None:
        """Take note of an open file, by its link in /proc, if it lies in memory and is written."""
        found = os.stat(link)  # noqa: PTH116
        if found.st_dev in self._devices and stat.S_ISREG(found.st_mode):
            key = found.st_dev, found.st_ino
            flags = Path(link.replace("/fd/", "/fdinfo/")).read_text().partition("flags:")[2].split()[0]
            if key in self._seen or int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
                self._seen[key], taken[key] = os.readlink(link), found.st_blocks * 512  # noqa: PTH115

    def _measure_segments(self) -> int:
        """The bytes of System V's shared memory that the processes have made."""
        with suppress(OSError, ValueError, IndexError):
            names, *lines = (line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines())
            rows = (dict(zip(names, map(int, line), strict=True)) for line in lines)
            return sum(row["rss"] for row in rows if row["cpid"] in self._processes)
        return 0


def _find_devices_in_memory() -> set[int]:
    """The numbers of the file systems that lie in memory; the kernel has one of its own for memfd."""
    found = set()
    with suppress(OSError):
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, folder, kind, *_ = line.split()
            if kind in {"tmpfs", "ramfs"}:
                with suppress(OSError, ValueError):
                    found.add(os.stat(folder.encode().decode("unicode_escape")).st_dev)  # noqa: PTH116
    with suppress(OSError, AttributeError):  # Linux alone has it
        number = os.memfd_create("gradtwin")
        found.add(os.fstat(number).st_dev)
        os.close(number)
    return found


def measure_memory(process: int, files: FilesInMemory) -> int:
    """Bytes of memory that a process and the descendants of this one have for themselves; 0 where nothing says so.

    Shared memory counts: several processes that have the same have it once, which the kernel says only of the largest.
    So do files that lie in memory, of which the mapped ones are shared memory as well.
    """
    anonymous = shared = 0
    every = {process, *find_descendants()}
    for one in every:
        with suppress(OSError, ValueError):
            found = dict(RESIDENT.findall(Path(f"/proc/{one}/status").read_text()))
            anonymous += int(found.get("RssAnon", 0)) * 1024
            shared = max(shared, int(found.get("RssShmem", 0)) * 1024)
    return anonymous + max(shared, files.measure(every))


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
    channels, folder, waiting = (limits.pop(name, "") for name in ("channels", "folder", "waiting"))
    try:
        end = supervise(Limits(**limits), command, tuple(channels))
        if end.limit == ALONE:
            remove_folder(waiting)
        with suppress(OSError):
            print(json.dumps(vars(end)), flush=True)
            os.close(1)  # the parent need not wait for what follows
    finally:
        remove_folder(folder)


if __name__ == "__main__":
    main()
