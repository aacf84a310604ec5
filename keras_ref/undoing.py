"""What belongs to the whole process, changed for the time of a block: put back whatever ends the block."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

#: the installed packages that gradtwin and what it checks are made of, as patterns of module names have them
PACKAGES = (
    r"(absl|astunparse|click|dask|distributed|flatbuffers|gast|google|h5py|jax|jaxlib|jsonschema|keras|libclang|"
    r"ml_dtypes|mpmath|namex|nbformat|numpy|opt_einsum|optree|pandas|pyarrow|pygments|rich|scipy|six|tensorboard|"
    r"tensorflow|termcolor|tf_keras|torch|typer|wrapt)(\.|$)"
)


def let_packages_warn() -> None:
    """Let what an installed package is warned of end nothing where the user makes errors of warnings (-W error).

    NumPy warns of Keras, and Keras of TensorFlow; nobody who runs a check can mend that. Warnings at lines of the
    user's own code, and of gradtwin's, stay errors. The change is undone by whoever keeps `warnings.filters`.
    """
    if any(action == "error" for action, *_ in warnings.filters):
        warnings.filterwarnings("ignore", module=PACKAGES)


@contextmanager
def undoing(undo: Callable[..., Any], *arguments: Any) -> Iterator[None]:
    """Run undo(*arguments) when the block ends: twice, so that an interruption of the first run is made up for.

    The change itself belongs inside the block: one before it is not undone where an interruption comes between. It must
    be harmless to undo a change that was not made, or was undone already.
    """
    try:
        try:
            yield
        finally:
            undo(*arguments)
    finally:
        undo(*arguments)


@contextmanager
def staying_here() -> Iterator[None]:
    """Around code of a user that may change the working directory: a relative path means afterwards what it meant."""
    try:
        here = os.open(".", os.O_RDONLY)
    except OSError:  # a folder that may not be read
        yield
        return
    try:
        with undoing(_return_to, here):
            yield
    finally:
        os.close(here)


def _return_to(here: int) -> None:
    with suppress(OSError):
        os.fchdir(here)
