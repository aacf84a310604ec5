"""Files that hold arrays (.keras, .npz, .h5) are refused by the size that they declare, before they are unpacked."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from keras_ref.errors import CouldNotRun, shorten_error
from keras_ref.reports.files import is_plain_file

#: bytes that any archive may unpack to
SMALL = 2**28
#: what stands behind the name of arrays that are numbered, as a pattern; Python reads no number of any length
NUMBER = "[0-9]{0,9}"
#: how the names of HDF5 files end
HDF5 = (".h5", ".hdf5")
#: times its own size that a larger one may unpack to: weights and measured data compress to half or a third
RATIO = 8


def require_declared_size(path: str) -> None:
    """Refuse an archive that unpacks to much more than its own size. What is no archive is left to whoever reads it.

    Counted are the sizes in the archive's directory, and those of the arrays in HDF5 files and archives inside. What
    cannot be counted is refused: whoever reads it might be able to.
    Raises: CouldNotRun.
    """
    file = Path(path)
    if not is_plain_file(path):
        return
    try:
        if zipfile.is_zipfile(file):
            for declared in _read_declared_sizes(file):
                require_declared(path, declared)
        if file.suffix.lower() in HDF5 and _is_hdf5(path):
            with file.open("rb") as content:
                require_declared(path, _measure_arrays(content))
    except CouldNotRun:
        raise
    except Exception as error:
        raise CouldNotRun(
            f"An archive must be whole. Received: {path}: {shorten_error(error)} Write it again."
        ) from error


def _read_declared_sizes(file: Path) -> Iterator[int]:
    """Bytes that an archive declares: first by its directory alone, then with what the files inside declare."""
    with zipfile.ZipFile(file) as archive:
        declared = _sum_members(archive)
        yield declared
        for member in archive.infolist():
            inside = _INSIDE.get(Path(member.filename).suffix.lower())
            if inside is not None:
                declared += inside(io.BytesIO(archive.read(member)))
                yield declared


def require_declared(path: str, declared: int) -> None:
    """Refuse a file that declares so many bytes, if they are many more than it has. Raises: CouldNotRun."""
    if declared > max(SMALL, RATIO * Path(path).stat().st_size):
        raise CouldNotRun(
            f"A file must unpack to at most {RATIO} times its size, or {SMALL / 2**20:.0f} MiB. Received: {path}, "
            f"which declares {declared / 2**20:.0f} MiB. Do not trust it; if it is yours, save it without compression."
        )


def _sum_members(archive: zipfile.ZipFile) -> int:
    return sum(member.file_size for member in archive.infolist())


def _measure_archive(content: IO[bytes]) -> int:
    """Bytes that an archive inside an archive declares by its directory; nobody unpacks what is inside of that."""
    with zipfile.ZipFile(content) as archive:
        return _sum_members(archive)


def _is_hdf5(path: str) -> bool:
    import h5py

    return bool(h5py.is_hdf5(path))


def _measure_arrays(content: IO[bytes]) -> int:
    """Bytes of all arrays that an HDF5 file declares. Raises: ValueError where it has parts in other files."""
    import h5py

    sizes: list[int] = []
    elsewhere: list[str] = []  # an error that is raised inside of a visit is lost in h5py

    def add(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        if item.external or item.is_virtual:
            elsewhere.append(name)
        elif item.size is not None:
            sizes.append(int(item.size) * item.dtype.itemsize)

    def add_link(name: str, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink):
            elsewhere.append(name)

    with h5py.File(content, "r") as file:
        file.visititems(add)
        file.visititems_links(add_link)
    if elsewhere:
        raise ValueError(f"its part {elsewhere[0]} lies in another file")
    return sum(sizes)


#: {how the name of a file inside ends: the bytes that it declares}
_INSIDE: Mapping[str, Callable[[IO[bytes]], int]] = {".h5": _measure_arrays, ".npz": _measure_archive}
