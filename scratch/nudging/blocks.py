"""Run blocks on threads or any concurrent.futures.Executor; a block whose worker fails is computed in this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed, wait
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
        running = [future for future in futures if not future.cancel()]
        if executor is _threads(os.getpid()):  # nothing of this process goes on after an interruption
            wait(running)
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
    """The limit of BLAS threads in this process: how many contexts of each thread need it, and what was before.

    before   (library, its number of threads) for each BLAS library
    """

    lock: Any = field(default_factory=threading.Lock)
    contexts: dict[int, int] = field(default_factory=dict)
    before: list[tuple[Any, int]] = field(default_factory=list)


_LIMIT = _Limit()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread, if threadpoolctl is installed; the limit is undone when the last context ends."""
    outer = blas_contexts()
    try:
        _begin_blas_context()
        yield
    finally:
        end_blas_contexts(outer)


def blas_contexts() -> int:
    """How many contexts of one_blas_thread are open in this thread."""
    return _LIMIT.contexts.get(threading.get_ident(), 0)


def _begin_blas_context() -> None:
    with _LIMIT.lock:
        _LIMIT.contexts[threading.get_ident()] = blas_contexts() + 1
        if not _LIMIT.before:
            _LIMIT.before = [(library, library.num_threads) for library in _blas_libraries()]
            _set_blas_threads((library, 1) for library, _ in _LIMIT.before)


def end_blas_contexts(outer: int) -> None:
    """End the contexts of this thread but the first `outer` of them, those too that an interruption has left open."""
    with _LIMIT.lock:
        if outer:
            _LIMIT.contexts[threading.get_ident()] = outer
        else:
            _LIMIT.contexts.pop(threading.get_ident(), None)
        if not _LIMIT.contexts:
            _set_blas_threads(_LIMIT.before)
            _LIMIT.before = []


def _set_blas_threads(numbers: Iterable[tuple[Any, int]]) -> None:
    for library, number in numbers:
        _release_control()
        library.set_num_threads(number)
        _release_control()


def _release_control() -> None:
    """Let this thread set the limit: threadpoolctl ignores all threads but the one that set a limit first,
    and few of its calls end that."""
    import threadpoolctl

    forget = getattr(getattr(threadpoolctl, "OpenBLASController", None), "clear_controlling_thread", None)
    if forget is not None:
        forget(force=True)


@cache
def _blas_libraries() -> tuple[Any, ...]:
    """threadpoolctl's controllers of the loaded BLAS libraries (NumPy's is one); none without threadpoolctl."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return ()
    return tuple(library for library in ThreadpoolController().lib_controllers if library.user_api == "blas")
