"""The process of one program: `python -m keras_ref.programs.worker TARGET` answers requests until its input ends.

What the program prints does not reach the answers: standard output is the parent's capture, and answers go to a copy of
the original stream.
"""

from __future__ import annotations

import os
import sys
from typing import Any, BinaryIO

import numpy as np

from keras_ref.errors import BadInput, CouldNotRun, UserCodeFailed, short
from keras_ref.programs import wire
from keras_ref.programs.program import Point, Program
from keras_ref.programs.targets import open_target


def answer(program: Program, request: dict[str, Any]) -> Any:
    """What a request asks of the program, as plain data and arrays."""
    verb = request["verb"]
    if verb == "facts":
        return program.facts().to_dict()
    if verb == "values":
        return program.values()
    if verb == "data":
        return list(program.data())
    point = Point(**request["point"])
    if verb == "losses":
        return program.losses(point, request["name"], request["entries"], request["offsets"])
    trace = program.run(point)
    return {**vars(trace), "gradient": dict(trace.gradient.items())}


def serve(requests: BinaryIO, answers: BinaryIO, target: str) -> None:
    """Answer requests for the program of a target; an error that a user can mend is an answer too."""
    program: Program | None = None
    while True:
        try:
            request = wire.receive(requests)
        except EOFError:
            return
        try:
            program = program or open_target(target)
            found: Any = {"answer": answer(program, request)}
        except (BadInput, CouldNotRun, UserCodeFailed) as error:
            found = {"refused": str(error)}
        except Exception as error:
            if os.environ.get("GRADTWIN_TRACEBACK"):
                raise
            found = {"refused": f"A program must run. Received: {target}: {type(error).__name__}: {short(error)}"}
        wire.send(answers, found)


def main() -> None:
    """Answer the parent's requests."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    with np.errstate(all="ignore"):
        serve(sys.stdin.buffer, answers, sys.argv[1])


if __name__ == "__main__":
    main()
