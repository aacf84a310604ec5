"""Files that are archives (.keras, .npz) are refused by the size that they declare, before anything is unpacked."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

from keras_ref.errors import CouldNotRun

#: bytes that any archive may unpack to
SMALL = 2**28
#: times its own size that a larger one may unpack to: weights and measured data compress to half or a third
RATIO = 8


def require_declared_size(path: str) -> None:
    """Refuse an archive that unpacks to much more than its own size. What is no archive is left to whoever reads it.

    Counted are the sizes in the archive's directory, and those of the arrays in HDF5 files inside.
    Raises: CouldNotRun.
    """
    file = Path(path)
    if not file.is_file() or not zipfile.is_zipfile(file):
        return
    largest = max(SMALL, RATIO * file.stat().st_size)
    with zipfile.ZipFile(file) as archive:
        declared = sum(member.file_size for member in archive.infolist())
        _require(path, declared, largest)
        for member in archive.infolist():
            if member.filename.endswith(".h5"):
                declared += _size_of_arrays(archive.read(member))
        _require(path, declared, largest)


def _require(path: str, declared: int, largest: int) -> None:
    if declared > largest:
        raise CouldNotRun(
            f"A file must unpack to at most {RATIO} times its size, or {SMALL / 2**20:.0f} MiB. Received: {path}, "
            f"which declares {declared / 2**20:.0f} MiB. Do not trust it; if it is yours, save it without compression."
        )


def _size_of_arrays(content: bytes) -> int:
    """Bytes of all arrays that an HDF5 file declares; 0 for what is none."""
    import h5py

    sizes = []

    def add(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.size is not None:
            sizes.append(int(item.size) * item.dtype.itemsize)

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            file.visititems(add)
    except (OSError, RuntimeError):
        return 0
    return sum(sizes)
