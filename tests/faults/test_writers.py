"""Who writes at the same time, who ends it, and where: writers of one file, signals, campaigns, working directories."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_all_outputs import COMMANDS, STATUS, stub

from keras_ref.campaign import records
from keras_ref.errors import CouldNotRun
from keras_ref.frontends.command_line import compare_cli, minimise_cli
from keras_ref.frontends.invocations.invocation import Invocation
from keras_ref.lesson import lesson
from keras_ref.reports import files
from keras_ref.reports.files import write_unused

SHOP = """
import keras

def build():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="shop")
    model.compile(optimizer="sgd", loss="mse")
    return model
"""

# Who writes at the same time, and who ends it -------------------------------------------------------------------------


@pytest.mark.sampled
@pytest.mark.parametrize("former", [None, "the former report"])
@pytest.mark.skipif(sys.platform != "linux", reason="copies of a process")
def test_a_signal_that_ends_a_write(tmp_path, former):
    """SIGTERM and SIGHUP at each line of a write: the file is whole or what it was, and nothing is left beside."""
    (tmp_path / "ending.py").write_text(ENDING)
    done = subprocess.run(
        [sys.executable, "ending.py", *([former] if former else [])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("", "")
    tries, ended = map(int, (tmp_path / "tries").read_text().split())
    assert tries > 40
    assert ended == tries


#: tries each line of write and of what it calls in copies of this process; prints what is wrong
ENDING = '''
import os, signal, sys
from pathlib import Path
from keras_ref.reports import files

for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
former, place, tries, ended = (sys.argv[1:] or [None])[0], Path("place"), 0, 0


def lines(number, at):
    """Write in a copy that gets a signal at its line of a number. Returns its wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    seen = 0

    def trace(frame, event, _):
        nonlocal seen
        if frame.f_code.co_filename != files.__file__:
            return None
        seen += event == "line"
        if event == "line" and seen == at:
            os.kill(os.getpid(), number)
        return trace

    sys.settrace(trace)
    files.write("--json", "place/r.json", "a new report")
    sys.settrace(None)
    os._exit(0)


for number in (signal.SIGTERM, signal.SIGHUP):
    at = 1
    while True:
        place.mkdir()
        if former:
            (place / "r.json").write_text(former)
        status = lines(number, at)
        found = {path.name: path.read_text() for path in place.iterdir()}
        [path.unlink() for path in place.iterdir()]
        place.rmdir()
        if os.WIFEXITED(status):
            break
        tries, ended, at = tries + 1, ended + (os.WTERMSIG(status) == number), at + 1
        if found not in ({}, {"r.json": "a new report"}) and found != {"r.json": former}:
            print(at, number, found)
Path("tries").write_text(f"{tries} {ended}")
'''


def test_many_writers_of_unused_names(tmp_path):
    """Lessons without a name for their pages, at once: each has a page, and each name is whose page it holds."""
    path, names = str(tmp_path / "lesson.html"), {}

    def take(text):
        names[text] = write_unused("--output", path, text)

    writers = [threading.Thread(target=take, args=(f"page {i}" * 1000,)) for i in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(set(names.values())) == 8
    assert {text: Path(name).read_text() for text, name in names.items()} == {text: text for text in names}
    assert len(list(tmp_path.iterdir())) == 8


def test_a_page_that_cannot_be_written_takes_no_name(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(CouldNotRun, match="No space left on device"):
        write_unused("--output", str(tmp_path / "lesson.html"), "page")
    assert list(tmp_path.iterdir()) == []


RUNNING = (
    "gradtwin: --file must name a file that no other campaign is writing. Received: c.jsonl. Wait for that one, or "
)


@pytest.mark.skipif(sys.platform == "win32", reason="locks of files")
def test_two_campaigns_of_one_file(gradtwin, tmp_path, monkeypatch):
    stub(monkeypatch)
    call = ("campaign", "keras.ops.square", "keras.ops.relu", "--file", "c.jsonl")
    with records.claim("c.jsonl"):
        assert gradtwin(*call) == (2, "", f"{RUNNING}choose another path.\n")
        assert (tmp_path / "c.jsonl").read_text() == ""
    assert gradtwin(*call).status == 0
    written = (tmp_path / "c.jsonl").read_text()
    with records.claim("c.jsonl"):
        assert gradtwin(*call).status == 2
    assert (tmp_path / "c.jsonl").read_text() == written


@pytest.mark.skipif(sys.platform == "win32", reason="locks of files")
def test_a_campaign_that_begins_while_another_does(gradtwin, tmp_path, monkeypatch):
    """Between the beginning of the file and its lock, another campaign takes it: one goes on, nothing is lost."""
    stub(monkeypatch)
    call = ("campaign", "keras.ops.square", "--file", "c.jsonl")
    assert gradtwin(*call).status == 0
    written, begin, other = (tmp_path / "c.jsonl").read_text(), records.begin, records.claim("c.jsonl")

    def begin_and_lose(path, **options):
        begin(path, **options)
        other.__enter__()

    monkeypatch.setattr(records, "begin", begin_and_lose)
    try:
        assert gradtwin(*call).status == 2
    finally:
        other.__exit__(None, None, None)
    assert (tmp_path / "c.jsonl").read_text() == written


# Targets that change the working directory ----------------------------------------------------------------------------


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["check", "updates", "compare", "minimise", "lesson", "notebook"])
def test_a_target_that_changes_the_working_directory(gradtwin, tmp_path, monkeypatch, name):
    """Files are written where the command line said, and not over others of the same name elsewhere."""
    arguments, outputs = COMMANDS[name]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for file in outputs.values():
        (elsewhere / file).write_text("mine")
    run = Invocation.run
    stub(monkeypatch)
    stubbed = Invocation.run

    def changing(computed):
        def compute(*given, **options):
            os.chdir(elsewhere)
            return computed(*given, **options)

        return compute

    monkeypatch.setattr(Invocation, "run", run)
    monkeypatch.setattr(Invocation, "_check", changing(lambda self, target, *_: (stubbed(self, target), "")))
    monkeypatch.setattr(compare_cli.ComparisonRun, "run", changing(compare_cli.ComparisonRun.run))
    monkeypatch.setattr(minimise_cli, "open_subject", changing(minimise_cli.open_subject))
    monkeypatch.setattr(lesson, "make", changing(lesson.make))
    monkeypatch.setattr(
        "keras_ref.lesson.lesson_model.load_lesson_model", changing(lambda *_, **__: SimpleNamespace(labels=()))
    )
    finished = gradtwin(*arguments, *(part for pair in outputs.items() for part in pair))
    assert finished.status == STATUS.get(name, 0), finished.err
    assert {file: (elsewhere / file).read_text() for file in outputs.values()} == dict.fromkeys(
        outputs.values(), "mine"
    )
    assert all((tmp_path / file).exists() for file in outputs.values())
    assert Path.cwd() == tmp_path


def test_a_working_directory_that_is_gone(gradtwin, tmp_path):
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    status, out, err = gradtwin("check", "paths_shop:build")
    assert (status, out) == (2, "")
    assert err == (
        "gradtwin: The working directory must exist. Received: one that does not (No such file or directory). Change "
        "to another folder.\n"
    )


def test_no_place_for_temporary_files(gradtwin, monkeypatch):
    def none():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in [...]")

    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._get_default_tempdir", none)
    target = gradtwin.write_module("paths_shop", SHOP)
    status, out, err = gradtwin("check", target)
    assert (status, out) == (2, "")
    assert err == (
        "gradtwin: There must be a folder for temporary files that has space and may be written. Received: none. Free "
        "some space, or name one in TMPDIR.\n"
    )


@pytest.fixture(autouse=True)
def signals_are_put_back():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before
