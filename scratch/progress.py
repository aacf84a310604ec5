"""Progress callbacks, the same for everything here that takes long; they tick in phases that report nothing, too."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

#: progress(done, total, what): `done` of `total` parts are finished; `what` names the part
Progress: TypeAlias = Callable[[int, int, str], None]

#: says of a thread whether it repeats reports
_THREAD = threading.local()


def is_repeating() -> bool:
    """Whether the present thread is one that repeats reports, while the thread whose reports they are goes on."""
    return getattr(_THREAD, "repeats", False)


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
    lock, ended = threading.Lock(), threading.Event()
    last: tuple[int, int, str] = (0, 1, what)
    said = time.monotonic()

    def report(done: int, total: int, what: str) -> None:
        nonlocal last, said
        with lock:
            last, said = (done, total, what), time.monotonic()
            progress(done, total, what)

    def repeat() -> None:
        nonlocal said
        _THREAD.repeats = True
        while not ended.wait(max(0.0, said + SILENCE - time.monotonic())):
            with lock:
                if ended.is_set():
                    return
                if time.monotonic() < said + SILENCE:
                    continue
                said = time.monotonic()
                try:
                    progress(*last)
                # whose callback it is will see it where the check itself reports
                except Exception:  # noqa: BLE001
                    return

    thread = threading.Thread(target=repeat, name="progress", daemon=True)
    try:
        thread.start()
        yield report
    finally:
        ended.set()
        with lock:
            pass  # a repetition that has begun ends before the block does
