"""A disk that is really full, or really read-only: every command that writes, whatever is left.

Disks are in memory (tmpfs); only who may mount them can run these tests.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_all_outputs import COMMANDS, STATUS, stub

pytestmark = [
    pytest.mark.sampled,
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a disk"),
]

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
#: pages that are left on the disk
LEFT = (0, 1, 2, 3, 4, 8, 16, 32)


@pytest.fixture
def disk(tmp_path):
    """A disk of 64 pages, which holds 32 files at most."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={64 * PAGE},nr_inodes=32", "tmpfs", str(place)],
        check=False,
        capture_output=True,
    )
    if done.returncode:
        pytest.skip("mounts a disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def read_all(place):
    """{name: bytes} of all files of a folder but the one that fills the disk."""
    files = [path for path in place.rglob("*") if path.is_file() and path.name != "filler"]
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in files}


def fill(place, left):
    """Leave so many pages."""
    with (place / "filler").open("wb") as file:
        free = os.statvfs(place).f_bavail
        file.write(b"x" * PAGE * max(0, free - left))


def command(name, place):
    """The words of a command, whose files are in this place; what it reads is beside."""
    (place.parent / "none.py").write_text("a submission of no exercise")
    arguments, outputs = COMMANDS[name]
    return [*arguments, *(part for option, path in outputs.items() for part in (option, str(place / path)))]


def refused(done):
    """Whether a command says in one sentence that it cannot write."""
    lines = [line for line in done.err.splitlines() if line.startswith("gradtwin: ")]
    return done.status == 2 and any("must name a" in line and "Received: " in line for line in lines)


def each_is_one_of(found, former, new):
    """Whether each file is what it was, or what it is to be, and there is no other."""
    lines = {name for name in new if name.endswith(".jsonl")}  # a record of lines grows
    whole = all(found[n] in (former.get(n), new.get(n)) for n in found.keys() - lines)
    return whole and found.keys() <= new.keys() and all(new[n].startswith(found[n]) for n in lines & found.keys())


@pytest.mark.parametrize("is_there", [False, True], ids=["new", "former"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_is_full(gradtwin, disk, monkeypatch, name, is_there):
    stub(monkeypatch)
    call, tried = command(name, disk), 0
    whole = gradtwin(*call)
    assert whole.status == STATUS.get(name, 0)
    new = read_all(disk)
    assert new
    if is_there and "--new" in call:
        pytest.skip("exercises that are there are refused")
    for left in LEFT:
        for path in disk.rglob("*"):
            path.is_file() and path.unlink()
        if "--new" in call:
            (disk / "new").exists() and (disk / "new").rmdir()
        if is_there:
            assert gradtwin(*call).status == whole.status
            if name == "campaign":  # or there would be nothing to do
                path = disk / "campaign.jsonl"
                path.write_text("".join(path.read_text().splitlines(keepends=True)[:1]))
        former = read_all(disk)
        fill(disk, left)
        done = gradtwin(*call)
        assert each_is_one_of(read_all(disk), former, new), left
        assert former.keys() <= read_all(disk).keys()
        assert (read_all(disk) == new and done.status == whole.status) or refused(done), (left, done)
        tried += refused(done)
    assert tried


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "exercises"])
def test_a_disk_without_places_for_files(gradtwin, disk, monkeypatch, name):
    stub(monkeypatch)
    call = command(name, disk)
    while os.statvfs(disk).f_favail:
        (disk / f"{os.statvfs(disk).f_favail}").touch()
    before = read_all(disk)
    assert refused(gradtwin(*call))
    assert read_all(disk) == before


@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_is_read_only(gradtwin, disk, monkeypatch, name):
    stub(monkeypatch)
    call = command(name, disk)
    if name != "exercises":
        gradtwin(*call)
    before = read_all(disk)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert refused(gradtwin(*call))
    assert read_all(disk) == before
    assert Path(disk).is_dir()
