"""The subjects of test_isolation.py and odd_subjects.py wherever else gradtwin runs something in a process of its own:
each front says how it ended, within the limits. Nothing of it is left running, and none of its temporary files.

Small programs stand in the place of the command. The default run takes three subjects for each front.
"""

import io
import re
import signal
import sys
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from odd_subjects import ODD
from test_isolation import FAULTS, LIMITS, MARK, nothing_is_left

from keras_ref.coverage import processes as examples
from keras_ref.errors import CouldNotRun
from keras_ref.frontends.command_line import minimise_cli
from keras_ref.frontends.invocations import isolation
from keras_ref.frontends.invocations.invocation import Invocation
from keras_ref.minimisation import running
from keras_ref.programs import remote, wire
from keras_ref.supervision import processes

pytestmark = [
    pytest.mark.sampled,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc"),
]

#: subjects that only these fronts have met
MORE = {
    "stops its supervisor": ("os.kill(os.getppid(), signal.SIGSTOP); time.sleep(600)", {"seconds": 1}, None),
    "writes what is no answer": ("os.write(1, b'\\x00' * 64); time.sleep(600)", {"seconds": 1}, None),
    "writes what looks like a result": ("print('{\"name\": 3}\\n{]'); os._exit(5)", {}, "ended with exit status 5"),
}
SUBJECTS = {**FAULTS, **MORE, **ODD}
SAMPLE = ("aborts", "forks twice, as a daemon does", "eats memory in a child")
INVOCATION = Invocation("check", ("shop:build",), "", {"isolate": True})


def load(program, seconds):
    """pytest --gradtwin-isolate loads a target."""
    return isolation.read_isolated_names(INVOCATION, "shop:build").summary()


def check(program, seconds):
    """pytest --gradtwin-isolate and `check --isolate` check a target."""
    return isolation.run_isolated(INVOCATION, "shop:build").summary()


def minimise(program, seconds):
    """`minimise --isolate`."""
    with pytest.raises(CouldNotRun) as refused:
        minimise_cli.run_isolated("shop:build", "")
    return str(refused.value)


def take_turns(program, seconds):
    """The operations of a campaign, the examples of coverage, the scripts of findings."""
    (answer,) = examples.run_in_turn(["shop:build"], command=lambda _: program, patience=min(seconds, 30))
    assert (answer.name, answer.result) == ("shop:build", None)
    return f"shop:build {answer.ended}"


def ask(program, seconds):
    """Students' submissions and programs that are compared."""
    worker = remote.Worker("tensorflow")
    try:
        with pytest.raises(CouldNotRun) as refused:
            worker.ask("shop:build", "facts", {"much": "x" * 2**17}, time_limit=min(seconds, 5))
    finally:
        worker.close()
    return str(refused.value)


def run_script(program, seconds):
    """A script that was minimised."""
    code = program[program.index("-c") + 1]
    return f"shop:build {running.exit_status_of(code, seconds=min(seconds, 30))}"


#: (front, subject) → how it ends there otherwise
OTHERWISE = {
    # its process goes on without the supervisor, and does not answer
    **{
        ("ask", f"kills its supervisor and {what}"): "must answer within 5 seconds"
        for what in ("does not end with it", "leaves a daemon")
    },
    # it reads what it is asked, as far as the first line
    ("ask", "asks"): "ended with exit status",
    # it writes 64 MiB to nobody
    ("take_turns", "complains at once"): "ended the process (status 0)",
    # a child that it has left writes to where it answers, which has a limit
    ("take_turns", "leaves a child that prints without end"): "was stopped after 4 MiB of output",
    # who reads these does not take the status of a shell for a signal
    ("take_turns", "ends as a shell says of a signal"): "ended the process (status 134)",
    ("run_script", "ends as a shell says of a signal"): "shop:build 134",
    # what it prints counts
    **{
        ("take_turns", f"prints {what}"): "was stopped after 4 MiB of output"
        for what in ("without end", "without a newline", "what is no text")
    },
    # it does not read what it is asked
    **{
        ("ask", f"prints {what}"): "must answer within 5 seconds"
        for what in ("without end", "without a newline", "what is no text")
    },
}
FRONTS = (load, check, minimise, take_turns, ask, run_script)


def endings(how):
    """How a front may say that a subject ended: in the words of test_isolation.py, or in its own."""
    if how is None or how.startswith("stopped"):
        by_time = (
            "was killed by SIGKILL",  # by the front, after its own time
            *("was stopped after 1 s without a result", "must answer within 1 seconds", "shop:build None"),
            *("stopped after the time limit of 1 s", "must leave its answers to gradtwin"),
            *("stopped after 30 s without a result", "stopped after 4 MiB of output"),
            "stopped, for the process that supervises it",
        )
        return (how, *by_time) if how else by_time
    found = re.fullmatch(r"killed by (SIG\w+)|ended with exit status (\d+)", how)
    status = -getattr(signal, found[1]) if found[1] else int(found[2])
    turn = f"killed the process (signal {-status})" if status < 0 else f"ended the process (status {status})"
    # a process that reads what it is asked may be written to when it has ended
    return how, turn, f"shop:build {status}", "must leave its answers to gradtwin"


@pytest.fixture
def limited(monkeypatch):
    """The limits of test_isolation.py in the place of those that commands have. Returns what sets the seconds."""

    def limit(seconds, program):
        for module in (processes, examples, remote, running, isolation):
            for name, value in (("default_memory", lambda: LIMITS.bytes), ("OUTPUT", LIMITS.output)):
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, value)
        monkeypatch.setattr(isolation, "choose_limits", lambda _: type(LIMITS)(**{**vars(LIMITS), "seconds": seconds}))
        monkeypatch.setattr(minimise_cli, "ISOLATED", seconds)
        monkeypatch.setattr(processes, "GRACE", 1.0)
        for module in (isolation, remote):
            monkeypatch.setattr(module, "own_command", lambda *_, **__: program)
        monkeypatch.setattr("keras_ref.own_modules.own_command", lambda *_: program)

    return limit


@pytest.mark.parametrize(
    "name", [name if name in SAMPLE else pytest.param(name, marks=pytest.mark.slow) for name in SUBJECTS]
)
@pytest.mark.parametrize("front", FRONTS, ids=lambda front: front.__name__)
@pytest.mark.usefixtures("own_temporary_files")
def test_a_subject_in_every_front(front, name, monkeypatch, limited):
    code, limits, how = SUBJECTS[name]
    seconds = limits.get("seconds", LIMITS.seconds)
    program = [sys.executable, "-c", f"import os, signal, subprocess, sys, time\n{code}", MARK]
    monkeypatch.setenv("GRADTWIN_FAULT_MARK", MARK)
    limited(seconds, program)
    begun = time.monotonic()
    said = front(program, seconds)
    # what prints without end, or ends nothing, is stopped by the time of a front that has no other limit for it
    assert time.monotonic() - begun < 45
    assert "shop:build" in said
    other = OTHERWISE.get((front.__name__, name))
    assert any(ending in said for ending in (endings(how) if other is None else (other,))), said
    assert nothing_is_left()


def test_what_is_printed_before_a_result_is_limited(limited):
    """A line of a result begins the count again, whatever has been printed between results altogether."""
    printing = (
        "import json, sys\nfor name in sys.argv[1:]: print('x\\n' * (3 * 2**19)); print(json.dumps({'name': name}))"
    )
    names = ["a", "b", "c"]
    limited(30, [])
    found = examples.run_in_turn(names, command=lambda left: [sys.executable, "-c", printing, *left])
    assert [(one.name, one.ended) for one in found] == [(name, "") for name in names]
    printing = printing.replace("2**19", "2**20")
    (one,) = examples.run_in_turn(["a"], command=lambda left: [sys.executable, "-c", printing, *left])
    assert (one.result, one.ended) == (None, "was stopped after 4 MiB of output")


@pytest.mark.parametrize("said", ["{", "[3]", '{"status": 0}', "x" * 2**21], ids=["half", "a list", "a part", "much"])
def test_what_a_command_says_in_the_place_of_its_supervisor(said):
    """It is no end; the supervisor, which then cannot say how the command ended, is."""
    forging = f"import os; open(f'/proc/{{os.getppid()}}/fd/1', 'w').write({said[:100]!r} * {len(said) // 100 or 1})"
    end = processes.run_limited([sys.executable, "-c", forging], LIMITS)
    assert end.limit.startswith("stopped, for the process that supervises it")
    assert nothing_is_left()


@pytest.mark.parametrize("what", ["{", "3" * 2**20], ids=["half", "much"])
def test_a_document_that_is_none(what, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "LONGEST_DOCUMENT", 2**16)
    (tmp_path / "report.json").write_text(what)
    assert processes.read_document(tmp_path / "report.json") is None
    assert processes.read_document(tmp_path / "missing.json") is None
    (tmp_path / "report.json").write_text("[3]")
    assert processes.read_document(tmp_path / "report.json") == [3]


def test_what_a_minimised_script_prints_is_kept_nowhere():
    tracemalloc.start()
    try:
        with running.running("for _ in range(200): print('x' * 10**5)") as names:
            assert names["_"] == 199
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("seconds", [1e300, float("inf")])
def test_a_time_limit_that_is_longer_than_any_wait(seconds):
    limits = type(LIMITS)(**{**vars(LIMITS), "seconds": seconds})
    assert processes.run_limited([sys.executable, "-c", "raise SystemExit(3)"], limits).status == 3
    worker = remote.Worker("tensorflow")
    worker._module = "no_such_module"
    with pytest.raises(CouldNotRun, match="must not end its process"):
        worker.ask("shop:build", "facts", {}, time_limit=seconds)


def test_an_answer_after_ctrl_c(monkeypatch):
    """The answer to a request that was interrupted is not taken for that to the next one."""
    program = (
        "import sys\nfrom keras_ref.programs import wire\n"
        "for k in range(2):\n"
        "    asked = wire.receive(sys.stdin.buffer)\n    wire.send(sys.stdout.buffer, {'answer': asked['verb']})\n"
        "sys.stdin.buffer.read()"
    )
    monkeypatch.setattr(remote, "own_command", lambda *_, **__: [sys.executable, "-c", program])
    worker, read = remote.Worker("tensorflow"), remote._read

    def interrupted(*_):
        monkeypatch.setattr(remote, "_read", read)
        raise KeyboardInterrupt

    monkeypatch.setattr(remote, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        worker.ask("shop:build", "facts", {}, time_limit=60)
    assert worker.ask("shop:build", "values", {}, time_limit=60) == "values"
    worker.close()


def make_archive(**arrays):
    """A message of these arrays that was compressed."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, text=np.frombuffer(b'{"map": []}', np.uint8), **arrays)
    return buffer.getvalue()


def declare(shape):
    """A message with an array whose header declares this shape."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("text.npy", content)
    return buffer.getvalue()


MUCH = {"compressed": make_archive(a0=np.zeros(2**20)), "declared": declare((2**50,))}


@pytest.mark.parametrize("data", MUCH.values(), ids=MUCH)
def test_an_answer_that_unpacks_to_much(data):
    with pytest.raises(wire.NoMessage):
        wire.decode(data)


def test_an_answer_that_is_longer_than_memory(monkeypatch):
    monkeypatch.setattr(remote, "memory_of_machine", lambda: 2**20)
    program = [sys.executable, "-c", f"import os, time; os.write(1, {(2**19).to_bytes(8, 'big')!r}); time.sleep(600)"]
    monkeypatch.setattr(remote, "own_command", lambda *_, **__: program)
    worker = remote.Worker("tensorflow")
    with pytest.raises(CouldNotRun, match="must leave its answers to gradtwin"):
        worker.ask("shop:build", "facts", {}, time_limit=20)
    assert nothing_is_left()


def encrypt(message):
    """A message whose archive says that it is encrypted."""
    data = bytearray(message)
    data[6] |= 1  # the flags of the file, which its entry in the directory has too
    data[data.find(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def nest(depth):
    """A message of lists in lists, deeper than Python reads them."""
    buffer = io.BytesIO()
    np.savez(buffer, text=np.frombuffer(b"[" * depth, np.uint8))
    return buffer.getvalue()


NO_MESSAGES = {
    "empty": b"",
    "zeros": b"\x00" * 64,
    "an archive of nothing": b"PK\x05\x06" + bytes(18),
    "cut off": wire.encode({"a": 1})[:-3],
    "encrypted": encrypt(wire.encode({"a": 1})),
    "deep": nest(10**5),
}


@pytest.mark.parametrize("data", NO_MESSAGES.values(), ids=NO_MESSAGES)
def test_what_is_no_message(data):
    with pytest.raises(wire.NoMessage):
        wire.decode(data)


def test_a_program_that_asks_its_user(tmp_path):
    """It reads nothing, and not what gradtwin asks it."""
    (tmp_path / "asking.py").write_text("weights = {}\nrate = float(input('rate? '))\n")
    program = remote.RemoteProgram(f"numpy:{tmp_path / 'asking.py'}", time_limit=60)
    try:
        with pytest.raises(CouldNotRun, match="EOFError"):
            program.facts()
    finally:
        program.close()
