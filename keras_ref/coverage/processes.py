"""Run the examples in a process of their own: one that crashes or hangs is reported, another process runs the rest."""

from __future__ import annotations

import json
import os
import selectors
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any

from keras_ref.own_modules import own_command
from keras_ref.supervision.processes import OUTPUT, Talk, default_memory
from keras_ref.supervision.supervise import End, Limits

#: seconds between two looks at whether another thread has asked to stop
POLL = 0.2


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
    stop: Event | None = None,
) -> Iterator[Answer]:
    """Run a command that takes arguments in turn, and prints for each a line of JSON with its "name".

    command    makes the command line from the arguments that are left
    patience   seconds without a result after which a process is killed; so it is after OUTPUT bytes without one
    environment   variables of the process that are not those of this one
    stop       once another thread has set it, the process is ended, and there is no further answer

    The argument at which a process dies or is killed has no result; a new process takes the rest.
    """
    left = list(names)
    limits = Limits(seconds=float("inf"), bytes=default_memory(), output=OUTPUT)
    while left:
        process = Talk(command(left), limits, environment={**os.environ, **(environment or {})})
        try:
            process.requests.close()  # it is asked nothing
            for result in _read_results(process, left, patience=patience, stop=stop):
                left.remove(result["name"])
                yield Answer(result["name"], result)
            if stop is not None and stop.is_set():
                return
            end = process.end() if left else None
        finally:
            process.close()
        if end is not None:
            yield Answer(left.pop(0), None, _describe(end))


def _describe(end: End) -> str:
    if end.limit:
        return f"was {end.limit}"
    if end.status < 0:
        return f"killed the process (signal {-end.status})"
    return f"ended the process (status {end.status})"


def _read_results(
    process: Talk, left: Collection[str], *, patience: float, stop: Event | None
) -> Iterator[dict[str, Any]]:
    """The lines of JSON that a process writes on what is left, to its end, or to `patience` seconds or OUTPUT bytes
    without one: the process is then killed.
    """
    unread, written, until = bytearray(), 0, time.monotonic() + patience
    with selectors.DefaultSelector() as selector:
        selector.register(process.answers, selectors.EVENT_READ)
        while (rest := until - time.monotonic()) > 0:
            if stop is not None and stop.is_set():
                return
            if not selector.select(rest if stop is None else min(rest, POLL)):
                continue
            part = os.read(process.answers.fileno(), 2**16)
            if not part:
                return
            unread += part
            written += len(part)
            if b"\n" in part:
                *lines, unread = unread.split(b"\n")
                for result in filter(None, map(_parse_result, lines)):
                    if result["name"] in left:
                        yield result
                        written, until = 0, time.monotonic() + patience
            if written > OUTPUT:
                process.kill(f"stopped after {OUTPUT / 2**20:.0f} MiB of output")
                return
    process.kill(f"stopped after {patience:g} s without a result")


def _parse_result(line: bytes | bytearray) -> dict[str, Any] | None:
    """The result in a line; None for what an operation has printed."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and "name" in found else None


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
