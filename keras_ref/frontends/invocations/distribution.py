"""Other processes that compute a check's losses: on this machine (--workers), or those of a Dask scheduler (--cluster).

Both are a concurrent.futures.Executor. What is asked of it, and what becomes of a worker that dies, stops or answers
wrongly, is in scratch/nudging/blocks.py.
"""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

import keras_ref.own_modules  # noqa: F401 (before anything imports from scratch)
from keras_ref.errors import CouldNotRun, shorten_error
from keras_ref.inputs.targets import import_quietly, quiet_tensorflow
from keras_ref.undoing import let_packages_warn
from scratch.nudging.answers import OtherSoftware, list_software, require_same_software

#: seconds in which a scheduler has to answer, and its workers after that
CONNECTING = 30.0
#: how often workers of this machine are started again after one has died
RESTARTS = 3


@contextmanager
def open_executor(*, workers: int, cluster: str) -> Iterator[Executor | None]:
    """The executor that the options ask for; None where they ask for none. Afterwards its processes are gone.

    workers   a number of processes on this machine, of which one is none beside this one
    cluster   the address of a scheduler, which goes before them

    Raises: CouldNotRun for a scheduler that does not answer, has no workers, or has workers with other software.
    """
    if not cluster and workers <= 1:
        yield None
        return
    executor: Executor = Cluster.at(cluster) if cluster else WorkerPool(workers)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


class WorkerPool(Executor):
    """Processes on this machine. Where one dies, which ends them all, new ones take what is submitted next.

    What all blocks of a call need is in a file, which each process reads once.
    """

    def __init__(self, number: int) -> None:
        self._number, self._restarts, self._shared = number, 0, count()
        self._folder = tempfile.TemporaryDirectory(prefix="gradtwin-")
        self._pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._number, get_context("spawn"), initializer=_begin_worker)

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        """Send work to a process. Raises: BrokenExecutor where processes have died too often."""
        try:
            return self._pool.submit(function, *arguments, **keywords)
        except BrokenExecutor:
            if self._restarts == RESTARTS:
                raise
        self._restarts += 1
        self._end()
        self._pool = self._start()
        return self._pool.submit(function, *arguments, **keywords)

    def share(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function as processes call it. What was shared before is forgotten."""
        return store(function, Path(self._folder.name), next(self._shared))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes, those too that are in the middle of something or have stopped."""
        self._end()
        self._folder.cleanup()

    def _end(self) -> None:
        for process in list((self._pool._processes or {}).values()):  # noqa: SLF001 (kill_workers is Python 3.14's)
            process.kill()
        self._pool.shutdown(cancel_futures=True)


def store(function: Callable[..., Any], folder: Path, number: int) -> Callable[..., Any]:
    """The function, to be read from a file of a folder, which forgets what it held before."""
    for former in folder.iterdir():
        former.unlink()
    file = folder / str(number)
    file.write_bytes(pickle.dumps(function))
    return _Stored(str(file))


@dataclass(frozen=True)
class _Stored:
    """A function in a file."""

    path: str

    def __call__(self, *arguments: Any) -> Any:
        return _load_stored(self.path)(*arguments)


@lru_cache(1)
def _load_stored(path: str) -> Callable[..., Any]:
    function: Callable[..., Any] = pickle.loads(Path(path).read_bytes())  # noqa: S301 (the parent has written it)
    return function


def _begin_worker() -> None:
    """Prepare a process of a WorkerPool: Ctrl-C is the parent's matter, and the process ends when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    let_packages_warn()
    quiet_tensorflow()
    import_quietly()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


@dataclass(eq=False)
class Cluster(Executor):
    """The workers of a Dask scheduler. What all blocks of a call need is sent to each worker once."""

    client: Any
    _inner: Any = field(init=False)

    def __post_init__(self) -> None:
        self._inner = self.client.get_executor()

    @classmethod
    def at(cls, address: str) -> Cluster:
        """The cluster of a scheduler's address. Raises: CouldNotRun."""
        try:
            from distributed import Client
        except ImportError as error:
            raise CouldNotRun(
                "--cluster must have Dask installed. Received: no package distributed. Install gradtwin[dask]."
            ) from error
        try:
            client = Client(address, timeout=CONNECTING, set_as_default=False)
        except (OSError, ValueError) as error:
            raise CouldNotRun(
                f"--cluster must be the address of a running Dask scheduler. Received: {address!r}: "
                f"{shorten_error(error)} Start one with `dask scheduler`, and workers with `dask worker`."
            ) from error
        try:
            _require_workers(client, address)
        except BaseException:
            client.close()
            raise
        return cls(client)

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        """Send work to a worker."""
        future: Future[Any] = self._inner.submit(function, *arguments, **keywords)
        return future

    def share(self, function: Callable[..., Any]) -> Any:
        """Send a function to every worker; the result stands for it among the arguments of `submit`."""
        return self.client.scatter(function, broadcast=True, hash=False)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster; what it still computes is forgotten."""
        self.client.close()


def _require_workers(client: Any, address: str) -> None:
    """Raises: CouldNotRun where there are no workers, or one that cannot compute what this process does."""
    workers = [*client.nthreads()]
    if not workers:
        raise CouldNotRun(
            f"A cluster must have workers. Received: a scheduler at {address} without any. Start some with "
            f"`dask worker {address}`."
        )
    asked = {worker: client.submit(prepare_worker, workers=[worker], pure=False) for worker in workers}
    for worker, future in asked.items():
        try:
            require_same_software(future.result(timeout=CONNECTING), f"the worker {worker}")
        except OtherSoftware as error:
            raise CouldNotRun(str(error)) from error
        except Exception as error:
            raise CouldNotRun(
                f"Workers of a cluster must have this gradtwin installed. Received: {worker}, where "
                f"{type(error).__name__}: {shorten_error(error)} Install it there, and its dependencies."
            ) from error


def prepare_worker() -> dict[str, str]:
    """Prepare a worker of a cluster, before TensorFlow is imported there; its software."""
    quiet_tensorflow()
    return list_software()
