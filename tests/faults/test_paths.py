"""Every option of every verb that names a file, with every text that names none: one sentence, and nothing is written.

Which options these are the command line says itself: the help shows FILE or FOLDER for them. What such an option leads
to (pipes, devices, disks, signals, other writers) is tried below.
"""

import errno
import functools
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import typer
from hostile_names import has_only_visible_characters
from hypothesis import given
from hypothesis import strategies as st

from keras_ref.errors import CouldNotRun
from keras_ref.frontends.command_line import cli
from keras_ref.frontends.command_line.path_command import PathCommand, is_path, name_path
from keras_ref.reports import files
from keras_ref.reports.files import Output, refuse_outputs, write

SHOP = """
import keras

def build():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="shop")
    model.compile(optimizer="sgd", loss="mse")
    return model
"""
APPLICATION = typer.main.get_command(cli.app)
#: verb → what it needs beside the path
BESIDE = {
    **dict.fromkeys(("check", "updates", "locate", "minimise"), ("paths_shop:build",)),
    "compare": ("keras:paths_shop:build", "keras:paths_shop:build"),
    "replay": ("report.json",),
    "homework": ("linear.py",),
    "campaign": ("keras.ops.square",),
    "findings": ("--list",),
    "lesson": ("paths_shop:build", "--epochs", "1"),
}
PARAMETERS = {
    f"{verb} {name_path(one)}": (verb, one)
    for verb, command in APPLICATION.commands.items()
    for one in command.params
    if is_path(one)
}
#: names of no file → what the sentence says of them
NO_NAMES = {
    "": "Received: ''. Pass a path, or leave it out.",
    "-": "Received: '-'. Pass ./- for a file of that name; /dev/stdout is what the command prints to, and its input is "
    "not read.",
    "~": "Received: '~'. Pass the path with $HOME: a shell replaces ~ only where a word begins with it.",
    "~/r.out": "Received: '~/r.out'. Pass the path with $HOME: a shell replaces ~ only where a word begins with it.",
}
#: names of files that cannot be there, or are none that is read or written
#: a folder that is made is made with those above it
MADE = ("nowhere/r.out", "r.out/")
NO_FILES = (
    "a\0b",
    "a\nb\x1b[2J",
    "a" * 5000,
    "folder",
    "nowhere/r.out",
    "r.out/",
    "circle",
    "dangling",
    "socket",
    "a/" * 3000,
)


def test_which_parameters_name_files():
    """Those whose help speaks of a file or a folder that is read or written, and no others."""
    assert all(isinstance(command, PathCommand) for command in APPLICATION.commands.values())
    speak = re.compile(
        r"\b(to|from) (this|its) (new )?(file|folder)|\.npz file|TOML file|Where to write|that --json wrote"
    )
    spoken = {
        f"{verb} {name_path(one)}"
        for verb, command in APPLICATION.commands.items()
        for one in command.params
        if speak.search(getattr(one, "help", "") or "") and one.opts[0] != "target"
    }
    texts = {"homework FILE", "campaign --table", "homework --new", "homework --junit"}
    assert spoken - {"homework --json"} <= set(PARAMETERS)
    assert set(PARAMETERS) - spoken <= texts
    assert len(PARAMETERS) > 30


@pytest.fixture
def places(gradtwin, tmp_path, monkeypatch):
    gradtwin.write_module("paths_shop", SHOP)
    (tmp_path / "linear.py").write_text('EXERCISE = "linear"\n')
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/inside").touch()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "dangling").symlink_to("nowhere/r.out")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
    # a process runs one command; here many share what Typer reads from the functions of all commands
    monkeypatch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
    return gradtwin


def listed(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if "__pycache__" not in path.parts)


@pytest.mark.sampled
@pytest.mark.parametrize("name", PARAMETERS)
def test_a_path_that_names_no_file(places, tmp_path, name):
    verb, parameter = PARAMETERS[name]
    if verb == "replay":
        assert places("check", *BESIDE["check"], "--json", "report.json").status == 0
    before = listed(tmp_path)

    def run(path):
        if parameter.param_type_name == "argument":
            return places(verb, path)
        return places(verb, *BESIDE[verb], name_path(parameter), path)

    for path, what in NO_NAMES.items():
        status, out, err = run(path)
        assert (status, out) == (2, ""), path
        assert err == f"gradtwin: {name_path(parameter)} must name a file. {what}\n"
    for path in NO_FILES:
        if name == "homework --new" and path in MADE:
            continue
        status, out, err = run(path)
        assert status == 2, (path, out, err)
        assert "This is an error of gradtwin's own" not in err, (path, err)
        if "It could not be run." in out:  # a submission's refusal is a grade
            assert has_only_visible_characters(out)
            continue
        assert err.startswith("gradtwin: ") and err.count("\n") == 1, (path, err)
        assert has_only_visible_characters(err), path
    assert listed(tmp_path) == before


# Where a path leads ---------------------------------------------------------------------------------------------------


def output(path, option="--json", kind="report"):
    return Output(option=option, path=str(path), kind=kind, command="check")


@given(st.lists(st.sampled_from([".", "..", "inner", "link", "away"]), max_size=4), st.booleans())
def test_one_file_by_two_names(tmp_path_factory, steps, same_name):
    """However a path is written: two options never name one file, and different files are not taken for one."""
    place = tmp_path_factory.mktemp("names")
    inner = place / "inner/inner/inner/inner"
    inner.mkdir(parents=True)
    for folder in (place, place / "inner", place / "inner/inner", place / "inner/inner/inner", inner):
        (folder / "link").symlink_to(folder)
        (folder / "away").symlink_to(place)
    here = place / "inner/inner"
    one, other = str(here / "r.out"), str(here.joinpath(*steps, "r.out" if same_name else "s.out"))
    if not Path(other).parent.is_dir():
        return
    outputs = [output(one), output(other, "--html", "page")]
    if os.path.realpath(one) != os.path.realpath(other):
        refuse_outputs(outputs)
        refuse_outputs([output(other)], inputs=[one])
        return
    with pytest.raises(CouldNotRun, match=r"^--html must not name the file that --json names\."):
        refuse_outputs(outputs)
    with pytest.raises(CouldNotRun, match=r"^--json must not name a file that the command reads\."):
        refuse_outputs([output(other)], inputs=[one])


@pytest.mark.parametrize("name", ["./r.out", "inner/../r.out", "inner/r.out", "with spaces ü.out", "link", "-r.out"])
def test_a_path_that_names_a_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()
    (tmp_path / "link").symlink_to("inner/new.out")
    refuse_outputs([output(name)], force="--force")
    write("--json", name, "text")
    assert Path(name).read_text() == "text"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_a_file_on_another_file_system():
    """What is written is renamed beside its place, and not moved from the folder of temporary files."""
    path = Path(f"/dev/shm/gradtwin-{os.getpid()}.out")
    try:
        refuse_outputs([output(path)], force="--force")
        write("--json", str(path), "text")
        assert path.read_text() == "text"
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("kind", ["block_device", "socket"])
def test_what_is_no_place_to_write_to(tmp_path, monkeypatch, kind):
    """A disk that is written to is lost; --force does not help."""
    monkeypatch.setattr(Path, f"is_{kind}", lambda path: path.name == "r.out")
    what = {"block_device": "it is a disk", "socket": "it is a socket"}[kind]
    with pytest.raises(CouldNotRun, match=rf"^--json must name a file that can be written\. Received: .*: {what}\."):
        refuse_outputs([output(tmp_path / "r.out")])


TEXT = "a line of a report\n" * 50_000


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_a_pipe_that_nobody_reads(pipe, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    refuse_outputs([output(pipe)])
    with pytest.raises(CouldNotRun) as caught:
        write("--json", str(pipe), TEXT)
    assert str(caught.value) == (
        f"--json must name a file that can be written. Received: {pipe}: nobody has read it for 0.1 seconds. Choose "
        "another path."
    )


@pytest.mark.parametrize("reads", [-1, 10], ids=["all of it", "a little of it"])
def test_a_pipe_whose_reader_comes_late(pipe, reads):
    read = []

    def come():
        time.sleep(0.1)
        with pipe.open() as file:
            time.sleep(0.1)  # until more is written than a pipe holds
            read.append(file.read(reads))

    reader = threading.Thread(target=come)
    reader.start()
    refused = ""
    try:
        write("--json", str(pipe), TEXT)
    except CouldNotRun as error:
        refused = str(error)
    reader.join()
    assert read == [TEXT if reads == -1 else TEXT[:10]]
    assert (f"Received: {pipe}: {os.strerror(errno.EPIPE)}." in refused) == (reads == 10)


WRITING = """
import sys
from keras_ref.reports.files import Output, refuse_outputs, write
refuse_outputs([Output(option="--json", path=sys.argv[1], kind="report", command="check")], force="--force")
write("--json", sys.argv[1], "a report\\n")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="names of streams, and of what a shell substitutes")
@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", ">(cat)"])
def test_names_of_streams(tmp_path, path):
    """The name of a stream is a link whose end has no name: `--json /dev/stdout | jq`, `--json >(gzip > r.gz)`."""
    (tmp_path / "writing.py").write_text(WRITING)
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} {tmp_path / 'writing.py'} {path} | cat"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("a report\n", "")


MODELS = ("net.pt", "net.PTH", "net.safetensors", "net.onnx", "net.pkl", "net.joblib", "table.tsv", "data.csv.gz")


@pytest.mark.parametrize("name", MODELS)
def test_models_and_data_of_other_libraries(tmp_path, name):
    """A factory may read them without its being known; --force does not help."""
    (tmp_path / name).write_text("hours of training")
    with pytest.raises(CouldNotRun, match=r"^--json must not name code, a model or data\."):
        refuse_outputs([output(tmp_path / name)])


def test_the_summary_of_a_step_is_no_report(tmp_path, monkeypatch):
    """It is appended to while the command runs, and a report would take its place."""
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    with pytest.raises(CouldNotRun) as refused:
        refuse_outputs([output(summary)])
    assert str(refused.value) == (
        f"--json must not name the summary of the step (GITHUB_STEP_SUMMARY). Received: {summary}. Choose another path."
    )
    refuse_outputs([output(tmp_path / "report.json")])


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a file")
def test_a_file_that_is_mounted_by_itself(gradtwin, tmp_path):
    """As a container has one that it was given: another cannot be put into its place. It is refused before the work."""
    source, target = tmp_path / "source", tmp_path / "a b\\report.json"
    source.write_text("")
    target.write_text("")
    done = subprocess.run(["mount", "--bind", str(source), str(target)], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("mounts a file")
    try:
        status, out, err = gradtwin("check", "none:build", "--json", str(target))
    finally:
        subprocess.run(["umount", str(target)], check=True)
    assert (status, out) == (2, "")
    assert err == (
        f"gradtwin: --json must name a file that can be written. Received: {target}: it is mounted by itself, and no "
        "other file can be put into its place. Choose another path.\n"
    )
    assert list(tmp_path.glob(".*")) == []
