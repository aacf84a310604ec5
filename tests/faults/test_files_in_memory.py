"""Files that lie in memory, mapped or not, count in the memory limit of what is isolated (Linux)."""

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from keras_ref.supervision.processes import run_limited
from keras_ref.supervision.supervise import FilesInMemory, Limits

pytestmark = pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="only Linux has files in memory there")
LIMITS = Limits(seconds=30, bytes=2**28, output=2**22)
NAME = f"/dev/shm/gradtwin-fault-suite-{os.getpid()}"
CHUNK = 2**20
#: what a subject does that takes 512 MiB of memory, and then waits
SUBJECTS = {
    "a file": f"file = open({NAME!r}, 'wb')\nfor i in range(512): file.write(chunk)\nfile.flush()",
    "a file without a name": (
        f"file = open({NAME!r}, 'wb')\nos.unlink({NAME!r})\nfor i in range(512): file.write(chunk)\nfile.flush()"
    ),
    "files that are closed": (
        "for i in range(8):\n"
        f"    with open({NAME!r} + str(i), 'wb') as file:\n"
        "        for _ in range(64): file.write(chunk)\n"
        "        file.flush(); time.sleep(0.25)"
    ),
    "memfd": "file = os.memfd_create('x')\nfor i in range(512): os.write(file, chunk)",
    "a file of a child in another session": (
        f"if os.fork() == 0:\n    os.setsid()\n    file = open({NAME!r}, 'wb')\n"
        "    for i in range(512): file.write(chunk)\n    file.flush()"
    ),
}


@pytest.fixture(autouse=True)
def no_file_is_left():
    yield
    for path in Path("/dev/shm").glob(f"{Path(NAME).name}*"):
        with suppress(OSError):
            path.unlink()


@pytest.mark.sampled
@pytest.mark.parametrize("what", SUBJECTS)
def test_files_in_memory_are_memory(what):
    code = f"import os, time\nchunk = b'x' * {CHUNK}\n{SUBJECTS[what]}\ntime.sleep(600)"
    end = run_limited([sys.executable, "-c", code], LIMITS)
    assert end.limit == "stopped at the memory limit of 256 MiB"


def measured(files):
    return files.measure({os.getpid()})


def test_what_is_read_alone_is_not_counted():
    """A data set that lies in memory is nobody's who reads it."""
    Path(NAME).write_bytes(bytes(CHUNK))
    files = FilesInMemory()
    before = measured(files)
    with Path(NAME).open("rb"):
        assert measured(files) == before
    with Path(NAME).open("r+b"):
        assert measured(files) == before + CHUNK
    assert measured(files) == before + CHUNK  # it is still there
    Path(NAME).unlink()
    assert measured(files) == before


def test_a_file_that_takes_the_name_of_another_is_not_counted():
    files = FilesInMemory()
    before = measured(files)
    with Path(NAME).open("wb") as file:
        file.write(bytes(CHUNK))
        file.flush()
        assert measured(files) == before + CHUNK
        other = Path(f"{NAME}-other")
        other.write_bytes(bytes(2 * CHUNK))
        other.rename(NAME)
    assert measured(files) == before


def test_a_segment_of_system_v():
    library, files = ctypes.CDLL(None), FilesInMemory()
    library.shmat.restype = ctypes.c_void_p
    before = measured(files)
    segment = library.shmget(0, CHUNK, 0o600)
    try:
        place = library.shmat(segment, None, 0)
        ctypes.memset(place, 1, CHUNK)
        library.shmdt(ctypes.c_void_p(place))
        assert measured(files) == before + CHUNK
        assert FilesInMemory().measure(set()) == 0  # that of another process
    finally:
        library.shmctl(segment, 0, None)
    assert measured(files) == before
