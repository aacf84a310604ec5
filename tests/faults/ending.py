"""Commands in copies of a process without TensorFlow, each with outputs, signals and errors of its own.

    python ending.py FOLDER        reads a list of Trials as JSON from standard input, prints a list of Outcomes

What commands compute is a stub; how they load, print, write and end is their own. A copy costs a few milliseconds, and
ends as any process does.
"""

import contextlib
import errno
import inspect
import io
import json
import os
import pty
import shutil
import signal
import sys
import tempfile
import time
import types
from dataclasses import asdict, dataclass
from pathlib import Path

#: seconds after which a copy is killed
PATIENCE = 20.0
#: the call from which on something happens: before it, main() calls what handles signals, and what catches errors
FIRST = {"error": 8, "SIGINT": 3, "SIGTERM": 3, "SIGHUP": 3}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A command, and what happens to it.

    out, err   where standard output and error go: file, closed, full, gone (a pipe that nobody reads), tty
    limit      bytes after which the output is full, or gone: at once where it is 0
    act        what happens after a part of all calls of gradtwin's functions: SIGINT, SIGTERM, SIGHUP, error
    at         the part, from 0 to 1
    """

    arguments: tuple[str, ...]
    out: str = "file"
    err: str = "file"
    limit: int = 0
    act: str = ""
    at: float = 0.0
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a command ended: its status (negative: a signal), what it wrote, and the files that were there then."""

    status: int
    out: str
    err: str
    files: tuple[str, ...]


# In the copy ----------------------------------------------------------------------------------------------------------


class Lost(Exception):
    """An error of gradtwin's own."""


class Ending(io.RawIOBase):
    """An output that takes some bytes, and then none, until the null device is in its place."""

    def __init__(self, *, limit, error):
        self.left, self.error = limit, error

    def writable(self):
        return True

    def fileno(self):
        return 1

    def write(self, data):
        taken = bytes(data)
        if os.fstat(1).st_rdev == Path(os.devnull).stat().st_rdev:
            return len(taken)
        if not self.left:
            raise OSError(self.error, os.strerror(self.error))
        taken = taken[: self.left]
        self.left -= len(taken)
        return os.write(1, taken)


def redirect(number, kind, file):
    """Let a standard stream go elsewhere, as a shell does. Returns what Python has for it."""
    if kind == "closed":
        os.close(number)
        return None
    if kind == "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), number)
    elif kind == "gone":
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, number)
    elif kind == "tty":
        os.dup2(TERMINAL[1], number)
    else:
        os.dup2(file.fileno(), number)
    options = {"encoding": "utf-8", "errors": "backslashreplace", "buffering": -1 if number == 1 else 1}
    return open(number, "w", closefd=False, **options)


def after_calls(part, act, counted):
    """Count calls of gradtwin's functions, in all processes of a command; act after a part of `counted`."""
    folder = str(Path(sys.modules["keras_ref"].__file__).parent)
    main, calls, acted = os.getpid(), 0, False
    # the last call is main()'s, when there is nothing left that could be lost
    when = None if counted is None else min(counted - 1, max(FIRST[act], round(part * counted)))

    def count(frame, event, _):
        nonlocal calls, acted
        if event != "call" or not frame.f_code.co_filename.startswith(folder):
            return
        calls += 1
        # Python swallows what is raised in a generator that it finalizes, which is a call, too
        if acted or when is None or calls < when or frame.f_code.co_flags & inspect.CO_GENERATOR:
            return
        acted = True
        sys.setprofile(None)
        if act == "error":
            raise Lost("lost")
        os.kill(main, getattr(signal, act))
        time.sleep(0.5)  # until what watches this process has passed it on

    sys.setprofile(count)
    return lambda: calls


def become(trial, streams, counted):
    """Make this copy the command of a trial. Returns what counts its calls."""
    os.environ.update(trial.environment)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # what started the tests may ignore it, and a child inherits that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout, sys.stderr = (
        redirect(number, kind, file) for number, kind, file in zip((1, 2), (trial.out, trial.err), streams, strict=True)
    )
    if trial.limit:
        error = errno.ENOSPC if trial.out == "full" else errno.EPIPE
        os.dup2(streams[0].fileno(), 1)
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(Ending(limit=trial.limit, error=error)), encoding="utf-8")
    sys.argv = ["gradtwin", *trial.arguments]
    return after_calls(trial.at, trial.act, counted) if trial.act else None


# Stubs ----------------------------------------------------------------------------------------------------------------


def stub():
    """In the place of all that needs TensorFlow: something to print and to write."""
    from keras_ref.campaign import ledger, records, standing
    from keras_ref.campaign.results import Result
    from keras_ref.errors import CouldNotRun
    from keras_ref.frontends.command_line import compare_cli, minimise_cli
    from keras_ref.frontends.invocations import invocation
    from keras_ref.homework.grades import Grade, StageResult
    from keras_ref.inputs import targets
    from keras_ref.lesson import cli as lesson_cli
    from keras_ref.reports.comparison import Comparison, Row
    from keras_ref.reports.verdict import Report, Verdict

    def run(self, target, progress=None, loaded=None):
        if target.endswith("raises"):
            raise CouldNotRun("A target must be right.")
        kind = "mismatch" if target.endswith("wrong") else "match"
        verdict = Verdict("v", "forward", kind, 4, 4, {kind: 4}, (0,), 1.0, 2.0, truncation=0.5, visible=1e-9)
        return Report(target, (verdict,), replay=self.for_target(target).replay())

    def module(name, **names):
        made = types.ModuleType(name)
        vars(made).update(names)
        sys.modules[name] = made

    operations = ("keras.ops.square", "keras.ops.relu")
    row = Row(stage="forward", a="a", b="b", difference=0.0, allowed=0.1)
    targets.import_quietly = lambda: None
    invocation.Invocation.run = run
    compare_cli.ComparisonRun.run = lambda self, progress=None: Comparison(a="a", b="b", rows=(row,))
    finding = ledger.Finding(
        **dict.fromkeys(("id", "kind", "where", "what", "source", "script", "affects"), "text"),
        found_in={},
        fixed_in={},
        seen_in=(),
        upstream="unreported",
    )
    ledger.load_findings, ledger.select_findings = (lambda: (finding,)), (lambda ids: (finding,))
    standing.find_standings = lambda chosen: [
        standing.Standing(finding=one, state="still there", said="1") for one in chosen
    ]
    minimised = types.SimpleNamespace(
        script="# gradtwin: one\n", notes=("note",), lines=1, finding="found", tried=1, seconds=0.0
    )
    minimise_cli.open_subject = lambda *given: lambda seconds, progress: minimised
    module("keras_ref.minimisation.minimise", NothingToMinimise=type("NothingToMinimise", (Exception,), {}))
    module("keras_ref.campaign.subjects", list_names=lambda *given: operations)
    module(
        "keras_ref.campaign.run",
        run_campaign=lambda names, **options: (Result(name=name, counts={"match": 3}) for name in names),
    )
    records.summarize = lambda results: ["nothing is accused"]
    module("keras_ref.coverage.printing", print_coverage=lambda out, run: out.print("covered") or True)
    module(
        "keras_ref.frontends.command_line.overview",
        show_overview=lambda out, **options: out.print("an overview") or True,
    )
    module(
        "keras_ref.homework.grading", grade=lambda path, *given, **options: graded(path), list_submissions=lambda p: p
    )
    module("keras_ref.lesson.lesson", make=lambda *given, **options: types.SimpleNamespace(note="n", verdict="v"))
    module("keras_ref.lesson.page", build_page=lambda made, **options: "<!doctype html><html><head></head></html>")
    module("keras_ref.lesson.words", read_words=lambda language: {})
    module("keras_ref.lesson.explain", SCHEMES=("forward",), explain_weight=lambda *given: ["explained"])
    module("keras_ref.lesson.lesson_model", make_recipe_model=lambda *given, **options: None)
    module("keras_ref.lesson.recipe_table", RECIPES=("recipe1", "recipe2"))
    lesson_cli._show = lambda out, *given, **options: out.print("a recipe")

    def graded(path):
        return Grade(path, "linear", (StageResult("forward", "right", "as Keras's"),))


# The process that is copied -------------------------------------------------------------------------------------------

TERMINAL = pty.openpty()


def copied(trial, made, counted=None):
    """Run a trial in a copy, in a folder of its own that begins as `made`. Returns (Outcome, how many calls it made).

    The copy leaves with SystemExit, and so as any process does.
    """
    from keras_ref.frontends.command_line import command

    folder, (read, write) = tempfile.mkdtemp(), os.pipe()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        shutil.copytree(made, folder, dirs_exist_ok=True)
        child = os.fork()
        if not child:
            os.chdir(folder)
            os.close(read)
            calls = become(trial, (out, err), counted)
            try:
                command.main()
            finally:
                sys.setprofile(None)
                if calls is not None:
                    os.write(write, f"{calls()} ".encode())
        os.close(write)
        status = waited(child)
        with os.fdopen(read) as told:
            calls = max(map(int, told.read().split()), default=0)
        texts = [texts_of(stream) for stream in (out, err)]
        if "tty" in (trial.out, trial.err):
            texts[0] += terminal_text()
        names = sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())
        shutil.rmtree(folder)
        outcome = Outcome(status=status, out=texts[0], err=texts[1], files=tuple(names))
        return outcome, calls


def load_what_commands_load():
    """Modules that are imported where they are first needed: copies have them from here."""
    from keras_ref.frontends.command_line import cli
    from keras_ref.supervision.supervise import WATCHED

    os.environ[WATCHED] = "1"  # no process is made that watches this one
    for arguments in (["--help"], ["check", "m:right"]):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            sys.argv = ["gradtwin", *arguments]
            cli.main()
    del os.environ[WATCHED]


def waited(child):
    until = time.monotonic() + PATIENCE
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)


def texts_of(stream):
    stream.seek(0)
    return stream.read().decode()


def terminal_text():
    os.set_blocking(TERMINAL[0], False)
    found = b""
    while True:
        try:
            found += os.read(TERMINAL[0], 65536)
        except BlockingIOError:
            return found.decode()


def run_trials(trials, made):
    """The outcomes of all trials."""
    counts, found = {}, []
    for trial in trials:
        if trial.act and trial.arguments not in counts:
            counting = Trial(arguments=trial.arguments, act="error")
            counts[trial.arguments] = copied(counting, made)[1]
        found.append(copied(trial, made, counts.get(trial.arguments, 0))[0])
    return found


if __name__ == "__main__":
    given, begun_as = json.load(sys.stdin), sys.argv[1]
    stub()
    load_what_commands_load()
    outcomes = run_trials([Trial(**{**one, "arguments": tuple(one["arguments"])}) for one in given], begun_as)
    print(json.dumps([asdict(one) for one in outcomes]))
