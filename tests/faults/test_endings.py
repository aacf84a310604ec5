"""Every verb with every way in which its outputs, a signal or an error of gradtwin's own may end it.

Each try is a process of its own (ending.py), with what it would compute replaced. The default run takes two verbs.
"""

import json
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from ending import Outcome, Trial

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Verb:
    """A command, the status with which it ends, and the files that it writes."""

    arguments: tuple[str, ...]
    status: int = 0
    files: tuple[str, ...] = ()


THREE = ("--json", "r.json", "--html", "r.html", "--junit", "r.xml")
FILES = ("r.html", "r.json", "r.xml")
VERBS = {
    "check": Verb(("check", "m:right", *THREE), files=FILES),
    "a finding": Verb(("check", "m:wrong", "--json", "r.json"), 1, ("r.json",)),
    "a refusal": Verb(("check", "m:raises"), 2),
    "updates": Verb(("updates", "m:right", *THREE), files=FILES),
    "locate": Verb(("locate", "m:right", *THREE), files=FILES),
    "compare": Verb(("compare", "a", "b", *THREE), files=FILES),
    "minimise": Verb(("minimise", "m:right", "--script", "s.txt"), 1, ("s.txt",)),
    "findings": Verb(("findings", "--json", "r.json", "--html", "r.html"), files=("r.html", "r.json")),
    "findings --list": Verb(("findings", "--list")),
    "homework": Verb(("homework", "one.py", "--json", "r.json", "--junit", "r.xml"), files=("r.json", "r.xml")),
    "homework --new": Verb(("homework", "--new", "new"), files=tuple(f"new/{n}.py" for n in ("cnn", "linear", "relu"))),
    "lesson": Verb(("lesson", "recipe1", "-o", "l.html"), files=("l.html",)),
    "recipe": Verb(("recipe",)),
    "campaign": Verb(("campaign", "--file", "c.jsonl"), files=("c.jsonl",)),
    "campaign --list": Verb(("campaign", "--list")),
    "coverage": Verb(("coverage",)),
    "alone": Verb(()),
    "--version": Verb(("--version",)),
    "--help": Verb(("--help",)),
    "no such command": Verb(("chekc",), 2),
}
#: those of the default run
SAMPLE = ("check", "findings")


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """Tries what is given in one process that is copied for each: {name: Outcome}."""
    made = tmp_path_factory.mktemp("made")
    (made / "one.py").write_text('EXERCISE = "linear"\n')

    def run(trials):
        done = subprocess.run(
            [sys.executable, str(Path(__file__).parent / "ending.py"), str(made)],
            input=json.dumps([asdict(one) for one in trials.values()]),
            capture_output=True,
            text=True,
            check=False,
            env=environment(),
        )
        assert done.returncode == 0, done.stderr
        found = (Outcome(**{**one, "files": tuple(one["files"])}) for one in json.loads(done.stdout))
        return dict(zip(trials, found, strict=True))

    return run


def environment():
    import os

    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "GRADTWIN_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow", "TERM": "xterm-256color"}


pytestmark = [
    pytest.mark.sampled,
    pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full, and copies of a process"),
]
every_verb = pytest.mark.parametrize(
    "verbs",
    [pytest.param(SAMPLE, id="sample"), pytest.param(tuple(VERBS), id="every", marks=pytest.mark.slow)],
)
FULL = (
    "gradtwin: The output must be writable. Received: No space left on device. Redirect it to where there is space; "
    "--json writes a file.\n"
)
CLOSED = "gradtwin: The output must be open. Received: a closed stdout. Redirect it, to /dev/null if need be.\n"
#: what standard output is → (the status, what is said, whether files are written)
OUTPUTS = {"closed": (2, CLOSED, False), "full": (2, FULL, True), "gone": (141, "", True)}


def wrong_outputs(verb, trial, found):
    """What is not as it should be where the output is `trial.out`, and the error stream `trial.err`."""
    status, said, written = OUTPUTS.get(trial.out, (verb.status, None, True))
    if verb.status == 2 and trial.out != "closed":  # what says nothing on standard output meets no fault of it
        status, said = 2, None
    wrong = [] if found.status == status else [f"status {found.status} and not {status}"]
    if trial.err == "file" and said is not None and found.err != said:
        wrong.append(f"said {found.err!r}")
    if trial.err == "file" and said is None and bool(found.err) != (verb.status == 2):
        wrong.append(f"said {found.err!r}")
    if "Traceback" in found.err + found.out:
        wrong.append("a traceback")
    missing = {*verb.files} - {*found.files} if written else {*verb.files} & {*found.files}
    wrong += [f"files {missing}"] if missing else []
    wrong += ["left beside"] if any(name.endswith(".tmp") for name in found.files) else []
    return wrong


def all_wrong(trials, found, judge):
    """{trial: what is wrong} of those that are."""
    judged = {name: judge(VERBS[name[0]], trials[name], found[name]) for name in trials}
    return {name: wrong for name, wrong in judged.items() if wrong}


STREAMS = ("file", "closed", "full", "gone")


@every_verb
def test_outputs_of_any_kind(tried, verbs, record_property):
    """Standard output and error, each open, closed, full or read by nobody: 15 ways beside the usual one."""
    trials = {
        (name, out, err): Trial(arguments=VERBS[name].arguments, out=out, err=err)
        for name in verbs
        for out in STREAMS
        for err in STREAMS
    }
    record_property("tries", len(trials))
    assert all_wrong(trials, tried(trials), wrong_outputs) == {}


@every_verb
def test_an_output_that_ends_in_the_middle(tried, verbs, record_property):
    """A reader goes away, or the disk is full, after some bytes: all files are there."""
    trials = {
        (name, out, limit): Trial(arguments=VERBS[name].arguments, out=out, limit=limit)
        for name in verbs
        for out in ("full", "gone")
        for limit in (1, 7)
    }
    record_property("tries", len(trials))
    assert all_wrong(trials, tried(trials), wrong_outputs) == {}


INTERRUPTED = "gradtwin: Interrupted; the model is what it was.\n"
PARTS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)


def said_before(verb, found, last):
    """Whether nothing is said but `last`; what could not run may have said so already, in one line."""
    before, ended, _ = found.err.rpartition(last) if last else (found.err, True, "")
    return bool(ended) and found.err.endswith(last) and before.count("\n") <= (verb.status == 2)


def wrong_interruption(verb, trial, found):
    wrong = [] if found.status == 130 and said_before(verb, found, INTERRUPTED) else [(found.status, found.err)]
    return wrong + (["left beside"] if any(name.endswith(".tmp") for name in found.files) else [])


def wrong_end(verb, trial, found):
    number = {"SIGTERM": 15, "SIGHUP": 1}[trial.act]
    wrong = [] if found.status == -number and said_before(verb, found, "") else [(found.status, found.err)]
    return wrong + (["left beside"] if any(name.endswith(".tmp") for name in found.files) else [])


def wrong_error(verb, trial, found):
    """An error of gradtwin's own, wherever it is raised: 3, and the request to report it."""
    wrong = [] if found.status == 3 else [f"status {found.status}"]
    said = "gradtwin: This is an error of gradtwin's own. Received: Lost: lost."
    return wrong + ([] if trial.err != "file" or said in found.err else [found.err[-300:]])


def acting(verbs, act, parts, **options):
    return {
        (name, act, part): Trial(arguments=VERBS[name].arguments, act=act, at=part, **options)
        for name in verbs
        for part in parts
    }


@every_verb
def test_an_interruption_at_the_start_in_the_middle_and_at_the_end(tried, verbs, record_property):
    trials = acting(verbs, "SIGINT", PARTS)
    record_property("tries", len(trials))
    assert all_wrong(trials, tried(trials), wrong_interruption) == {}


@every_verb
def test_a_signal_that_ends_the_command(tried, verbs, record_property):
    trials = acting(verbs, "SIGTERM", (0.0, 0.5, 0.9)) | acting(verbs, "SIGHUP", (0.5,))
    record_property("tries", len(trials))
    assert all_wrong(trials, tried(trials), wrong_end) == {}


@every_verb
def test_an_error_of_gradtwins_own_anywhere(tried, verbs, record_property):
    trials = acting(verbs, "error", PARTS) | acting(verbs, "error", (0.4,), err="full")
    record_property("tries", len(trials))
    assert all_wrong(trials, tried(trials), wrong_error) == {}


@every_verb
def test_no_color_in_any_verb(tried, verbs, record_property):
    """On a terminal, whose colors are there without NO_COLOR."""
    plain = {
        (name, "NO_COLOR"): Trial(arguments=VERBS[name].arguments, out="tty", environment=(("NO_COLOR", "1"),))
        for name in verbs
    }
    record_property("tries", len(plain))
    colored = {("a finding", ""): Trial(arguments=VERBS["a finding"].arguments, out="tty")}
    found = tried(plain | colored)
    color = re.compile(r"\x1b\[[0-9;]*\b(3[0-7]|4[0-7]|9[0-7]|10[0-7]|38|48)\b[0-9;]*m")
    assert color.search(found["a finding", ""].out)
    assert [name for name in plain if color.search(found[name].out)] == []
    assert [name for name in plain if not found[name].out and VERBS[name[0]].status != 2] == []
