"""PyTorch in a process that has TensorFlow too."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def leave_out_triton() -> None:
    """Let PyTorch do without Triton in this process, unless it is loaded already.

    Triton and TensorFlow both bring LLVM: loading one after the other ends the process (segmentation fault; triton 3.8,
    tensorflow 2.21). PyTorch loads Triton with its optimizers, Keras on PyTorch as soon as it is imported. Without it
    both compute the same: only code that is compiled for a graphics card needs it.
    """
    sys.modules.setdefault("triton", None)  # type: ignore[arg-type]


@contextmanager
def without_graphics_card() -> Iterator[None]:
    """Until the end of the block PyTorch does not warn that there is no CUDA: TensorFlow's stand-in for it says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "CUDA initialization", UserWarning)
        yield
