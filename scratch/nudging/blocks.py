"""Run blocks on threads or any concurrent.futures.Executor; a block whose worker fails is computed here."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from scratch.arrays import Array
from scratch.nudging.answers import Answering, Known, OtherSoftware, Question, WrongAnswer
from scratch.nudging.submitting import Blocked, find_submitter, forget_submitter

#: seconds without any answer after which workers are given up, at least
PATIENCE = 60.0
#: how much longer than in this process a nudge may take elsewhere, before its worker is taken for a stopped one
SLOWER = 20.0

Function = Callable[..., Any]


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Remote:
    """How somebody else's workers are asked: by questions that are answered with what was asked (answers.py).

    executor    any concurrent.futures.Executor; one that has a method `share` is given with it, once, what all blocks
                need, and with each block what that returned
    function    what a worker calls with the nudges of a question;   questions   one for each block
    patience    seconds without any answer after which the workers are given up
    given_up    called when they are
    """

    executor: Executor
    function: Function
    questions: Sequence[Question]
    patience: float = PATIENCE
    given_up: Callable[[], None] = field(default=lambda: None)

    @classmethod
    def of(
        cls,
        executor: Executor,
        job: Callable[[Array, Array], Array],
        blocks: Sequence[tuple[Array, Array]],
        *,
        here: Callable[[Array, Array], Array],
        given_up: Callable[[], None],
    ) -> Remote:
        """The questions for an executor's workers, who do the job, with losses that are computed `here` between those
        that are asked.
        """
        entries, offsets = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        begun = time.perf_counter()
        known = call_with_one_blas_thread(Known.of, here, entries, offsets)
        spent = (time.perf_counter() - begun) / len(known.entries)
        return cls(
            executor=executor,
            function=Answering(job),
            questions=[Question.of(*block, known=known, number=i) for i, block in enumerate(blocks)],
            patience=max(PATIENCE, SLOWER * spent * max(len(block[0]) for block in blocks)),
            given_up=given_up,
        )


def ask_workers(remote: Remote, *, results: list[Any], done: Callable[[int], None]) -> list[int]:
    """Fill in the results of blocks that remote workers compute, and return the numbers of those that they do not.

    They are asked again for what has not arrived as long as anything arrives: a worker that dies takes the blocks of
    others with it. Raises: OtherSoftware.
    """
    left = list(range(len(remote.questions)))
    try:
        sent = _Sent.to(remote)
    except Blocked:
        _give_up_blocked(remote.executor, remote.patience, remote.given_up)
        return left
    # a cluster without workers, say
    except Exception as error:  # noqa: BLE001
        _warn("Workers cannot be reached (%s). Their blocks are computed in this process.", error)
        remote.given_up()
        return left
    while left:
        missing = _collect(sent, wanted=left, results=results, done=done)
        if sent.is_silent or len(missing) == len(left):
            return missing
        left = missing
    return left


def run_blocks(
    function: Function, blocks: Sequence[Sequence[Any]], *, remote: Remote | None = None, done: Callable[[int], None]
) -> list[Any]:
    """[function(*block) for block in blocks], computed by remote workers (None: by a thread for each core).

    A block whose worker died, was killed, stopped, could not be reached, or gave an answer that is not that of the
    block, is computed in this process; an error that it raises here too is raised. `done(i)` is called in this thread
    when the result of block i has arrived. Raises: OtherSoftware.
    """
    results: list[Any] = [None] * len(blocks)
    left = list(range(len(blocks)))
    with one_blas_thread():
        if remote is not None:
            left = ask_workers(remote, results=results, done=done)
        if len(left) > 1 and cores() > 1:
            threads = _Sent(executor=_make_threads(os.getpid()), function=function, blocks=blocks)
            left = _collect(threads, wanted=left, results=results, done=done)
        for i in left:
            results[i] = function(*blocks[i])
            done(i)
    return results


@cache
def _make_threads(_process: int) -> Executor:
    """A thread for each core, made once for each process (a fork has none of its parent's threads)."""
    return ThreadPoolExecutor(cores(), thread_name_prefix="nudges")


@dataclass(kw_only=True)
class _Sent:
    """Blocks that are sent to an executor, and how a result is taken from an answer.

    patience, given_up   of Remote; without patience, workers are waited for as long as they take
    is_silent            whether they were given up
    """

    executor: Any
    function: Function
    blocks: Sequence[Sequence[Any]]
    accept: Callable[[int, Any], Any] = field(default=lambda _, answer: answer)
    patience: float | None = None
    given_up: Callable[[], None] = field(default=lambda: None)
    is_silent: bool = False

    @classmethod
    def to(cls, remote: Remote) -> _Sent:
        """The questions for remote workers."""
        questions = remote.questions
        share = getattr(remote.executor, "share", None)
        return cls(
            executor=remote.executor,
            function=remote.function
            if share is None
            else find_submitter(remote.executor).call(remote.patience, share, remote.function),
            blocks=[(question.entries, question.offsets, question.places) for question in questions],
            accept=lambda i, answer: questions[i].accept(answer),
            patience=remote.patience,
            given_up=remote.given_up,
        )


def _collect(sent: _Sent, *, wanted: list[int], results: list[Any], done: Callable[[int], None]) -> list[int]:
    """Fill in the results of the wanted blocks, and return the numbers of those that did not arrive."""
    futures: dict[Any, int] = {}
    left = set(wanted)
    try:
        _submit_blocks(sent, wanted, futures)
        for future in _collect_finished(futures, 0 if sent.is_silent else sent.patience):
            i = futures[future]
            if _has_arrived(sent, i, future, results):
                left.remove(i)
                done(i)
    except BaseException:
        running = [future for future in futures if not future.cancel()]
        if sent.patience is None:  # threads of this process: nothing of it goes on after an interruption
            wait(running)
        raise
    if any(not future.done() for future in futures):
        if not sent.is_silent:
            _warn("Workers have not answered for %g s. Their blocks are computed in this process.", sent.patience)
            sent.is_silent = True
            sent.given_up()
        for future in futures:
            future.cancel()
    return sorted(left)


def _submit_blocks(sent: _Sent, wanted: list[int], futures: dict[Any, int]) -> None:
    """Give an executor the wanted blocks, and fill in their futures; those that it does not take in time are left."""
    for i in wanted:
        try:
            futures[_submit(sent, i)] = i
        except Blocked:
            _give_up_blocked(sent.executor, sent.patience, sent.given_up)
            sent.is_silent = True
            return
        except Exception:  # noqa: BLE001, S112 (a pool that broke, or was shut down, accepts no more work)
            continue


def _submit(sent: _Sent, i: int) -> Any:
    """The future of block i. Raises: Blocked where remote workers' executor does not take it in time."""
    work = (call_with_one_blas_thread, sent.function, *sent.blocks[i])
    if sent.patience is None:
        return sent.executor.submit(*work)
    return find_submitter(sent.executor).call(sent.patience, sent.executor.submit, *work)


def _give_up_blocked(executor: Any, patience: float | None, given_up: Callable[[], None]) -> None:
    """Leave an executor alone that takes no work."""
    _warn("An executor has not taken any work for %g s. Its blocks are computed in this process.", patience)
    forget_submitter(executor)
    given_up()


def _has_arrived(sent: _Sent, i: int, future: Any, results: list[Any]) -> bool:
    """Fill in the result of block i, if the worker's answer is one."""
    try:
        results[i] = sent.accept(i, _answer_of(sent, future))
    except OtherSoftware:
        raise
    except WrongAnswer as wrong:
        _warn("A worker's answer was not taken: %s. Its block is computed again.", wrong)
    # the caller computes the block again, and an error of the block itself is raised there
    except Exception:  # noqa: BLE001, S110
        pass
    else:
        return True
    return False


def _answer_of(sent: _Sent, future: Any) -> Any:
    """What a future holds. Raises: WrongAnswer for an end of the worker's own, such as a SystemExit, which must not end
    this process; any other error that it holds.
    """
    error = future.exception(0) if sent.patience is not None and hasattr(future, "exception") else None
    if error is not None and not isinstance(error, Exception):
        raise WrongAnswer(f"it is a {type(error).__name__}")
    return future.result(0)


def _warn(sentence: str, about: object) -> None:
    logging.getLogger("gradtwin").warning(sentence, about)


def _collect_finished(futures: Iterable[Any], patience: float | None) -> Iterator[Any]:
    """Futures as they finish, until none has for so many seconds; those of another kind than the standard library's in
    their order."""
    left = set(futures)
    try:
        while left:
            finished, left = wait(left, timeout=patience, return_when=FIRST_COMPLETED)
            if not finished:
                return
            yield from finished
    except AttributeError:
        for future in futures:
            with suppress(Exception):
                future.result(patience)
            yield future


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
    outer = count_blas_contexts()
    try:
        _begin_blas_context()
        yield
    finally:
        end_blas_contexts(outer)


def count_blas_contexts() -> int:
    """How many contexts of one_blas_thread are open in this thread."""
    return _LIMIT.contexts.get(threading.get_ident(), 0)


def _begin_blas_context() -> None:
    with _LIMIT.lock:
        _LIMIT.contexts[threading.get_ident()] = count_blas_contexts() + 1
        if not _LIMIT.before:
            _LIMIT.before = [(library, library.num_threads) for library in _find_blas_libraries()]
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
def _find_blas_libraries() -> tuple[Any, ...]:
    """threadpoolctl's controllers of the loaded BLAS libraries (NumPy's is one); none without threadpoolctl."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return ()
    return tuple(library for library in ThreadpoolController().lib_controllers if library.user_api == "blas")
