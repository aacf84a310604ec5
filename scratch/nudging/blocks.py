"""Run blocks on threads or any concurrent.futures.Executor; a block whose worker fails is computed in this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

#: blocks for each worker: enough that no worker waits long for the last block
SHARES = 4

Function = Callable[..., Any]


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers(executor: Any) -> int:
    """The number of workers of an executor; where it does not say, the number of cores."""
    return int(getattr(executor, "_max_workers", 0) or cores())


def run_blocks(
    function: Function, blocks: Sequence[Sequence[Any]], *, executor: Executor | None, done: Callable[[int], None]
) -> list[Any]:
    """[function(*block) for block in blocks], computed by the executor's workers (None: by a thread for each core).

    A block whose worker died, was killed, or could not be reached is computed in this process; an error that it raises
    here too is raised. `done(i)` is called in this thread when the result of block i has arrived.
    """
    results: list[Any] = [None] * len(blocks)
    left = list(range(len(blocks)))
    with one_blas_thread():
        if executor is not None:
            left = _collect(function, blocks, wanted=left, executor=executor, results=results, done=done)
        if len(left) > 1 and cores() > 1:
            threads = _threads(os.getpid())
            left = _collect(function, blocks, wanted=left, executor=threads, results=results, done=done)
        for i in left:
            results[i] = function(*blocks[i])
            done(i)
    return results


@cache
def _threads(_process: int) -> Executor:
    """A thread for each core, made once for each process (a fork has none of its parent's threads)."""
    return ThreadPoolExecutor(cores(), thread_name_prefix="nudges")


def _collect(
    function: Function,
    blocks: Sequence[Any],
    *,
    wanted: list[int],
    executor: Any,
    results: list[Any],
    done: Callable[[int], None],
) -> list[int]:
    """Fill in the results of the wanted blocks, and return the numbers of those that did not arrive."""
    futures, left = {}, []
    try:
        for i in wanted:
            try:
                futures[executor.submit(call_with_one_blas_thread, function, *blocks[i])] = i
            # a pool that broke, or was shut down, accepts no more work
            except Exception:  # noqa: BLE001
                left.append(i)
        for future in _finished(futures):
            i = futures[future]
            try:
                results[i] = future.result()
            # the caller computes the block again, and an error of the block itself is raised there
            except Exception:  # noqa: BLE001
                left.append(i)
                continue
            done(i)
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    return sorted(left)


def _finished(futures: Any) -> Iterator[Any]:
    """Futures as they finish; futures of another kind than the standard library's in their order."""
    try:
        yield from as_completed(list(futures))
    except AttributeError:
        yield from futures


def call_with_one_blas_thread(function: Function, *arguments: Any) -> Any:
    """function(*arguments) with BLAS limited to one thread: for small blocks its threads cost more than they save."""
    with one_blas_thread():
        return function(*arguments)


@dataclass
class _Limit:
    """The limit of BLAS threads in this process: how many contexts need it, and what undoes it."""

    lock: Any = field(default_factory=threading.Lock)
    contexts: int = 0
    undo: Any = None


_LIMIT = _Limit()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread, if threadpoolctl is installed; the limit is undone when the last context ends."""
    with _LIMIT.lock:
        _LIMIT.contexts += 1
        if _LIMIT.contexts == 1:
            _LIMIT.undo = _limit_blas()
    try:
        yield
    finally:
        with _LIMIT.lock:
            _LIMIT.contexts -= 1
            if _LIMIT.contexts == 0 and _LIMIT.undo is not None:
                _release_control()
                _LIMIT.undo.restore_original_limits()
                _release_control()


def _limit_blas() -> Any:
    controller = _controller()
    if controller is None:
        return None
    _release_control()
    return controller.limit(limits=1, user_api="blas")


def _release_control() -> None:
    """Let this thread set the limit: threadpoolctl ignores all threads but the one that set a limit first,
    and few of its calls end that."""
    import threadpoolctl

    forget = getattr(getattr(threadpoolctl, "OpenBLASController", None), "clear_controlling_thread", None)
    if forget is not None:
        forget(force=True)


@cache
def _controller() -> Any:
    """threadpoolctl's controller of the loaded BLAS libraries (NumPy's is one), or None without threadpoolctl."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()
