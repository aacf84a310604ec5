"""One check for all processes of this machine that ask for it: the first makes it, the others compute blocks for it.

Under pytest-xdist the tests of one target's variables are spread over processes. The check of the target is spread as
`--workers` spreads it, over the processes that have one of its tests at that time, so that its verdicts are those of
one process. What is asked of them, and what becomes of one that dies, stops or answers wrongly, is in
scratch/nudging/blocks.py.
"""

from __future__ import annotations

import json
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from importlib import util
from itertools import count
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, TypeVar

import keras_ref.own_modules  # noqa: F401 (before anything imports from scratch)
from keras_ref.frontends.distribution import store
from scratch.nudging.answers import software

Result = TypeVar("Result")

#: seconds between two looks at whether another process has begun to check, or has ended
POLL = 0.05


def can_share() -> bool:
    """Whether processes of this system can lock files against each other."""
    return util.find_spec("fcntl") is not None


@dataclass(frozen=True)
class SharedChecks:
    """Checks whose results processes share in a folder that only their user can read."""

    folder: Path

    def once(self, what: str, check: Callable[[Executor], Result]) -> Result:
        """The result of a check, which one of the processes makes that ask for it and have the same software.

        what    names the check
        check   makes it, with an executor that has blocks computed by the processes that wait for the result

        Where the process that makes it ends without a result, another one makes it.
        """
        key = blake2b(json.dumps([what, software()]).encode(), digest_size=8).hexdigest()
        found, address = self.folder / f"{key}.found", self.folder / key
        while True:
            with (self.folder / f"{key}.lock").open("ab") as file:
                if _is_locked(file):
                    if not found.exists():
                        address.unlink(missing_ok=True)  # of a process that has died
                        with Helpers(address) as helpers:
                            result = check(helpers)
                        _write(found, result)
                    known: Result = pickle.loads(found.read_bytes())  # noqa: S301 (written by one of these processes)
                    return known
            if not help_with(address):
                time.sleep(POLL)


def _is_locked(file: IO[bytes]) -> bool:
    """Lock a file until it is closed, or this process ends; whether no other process has locked it."""
    import fcntl

    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _write(path: Path, result: Any) -> None:
    """Write a result, so that nobody reads half of it."""
    part = path.with_suffix(".part")
    part.write_bytes(pickle.dumps(result))
    part.replace(path)


# The process that checks ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    """Work that is asked for."""

    future: Future[Any]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(eq=False)
class Helpers(Executor):
    """Processes that connect to an address, and a thread of this one beside them; it refuses work while there are none.

    In this process alone blocks are computed faster without an executor.
    """

    address: Path
    _tasks: SimpleQueue[_Task | None] = field(default_factory=SimpleQueue)
    connected: list[Connection] = field(default_factory=list)
    _is_open: bool = True
    _numbers: count[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self._listener = Listener(str(self.address), family="AF_UNIX")
        self._accepting = self._begin(self._accept)

    def _begin(self, function: Callable[..., None], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=function, args=arguments, name="helpers", daemon=True)
        thread.start()
        return thread

    def _accept(self) -> None:
        while True:
            connection = self._listener.accept()
            if not self._is_open:
                connection.close()
                return
            self.connected.append(connection)
            self._begin(self._hand_on, connection)
            _ = self._own_thread

    @cached_property
    def _own_thread(self) -> None:
        """A thread that computes here, begun with the first process that helps."""
        self._begin(self._compute_here)

    def _hand_on(self, connection: Connection) -> None:
        """Have a process do one task after another, as long as it answers."""
        with connection:
            while (task := self._tasks.get()) is not None:
                if not task.future.set_running_or_notify_cancel():
                    continue
                try:
                    connection.send((task.function, task.arguments))
                    error, answer = connection.recv()
                except Exception as broken:  # noqa: BLE001 (whatever it is, the block is computed elsewhere)
                    self.connected.remove(connection)
                    task.future.set_exception(BrokenExecutor(str(broken)))
                    return
                if error:
                    task.future.set_exception(BrokenExecutor(error))
                else:
                    task.future.set_result(answer)

    def _compute_here(self) -> None:
        while (task := self._tasks.get()) is not None:
            if task.future.set_running_or_notify_cancel():
                try:
                    task.future.set_result(task.function(*task.arguments))
                except Exception as error:  # noqa: BLE001 (the caller computes the block again, and raises it)
                    task.future.set_exception(error)

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        """Have work done by a process, or by this one's thread. Raises: BrokenExecutor where no process helps."""
        if not (self._is_open and self.connected) or keywords:
            raise BrokenExecutor("No process helps.")
        task = _Task(Future(), function, arguments)
        self._tasks.put(task)
        return task.future

    def share(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function as processes call it: from a file. What was shared before is forgotten."""
        if not self.connected:
            return function
        folder = self.address.with_suffix(".shared")
        folder.mkdir(exist_ok=True)
        return store(function, folder, next(self._numbers))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the processes go."""
        self._is_open = False
        Client(str(self.address), family="AF_UNIX").close()  # which wakes the thread that waits for one
        self._accepting.join()
        self._listener.close()
        for _ in range(len(self.connected) + 1):
            self._tasks.put(None)


# The processes that wait ----------------------------------------------------------------------------------------------


def help_with(address: Path) -> bool:
    """Compute blocks for the process that checks, until it ends; False where there is none."""
    try:
        connection = Client(str(address), family="AF_UNIX")
    except OSError:
        return False
    with connection, suppress(EOFError, OSError):
        while True:
            function, arguments = connection.recv()
            try:
                answer = "", function(*arguments)
            except Exception as error:  # noqa: BLE001 (the process that checks computes the block again)
                answer = f"{type(error).__name__}: {error}", None
            connection.send(answer)
    return True
