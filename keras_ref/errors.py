"""Errors that users see. A message has three parts: the rule, what was received, what to do."""

from __future__ import annotations

import inspect
import os
import re
import sys
import sysconfig
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_ref.undoing import keeping_streams, undoing

#: how many names a sentence lists
LISTED = 20


def _make_visible(message: str) -> str:
    """A message as one line in which everything is visible: names of classes and texts of errors may be anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in message)


class BadInput(ValueError):
    """A check refuses what it was given. The message has three parts: the rule, what was received, what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(_make_visible(message))

    #: AutoGraph raises an error with this mark as it is, and no StagingError in its place
    ag_pass_through = True
    #: Keras, too, which otherwise adds what the layer was called with
    _keras_call_info_injected = True


class UserCodeFailed(Exception):
    """The code that is checked (a model, layer, function or loss) raised an error, which is the cause of this one."""

    @property
    def error(self) -> BaseException:
        """The error that the user's code raised: AutoGraph raises a copy of this one, whose context this one is."""
        found = self.__cause__ or self.__context__ or self
        return found.error if isinstance(found, UserCodeFailed) and found is not self else found


class BackwardPassFailed(UserCodeFailed):
    """Autodiff raised an error in the backward pass of what is checked.

    error   what it raised, or a sentence that says what is wrong
    place   the user's function, line and file that it comes from; "" where it comes from TensorFlow's own gradients
    """

    def __init__(self, error: BaseException | str, *, place: str) -> None:
        super().__init__(describe_error(error))
        self.place = place
        self.received = error if isinstance(error, str) else f"{type(error).__name__}: {shorten_error(error)}"

    @property
    def lacks_gradient(self) -> bool:
        """Whether TensorFlow has no gradient for an operation."""
        return type(self.error) is LookupError and not self.place

    def message(self) -> str:
        """The three parts that a user reads."""
        if self.lacks_gradient:
            return (
                f"Autodiff must have a gradient for every operation. Received: {shorten_error(self.error)} Write one "
                "with tf.custom_gradient, or stop it with tf.stop_gradient."
            )
        where = f" It comes from {self.place}." if self.place else ""
        return (
            "A backward pass must run, with one gradient of the shape and dtype of each input. Received: "
            f"{self.received}{where} Correct the backward pass there; the forward pass runs."
        )


class TrainStepFailed(UserCodeFailed):
    """A training step raised an error at a point where the loss itself could be computed."""

    def message(self) -> str:
        """The three parts that a user reads."""
        return (
            f"A training step must run. Received: {type(self.error).__name__}: {shorten_error(self.error)} The loss "
            "can be "
            "computed there: look at the backward pass, which check_gradients compares by itself, and at the optimizer."
        )


@contextmanager
def running_user_code() -> Iterator[None]:
    """Around a call of the user's code: what it raises becomes UserCodeFailed, unlike what the check itself raises.

    Raises: MemoryError where memory does not suffice: that is about the machine, and says nothing of the ways in which
    the code runs.
    """
    try:
        yield
    except (BadInput, UserCodeFailed, AssertionError):
        raise
    except Exception as error:
        if (memory := find_memory_error(error)) is not None:
            raise memory from None
        raise UserCodeFailed(describe_error(error)) from error


@contextmanager
def errors_as_bad_input() -> Iterator[None]:
    """Around a whole check: what the user's code raised becomes a message of three parts.

    Raises: BadInput; MemoryError as it is, which is about the machine.
    """
    try:
        yield
    except (BackwardPassFailed, TrainStepFailed) as failed:
        raise BadInput(failed.message()) from failed.error
    except UserCodeFailed as failed:
        if (memory := find_memory_error(failed.error)) is not None:
            raise memory from None
        raise BadInput(
            f"A subject must run on the data it is checked on. Received: {type(failed.error).__name__}: "
            f"{shorten_error(failed.error, find_place(failed.error))} Call it on them by itself first."
        ) from failed.error


def find_memory_error(error: BaseException) -> MemoryError | None:
    """The MemoryError that an error is: Python's own, TensorFlow's, and what AutoGraph makes of either; or None."""
    while type(error).__name__ == "StagingError" and error.__context__ is not None:  # AutoGraph's copy of its context
        error = error.__context__
    if isinstance(error, MemoryError):
        return error
    library = sys.modules.get("tensorflow")
    if library is not None and isinstance(error, library.errors.ResourceExhaustedError):
        return MemoryError(shorten_error(error))
    return None


class CouldNotRun(Exception):
    """A command cannot do its work: exit status 2. The message is one line of three parts, as that of BadInput."""

    def __init__(self, message: str) -> None:
        super().__init__(_make_visible(message))


def refuse_temporary_files(received: str) -> CouldNotRun:
    """What is said where there is no place for temporary files, or none any more.

    received   the folder and what is wrong with it
    """
    return CouldNotRun(
        "There must be a folder for temporary files that has space and may be written. Received: "
        f"{received}. Free some space, or name one in TMPDIR."
    )


def join_names(names: Iterable[Any], *, most: int = LISTED) -> str:
    """Names in a sentence: a file may have thousands."""
    every = [*map(str, names)]
    left_out = len(every) - most
    return ", ".join(every[:most]) + (f" and {left_out:,} more" if left_out > 0 else "")


@contextmanager
def target_stays(target: str) -> Iterator[None]:
    """Around everything that runs a target's code: it may not end this process, by os._exit neither.

    Raises: CouldNotRun where it tries; a status of 0 would say that all is right.
    """
    process, leave = os.getpid(), os._exit
    # set before the target ran, as pytest-timeout's thread method does: it ends a process that hangs
    timers = {one.ident for one in threading.enumerate() if isinstance(one, threading.Timer)}

    def refuse(status: int) -> None:
        if os.getpid() != process or threading.get_ident() in timers:  # a child that the target forked, or no target
            leave(status)
        raise SystemExit(status)

    with keeping_streams(), undoing(setattr, os, "_exit", leave):
        os._exit = refuse  # type: ignore[assignment]
        try:
            yield
        except SystemExit as ended:
            raise CouldNotRun(
                f"A target must leave the process running. Received: {target}, which ends it with status {ended.code}"
                f"{find_place(ended)}. Take that out of it."
            ) from ended


def find_place(error: BaseException) -> str:
    """Where in the code of a user an error was raised, as " (shop/models.py:41)"; "" where nothing there is theirs."""
    if isinstance(error, SyntaxError):  # which says so itself
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    own = next((f for f in reversed(frames) if is_of_user(f.filename)), None)
    return "" if own is None else f" ({_shorten_path(own.filename)}:{own.lineno})"


def find_user_stacklevel() -> int:
    """The `stacklevel` by which a warning of the calling function points at the code of a user; 2 without any."""
    level, frame = 0, inspect.currentframe()
    while frame is not None and not is_of_user(frame.f_code.co_filename):
        level, frame = level + 1, frame.f_back
    return 2 if frame is None else level


#: files that are not a user's: gradtwin, Python's own library, and the libraries that gradtwin is about
_OWN = tuple(os.path.realpath(Path(__file__).parents[1] / name) + os.sep for name in ("keras_ref", "scratch"))
_PYTHON = os.path.realpath(sysconfig.get_path("stdlib")) + os.sep
_PACKAGES = re.compile(r"[/\\](site|dist)-packages[/\\]")
_LIBRARIES = re.compile(_PACKAGES.pattern + r"(keras|tensorflow|tf_keras|numpy|jax|torch)[/\\]")
#: code that was typed, as the user's; other code without a file is made by Python and libraries
_TYPED = ("<stdin", "<ipython", "<doctest", "<string")


def is_of_user(file: str) -> bool:
    """Whether a file of Python code is the user's, or of a library that they chose: not of gradtwin, Python, Keras,
    TensorFlow, NumPy, JAX or PyTorch.

    file   as the code object names it; code that was typed has a name in angle brackets
    """
    if file.startswith("<"):
        return file.startswith(_TYPED)
    path = os.path.realpath(file)
    if path.startswith(_OWN) or "__autograph_generated_file" in path or _LIBRARIES.search(path):
        return False
    return not path.startswith(_PYTHON) or _PACKAGES.search(path) is not None


def _shorten_path(file: str) -> str:
    """A path as it is seen from the working directory, if it lies below that."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


class NobodyReads(Exception):
    """The reader of the output has gone: a broken pipe, which Click would take for an exit status of 1."""


def describe_error(error: Any) -> str:
    """The text of an error, whose own `__str__` may be wrong."""
    try:
        return str(error)
    except Exception as other:  # noqa: BLE001 (whatever it raises is what there is to say)
        return f"its text cannot be read, which raises {type(other).__name__}"


def shorten_error(error: Any, place: str = "") -> str:
    """The text of an error in at most 160 characters of one sentence, without colours and TensorFlow's own names.

    place   put behind it, as find_place gives it
    """
    # str(KeyError) has quotes
    said = describe_error(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if isinstance(error, Exception) and "Graph execution error" in said:  # TensorFlow's own, after where it was
        said = [line for line in said.splitlines() if line.strip() and not line.lstrip().startswith("[[")][-1]
    text = re.sub(r"\x1b\[[0-9;]*m|__inference_\S+|\[Op:\w+\]( name:)?|\{\{function_node [^}]*\}\}", "", said)
    text = " ".join(text.split()).rstrip(".: ")
    return f"{text}{place}." if len(text) <= 160 else f"{text[:159]}…{place}"
