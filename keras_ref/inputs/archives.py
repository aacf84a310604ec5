"""Files that are archives (.keras, .npz) are refused by the size that they declare, before anything is unpacked."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_ref.errors import CouldNotRun, short
from keras_ref.reports.files import is_plain_file

#: bytes that any archive may unpack to
SMALL = 2**28
#: times its own size that a larger one may unpack to: weights and measured data compress to half or a third
RATIO = 8


def require_declared_size(path: str) -> None:
    """Refuse an archive that unpacks to much more than its own size. What is no archive is left to whoever reads it.

    Counted are the sizes in the archive's directory, and those of the arrays in HDF5 files and archives inside. What
    cannot be counted is refused: whoever reads it might be able to.
    Raises: CouldNotRun.
    """
    file = Path(path)
    if not is_plain_file(path) or not zipfile.is_zipfile(file):
        return
    largest = max(SMALL, RATIO * file.stat().st_size)
    try:
        for declared in _declared_sizes(file):
            _require(path, declared, largest)
    except CouldNotRun:
        raise
    except Exception as error:
        raise CouldNotRun(f"An archive must be whole. Received: {path}: {short(error)} Write it again.") from error


def _declared_sizes(file: Path) -> Iterator[int]:
    """Bytes that an archive declares: first by its directory alone, then with what the files inside declare."""
    with zipfile.ZipFile(file) as archive:
        declared = _size_of_members(archive)
        yield declared
        for member in archive.infolist():
            inside = _INSIDE.get(Path(member.filename).suffix.lower())
            if inside is not None:
                declared += inside(archive.read(member))
                yield declared


def _require(path: str, declared: int, largest: int) -> None:
    if declared > largest:
        raise CouldNotRun(
            f"A file must unpack to at most {RATIO} times its size, or {SMALL / 2**20:.0f} MiB. Received: {path}, "
            f"which declares {declared / 2**20:.0f} MiB. Do not trust it; if it is yours, save it without compression."
        )


def _size_of_members(archive: zipfile.ZipFile) -> int:
    return sum(member.file_size for member in archive.infolist())


def _size_of_archive(content: bytes) -> int:
    """Bytes that an archive inside an archive declares by its directory; nobody unpacks what is inside of that."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return _size_of_members(archive)


def _size_of_arrays(content: bytes) -> int:
    """Bytes of all arrays that an HDF5 file declares."""
    import h5py

    sizes = []

    def add(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.size is not None:
            sizes.append(int(item.size) * item.dtype.itemsize)

    with h5py.File(io.BytesIO(content), "r") as file:
        file.visititems(add)
    return sum(sizes)


#: {how the name of a file inside ends: the bytes that it declares}
_INSIDE: Mapping[str, Callable[[bytes], int]] = {".h5": _size_of_arrays, ".npz": _size_of_archive}
