"""Subjects that segfault, abort, exit, hang, fork, print without end and eat memory: each a verdict with its name,
within the limits, and nothing of it is left running.

The default run puts small programs in the place of the command; the long form (-m slow) runs the command on factories.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from command_line import run_gradtwin

from keras_ref.errors import CouldNotRun
from keras_ref.frontends.invocations import isolation
from keras_ref.frontends.invocations.invocation import Invocation
from keras_ref.frontends.invocations.isolation import choose_limits, raise_refusal, read_isolated_names, report_crash
from keras_ref.supervision.processes import memory_of_machine, run_limited
from keras_ref.supervision.supervise import End, Limits

LIMITS = Limits(seconds=30, bytes=2**28, output=2**22)
#: of this process alone: another worker runs these tests, too
MARK = f"gradtwin-fault-suite-{os.getpid()}"
SLEEPER = f"[sys.executable, '-c', 'import time; time.sleep(600)', '{MARK}']"
#: what a subject does → (its code, limits, how the report says that it ended)
FAULTS = {
    "segfaults": ("import ctypes; ctypes.string_at(0)", {}, "killed by SIGSEGV"),
    "aborts": ("os.abort()", {}, "killed by SIGABRT"),
    "is killed": ("os.kill(os.getpid(), 9)", {}, "killed by SIGKILL"),
    "exits with 0": ("os._exit(0)", {}, "ended with exit status 0"),
    "exits with 77": ("os._exit(77)", {}, "ended with exit status 77"),
    "hangs": ("time.sleep(600)", {"seconds": 1}, "stopped after the time limit of 1 s"),
    "hangs and ignores signals": (
        "[signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; time.sleep(600)",
        {"seconds": 1},
        "stopped after the time limit of 1 s",
    ),
    "forks and ends": (f"subprocess.Popen({SLEEPER})", {}, "ended with exit status 0"),
    "forks into another session": (
        f"subprocess.Popen({SLEEPER}, start_new_session=True)",
        {},
        "ended with exit status 0",
    ),
    "forks for ever": (
        f"while True: subprocess.Popen({SLEEPER}, start_new_session=True); time.sleep(0.05)",
        {"seconds": 1},
        "stopped after the time limit of 1 s",
    ),
    "prints without end": ("while True: print('x' * 65536)", {}, "stopped after 4 MiB of output"),
    "complains without end": ("while True: print('x' * 65536, file=sys.stderr)", {}, "stopped after 4 MiB of output"),
    "forks twice, as a daemon does": (
        (
            f"if os.fork() == 0:\n    os.setsid()\n    os.fork() and os._exit(0)\n    subprocess.Popen({SLEEPER})\n"
            "    time.sleep(600)\nos._exit(0)"
        ),
        {},
        "ended with exit status 0",
    ),
    "leaves a child that holds its outputs": (
        "os.fork() and os._exit(0)\ntime.sleep(600)",
        {},
        "ended with exit status 0",
    ),
    "leaves a child that prints without end": (
        "os.fork() and os._exit(3)\nwhile True: print('x' * 65536)",
        {},
        "ended with exit status 3",
    ),
    "leaves a child that ignores signals, in a group of its own": (
        (
            "if os.fork() == 0:\n    os.setpgid(0, 0)\n    [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]\n"
            "    time.sleep(600)\ntime.sleep(0.3)\nos._exit(0)"
        ),
        {},
        "ended with exit status 0",
    ),
    "leaves a child that was stopped": (
        "child = os.fork()\nchild or time.sleep(600)\nos.kill(child, signal.SIGSTOP)\nos._exit(0)",
        {},
        "ended with exit status 0",
    ),
    "leaves a child with a strange name": (
        (
            "import ctypes\nchild = os.fork()\nchild or ctypes.CDLL(None).prctl(15, b') R 1 1 (\\n', 0, 0, 0)\n"
            "child or time.sleep(600)\ntime.sleep(0.3)\nos._exit(0)"
        ),
        {},
        "ended with exit status 0",
    ),
    "raises an error": ("raise ValueError('wrong')", {}, "ended with exit status 1"),
    "raises SystemExit": ("raise SystemExit(0)", {}, "ended with exit status 0"),
    "ends as a shell says of a signal": ("os._exit(128 + 6)", {}, "killed by SIGABRT"),
    "ends with 255": ("os._exit(-1)", {}, "ended with exit status 255"),
    "kills its group": ("os.killpg(0, 9)", {}, "killed by SIGKILL"),
    "is terminated": ("signal.signal(15, signal.SIG_DFL); os.kill(os.getpid(), 15)", {}, "killed by SIGTERM"),
    "divides by zero in C": ("signal.raise_signal(signal.SIGFPE)", {}, "killed by SIGFPE"),
    "terminates its supervisor": (
        "os.kill(os.getppid(), 15); time.sleep(600)",
        {},
        "stopped, for the process that supervises it ended with exit status 1",
    ),
    "kills its supervisor": (
        "os.kill(os.getppid(), 9); time.sleep(600)",
        {},
        "stopped, for the process that supervises it was killed by SIGKILL",
    ),
    "stops itself": ("os.kill(os.getpid(), signal.SIGSTOP)", {"seconds": 1}, "stopped after the time limit of 1 s"),
    "hangs in C": (
        "import ctypes\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\nctypes.CDLL(None).pause()",
        {"seconds": 1},
        "stopped after the time limit of 1 s",
    ),
    "hangs at its end": (
        "import threading\nthreading.Thread(target=time.sleep, args=(600,)).start()",
        {"seconds": 1},
        "stopped after the time limit of 1 s",
    ),
    "hangs without outputs": (
        "os.close(1); os.close(2); time.sleep(600)",
        {"seconds": 1},
        "stopped after the time limit of 1 s",
    ),
    "computes for ever": ("while True: pass", {"seconds": 1}, "stopped after the time limit of 1 s"),
    "prints a little for ever": (
        "while True: print('x', flush=True); time.sleep(0.01)",
        {"seconds": 1},
        "stopped after the time limit of 1 s",
    ),
    "asks": ("input()", {}, "ended with exit status 1"),
    "prints without a newline": (
        "while True: sys.stdout.write('x' * 65536)",
        {},
        "stopped after 4 MiB of output",
    ),
    "complains without a newline": (
        "while True: sys.stderr.write('x' * 65536)",
        {},
        "stopped after 4 MiB of output",
    ),
    "complains at once": ("os.write(2, b'x' * 2**26)", {}, "stopped after 4 MiB of output"),
    "prints what is no text": ("while True: os.write(1, b'\\xff\\x00' * 32768)", {}, "stopped after 4 MiB of output"),
    "eats memory at once": ("held = b'x' * 2**29; time.sleep(600)", {}, "stopped at the memory limit of 256 MiB"),
    "eats memory slowly": (
        "held = []\nwhile True: held.append(b'x' * 2**20); time.sleep(0.003)",
        {},
        "stopped at the memory limit of 256 MiB",
    ),
    "eats memory that is shared": (
        "import mmap\nheld = mmap.mmap(-1, 2**29)\nheld.write(b'x' * 2**28 + b'x' * 2**24)\ntime.sleep(600)",
        {},
        "stopped at the memory limit of 256 MiB",
    ),
    "eats memory in many children": (
        "for _ in range(8): os.fork() or (held := b'x' * 2**26) and time.sleep(600)\ntime.sleep(600)",
        {},
        "stopped at the memory limit of 256 MiB",
    ),
    "eats memory": (
        "held = []\nwhile True: held.append(bytearray(2**24)); time.sleep(0.01)",
        {},
        "stopped at the memory limit of 256 MiB",
    ),
    "eats memory in a child": (
        "held = [os.fork()]\nwhile not held[0]: held.append(bytearray(2**24)); time.sleep(0.01)\ntime.sleep(600)",
        {},
        "stopped at the memory limit of 256 MiB",
    ),
}


#: those of the default run
SAMPLE = (
    *("segfaults", "aborts", "exits with 0", "hangs and ignores signals", "forks twice, as a daemon does"),
    *("forks for ever", "leaves a child that holds its outputs", "kills its supervisor", "prints without a newline"),
    *("complains without end", "eats memory at once", "eats memory that is shared", "eats memory in a child"),
)
#: those that the command itself isolates in the long form; a factory that forks goes on by itself
ON_FACTORIES = (
    *("segfaults", "aborts", "is killed", "exits with 0", "exits with 77", "hangs", "hangs and ignores signals"),
    *("forks for ever", "forks twice, as a daemon does", "kills its supervisor", "prints without a newline"),
    *("complains without end", "eats memory at once", "eats memory in a child"),
)


def left_running():
    """The processes that a subject has started and that still run: those with the mark among their arguments or in
    their environment, which every descendant has, whatever group, session and parent it has.
    """
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            texts = [(folder / name).read_bytes() for name in ("cmdline", "environ")]
            if any(MARK.encode() in text for text in texts) and "State:\tZ" not in (folder / "status").read_text():
                found.append(folder.name)
    return found


def nothing_is_left(seconds=5.0):
    """Whether nothing of a subject runs, which the death of a parent takes a moment to bring about."""
    until = time.monotonic() + seconds
    while left_running() and time.monotonic() < until:
        time.sleep(0.05)
    return left_running() == []


@pytest.mark.sampled
@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize(
    "name", [name if name in SAMPLE else pytest.param(name, marks=pytest.mark.slow) for name in FAULTS]
)
def test_a_subject_within_its_limits(name, monkeypatch):
    code, limits, how = FAULTS[name]
    begun = time.monotonic()
    monkeypatch.setenv("GRADTWIN_FAULT_MARK", MARK)
    program = f"import os, signal, subprocess, sys, time\n{code}"
    end = run_limited([sys.executable, "-c", program, MARK], Limits(**{**vars(LIMITS), **limits}))
    assert time.monotonic() - begun < 20
    report = report_crash("shop:build", end, "")
    assert report.summary() == f"shop:build: {how}"
    assert nothing_is_left()


@pytest.mark.sampled
@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP], ids=str)
def test_a_parent_that_is_terminated_leaves_nothing(number, tmp_path):
    """No process, and neither the folder of the command nor that in which the parent waits for what it writes."""
    program = (
        f"import subprocess, sys, tempfile, time\ntempfile.mkdtemp()\nsubprocess.Popen({SLEEPER})\ntime.sleep(600)"
    )
    code = (
        # what started the tests may ignore the signal (nohup does), and a child inherits that
        f"import signal, sys\nsignal.signal({int(number)}, signal.SIG_DFL)\n"
        * (number != signal.SIGKILL)
        + "import sys\nfrom keras_ref.supervision.processes import making_folder, run_limited\n"
        "from keras_ref.supervision.supervise import Limits\n"
        f"command, limits = [sys.executable, '-c', {program!r}, {MARK!r}], Limits(seconds=600, bytes=0, output=2**20)\n"
        "with making_folder() as folder: run_limited(command, limits, waiting=folder)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)})
    until = time.monotonic() + 60
    while len(left_running()) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert len(left_running()) >= 2 and len(list(tmp_path.iterdir())) == 2
    parent.send_signal(number)
    parent.wait()
    assert nothing_is_left()
    until = time.monotonic() + 60
    while list(tmp_path.iterdir()) and time.monotonic() < until:
        time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []


def test_what_a_child_says_of_itself():
    with pytest.raises(CouldNotRun, match=r"^A target must be$"):
        raise_refusal(End(status=2, limit="", stderr="noise\ngradtwin: A target must be\n"))
    with pytest.raises(RuntimeError, match="in the isolated process, This is"):
        raise_refusal(End(status=3, limit="", stderr="Traceback\ngradtwin: This is an error"))
    raise_refusal(End(status=2, limit="", stderr="Traceback"))
    raise_refusal(End(status=2, limit="stopped", stderr="gradtwin: A target must be"))


def test_the_limits_of_a_command():
    given = {"time-limit": "2m", "memory-limit": "1.5G"}
    assert choose_limits(Invocation("check", ("a:b",), "", given)) == Limits(
        seconds=120, bytes=3 * 2**29, output=isolation.OUTPUT
    )
    own = choose_limits(Invocation("check", ("a:b",)))
    assert own.seconds == 3600
    assert 0 < own.bytes < memory_of_machine()


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        (
            "--time-limit",
            "soon",
            "must be a time such as 60s, 5m or 1h. Received: 'soon'. Pass seconds, or a number with s, m or h.",
        ),
        (
            "--time-limit",
            "0",
            "must be a time such as 60s, 5m or 1h. Received: '0'. Pass seconds, or a number with s, m or h.",
        ),
        (
            "--memory-limit",
            "8T",
            "must be a size such as 500M or 8G. Received: '8T'. Pass bytes, or a number with K, M or G.",
        ),
    ],
)
def test_limits_that_are_none(gradtwin, option, value, sentence):
    assert run_gradtwin("check", "a:b", "--isolate", option, value) == (2, "", f"gradtwin: {option} {sentence}\n")


def test_loading_that_crashes_is_a_verdict(monkeypatch):
    monkeypatch.setattr(isolation, "run_limited", lambda *_, **__: End(status=-6, limit="", stderr=""))
    report = read_isolated_names(Invocation("check", ("shop:build",), "", {"isolate": True}), "shop:build")
    assert report.summary() == "shop:build: killed by SIGABRT"


def test_a_target_that_ends_the_process(gradtwin):
    """SystemExit is no success: `gradtwin check` would end with the status of whoever raised it."""
    target = gradtwin.write_module("ending_shop", "import sys\ndef build(): sys.exit(0)\n")
    status, out, err = gradtwin("check", target)
    assert (status, out) == (2, "")
    assert err == (
        f"gradtwin: A target must leave the process running. Received: {target}, which ends it with status 0 "
        "(ending_shop.py:2). Take that out of it.\n"
    )


# The command itself ---------------------------------------------------------------------------------------------------

FACTORIES = """
import os, signal, subprocess, sys, time
import keras

def build():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")], name="fine")
    model.compile(optimizer="sgd", loss="mse")
    return model
"""


def factory(number, code):
    lines = "\n".join(f"    {line}" for line in code.split("\n"))
    return f"\ndef fault_{number}():\n{lines}\n    return build()\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(ON_FACTORIES)), ids=ON_FACTORIES)
def test_the_command_on_a_factory(gradtwin, monkeypatch, number):
    name = ON_FACTORIES[number]
    code, _, how = FAULTS[name]
    monkeypatch.setenv("GRADTWIN_FAULT_MARK", MARK)
    code = code.replace("2**29", "2**32")  # TensorFlow takes half a gigabyte itself: the limit is 2 GiB here
    gradtwin.write_module("isolated_shop", FACTORIES + factory(number, code))
    options = ("--isolate", "--time-limit", "30s", "--memory-limit", "2G")
    status, out, err = gradtwin("check", f"isolated_shop:fault_{number}", *options)
    assert status == 2
    if err:  # one that ends its process by itself is told where
        assert err.startswith("gradtwin: A target must leave the process running. Received: ")
        assert f"isolated_shop:fault_{number}, " in err
        return
    said = how.replace("256 MiB", "2048 MiB").replace("4 MiB", "64 MiB").replace("of 1 s", "of 30 s")
    endings = {said}
    if name == "forks for ever":  # whichever limit its processes come to first
        endings.add("stopped at the memory limit of 2048 MiB")
    assert out.splitlines()[-1] in {f"isolated_shop:fault_{number}: {ending}" for ending in endings}
    assert nothing_is_left()


@pytest.mark.slow
def test_pytest_goes_on_after_a_factory_that_aborts(pytester):
    pytester.makepyfile(aborting_shop="import os\ndef build(): os.abort()\ndef exits(): os._exit(0)\n")
    pytester.makepyfile("def test_goes_on(): pass\n")
    result = pytester.runpytest_subprocess(
        *("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist", "--gradtwin", "aborting_shop:build"),
        *("--gradtwin", "aborting_shop:exits", "--gradtwin-isolate"),
    )
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*killed by SIGABRT*", "*ends it with status 0*"])
