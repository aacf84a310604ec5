"""A program in a process of its own: another backend, a crash, an endless loop and what is printed stay there."""

from __future__ import annotations

import os
import selectors
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from keras_ref.errors import CouldNotRun
from keras_ref.own_modules import own_command
from keras_ref.programs import wire
from keras_ref.programs.program import Facts, Point, Program, Trace
from keras_ref.programs.targets import require_installed, split_prefix
from keras_ref.supervision.processes import LONGEST_WAIT, OUTPUT, Talk, default_memory, memory_of_machine
from keras_ref.supervision.supervise import Limits, describe_end
from scratch.arrays import Array

#: seconds that one request may take, loading the program included
TIME_LIMIT = 300.0


class RemoteProgram(Program):
    """The program of a target, asked through a worker process (worker.py). Closed, or collected, its process ends.

    time_limit   seconds for each request
    worker       the process to ask, which stays; without one the program has its own
    Raises: CouldNotRun where the target's kind is not installed, or the worker refuses, dies or does not answer.
    """

    prefix = ""

    def __init__(self, target: str, *, time_limit: float = TIME_LIMIT, worker: Worker | None = None) -> None:
        super().__init__(lambda: (None, None, None))
        self.target, self.time_limit = target, time_limit
        self._facts: Facts | None = None
        kind, _ = split_prefix(target)
        if kind is not None:
            require_installed(kind)
        self._is_shared = worker is not None
        self._worker = worker or Worker((kind.backend if kind is not None else "") or "tensorflow")

    @classmethod
    def accepts(cls, value: Any) -> bool:
        del value
        return False

    def facts(self) -> Facts:
        if self._facts is None:
            self._facts = Facts.from_dict(self._ask("facts"))
        return self._facts

    def values(self) -> dict[str, Array]:
        return dict(self._ask("values"))

    def data(self) -> tuple[Any, Any]:
        x, y = self._ask("data")
        return x, y

    def run(self, point: Point) -> Trace:
        return _trace(self._ask("run", point=vars(point)))

    def losses(self, point: Point, name: str, entries: Array, offsets: Array) -> Array:
        found: Array = self._ask("losses", point=vars(point), name=name, entries=entries, offsets=offsets)
        return found

    def differentiate(self, point: Point) -> Trace:
        return _trace(self._ask("differentiate", point=vars(point)))

    def losses_along(self, point: Point, direction: Mapping[str, Array], steps: Array) -> Array:
        found: Array = self._ask("losses along", point=vars(point), direction=direction, steps=steps)
        return found

    @property
    def printed(self) -> str:
        """What the program has written to its standard output and error so far."""
        return self._worker.printed

    def close(self) -> None:
        if not self._is_shared:
            self._worker.close()

    def _ask(self, verb: str, **request: Any) -> Any:
        return self._worker.ask(self.target, verb, request, time_limit=self.time_limit)


class Worker:
    """A process that answers requests on one backend, within limits of memory and of what it prints. Closed, or
    collected, it ends, with whatever it has started.

    module   what runs there: by default it answers for programs
    """

    def __init__(self, backend: str, *, module: str = "keras_ref.programs.worker") -> None:
        self._backend, self._module = backend, module
        self._process: Talk | None = None
        self._printed: Any = None

    @property
    def printed(self) -> str:
        """What programs have written to its standard output and error so far."""
        if self._printed is None:
            return ""
        self._printed.seek(0)
        return str(self._printed.read().decode(errors="replace"))

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.close()
        if self._printed is not None:
            self._printed.close()
            self._printed = None

    def __del__(self) -> None:
        self.close()

    def _start(self) -> Talk:
        if self._process is None:
            self._printed = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
            self._process = Talk(
                own_command(self._module, path=[path or str(Path.cwd()) for path in sys.path]),
                Limits(seconds=float("inf"), bytes=default_memory(), output=OUTPUT),
                environment=make_environment(self._backend),
                stderr=self._printed,
            )
        return self._process

    def ask(self, target: str, verb: str, request: Mapping[str, Any], *, time_limit: float) -> Any:
        """The answer to a request for the program of a target. Raises: CouldNotRun."""
        process = self._start()
        try:
            deadline = time.monotonic() + min(time_limit, LONGEST_WAIT)
            _write(process.requests, wire.pack({"target": target, "verb": verb, **request}), deadline)
            found = wire.decode(_read(process.answers, deadline))
        except TimeoutError as error:
            self.close()
            raise CouldNotRun(
                f"A program must answer within {time_limit:g} seconds. Received: {target}, which did not "
                f"({verb}). Look for an endless loop, or give it more time."
            ) from error
        except (EOFError, BrokenPipeError) as error:
            end = process.end()
            said, how = self._read_last_line(), end.limit or describe_end(end.status)
            self.close()
            raise CouldNotRun(
                f"A program must not end its process. Received: {target}, {how}{f' ({said})' if said else ''}. "
                "Run it by itself."
            ) from error
        except wire.NoMessage as error:
            self.close()
            raise CouldNotRun(
                f"A program must leave its answers to gradtwin. Received: {target}, which writes into them ({verb}). "
                "Let it print what it has to say."
            ) from error
        except BaseException:  # Ctrl-C: the answer would be read as that to the next request
            self.close()
            raise
        if "refused" in found:
            raise CouldNotRun(found["refused"])
        return found["answer"]

    def _read_last_line(self) -> str:
        return next((line.strip()[:160] for line in reversed(self.printed.splitlines()) if line.strip()), "")


def _trace(found: Mapping[str, Any]) -> Trace:
    return Trace(
        **{**found, "steps": tuple(found["steps"]), "added": tuple(found["added"]), "outputs": tuple(found["outputs"])}
    )


def make_environment(backend: str) -> Mapping[str, str]:
    """The environment of a worker for a backend of Keras: quiet."""
    return {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "JAX_ENABLE_X64": "1",
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
    }


def _measure_longest() -> int:
    """Bytes of the longest answer: it stands in memory twice, and its program has it, too."""
    memory = memory_of_machine()
    return min(wire.LONGEST, memory // 4) if memory else wire.LONGEST


def _write(stream: BinaryIO, data: bytes, deadline: float) -> None:
    """Write to a pipe, whose reader may have stopped. Raises: TimeoutError after the deadline; BrokenPipeError."""
    file, left = stream.fileno(), memoryview(data)
    os.set_blocking(file, False)
    with selectors.DefaultSelector() as selector:
        selector.register(file, selectors.EVENT_WRITE)
        while left:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            left = left[os.write(file, left) :]


def _read(stream: BinaryIO, deadline: float) -> bytes:
    """One message of a pipe.

    Raises: EOFError at its end, TimeoutError after the deadline (of time.monotonic), NoMessage for one too long.
    """
    file, data, wanted = stream.fileno(), bytearray(), wire.LENGTH
    with selectors.DefaultSelector() as selector:
        selector.register(file, selectors.EVENT_READ)
        while len(data) < wanted:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            part = os.read(file, min(1 << 20, wanted - len(data)))
            if not part:
                raise EOFError
            data += part
            if len(data) == wire.LENGTH and wanted == wire.LENGTH:
                wanted += int.from_bytes(data[: wire.LENGTH], "big")
                if wanted > _measure_longest():
                    raise wire.NoMessage(f"{wanted} bytes")
    return bytes(data[wire.LENGTH :])
