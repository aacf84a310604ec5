"""Files that a front writes: refused before the work where they cannot be written, and said in one sentence."""

from __future__ import annotations

import os
from pathlib import Path

from keras_ref.errors import CouldNotRun


def writable(name: str, path: str) -> None:
    """Refuse a path before minutes of work, not after. Raises: CouldNotRun."""
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
    raise CouldNotRun(f"{name} must name a file that can be written. Received: {path}: {reason}. Choose another path.")


def write(name: str, path: str, text: str, mode: str = "w") -> None:
    """Write a file of results. Raises: CouldNotRun."""
    try:
        with open(path, mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise CouldNotRun(
            f"{name} must name a file that can be written. Received: {path}: {error.strerror}. Choose another path."
        ) from error
