"""The process of programs: `python -m keras_ref.programs.worker` answers requests until its input ends.

What the program prints does not reach the answers: standard output is the parent's capture, and answers go to a copy of
the original stream. What the program reads is nothing: requests come from a copy, too.
"""

from __future__ import annotations

import os
import sys
from typing import Any, BinaryIO

import numpy as np

from keras_ref.errors import BadInput, CouldNotRun, UserCodeFailed, shorten_error
from keras_ref.programs import wire
from keras_ref.programs.program import Point, Program
from keras_ref.programs.targets import open_target
from keras_ref.programs.torch_beside_tensorflow import leave_out_triton


def answer_request(program: Program, request: dict[str, Any]) -> Any:
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
    if verb == "losses along":
        return program.losses_along(point, request["direction"], request["steps"])
    trace = program.differentiate(point) if verb == "differentiate" else program.run(point)
    return vars(trace)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests for the programs of targets; an error that a user can mend is an answer too."""
    programs: dict[str, Program] = {}
    while True:
        try:
            request = wire.receive(requests)
        except EOFError:
            return
        target = request["target"]
        try:
            if target not in programs:
                programs[target] = open_target(target)
            found: Any = {"answer": answer_request(programs[target], request)}
        except (BadInput, CouldNotRun, UserCodeFailed) as error:
            found = {"refused": str(error)}
        except Exception as error:
            if os.environ.get("GRADTWIN_TRACEBACK"):
                raise
            found = {
                "refused": f"A program must run. Received: {target}: {type(error).__name__}: {shorten_error(error)}"
            }
        wire.send(answers, found)


def main() -> None:
    """Answer the parent's requests."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a program that asks its user something would read the requests
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    leave_out_triton()
    with np.errstate(all="ignore"):
        serve(requests, answers)


if __name__ == "__main__":
    main()
