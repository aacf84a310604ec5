"""Check a target in a process of its own: its crash is a verdict, and the other targets are still checked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from keras_ref.errors import CouldNotRun
from keras_ref.frontends.invocation import Invocation
from keras_ref.frontends.recorded import read_report
from keras_ref.reports.verdict import Kind, Reason, Report, Verdict


def run_isolated(invocation: Invocation, target: str) -> Report:
    """Run a command for one target in a child process. If the child crashes, its report has the one verdict `crash`.

    Raises: CouldNotRun with the child's own sentence.
    """
    alone = invocation.for_target(target)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        done = subprocess.run(
            [sys.executable, "-m", "keras_ref", *alone.without_isolation().argv(), "--json", str(path)],
            capture_output=True,
            text=True,
            check=False,
            env=_environment(),
        )
        if done.returncode in (0, 1) and path.exists():
            return replace(read_report(json.loads(path.read_text(encoding="utf-8"))), replay=alone.replay())
    last = next((line.strip() for line in reversed(done.stderr.splitlines()) if line.strip()), "")
    if done.returncode == 2 and last.startswith("gradtwin: "):
        raise CouldNotRun(last.removeprefix("gradtwin: "))
    return report_crash(target, describe_end(done.returncode), alone.replay(), done.stderr)


def _environment() -> dict[str, str]:
    """This process's environment without GitHub's variables: the parent annotates the findings, once."""
    return {name: value for name, value in os.environ.items() if name not in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY")}


def describe_end(status: int) -> str:
    """How a process ended: "killed by SIGABRT", "ended with exit status 3". A shell's 128 + n is a signal too."""
    number = -status if status < 0 else status - 128 if status > 128 else 0
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"ended with exit status {status}"


def report_crash(target: str, how: str, replay: str, stderr: str = "") -> Report:
    """A report of one crash, with the first fatal line that the process wrote."""
    fatal = [
        line.strip()
        for line in stderr.splitlines()
        if "F external" in line or "Check failed" in line or line.startswith("Fatal")
    ]
    found = Verdict(target, "process", Kind.CRASH)
    verdict = found.because(Reason.PROCESS_DIED, how + (f": {fatal[0]}" if fatal else ""))
    return Report(target, (verdict,), (), 0, replay)
