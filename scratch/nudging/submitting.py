"""Call what may block (an executor's submit) for no longer than is said: in a thread that is left alone if it does."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any


class Blocked(Exception):
    """What was called has not returned in time."""


class Submitter:
    """A thread that calls one thing after another. It goes on as long as this object, or a call in it, does.

    Processes that an executor starts when it is first given work may end with the thread that started them: therefore
    all calls of an executor's are made in one.
    """

    def __init__(self) -> None:
        self._asked: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        threading.Thread(target=_answer, args=(self._asked,), name="submitter", daemon=True).start()
        weakref.finalize(self, self._asked.put, None)

    def call(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
        """function(*arguments), and what it raises. Raises: Blocked after so many seconds."""
        future: Future[Any] = Future()
        context = copy_context()
        self._asked.put((future, lambda: context.run(function, *arguments)))
        error: BaseException | None
        try:
            error = future.exception(seconds)
        except TimeoutError as late:
            raise Blocked from late
        if error is not None:
            raise error
        return future.result()


def _answer(asked: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
    while (one := asked.get()) is not None:
        future, function = one
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 (it is raised where the call was asked for)
            future.set_exception(error)
        del one, future, function  # or they would stay alive until the next call


_SUBMITTERS: weakref.WeakKeyDictionary[Any, Submitter] = weakref.WeakKeyDictionary()


def find_submitter(executor: Any) -> Submitter:
    """The thread in which an executor is called; a new one each time for an executor that nothing weak can refer to."""
    try:
        if executor not in _SUBMITTERS:
            _SUBMITTERS[executor] = Submitter()
        return _SUBMITTERS[executor]
    except TypeError:
        return Submitter()


def forget_submitter(executor: Any) -> None:
    """Leave the thread alone that an executor has blocked."""
    try:
        _SUBMITTERS.pop(executor, None)
    except TypeError:
        return
