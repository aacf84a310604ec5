"""Files that are no files, declare much, or name code: one sentence in every front, no waiting, nothing obeyed."""

import functools
import os
import signal
import sys
import types
import zipfile
from contextlib import contextmanager
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import typer
from hostile_names import NAMES, has_only_visible_characters

from keras_ref.errors import CouldNotRun
from keras_ref.inputs import archives
from keras_ref.inputs.model_files import load_model_file
from keras_ref.inputs.tables import read_table
from keras_ref.inputs.targets import load_data
from keras_ref.lesson.live import read_questions
from keras_ref.lesson.page import build_page
from keras_ref.options import read_settings

#: seconds after which a front is said to wait for ever
PATIENCE = 60

SHOP = """
import keras

def build():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="shop")
    model.compile(optimizer="sgd", loss="mse")
    return model
"""
#: front → (how the name of a file ends, the arguments, {} for the file)
FRONTS = {
    "check": (".keras", ("check", "{}")),
    "check of an .h5 file": (".h5", ("check", "{}")),
    "updates": (".keras", ("updates", "{}")),
    "locate": (".h5", ("locate", "{}")),
    "minimise": (".keras", ("minimise", "{}")),
    "lesson": (".keras", ("lesson", "{}", "-o", "l.html")),
    "data": (".npz", ("check", "files_front:build", "--data", "{}")),
    "a table": (".csv", ("check", "files_front:build", "--data", "{}")),
    "a parquet table": (".parquet", ("updates", "files_front:build", "--data", "{}")),
    "data of a comparison": (".npz", ("compare", "keras:files_front:build", "keras:files_front:build", "--data", "{}")),
    "data of minimise": (".npz", ("minimise", "files_front:build", "--data", "{}")),
    "data of a lesson": (".npz", ("lesson", "files_front:build", "--data", "{}", "-o", "l.html")),
    "data of a notebook": (".npz", ("lesson", "files_front:build", "--data", "{}", "--notebook", "l.ipynb")),
    "questions": (".toml", ("lesson", "recipe1", "--epochs", "1", "--questions", "{}", "-o", "l.html")),
    "a report": (".json", ("replay", "{}")),
    "a report to minimise": (".json", ("minimise", "{}")),
    "homework": (".py", ("homework", "{}")),
    "campaign": (".jsonl", ("campaign", "keras.ops.square", "--file", "{}")),
}
#: what there is in the place of a file → what makes it
THERE = {
    "nothing": lambda path: None,
    "a folder": Path.mkdir,
    "a pipe that nobody writes to": os.mkfifo,
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nowhere": lambda path: path.symlink_to("nowhere/file"),
    "a device without end": lambda path: path.symlink_to("/dev/zero"),
    "an empty file": Path.touch,
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00model\n\x80"),
    "zeros": lambda path: path.write_bytes(bytes(1000)),
    "brackets": lambda path: path.write_text("a = " + "[" * 100_000),
    "commands": lambda path: path.write_bytes(b"\xef\xbb\xbf\x1b[2J\n::error::owned\n"),
    "a file without end": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 2**40),
}
#: a campaign's file that is not there, or is empty, is begun
BEGUN = ("nothing", "a link to nowhere", "an empty file")


@contextmanager
def in_time():
    """Raises: TimeoutError where the block waits for ever."""

    def end(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.sampled
@pytest.mark.parametrize("front", FRONTS)
def test_what_is_no_file_of_its_kind(gradtwin, tmp_path, monkeypatch, front):
    ending, arguments = FRONTS[front]
    gradtwin.write_module("files_front", SHOP)
    # a process runs one command; here many share what Typer reads from the functions of all commands
    monkeypatch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
    for i, (there, make) in enumerate(THERE.items()):
        if front == "campaign" and there in BEGUN:
            continue
        name = f"file{i}{ending}"
        make(tmp_path / name)
        with in_time():
            status, out, err = gradtwin(*[argument.format(name) for argument in arguments])
        assert status == 2, (there, out, err)
        if front == "homework" and "It could not be run." in out:  # a submission's refusal is a grade
            assert err == "" and has_only_visible_characters(out), there
            continue
        assert err.startswith("gradtwin: ") and err.count("\n") == 1, (there, err)
        assert has_only_visible_characters(err), there
        assert len(err) < 600, (there, err)
    assert not [path for path in tmp_path.iterdir() if path.name in ("l.html", "l.ipynb")]


# Declared sizes -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_bound(monkeypatch):
    """A bound that a test's file can exceed in no time."""
    monkeypatch.setattr(archives, "SMALL", 2**16)


def saved(path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    model.save(path)
    return path


@pytest.mark.parametrize("inside", [True, False], ids=["weights", "something else"])
def test_an_h5_file_that_declares_much(tmp_path, small_bound, inside):
    path = saved(tmp_path / "model.h5")
    with h5py.File(path, "a") as file:
        name, found = "extra", []
        if inside:
            file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
            name = found[-1]
            del file[name]
        file.create_dataset(name, shape=(2**20, 2**10), dtype="f4", chunks=(64, 64), compression="gzip")
    with pytest.raises(CouldNotRun, match=r"^A file must unpack to at most 8 times its size, or 0 MiB\. Received: "):
        load_model_file(str(path))


def test_a_parquet_table_that_declares_much(tmp_path, small_bound):
    arrow = pytest.importorskip("pyarrow", reason="needs gradtwin[pandas]")
    pytest.importorskip("pandas", reason="needs gradtwin[pandas]")
    from pyarrow import parquet

    path = str(tmp_path / "table.parquet")
    parquet.write_table(arrow.table({"x": np.zeros(2**20, np.float32), "y": np.zeros(2**20, np.float32)}), path)
    with pytest.raises(CouldNotRun, match=r"^A file must unpack to at most 8 times its size, or 0 MiB\. Received: "):
        read_table(path)
    parquet.write_table(arrow.table({"x": np.zeros(3), "y": np.zeros(3)}), path)
    assert [*read_table(path).columns] == ["x", "y"]


#: what the footer of a Parquet file declares: (bytes of each group of rows, rows, columns), and whether it is read
FOOTERS = {
    "a small one": ((24, 24), 6, 1, True),
    "much in one group": ((24, 2**20), 6, 1, False),
    "a little in many groups": ((2**10,) * 1000, 6, 1, False),
    "many rows of one value": ((24,), 2**40, 1, False),
    "many columns": ((24,), 1, 2**40, False),
    "a negative size": ((-(2**40), 2**40 + 2**20), 6, 1, False),
    "negative sizes alone": ((-(2**40),), -(2**40), 1, False),
}


class Frame:
    """What pandas reads, as far as its columns."""

    columns = ("x",)

    def __getitem__(self, name):
        return types.SimpleNamespace(to_numpy=lambda: np.array([1.0]))


@pytest.fixture
def stub_of_pandas(monkeypatch):
    """In the place of pandas and pyarrow, installed or not. Returns the module of each."""
    stubs = {name: types.ModuleType(name) for name in ("pandas", "pyarrow", "pyarrow.parquet")}
    for name, module in stubs.items():
        monkeypatch.setitem(sys.modules, name, module)
    return stubs


@pytest.mark.parametrize("name", FOOTERS)
def test_what_the_footer_of_a_parquet_table_declares(tmp_path, small_bound, stub_of_pandas, name):
    """What declares too much is refused before anybody reads it."""
    groups, rows, columns, is_read = FOOTERS[name]
    metadata = types.SimpleNamespace(
        num_rows=rows,
        num_columns=columns,
        num_row_groups=len(groups),
        row_group=lambda i: types.SimpleNamespace(total_byte_size=groups[i]),
    )
    read = []
    stub_of_pandas["pyarrow.parquet"].read_metadata = lambda path: metadata
    stub_of_pandas["pandas"].read_parquet = lambda path, **options: read.append(options) or Frame()
    path = tmp_path / "table.parquet"
    path.write_bytes(b"PAR1" + bytes(100))
    if is_read:
        assert [*read_table(str(path)).columns] == ["x"]
        assert read == [{"engine": "pyarrow"}]
        return
    with pytest.raises(CouldNotRun, match=r"^A file must unpack to at most 8 times its size, or 0 MiB"):
        read_table(str(path))
    assert not read


def test_without_the_library_whose_numbers_are_bounded_no_parquet_table_is_read(tmp_path, stub_of_pandas, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    path = tmp_path / "table.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(CouldNotRun, match=r"^A \.parquet table is read with pyarrow\. Received: "):
        read_table(str(path))


#: what the header of an array in an .npz file declares
HEADERS = {
    "more than there is": "{'descr': '<f8', 'fortran_order': False, 'shape': (100000000, 2), }",
    "more than any memory": "{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000000, 2), }",
    "less than nothing": "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 2), }",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (1, 2), }",
    "brackets": "(" * 9000,
    "code": "__import__('os').abort()",
    "another type": "{'descr': 'x9', 'fortran_order': False, 'shape': (1, 2), }",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_of_an_array(tmp_path, name):
    header, path = f"{HEADERS[name]}\n".encode(), str(tmp_path / "data.npz")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64))
    with pytest.raises(CouldNotRun) as caught:
        load_data(path)
    assert str(caught.value).startswith(f"--data must name an .npz file. Received: {path}: ")
    assert "\n" not in str(caught.value)


# Settings and questions -----------------------------------------------------------------------------------------------


#: [tool.gradtwin] that somebody else wrote
SETTINGS = {
    "brackets": "[tool.gradtwin]\nseed = " + "[" * 100_000,
    "a long value": '[tool.gradtwin]\nseed = "' + "a" * 100_000 + '"',
    "a long table": "[tool]\ngradtwin = [" + "1," * 100_000 + "]",
    "a command": '[tool.gradtwin]\nseed = "\\n::error::owned\\u001b[2J"',
    "a command for a key": '[tool.gradtwin]\n"\\n::error::owned\\u001b[2J" = 1',
    "a command for a choice": '[tool.gradtwin]\neffort = "\\n::error::owned\\u001b[2J"',
    "a command for a pattern": '[tool.gradtwin]\nexpect = ["\\n::error::owned\\u001b[2J"]',
    "a permission": '[tool.gradtwin]\nimport = ["os"]',
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_came_from_somewhere(gradtwin, tmp_path, name):
    (tmp_path / "pyproject.toml").write_text(SETTINGS[name])
    status, out, err = gradtwin("check", "nothing:build")
    assert (status, out) == (2, "")
    assert err.startswith("gradtwin: ") and err.count("\n") == 1
    assert has_only_visible_characters(err)
    assert len(err) < 1000


@pytest.mark.parametrize("there", ["a folder", "a pipe that nobody writes to", "a link to itself"])
def test_what_is_no_file_of_settings_is_none(tmp_path, there):
    (tmp_path / "pyproject.toml").write_text("[tool.gradtwin]\nseed = 3")
    (tmp_path / "inner").mkdir()
    THERE[there](tmp_path / "inner/pyproject.toml")
    with in_time():
        assert read_settings(tmp_path / "inner") == {"seed": 3}


QUESTION = {"kind": "moves", "ask": "?", "recipe": "recipe1"}


@pytest.mark.parametrize("value", [[], {}, 3, float("nan"), True, [[1]], "\n::error::owned"], ids=repr)
@pytest.mark.parametrize("name", ["kind", "ask", "recipe", "set", "activation", "loss", "batch", "rate"])
def test_questions_that_somebody_edited(tmp_path, monkeypatch, name, value):
    inside = name in ("activation", "loss", "batch", "rate")
    edited = {**QUESTION, **({"set": {name: value}} if inside else {name: value})}
    monkeypatch.setattr("keras_ref.lesson.live.tomllib.loads", lambda _: {"question": [edited]})
    path = tmp_path / "questions.toml"
    path.touch()
    legal = (name, repr(value)) in (("ask", "'\\n::error::owned'"), ("set", "{}"), ("batch", "3"), ("rate", "3"))
    if legal:
        assert read_questions(str(path))[0]["ask"]
        return
    with pytest.raises(CouldNotRun, match=rf"^`{'set' if inside else name}` of question 1 must be "):
        read_questions(str(path))


@pytest.mark.sampled
def test_the_text_of_a_question_is_shown_harmlessly():
    from test_hostile_lesson import lesson_of_names

    asked = [{**QUESTION, "set": {}, "because": name, "ask": name} for name in NAMES if name != "\ud800"]
    text = build_page(lesson_of_names(), questions=asked)
    assert "alert(1)</script>" not in text
    assert has_only_visible_characters(text.replace("\t", ""))
