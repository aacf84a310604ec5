"""Running the text of a case in this process, as a script would run, with all that a process shares put back."""

from __future__ import annotations

import linecache
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from keras.src.backend.common import global_state

from keras_ref.evaluation.changed_state.float64 import POLICY, restore_process_state
from keras_ref.own_modules import list_isolating_flags
from keras_ref.supervision.processes import OUTPUT, default_memory, making_folder, run_limited
from keras_ref.supervision.supervise import Limits
from keras_ref.undoing import undoing

#: the name of the text where its source is asked for
NAME = "<script>"


@contextmanager
def running(text: str) -> Iterator[dict[str, Any]]:
    """The names that a text assigns, while the block runs. Raises: whatever the text raises."""
    names: dict[str, Any] = {"__name__": "script"}
    with (
        # what it prints is kept nowhere, however much that is
        open(os.devnull, "w", encoding="utf-8", errors="replace") as nowhere,  # noqa: PTH123 (no path of a file)
        restore_process_state(),
        np.errstate(all="ignore"),
        warnings.catch_warnings(),
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
        undoing(linecache.cache.pop, NAME, None),
        undoing(setattr, sys, "excepthook", sys.excepthook),
        undoing(sys.path.__setitem__, slice(None), list(sys.path)),
    ):
        warnings.simplefilter("ignore")
        global_state.set_global_attribute(POLICY, None)  # so that a new floatx is what layers compute in
        # what looks for the source of a function (AutoGraph does) finds it
        linecache.cache[NAME] = (len(text), None, text.splitlines(keepends=True), NAME)
        exec(compile(text, NAME, "exec"), names)  # noqa: S102 (a text that is made here of the user's objects)
        yield names


@contextmanager
def _file(text: str) -> Iterator[Path]:
    with making_folder() as folder:
        file = Path(folder, "finding.py")
        file.write_text(text, encoding="utf-8")
        yield file


def exit_status_of(text: str, *, seconds: float, onednn: bool = True) -> int | None:
    """How a script ends that is run in a process of its own, as a user runs it; None where it takes too long.

    onednn   whether TensorFlow takes oneDNN's kernels, as it does unless it is told otherwise
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "KERAS_BACKEND")}
    environment["TF_ENABLE_ONEDNN_OPTS"] = "1" if onednn else "0"
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    limits = Limits(seconds=seconds, bytes=default_memory(), output=OUTPUT)
    with _file(text) as file:
        end = run_limited(
            [sys.executable, *list_isolating_flags(), str(file)], limits, environment, waiting=str(file.parent)
        )
    return None if end.limit else end.status
