"""Run the examples in a process of their own: one that crashes or hangs is reported, another process runs the rest."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

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
    """Compare an example of each (kind, name).

    command    makes the command line from arguments "kind:name"; this module's own if None
    patience   seconds without a line after which a process is killed

    The example at which a process dies or is killed is reported as such; a new process takes the rest.
    """
    left = list(wanted)
    command = command or (lambda names: own_command("keras_ref.coverage.processes", *names))
    while left:
        with subprocess.Popen(
            command([f"{kind}:{name}" for kind, name in left]),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            for line in _read_lines(process, patience):
                if line.startswith("{"):
                    result = ExampleResult(**json.loads(line))
                    left.remove((result.kind, result.name))
                    yield result
        status = process.returncode
        if left:
            ended = f"killed the process (signal {-status})" if status < 0 else f"ended the process (status {status})"
            kind, name = left.pop(0)
            yield ExampleResult(kind, name, {"values": ended})


def _read_lines(process: subprocess.Popen[str], patience: float) -> Iterator[str]:
    """The lines that a process writes; after `patience` seconds without one it is killed."""
    while process.stdout is not None:
        watch = threading.Timer(patience, process.kill)
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
        print(json.dumps({"kind": kind, "name": name, "compared": compare_example(kind, name)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
