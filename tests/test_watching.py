"""A target that kills its process without --isolate could not run: one sentence, status 2, and the others go on.

The processes load no TensorFlow: what a target does is said by a stub, and each costs about a second.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how a process was ended and by whom")

ROOT = Path(__file__).parents[1]
#: the command, with checks that only do what the name of their target says
COMMAND = """
import ctypes, os, signal, sys, time
from keras_ref.errors import CouldNotRun
from keras_ref.frontends.command_line import cli
from keras_ref.frontends.invocations import invocation
from keras_ref.inputs import targets
from keras_ref.reports.verdict import Report, Verdict

DEATHS = {
    "aborts": os.abort,
    "is_killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfaults": lambda: ctypes.string_at(0),
    "ends_in_c": lambda: ctypes.CDLL(None)._exit(0),
    "stops_itself": lambda: os.kill(os.getpid(), signal.SIGTERM),
}

def run(self, target, progress=None, loaded=None):
    name = target.partition(":")[2]
    if name == "raises":
        raise CouldNotRun("A target must be right.")
    if name == "waits":
        print("waiting", os.getpid(), flush=True)
        time.sleep(60)
    DEATHS.get(name, lambda: None)()
    word = "mismatch" if name == "wrong" else "match"
    return Report(target, (Verdict("v", "forward", word, 4, 4, {word: 4}, (0,), 1.0, 2.0, truncation=0.5),))

# what started the tests may ignore signals (nohup, a shell's background), and a child inherits that
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
invocation.Invocation.run = run
targets.import_quietly = lambda: None
cli.main()
"""
SAID = {
    "aborts": "was killed by SIGABRT",
    "is_killed": "was killed by SIGKILL",
    "segfaults": "was killed by SIGSEGV",
    "ends_in_c": "ended with exit status 0",
    "stops_itself": "was killed by SIGTERM",
}


def start(*arguments, **options):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "GRADTWIN_"))}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def sentence(name):
    return (
        f"A target must leave the process running. Received: m:{name}, whose process {SAID[name]}. Look at the "
        "operation that ends it; with --isolate its last words are shown."
    )


@pytest.mark.sampled
def test_every_death_is_a_sentence_and_the_others_go_on(tmp_path):
    """All ways to die in one command: the targets before, between and behind them are checked, each once."""
    names = ["right", "aborts", "is_killed", "raises", "wrong", "segfaults", "ends_in_c", "stops_itself", "last"]
    outputs = [word for kind in ("json", "html", "junit") for word in (f"--{kind}", f"all.{kind}")]
    process = start("check", *(f"m:{name}" for name in names), *outputs, cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    dead = [name for name in names if name in SAID]
    assert process.returncode == 2
    refusals = [
        sentence(name) if name in SAID else "A target must be right." for name in names if name in {*dead, "raises"}
    ]
    assert err.splitlines() == [f"gradtwin: {refusal}" for refusal in refusals]
    assert [
        line.partition(":")[2][:5] for line in out.splitlines() if line.startswith("m:") and "1 variable" in line
    ] == [
        "right",
        "wrong",
        "last:",
    ]
    document = json.loads((tmp_path / "all.json").read_text())
    assert [(one["target"], one["ok"]) for one in document["reports"]] == [
        ("m:right", True),
        ("m:wrong", False),
        ("m:last", True),
    ]
    assert (document["ok"], document["could_not_run"]) == (False, refusals)
    suites = {suite.get("name"): suite for suite in ET.parse(tmp_path / "all.junit").getroot()}
    assert {name: suite[0].find("error").get("message") for name, suite in suites.items() if name[2:] in SAID} == {
        f"m:{name}": sentence(name) for name in dead
    }
    page = (tmp_path / "all.html").read_text()
    assert all(f"m:{name}" in page for name in ("right", "wrong", "last"))


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("targets", "status"), [(["right"], 0), (["wrong"], 1), (["raises"], 2), (["right", "aborts"], 2)], ids=str
)
def test_the_exit_status_is_that_of_the_worst(tmp_path, targets, status):
    process = start("check", *(f"m:{name}" for name in targets), cwd=tmp_path)
    process.communicate(timeout=60)
    assert process.returncode == status


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)],
    ids=str,
)
def test_a_signal_to_the_command_ends_both_processes(tmp_path, number, status):
    with start("check", "m:waits", "m:right", cwd=tmp_path) as process:
        try:
            child = int(process.stdout.readline().split()[1])
            assert child != process.pid
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == status
    assert "must leave the process running" not in err
    until = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not Path(f"/proc/{child}").exists()


@pytest.mark.sampled
def test_watching_costs_little(tmp_path):
    """A fork of a process without TensorFlow, and nothing else: far less than a tenth of a second."""
    code = (
        "import time\nfrom keras_ref.frontends.command_line import cli\n"
        "from keras_ref.frontends.invocations.watching import Journal, watch\n"
        "begun = time.perf_counter()\nstatus = watch(Journal())\n"
        "if status is None:\n    print(time.perf_counter() - begun)\nraise SystemExit(status or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert 0 < float(done.stdout) < 0.5  # 2 ms on an idle machine


# In pytest ------------------------------------------------------------------------------------------------------------

STUBS = """
import os
from keras_ref.frontends.invocations import invocation
from keras_ref.frontends.invocations import variable_names
from keras_ref.inputs import targets
from keras_ref.reports.verdict import Report, Verdict

def load(target):
    if target == "m:dies_when_loaded":
        os.abort()
    return "model", "x", "y", None

def run(self, target, progress=None, loaded=None, executor=None):
    if target == "m:dies_when_checked":
        os.abort()
    return Report(target, (Verdict("v", "forward", "match", 4, 4, visible=1e-9),))

targets.import_quietly = lambda: None
targets.load_target = load
variable_names.list_variable_names = lambda model, x, seed: ["v"]
invocation.Invocation.run = run
"""


@pytest.mark.sampled
def test_pytest_begins_again_without_what_ended_it(pytester):
    """A target that dies where it is loaded, one where it is checked, and a test that has nothing to do with them."""
    pytester.makeconftest(STUBS)
    pytester.makepyfile("import os\n\ndef test_plain(): pass\n\ndef test_that_dies(): os.abort()\n")
    targets = ["m:right", "m:dies_when_loaded", "m:dies_when_checked", "m:last"]
    result = pytester.runpytest_subprocess(
        *("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", "-p", "no:faulthandler"),
        *("--gradtwin-json", "all.json"),
        *(word for target in targets for word in ("--gradtwin", target)),
    )
    assert result.ret == 1
    result.assert_outcomes(passed=3, failed=2, errors=1)
    told = [line for line in result.errlines if line.startswith("gradtwin: ")]
    assert [line.partition("Received: ")[2].partition(",")[0] for line in told] == [
        "m:dies_when_loaded",
        "test_pytest_begins_again_without_what_ended_it.py::test_that_dies",
        "m:dies_when_checked",
    ]
    assert all("whose process was killed by SIGABRT" in line for line in told)
    assert told[0].removeprefix("gradtwin: ") in result.stdout.str()
    reports = json.loads((pytester.path / "all.json").read_text())["reports"]
    assert [report["subject"] for report in reports] == ["m:right", "m:last"]
