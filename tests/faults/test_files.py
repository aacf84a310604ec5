"""What was input is never output, files are whole or not at all, and nothing of another kind is overwritten."""

import errno
import json
import os
import resource
import sys
import threading
from importlib.resources import files as files_of
from pathlib import Path
from string import Template

import nbformat
import numpy as np
import pytest

from keras_ref.errors import CouldNotRun
from keras_ref.lesson.notebook import build_notebook
from keras_ref.reports import files
from keras_ref.reports.files import Output, find_sources, refuse_outputs, write

SOURCE = """
import files_helper
def build():
    return files_helper.model()
"""
HELPER = """
import keras
def model():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")], name="small")
    model.compile(optimizer="sgd", loss="mse")
    return model
"""


@pytest.fixture
def folder(gradtwin):
    gradtwin.write_module("files_helper", HELPER)
    gradtwin.write_module("files_shop", SOURCE)
    np.savez("data.npz", x=np.ones((3, 2)), y=np.ones((3, 1)))
    return gradtwin


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def reads(option, path):
    return f"gradtwin: {option} must not name a file that the command reads. Received: {path}. Choose another path.\n"


def holds_code(option, path):
    return f"gradtwin: {option} must not name code, a model or data. Received: {path}. Choose another path.\n"


def unwritable(path, why):
    return f"gradtwin: --json must name a file that can be written. Received: {path}: {why}. Choose another path.\n"


#: what is named as output → (arguments, the sentence); --force does not help
REFUSED = {
    "the data": (
        ("check", "files_shop:build", "--data", "data.npz", "--json", "data.npz"),
        reads("--json", "data.npz"),
    ),
    "the data by another name": (
        ("check", "files_shop:build", "--data", "data.npz", "--json", "./other/../data.npz"),
        reads("--json", "./other/../data.npz"),
    ),
    "the data by a link": (
        ("check", "files_shop:build", "--data", "data.npz", "--html", "link.npz"),
        reads("--html", "link.npz"),
    ),
    "the factory": (("check", "files_shop:build", "--json", "files_shop.py"), reads("--json", "files_shop.py")),
    "what the factory imports": (
        ("check", "files_shop:build", "--json", "files_helper.py"),
        holds_code("--json", "files_helper.py"),
    ),
    "the model": (("check", "victim.keras", "--json", "victim.keras"), reads("--json", "victim.keras")),
    "the model of a lesson": (
        ("lesson", "victim.keras", "-o", "victim.keras"),
        reads("--output", "victim.keras"),
    ),
    "what an isolated factory imports": (
        ("check", "files_shop:build", "--isolate", "--json", "files_helper.py"),
        holds_code("--json", "files_helper.py"),
    ),
    "an empty file of a package": (
        ("check", "files_shop:build", "--json", "other/__init__.py"),
        holds_code("--json", "other/__init__.py"),
    ),
    "code by a link": (
        ("check", "files_shop:build", "--isolate", "--json", "link.json"),
        holds_code("--json", "link.json"),
    ),
    "the data by a hard link": (
        ("check", "files_shop:build", "--data", "data.npz", "--json", "hard.json"),
        reads("--json", "hard.json"),
    ),
    "the data, as JUnit": (
        ("updates", "files_shop:build", "--data", "data.npz", "--junit", "data.npz"),
        reads("--junit", "data.npz"),
    ),
    "the target of minimise": (
        ("minimise", "victim.keras", "--script", "victim.keras"),
        reads("--script", "victim.keras"),
    ),
    "the report that is minimised": (
        ("minimise", "report.json", "--script", "report.json"),
        reads("--script", "report.json"),
    ),
    "the second program of minimise": (
        ("minimise", "victim.keras", "files_shop:build", "--script", "files_shop.py"),
        reads("--script", "files_shop.py"),
    ),
    "the data of minimise": (
        ("minimise", "files_shop:build", "--data", "data.npz", "--script", "hard.json"),
        reads("--script", "hard.json"),
    ),
    "what minimise imports": (
        ("minimise", "files_shop:build", "--script", "files_helper.py"),
        holds_code("--script", "files_helper.py"),
    ),
    "the data of a comparison": (
        ("compare", "files_shop:build", "files_shop:build", "--data", "data.npz", "--junit", "hard.json"),
        reads("--junit", "hard.json"),
    ),
    "the questions of a lesson": (
        ("lesson", "recipe1", "--questions", "report.json", "-o", "report.json"),
        reads("--output", "report.json"),
    ),
    "a submission": (("homework", "files_shop.py", "--junit", "files_shop.py"), reads("--junit", "files_shop.py")),
    "a submission by a link": (
        ("homework", "files_helper.py", "--json", "link.json"),
        reads("--json", "link.json"),
    ),
    "code as the page of findings": (
        ("findings", "--list", "--html", "files_shop.py"),
        holds_code("--html", "files_shop.py"),
    ),
    "a model as the file of a campaign": (
        ("campaign", "keras.ops.square", "--file", "victim.keras"),
        "gradtwin: --file must name a new file, or one of a campaign. Received: victim.keras. Choose another path.\n",
    ),
    "an empty module as the file of a campaign": (
        ("campaign", "keras.ops.square", "--file", "other/__init__.py"),
        holds_code("--file", "other/__init__.py"),
    ),
    "links in a circle": (
        ("check", "files_shop:build", "--json", "circle"),
        unwritable("circle", "Symlink loop from '{}/circle'"),
    ),
    "a link to nowhere": (
        ("check", "files_shop:build", "--json", "dangling"),
        unwritable("dangling", "No such file or directory"),
    ),
    "a name that no file can have": (
        ("check", "files_shop:build", "--json", "a" * 300),
        unwritable("a" * 300, "File name too long"),
    ),
    "two of one name": (
        ("check", "files_shop:build", "--json", "new.out", "--html", "new.out"),
        "gradtwin: --html must not name the file that --json names. Received: new.out. Choose another path.\n",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_read_is_not_written(folder, tmp_path, name):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/__init__.py").touch()
    (tmp_path / "victim.keras").write_bytes(b"a model")
    (tmp_path / "report.json").write_text("{}")
    (tmp_path / "link.npz").symlink_to("data.npz")
    (tmp_path / "link.json").symlink_to("files_helper.py")
    (tmp_path / "hard.json").hardlink_to("data.npz")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "dangling").symlink_to("nowhere/report.json")
    arguments, sentence = REFUSED[name]
    before = contents(tmp_path)
    force = () if arguments[0] == "campaign" else ("--force",)  # a campaign has no such permission
    status, _, err = folder(*arguments, *force)
    assert (status, err) == (2, sentence.format(tmp_path))
    assert contents(tmp_path) == before


@pytest.mark.sampled
@pytest.mark.parametrize("option", ["--json", "--html"])
def test_what_gradtwin_did_not_write_is_overwritten_by_force_alone(folder, tmp_path, option):
    note = tmp_path / "notes.txt"
    note.write_text("mine")
    status, _, err = folder("check", "files_shop:build", option, "notes.txt")
    assert (status, note.read_text()) == (2, "mine")
    assert err == (
        f"gradtwin: {option} must name a new file, or one that gradtwin check wrote. Received: notes.txt, which holds "
        "something else. Choose another path, or pass --force to overwrite it.\n"
    )
    assert folder("check", "files_shop:build", option, "notes.txt", "--force").status == 0
    assert folder("check", "files_shop:build", option, "notes.txt").status == 0  # its own, this time


@pytest.mark.parametrize(
    ("option", "name", "text"),
    [
        ("--json", "mine.json", '{"a": 1}'),
        ("--json", "mine.json", '{"ok": true, "mine": 1}'),
        ("--notebook", "mine.ipynb", '{"cells": [{"source": ["hours of work"]}]}'),
        ("--html", "mine.html", "<!doctype html><title>mine</title>"),
    ],
)
def test_a_file_of_the_same_kind_that_gradtwin_did_not_write(tmp_path, option, name, text):
    path = tmp_path / name
    path.write_text(text)
    kind = {"--json": "report", "--html": "page"}.get(option, "notebook")
    with pytest.raises(CouldNotRun, match=f"^{option} must name a new file, or one that gradtwin check wrote"):
        refuse_outputs([Output(option=option, path=str(path), kind=kind, command="check")], force="--force")
    refuse_outputs([Output(option=option, path=str(path), kind=kind, command="check")])


def test_what_the_command_prints_to_is_not_replaced(tmp_path, monkeypatch):
    """`--json /dev/stdout > file`: what was printed would be lost with the file that is replaced."""
    printed = tmp_path / "out.txt"
    printed.touch()
    monkeypatch.setattr(files.os, "fstat", lambda stream: printed.stat())
    with pytest.raises(CouldNotRun) as caught:
        refuse_outputs([Output(option="--json", path=str(printed), kind="report", command="check")])
    assert str(caught.value) == (
        f"--json must not name the file that the command prints to. Received: {printed}. Choose another path."
    )


@pytest.mark.sampled
def test_a_folder_that_vanishes_during_the_check(folder, tmp_path):
    (tmp_path / "gone").mkdir()
    vanishing = (
        "import shutil, files_helper\ndef build():\n    shutil.rmtree('gone')\n    return files_helper.model()\n"
    )
    status, out, err = folder("check", folder.write_module("vanishing_shop", vanishing), "--json", "gone/report.json")
    assert (status, out.count(" match")) == (2, 7)
    assert err == (
        "gradtwin: --json must name a file that can be written. Received: gone/report.json: No such file or directory. "
        "Choose another path.\n"
    )


def test_the_sources_of_targets(folder, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").write_text("")
    found = find_sources(["files_shop:build", "package:build", "data.npz", "nowhere:build"])
    assert {Path(one).resolve() for one in found} == {
        tmp_path / "files_shop.py",
        tmp_path / "package/__init__.py",
        tmp_path / "data.npz",
    }


def test_a_new_notebook_and_page_are_known_again(tmp_path):
    page = files_of("keras_ref.lesson").joinpath("assets/page.html").read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(Template(page).safe_substitute(language="en", title="Recipe"))
    (tmp_path / "note.ipynb").write_text(nbformat.writes(build_notebook("recipe1", epochs=1)))
    (tmp_path / "empty").touch()
    outputs = [
        Output(option="--output", path=str(tmp_path / "page.html"), kind="page", command="lesson"),
        Output(option="--notebook", path=str(tmp_path / "note.ipynb"), kind="notebook", command="lesson"),
        Output(option="--json", path=str(tmp_path / "empty"), kind="report", command="lesson"),
    ]
    refuse_outputs(outputs, force="--force")


# Faults of the disk ---------------------------------------------------------------------------------------------------

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
#: what a write consists of, each of which a full disk, or an interruption, may end
STEPS = ("open", "write", "flush", "fsync", "chmod", "replace")


class Ending:
    """A file whose method of a name raises an error, after half of the text where it is `write`."""

    def __init__(self, file, step, error):
        self._file, self._step, self._error = file, step, error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, text):
        self._file.write(text[: len(text) // 2])
        if self._step == "write":
            raise self._error
        self._file.write(text[len(text) // 2 :])

    def flush(self):
        if self._step == "flush":
            raise self._error
        self._file.flush()


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt(), MemoryError()], ids=repr)
@pytest.mark.parametrize("step", STEPS)
def test_a_write_that_ends_early_leaves_the_former_file(tmp_path, monkeypatch, step, error):
    target = tmp_path / "report.json"
    target.write_text("the former report")

    def ending(*_, **__):
        raise error

    opened = Path.open
    with monkeypatch.context() as patch:
        if step in ("chmod", "replace"):
            patch.setattr(Path, step, ending)
        elif step == "fsync":
            patch.setattr(files.os, step, ending)
        else:
            patch.setattr(
                Path,
                "open",
                ending if step == "open" else lambda *a, **k: Ending(opened(*a, **k), step, error),
            )
        with pytest.raises(CouldNotRun if error is FULL else type(error)) as caught:
            write("--json", str(target), "a new report")
    if error is FULL:
        assert str(caught.value) == (
            f"--json must name a file that can be written. Received: {target}: No space left on device. "
            "Choose another path."
        )
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"report.json": "the former report"}


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_file_that_may_not_grow(tmp_path):
    """A real limit: the kernel ends the write in the middle."""
    target = tmp_path / "report.json"
    target.write_text("the former report")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(CouldNotRun, match="File too large"):
            write("--json", str(target), "a new report" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"report.json": "the former report"}


def test_permissions_and_links_stay(tmp_path):
    target, link = tmp_path / "report.json", tmp_path / "link.json"
    target.write_text("{}")
    target.chmod(0o640)
    link.symlink_to(target)
    write("--json", str(link), "new")
    assert link.is_symlink()
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("new", 0o640)


def test_what_is_no_plain_file_is_written_as_it_is(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write("--json", str(pipe), "a report")
    reader.join()
    assert read == ["a report"]
    assert pipe.is_fifo()


@pytest.mark.parametrize("times", [50, pytest.param(3000, marks=pytest.mark.slow)])
def test_two_writers_of_one_file(tmp_path, times):
    """Whoever reads finds one report or the other, whole."""
    target = tmp_path / "report.json"
    texts = [json.dumps({"ok": name, "text": name * 20000}) for name in ("a", "b")]
    write("--json", str(target), texts[0])
    done = threading.Event()

    def keep_writing(text):
        while not done.is_set():
            write("--json", str(target), text)

    writers = [threading.Thread(target=keep_writing, args=(text,)) for text in texts]
    for writer in writers:
        writer.start()
    try:
        wrong = sum(target.read_text() not in texts for _ in range(times))
    finally:
        done.set()
        for writer in writers:
            writer.join()
    assert wrong == 0
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
