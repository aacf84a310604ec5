"""Run the examples in a process of their own: one that crashes or hangs is reported, another process runs the rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from keras_ref.own_modules import own_command


@dataclass(frozen=True)
class ExampleResult:
    """What comparing one example of a definition came to: {column: "match", or what else}."""

    kind: str
    name: str
    compared: dict[str, str]


def compare_examples(
    wanted: Iterable[tuple[str, str]], command: Callable[[list[str]], list[str]] | None = None, patience: float = 120.0
) -> Iterator[ExampleResult]:
    """Compare an example of each (kind, name), as `run_in_turn` runs what its arguments "kind:name" are.

    The example at which a process dies or is killed is reported as such.
    """
    command = command or (lambda names: own_command("keras_ref.coverage.processes", *names))
    for answer in run_in_turn([f"{kind}:{name}" for kind, name in wanted], command=command, patience=patience):
        kind, _, name = answer.name.partition(":")
        found = {"values": answer.ended} if answer.result is None else answer.result["compared"]
        yield ExampleResult(kind, name, found)


@dataclass(frozen=True)
class Answer:
    """What a process said of one argument; without a result: how it ended."""

    name: str
    result: dict[str, Any] | None
    ended: str = ""


def run_in_turn(
    names: Iterable[str],
    *,
    command: Callable[[list[str]], list[str]],
    patience: float = 120.0,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Answer]:
    """Run a command that takes arguments in turn, and prints for each a line of JSON with its "name".

    command    makes the command line from the arguments that are left
    patience   seconds without a line after which a process is killed
    environment   variables of the process that are not those of this one

    The argument at which a process dies or is killed has no result; a new process takes the rest.
    """
    left = list(names)
    while left:
        with subprocess.Popen(
            command(left),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **(environment or {})},
            process_group=0,
        ) as process:
            try:
                for line in _read_lines(process, patience):
                    if line.startswith("{"):
                        result = json.loads(line)
                        left.remove(result["name"])
                        yield Answer(result["name"], result)
            except BaseException:  # Ctrl-C does not reach the group
                kill_group(process)
                raise
            process.wait()
            kill_group(process)
        status = process.returncode
        if left:
            ended = f"killed the process (signal {-status})" if status < 0 else f"ended the process (status {status})"
            yield Answer(left.pop(0), None, ended)


def kill_group(process: subprocess.Popen[Any]) -> None:
    """Kill a process that was started with a group of its own, and all that it has left in the group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _read_lines(process: subprocess.Popen[str], patience: float) -> Iterator[str]:
    """The lines that a process writes; after `patience` seconds without one it is killed."""
    while process.stdout is not None:
        watch = threading.Timer(patience, kill_group, [process])
        watch.start()
        try:
            line = process.stdout.readline()
        finally:
            watch.cancel()
        if not line:
            return
        yield line


def main(arguments: list[str]) -> None:
    """Compare the examples "kind:name" one after another; print a line of JSON for each."""
    from keras_ref.inputs.targets import quiet_tensorflow

    quiet_tensorflow()
    from keras_ref.coverage.examples import compare_example

    for argument in arguments:
        kind, _, name = argument.partition(":")
        print(json.dumps({"name": argument, "compared": compare_example(kind, name)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
