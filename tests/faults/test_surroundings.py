"""The command where its surroundings are odd: encodings, terminals, ways to start Python, folders, names in the way.

The default run asks for the version, which loads all modules of the command; the long form checks a model.
"""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.sampled,
    pytest.mark.skipif(sys.platform != "linux", reason="terminals, /proc"),
]

ROOT = Path(__file__).parents[2]
SHOP = """
import keras
def build():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")], name="small")
    model.compile(optimizer="sgd", loss="mse")
    return model
"""
#: modules of a user that are called as rooms of gradtwin, or as modules that it loads, are: none of them may be run
NAMESAKES = (
    *("errors", "inputs", "options", "reports", "evaluation", "comparison", "checks", "programs", "lesson", "campaign"),
    *("homework", "frontends", "supervision", "undoing", "own_modules", "coverage", "strategies", "translation", "cli"),
    *(
        "typing",
        "json",
        "inspect",
        "tempfile",
        "signal",
        "types",
        "numbers",
        "statistics",
        "random",
        "secrets",
        "queue",
    ),
    *("typer", "rich", "numpy", "keras", "tensorflow", "jsonschema", "h5py", "absl", "mpmath", "hypothesis", "pandas"),
)
ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
#: name → (variables, None for one that is not there; words after python; whether the output is a terminal)
SURROUNDINGS = {
    "an encoding without accents": (ASCII, (), False),
    "the same on a terminal": (ASCII, (), True),
    "a dumb terminal of one column": ({"TERM": "dumb", "COLUMNS": "1"}, (), True),
    "a terminal of one column": ({"TERM": "xterm", "COLUMNS": "1", "LINES": "1"}, (), True),
    "a terminal of ten thousand columns": ({"TERM": "xterm", "COLUMNS": "10000"}, (), True),
    "a terminal whose size is no number": ({"TERM": "", "COLUMNS": "wide"}, (), True),
    "without assertions and docstrings": ({}, ("-OO",), False),
    "with warnings as errors": ({}, ("-X", "dev", "-W", "error"), False),
    "without a search in the working directory": ({"PYTHONSAFEPATH": "1"}, (), False),
    "without a home": ({"HOME": None, "USER": None, "LOGNAME": None}, (), False),
    "a home that cannot be written to": (
        {"HOME": "/proc", "KERAS_HOME": "/proc", "XDG_CACHE_HOME": "/proc"},
        (),
        False,
    ),
    "a time zone that does not exist": ({"TZ": "Nowhere/Odd"}, (), False),
    "a folder for temporary files that does not exist": ({"TMPDIR": "/proc/none"}, (), False),
    "no path": ({"PATH": ""}, (), False),
}


def run_in(surroundings, folder, *words):
    """(status, output, error stream) of the command in a process of its own, which has no input."""
    variables, options, is_terminal = surroundings
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "GRADTWIN_"))}
    environment |= {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    for name, value in variables.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    code = "import os; os.close(0); from keras_ref.frontends.command_line.command import main; main()"
    ours, theirs = pty.openpty() if is_terminal else (None, subprocess.PIPE)
    with subprocess.Popen(
        [sys.executable, *options, "-P", "-c", code, *words],
        stdout=theirs,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=environment,
    ) as process:
        if is_terminal:
            os.close(theirs)
            shown = read_terminal(ours)
        else:
            shown = process.stdout.read()
        said = process.stderr.read()
    return process.returncode, shown.decode(), said.decode()


def read_terminal(end):
    shown = b""
    while True:
        try:
            shown += os.read(end, 65536)
        except OSError:  # EIO, when nobody has the other end
            os.close(end)
            return shown


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_the_version_anywhere(tmp_path, name):
    status, shown, said = run_in(SURROUNDINGS[name], tmp_path, "--version")
    assert (status, said) == (0, "")
    # on a terminal a line before it says that the command starts, and what is printed takes its place
    last = shown.replace("\r\n", "\n").rpartition("\r")[2]
    assert re.fullmatch(r"gradtwin \S+, keras \S+, tensorflow \S+, numpy \S+\n", last)


@pytest.mark.slow
@pytest.mark.parametrize("name", SURROUNDINGS)
def test_a_check_anywhere(tmp_path, name):
    (tmp_path / "surrounded.py").write_text(SHOP)
    status, shown, said = run_in(SURROUNDINGS[name], tmp_path, "check", "surrounded:build", "--json", "r.json")
    assert (status, said) == (0, ""), shown
    assert "22 of 22 entries compared: 6 match" in " ".join(shown.split())
    assert '"ok": true' in (tmp_path / "r.json").read_text()


def test_no_namesake_is_run(tmp_path):
    write_namesakes(tmp_path)
    status, shown, said = run_in(({}, (), False), tmp_path, "--version")
    assert (status, said) == (0, "")
    assert shown.startswith("gradtwin ") and not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_no_namesake_is_run_in_a_check(tmp_path):
    write_namesakes(tmp_path)
    words = ("check", "surrounded:build", "--json", "r.json", "--html", "r.html", "--junit", "r.xml")
    status, _, said = run_in(({}, (), False), tmp_path, *words)
    assert (status, said) == (0, "")
    assert not (tmp_path / "ran").exists()


def write_namesakes(folder):
    (folder / "surrounded.py").write_text(SHOP)
    for name in NAMESAKES:
        (folder / f"{name}.py").write_text(f"open('ran', 'a').write({name!r})\nraise RuntimeError\n")
