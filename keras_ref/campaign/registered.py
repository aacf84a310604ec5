"""The gradients that TensorFlow registers for its operations: which of them a campaign differentiates, and why not."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from keras_ref.undoing import undoing


def list_registered() -> tuple[str, ...]:
    """The operations for which the installed TensorFlow registers a gradient."""
    from tensorflow.python.framework import ops

    registry = ops.gradient_registry
    return tuple(sorted(name for name in registry.list() if registry.lookup(name) is not None))


@contextmanager
def recording_gradients() -> Iterator[set[str]]:
    """While the block runs, the set gets the names of the operations whose registered gradients run eagerly."""
    from tensorflow.python import pywrap_tfe
    from tensorflow.python.eager import backprop

    found: set[str] = set()
    # the function that the tape calls for every operation; TensorFlow has no public way to it
    original = backprop._gradient_function  # noqa: SLF001

    def recording(op_name: str, *arguments: Any) -> Any:
        found.add(op_name)
        return original(op_name, *arguments)

    with undoing(pywrap_tfe.TFE_Py_RegisterGradientFunction, original):
        pywrap_tfe.TFE_Py_RegisterGradientFunction(recording)
        yield found


@cache
def load_reasons() -> dict[str, str]:
    """Why an operation with a registered gradient is not checked, by name (registered.toml)."""
    with Path(__file__).with_name("registered.toml").open("rb") as file:
        groups = tomllib.load(file)["group"]
    return {name: group["reason"] for group in groups for name in group["operations"].split()}


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What a campaign made of the registered gradients.

    checked   the operations whose gradients ran, with the subjects that ran them
    listed    those that did not, with the reason
    left      those that did not, without one
    """

    checked: dict[str, tuple[str, ...]]
    listed: dict[str, str]
    left: tuple[str, ...]


def cover_registered(ran: Mapping[str, Sequence[str]]) -> Coverage:
    """The coverage of the registered gradients by a campaign: {subject: operations whose gradients ran}."""
    reasons, checked = load_reasons(), dict[str, tuple[str, ...]]()
    for name in list_registered():
        by = tuple(subject for subject, operations in ran.items() if name in operations)
        if by:
            checked[name] = by
    rest = [name for name in list_registered() if name not in checked]
    return Coverage(
        checked=checked,
        listed={name: reasons[name] for name in rest if name in reasons},
        left=tuple(name for name in rest if name not in reasons),
    )
