"""While the modules of the command load, and while Python ends the process: Ctrl-C, and what a terminal shows."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from interrupting import interruptible

pytestmark = [
    pytest.mark.sampled,
    pytest.mark.skipif(sys.platform != "linux", reason="copies of a process"),
]

ROOT = Path(__file__).parents[2]
#: copies of a process that has loaded nothing; each runs the command, and gets SIGINT where its n-th module is looked
#: for (0: when Python ends it). Prints [status, what it said] of each, and how many modules there are.
LOADING = """
import atexit, json, os, signal, sys, tempfile
from keras_ref.frontends.command_line import command

handler, places = json.loads(sys.argv[1])
sys.argv = ["gradtwin", "--version"]
signal.signal(signal.SIGINT, signal.SIG_IGN if handler == "ignored" else signal.default_int_handler)


class Interrupting:
    def __init__(self, at):
        self.at, self.seen = at, 0

    def find_spec(self, name, path=None, target=None):
        self.seen += 1
        if self.seen == self.at:
            os.kill(os.getpid(), signal.SIGINT)


def run(at):
    said = tempfile.TemporaryFile()
    child = os.fork()
    if not child:
        os.dup2(said.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        finder = Interrupting(at)
        sys.meta_path.insert(0, finder)
        if at == 0:
            atexit.register(os.kill, os.getpid(), signal.SIGINT)
        if at is None:
            atexit.register(lambda: print(finder.seen, file=sys.stderr))
        command.main()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said.seek(0)
    return status, said.read().decode()


outcomes = [run(at) for at in places]
print(json.dumps(outcomes))
"""
INTERRUPTED = [130, "gradtwin: Interrupted; the model is what it was.\n"]


def outcomes(handler, places):
    done = subprocess.run(
        [sys.executable, "-c", LOADING, json.dumps([handler, places])],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize("step", [250, pytest.param(10, marks=pytest.mark.slow)])
def test_an_interruption_while_modules_load(step, record_property):
    ((status, counted),) = outcomes("raises", [None])
    places = [*range(1, int(counted), step), 0]
    record_property("tries", len(places))
    assert status == 0 and int(counted) > 250
    assert dict(zip(places, outcomes("raises", places), strict=True)) == dict.fromkeys(places, INTERRUPTED)


def test_an_interruption_that_is_ignored():
    """As nohup does, and a shell for what it starts in the background."""
    assert outcomes("ignored", [5, 0]) == [[0, ""]] * 2


#: the command, which finds its modules after three seconds in which it does nothing else
SLOW = """
import sys, time
from keras_ref.frontends.command_line import command

class Waiting:
    def find_spec(self, name, path=None, target=None):
        if name == "keras_ref.frontends.command_line.cli":
            time.sleep(3)

sys.meta_path.insert(0, Waiting())
sys.argv = ["gradtwin", "--version"]
command.main()
"""


class Terminal:
    """A terminal of its own that runs a program; what came, with the longest time in which nothing did.

    interrupted   Ctrl-C is pressed when the first part has come
    """

    def __init__(self, program, *, interrupted=False, **environment):
        ours, theirs = pty.openpty()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", **environment}
        command = [sys.executable, "-c", program]
        self.text, self.silence, before = "", 0.0, time.monotonic()
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
            os.close(theirs)
            with contextlib.suppress(OSError):  # Linux ends a terminal that nobody has open with an error
                while part := os.read(ours, 4096):
                    self.text += part.decode()
                    self.silence, before = max(self.silence, time.monotonic() - before), time.monotonic()
                    if interrupted:
                        process.send_signal(signal.SIGINT)
                        interrupted = False
        os.close(ours)
        self.status = process.returncode

    @property
    def lines(self):
        """What is seen at the end: a return goes to the beginning of the line, and what follows is written over it."""
        return [self._overwrite(line) for line in self.text.split("\r\n")]

    @staticmethod
    def _overwrite(line):
        seen = ""
        for part in line.split("\r"):
            seen = part + seen[len(part) :]
        return seen.rstrip()


def test_a_terminal_shows_that_the_command_starts():
    """Whatever takes its time there; nothing of it is seen afterwards."""
    shown = Terminal(SLOW)
    assert shown.status == 0
    assert shown.silence < 2
    assert "gradtwin starts: 2 s" in shown.text
    assert shown.lines[0].startswith("gradtwin ") and "starts" not in "".join(shown.lines)


def test_an_interruption_while_the_command_starts():
    with interruptible():  # a command that is started where Ctrl-C is ignored ignores it, too
        shown = Terminal(SLOW, interrupted=True)
    assert shown.status == 130
    assert shown.lines == ["gradtwin: Interrupted; the model is what it was.", ""]


def test_a_terminal_that_cannot_go_back_shows_nothing_before_the_command():
    assert "starts" not in Terminal(SLOW, TERM="dumb").text


#: TensorFlow is loaded by a call that keeps Python's lock for three seconds
LOCKED = """
import ctypes, os
from keras_ref.inputs import targets
from keras_ref.frontends.command_line.starting import start_tensorflow

targets.import_quietly = lambda: ctypes.PyDLL(None).sleep(3)
start_tensorflow()
try:
    os.wait()
except ChildProcessError:
    print("nothing is left")
"""


def test_a_terminal_shows_that_tensorflow_is_loaded():
    """While nothing else runs in this process."""
    shown = Terminal(LOCKED)
    assert shown.status == 0
    assert shown.silence < 2
    assert "loading TensorFlow" in shown.text and "0:00:02" in shown.text
    assert shown.text.endswith("nothing is left\r\n")


#: Ctrl-C while the sentence is printed, and while Python ends
AGAIN = """
import atexit, os, signal, sys
from keras_ref.frontends.command_line import cli, command

class Stream:
    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        self.stream.write(text)
        os.kill(os.getpid(), signal.SIGINT)

def app(**options):
    sys.stderr = Stream(sys.stderr)
    raise KeyboardInterrupt

cli.app = app
atexit.register(os.kill, os.getpid(), signal.SIGINT)
command.main()
"""
#: Ctrl-C that comes to the process that watches, when the one that works has said so and ended
WATCHING = """
import os, signal
from keras_ref.frontends.command_line import cli, command
from keras_ref.frontends.endings.exit_status import WatchedEnded
from keras_ref.frontends.invocations import watching

wait = watching._wait

def wait_and_interrupt(child):
    ended = wait(child)
    os.kill(os.getpid(), signal.SIGINT)
    return ended

def app(**options):
    status = watching.watch(watching.Journal())
    if status is None:
        raise KeyboardInterrupt
    raise WatchedEnded(status)

watching._wait, cli.app = wait_and_interrupt, app
command.main()
"""


@pytest.mark.parametrize("program", [AGAIN, WATCHING], ids=["again", "watching"])
def test_the_sentence_is_said_once(program):
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert [done.returncode, done.stderr] == INTERRUPTED
