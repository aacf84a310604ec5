"""Recorded cases of Keras's own test suite: where they lie, and their tags taken off."""

from __future__ import annotations

import gzip
import json
import tomllib
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np

CASES = Path(__file__).resolve().parents[2] / "shared" / "cases"
KINDS = ("layer_calls", "layer_cases", "loss", "activation", "optimizer", "schedule", "regularizer", "constraint")


class NotApplicable(Exception):
    """A case says something that a twin does not answer."""


@dataclass(frozen=True)
class Outcome:
    """How one case ended, and why."""

    kind: str
    subject: str
    id: str
    end: str
    reason: str = ""


@cache
def cases(kind: str) -> tuple[dict[str, Any], ...]:
    """The recorded cases of a kind; none where the folder is not there."""
    path = CASES / f"{kind if kind in ('layer_calls', 'layer_cases') else kind + '_cases'}.json.gz"
    if not path.exists():
        return ()
    with gzip.open(path) as file:
        return tuple(json.load(file)["cases"])


@cache
def exceptions() -> dict[str, Any]:
    """tests/replay.toml: what is not applicable, and what differs, with reasons."""
    with Path(__file__).with_name("replay.toml").open("rb") as file:
        return tomllib.load(file)


def decoded(value: Any) -> Any:  # noqa: C901, PLR0911 (one answer for each tag)
    """A recorded value without its tags; Keras objects stay serialized."""
    if isinstance(value, list):
        return [decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    tag, inner = next(iter(value.items()), ("", None)) if len(value) == 1 else ("", None)
    if tag == "__nd__":
        dtype = dtype_of(inner["dtype"])
        return (
            np.array(inner["data"], dtype=object)
            .astype(float if dtype.kind == "V" else dtype)
            .astype(dtype)
            .reshape(inner["shape"])
        )
    if tag == "__tuple__":
        return tuple(decoded(item) for item in inner)
    if tag == "__slice__":
        return slice(*inner)
    if tag == "__variable__":
        return decoded(inner["value"])
    if tag in ("__sparse__", "__float__", "__dtype__"):
        return decoded(inner) if tag != "__float__" else float(inner)
    if tag == "__map__":
        return {decoded(k): decoded(v) for k, v in inner}
    if tag == "__indexed_slices__":
        dense = np.zeros(inner["shape"])
        np.add.at(dense, decoded(inner["indices"]), decoded(inner["values"]).astype(float))
        return dense.astype(decoded(inner["values"]).dtype)
    if tag == "__keras__":
        return inner
    return {key: decoded(item) for key, item in value.items()}


def revived(serialized: Any) -> Any:
    """The Keras object of a serialized one. Raises: NotApplicable where it is not Keras's own."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return keras.saving.deserialize_keras_object(serialized)
    except (TypeError, ValueError, AttributeError, ModuleNotFoundError) as error:
        name = (
            "quantised" if "Quantized" in str(serialized) or "Int4" in str(serialized) else serialized.get("class_name")
        )
        raise NotApplicable(f"not revived: {name}") from error


def alive(value: Any) -> Any:
    """A recorded value, serialized Keras objects revived wherever they are in it."""
    if isinstance(value, dict):
        return (
            revived(value["__keras__"])
            if "__keras__" in value
            else decoded(value)
            if len(value) == 1
            else {k: alive(v) for k, v in value.items()}
        )
    return [alive(item) for item in value] if isinstance(value, list) else value


def dtype_of(name: str) -> Any:
    """A dtype by name, bfloat16 included."""
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)
