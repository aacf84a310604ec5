"""Each way in which the command ends has an exit status and a sentence of its own; 1 is that of a finding alone."""

import errno
import io
import os
import pty
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.console import Console

from keras_ref.errors import BadInput, CouldNotRun
from keras_ref.frontends.command_line import cli
from keras_ref.frontends.endings.exit_status import run_application
from keras_ref.frontends.invocations.invocation import Invocation
from keras_ref.reports import terminal
from keras_ref.reports.verdict import Kind, Report, Verdict

REPORT = Report("shop", (Verdict("w", "forward", Kind.MATCH, 1, 1, {"match": 1}, (0,), 1.0, 1.0, visible=1e-9),))


def raising(error):
    def command(prog_name, standalone_mode):
        raise error

    return command


INTERNAL = (
    "gradtwin: This is an error of gradtwin's own. Received: KeyError: lost. Please report it with the lines above; it "
    "says nothing about the model.\n"
)
FULL = (
    "gradtwin: The output must be writable. Received: No space left on device. Redirect it to where there is space; "
    "--json writes a file.\n"
)
ENDS = {
    "nothing failed": (lambda prog_name, standalone_mode: None, 0, ""),
    "a finding": (raising(typer.Exit(1)), 1, ""),
    "could not run": (raising(CouldNotRun("A target must exist.")), 2, "gradtwin: A target must exist.\n"),
    "bad input": (raising(BadInput("`x` must be finite.")), 2, "gradtwin: `x` must be finite.\n"),
    "an internal error": (raising(KeyError("lost")), 3, INTERNAL),
    "an internal ValueError": (raising(ValueError("lost")), 3, INTERNAL.replace("KeyError", "ValueError")),
    "Ctrl-C": (raising(KeyboardInterrupt()), 130, "gradtwin: Interrupted; the model is what it was.\n"),
    "a broken pipe": (raising(BrokenPipeError(errno.EPIPE, "Broken pipe")), 141, ""),
    "a full disk under stdout": (
        raising(OSError(errno.ENOSPC, "No space left on device")),
        2,
        FULL,
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_an_end(capsys, name):
    command, status, said = ENDS[name]
    assert run_application(command) == status
    out, err = capsys.readouterr()
    assert out == ""
    if status == 3:
        assert err.startswith("Traceback (most recent call last):")
        assert err.endswith(said)
    else:
        assert err == said


PRINTING = """
import sys
from keras_ref.frontends.endings.exit_status import run_application
import typer

def command(prog_name, standalone_mode):
    for _ in range(10000):
        print("a line of a report")
    raise typer.Exit(0)

sys.exit(run_application(command))
"""


@pytest.mark.sampled
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110 (a device)
def test_real_outputs():
    """A disk that is full, a reader that has gone, an output that is closed."""
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    with open("/dev/full", "w") as full:  # noqa: PTH123 (a device)
        done = subprocess.run(
            [sys.executable, "-c", PRINTING],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=environment,
        )
    assert done.returncode == 2
    assert done.stderr == FULL

    with subprocess.Popen(
        [sys.executable, "-c", PRINTING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        process.stdout.close()
        assert process.wait() == 141
        assert process.stderr.read() == ""

    done = subprocess.run(
        f"{sys.executable} -c '{PRINTING}' >&-",
        shell=True,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "gradtwin: The output must be open. Received: a closed stdout. Redirect it, to /dev/null if need be.\n"
    )


class Gone(io.StringIO):
    """An output whose reader goes away after some characters."""

    def write(self, text):
        if self.tell() > 10:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        return super().write(text)


def test_files_are_written_although_nobody_reads_the_output(gradtwin, tmp_path, monkeypatch):
    monkeypatch.setattr(Invocation, "run", lambda *_: REPORT)
    monkeypatch.setattr(sys, "stdout", Gone())
    monkeypatch.setattr(sys, "argv", ["gradtwin", "check", "shop:build", "--json", "report.json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 141
    assert '"subject": "shop"' in (tmp_path / "report.json").read_text()


@pytest.mark.parametrize("error", [KeyError("lost"), ValueError("lost"), RuntimeError("lost")])
def test_errors_of_gradtwin_are_no_findings(gradtwin, monkeypatch, error):
    """What a line of gradtwin itself raises is status 3; what the model's code raises is status 2."""
    target = gradtwin.write_module("exit_shop", "import numpy as np\ndef build(): raise KeyError('mine')\n")
    assert gradtwin("check", target).status == 2
    monkeypatch.setattr("keras_ref.frontends.invocations.invocation.is_own", lambda _: True)

    def check(*_):
        raise error

    monkeypatch.setattr(Invocation, "_check", check)
    status, _, err = gradtwin("check", target)
    assert status == 3
    assert err.endswith("it says nothing about the model.\n")


def test_no_color(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)

    def printed():
        out = Terminal()
        console = terminal.make_console()
        assert isinstance(console, Console)
        console.file = out
        console.print("red", style="red")
        return out.getvalue()

    assert "\x1b[31m" in printed()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in printed()


class Ended(BaseException):
    """What is no Exception."""


#: what a target raises that Python makes a trace and the status 1 of
ENDING = {
    "a cancelled task": "import asyncio\nraise asyncio.CancelledError('mine')",
    "a skipped test": "import pytest\npytest.skip('mine')",
    "an end of a generator": "raise GeneratorExit('mine')",
    "a group": "raise BaseExceptionGroup('mine', [KeyboardInterrupt()])",
    "an error of their own": "raise type('Ended', (BaseException,), {})('mine')",
}
SHOP = """
import keras

class Ending(keras.layers.Layer):
    def call(self, x):
        if x.dtype == "float64":
            end()
        return x

def end():
    {}

def build():
    end()

def layer():
    model = keras.Sequential([keras.Input((1,)), Ending()])
    model.compile("sgd", "mse")
    return model

def right():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model
"""


@pytest.mark.parametrize("name", ENDING)
@pytest.mark.parametrize("factory", ["build", "layer"])
def test_a_target_that_raises_what_is_no_exception(gradtwin, name, factory):
    """It could not be run, and the other targets go on."""
    gradtwin.write_module("ending_shop", SHOP.format(ENDING[name].replace("\n", "\n    ")))
    status, out, err = gradtwin("check", f"ending_shop:{factory}", "ending_shop:right")
    assert status == 2
    assert err.startswith(f"gradtwin: A target must leave the process running. Received: ending_shop:{factory}, which ")
    assert "mine" in err
    assert err.count("\n") == 1
    assert "match" in out


def test_what_is_no_exception_anywhere(capsys):
    assert run_application(raising(Ended("mine"))) == 2
    assert capsys.readouterr().err.startswith("gradtwin: A target must leave the process running. Received: the code ")


#: what a target does to the standard streams
STREAMS = {
    "closed": "sys.stdout.close(); sys.stderr.close()",
    "none": "sys.stdout = sys.stderr = None",
    "others": "sys.stdout = sys.stderr = io.StringIO()",
    "closed and others": "sys.stdout.close(); sys.stdout = io.StringIO(); sys.stdout.close()",
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", STREAMS)
def test_a_target_that_takes_the_standard_streams(tmp_path, name):
    """The report is printed, and the status is that of the check."""
    code = (
        SHOP.format("pass")
        .replace("import keras", "import io, sys, keras")
        .replace("def right():", f"def right():\n    {STREAMS[name]}")
    )
    (tmp_path / "streams_shop.py").write_text(code)
    command = [sys.executable, "-m", "keras_ref", "check"]
    path = os.pathsep.join([str(Path(cli.__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": path}
    done = [
        subprocess.run(
            [*command, f"streams_shop:{target}"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        for target in ("right", "nothing")
    ]
    assert [one.returncode for one in done] == [0, 2]
    assert "6 match" in done[0].stdout
    assert done[0].stderr == ""


def close_pair():
    ours, theirs = socket.socketpair()
    ours.close()
    return theirs.detach()


def reset_connection():
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
    ours.close()
    return theirs.detach()


def hang_up():
    ours, theirs = pty.openpty()
    os.close(ours)
    return theirs


@pytest.mark.sampled
@pytest.mark.skipif(sys.platform != "linux", reason="terminals")
@pytest.mark.parametrize("make", [close_pair, reset_connection, hang_up])
def test_an_output_whose_other_end_is_gone(make, tmp_path):
    """The error of a write is another one for each, and none is of gradtwin's own."""
    output = make()
    words = [sys.executable, "-m", "keras_ref", "--version"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        words, stdout=output, stderr=subprocess.PIPE, env=environment, cwd=tmp_path, check=False, text=True
    )
    os.close(output)
    assert (done.returncode, done.stderr) == (141, "")
