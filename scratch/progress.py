"""Progress callbacks, the same for everything here that takes long; they tick in phases that report nothing, too."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

#: progress(done, total, what): `done` of `total` parts are finished; `what` names the part
Progress: TypeAlias = Callable[[int, int, str], None]

#: seconds after which what was last reported is reported again
SILENCE = 1.0


@contextmanager
def ticking(progress: Progress | None, what: str) -> Iterator[Progress | None]:
    """A callback to report to in the block; after a second of silence the last report is made once more.

    Such a repetition comes from a thread of its own, never at the same time as another report, and never after the
    block. What the callback raises there ends the repetitions.

    what   the part that is reported before there is any other
    """
    if progress is None:
        yield None
        return
    lock, ended, reported = threading.Lock(), threading.Event(), threading.Event()
    last: list[tuple[int, int, str]] = [(0, 1, what)]

    def report(done: int, total: int, what: str) -> None:
        with lock:
            last[0] = done, total, what
            reported.set()
            progress(done, total, what)

    def repeat() -> None:
        while not ended.wait(SILENCE):
            if reported.is_set():
                reported.clear()
                continue
            with lock:
                if ended.is_set():
                    return
                try:
                    progress(*last[0])
                # whose callback it is will see it where the check itself reports
                except Exception:  # noqa: BLE001
                    return

    thread = threading.Thread(target=repeat, name="progress", daemon=True)
    thread.start()
    try:
        yield report
    finally:
        ended.set()
        with lock:
            pass  # a repetition that has begun ends before the block does
