"""Writing the files that a command was asked for: paths are tried before the work, and refused in one sentence."""

from __future__ import annotations

import os
from pathlib import Path

from keras_ref.errors import CouldNotRun


def refuse_unwritable(option: str, path: str) -> None:
    """Refuse a path that cannot be written, before minutes of work rather than after. "" stands for no file.

    Raises: CouldNotRun, naming the option.
    """
    if not path:
        return
    target = Path(path)
    if target.is_dir():
        reason = "Is a directory"
    elif not target.parent.is_dir():
        reason = "No such file or directory"
    elif not os.access(target if target.exists() else target.parent, os.W_OK):
        reason = "Permission denied"
    else:
        return
    raise _cannot_write(option, path, reason)


def write(option: str, path: str, text: str, mode: str = "w") -> None:
    """Write the file that an option names; `mode` "a" appends. Raises: CouldNotRun, naming the option."""
    try:
        with Path(path).open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise _cannot_write(option, path, str(error.strerror)) from error


def _cannot_write(option: str, path: str, reason: str) -> CouldNotRun:
    return CouldNotRun(
        f"{option} must name a file that can be written. Received: {path}: {reason}. Choose another path."
    )
