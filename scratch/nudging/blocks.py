"""Who does the work: blocks of nudges in threads of our own, or in any executor; none is lost, and none is wrong."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import cache
from typing import Any

#: blocks for each worker: enough that none waits long for the last one
SHARES = 4

Function = Callable[..., Any]


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers(executor: Any) -> int:
    """How many workers an executor has, as far as it says."""
    return int(getattr(executor, "_max_workers", 0) or cores())


def every(
    function: Function, blocks: Sequence[Sequence[Any]], executor: Executor | None, done: Callable[[int], None]
) -> list[Any]:
    """[function(*block) for block in blocks], by the executor's workers (None: a thread for each core).

    What a worker fails to deliver, because it died, was killed, or could not be reached, is done again here. If it fails
    here too, that is the error. `done(i)` is called in this thread when block i is there.
    """
    results: list[Any] = [None] * len(blocks)
    left = list(range(len(blocks)))
    with one_blas_thread():
        if executor is not None:
            left = _collect(function, blocks, left, executor, results, done)
        if len(left) > 1 and cores() > 1:
            left = _collect(function, blocks, left, _threads(os.getpid()), results, done)
        for i in left:
            results[i] = function(*blocks[i])
            done(i)
    return results


@cache
def _threads(process: int) -> Executor:
    """A thread for each core, for the life of this process (a fork has none of its parent's threads)."""
    return ThreadPoolExecutor(cores(), thread_name_prefix="nudges")


def _collect(
    function: Function,
    blocks: Sequence[Any],
    wanted: list[int],
    executor: Any,
    results: list[Any],
    done: Callable[[int], None],
) -> list[int]:
    """Fill in the results of the wanted blocks; the numbers of those that did not come."""
    futures, left = {}, []
    try:
        for i in wanted:
            try:
                futures[executor.submit(alone, function, *blocks[i])] = i
            except Exception:  # a pool that broke, or was shut down, takes no more work
                left.append(i)
        for future in _finished(futures):
            i = futures[future]
            try:
                results[i] = future.result()
            except Exception:  # whatever it was: done again by the caller, where a true error will show itself
                left.append(i)
                continue
            done(i)
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    return sorted(left)


def _finished(futures: Any) -> Iterator[Any]:
    """Futures as they finish; those of another kind than the standard library's in their order."""
    try:
        yield from as_completed(list(futures))
    except AttributeError:
        yield from futures


def alone(function: Function, *arguments: Any) -> Any:
    """function(*arguments) with BLAS held to this one thread: blocks are small, and spinning threads cost more."""
    with one_blas_thread():
        return function(*arguments)


_LOCK = threading.Lock()
_inside = 0
_limits: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS held to one thread, where threadpoolctl is installed; as it was when the last of those inside leaves."""
    global _inside, _limits
    with _LOCK:
        _inside += 1
        if _inside == 1:
            _limits = _limited()
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if _inside == 0 and _limits is not None:
                _released()
                _limits.restore_original_limits()
                _released()


def _limited() -> Any:
    controller = _controller()
    if controller is None:
        return None
    _released()
    return controller.limit(limits=1, user_api="blas")


def _released() -> None:
    """Let this thread set the limit: threadpoolctl ignores all threads but the one that set it first, and only some
    calls make it forget that one."""
    import threadpoolctl

    forget = getattr(getattr(threadpoolctl, "OpenBLASController", None), "clear_controlling_thread", None)
    if forget is not None:
        forget(force=True)


@cache
def _controller() -> Any:
    """The BLAS libraries that are loaded (NumPy's is)."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()
