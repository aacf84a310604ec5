"""One check for all processes of this machine that ask for it: the first makes it, the others compute blocks for it.

Under pytest-xdist the tests of one target's variables are spread over processes. The check of the target is spread as
`--workers` spreads it, over the processes that have one of its tests at that time, so that its verdicts are those of
one process. What is asked of them, and what becomes of one that dies, stops or answers wrongly, is in
scratch/nudging/blocks.py.
"""

from __future__ import annotations

import json
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib import util
from itertools import count
from multiprocessing.connection import Client, Connection
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, TypeVar

import keras_ref.own_modules  # noqa: F401 (before anything imports from scratch)
from keras_ref.frontends.invocations.distribution import store
from scratch.nudging.answers import list_software

Result = TypeVar("Result")

#: bytes of a folder's name: that of a socket in it, with 17 more, may have 103 on every system
LONGEST = 86
#: seconds between two looks at whether another process has begun to check, or has ended
POLL = 0.05


def can_share(folder: str) -> bool:
    """Whether processes share checks in a folder: one that is given, where files can be locked and sockets named."""
    return bool(folder) and util.find_spec("fcntl") is not None and len(os.fsencode(folder)) <= LONGEST


@dataclass(frozen=True)
class SharedChecks:
    """Checks whose results processes share in a folder that only their user can read."""

    folder: Path

    def check_once(self, what: str, check: Callable[[Executor], Result]) -> Result:
        """The result of a check, which one of the processes makes that ask for it and have the same software.

        what    names the check
        check   makes it, with an executor that has blocks computed by the processes that wait for the result

        Where the process that makes it ends without a result, another one makes it.
        """
        key = blake2b(json.dumps([what, list_software()]).encode(), digest_size=8).hexdigest()
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
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self.address))
        self._socket.listen()
        self._accepting = self._begin(self._accept)
        self._begin(self._compute_here)

    def _begin(self, function: Callable[..., None], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=function, args=arguments, name="helpers", daemon=True)
        thread.start()
        return thread

    def _accept(self) -> None:
        with suppress(OSError):  # when the socket is shut down
            while True:
                accepted, _ = self._socket.accept()
                connection = Connection(accepted.detach())
                self.connected.append(connection)
                self._begin(self._hand_on, connection)

    def _take_tasks(self) -> Iterator[_Task]:
        """The tasks that a thread takes, until the executor is shut down."""
        while (task := self._tasks.get()) is not None:
            yield task
        self._tasks.put(None)  # for the other threads

    def _hand_on(self, connection: Connection) -> None:
        """Have a process do one task after another, as long as it answers."""
        with connection:
            for task in self._take_tasks():
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
        """Do tasks in this process, beside those that help."""
        for task in self._take_tasks():
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
        with suppress(OSError):  # of systems where closing it is enough
            self._socket.shutdown(socket.SHUT_RDWR)
            self._accepting.join()
        self._socket.close()
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
