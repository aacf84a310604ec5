"""Messages between processes: nested plain data and NumPy arrays as bytes. Nothing is pickled, no code travels."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any, BinaryIO
from zipfile import ZipFile

import numpy as np

from scratch.arrays import Array

#: bytes of the length that stands before each message
LENGTH = 8
#: bytes of the longest message
LONGEST = 2**34


class NoMessage(Exception):
    """What arrived is not what `encode` writes."""


def encode(value: Any) -> bytes:
    """A value of dictionaries, lists, text, numbers, None and arrays as bytes."""
    arrays: dict[str, Array] = {}

    def plain(part: Any) -> Any:
        if isinstance(part, (np.ndarray, np.generic)):
            arrays[f"a{len(arrays)}"] = np.asarray(part)
            return {"array": len(arrays) - 1}
        if isinstance(part, Mapping):
            return {"map": [[str(key), plain(item)] for key, item in part.items()]}
        if isinstance(part, (list, tuple)):
            return [plain(item) for item in part]
        if isinstance(part, float):
            return {"float": repr(part)}
        return part

    text = json.dumps(plain(value)).encode()
    buffer = io.BytesIO()
    np.savez(buffer, text=np.frombuffer(text, np.uint8), **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def decode(data: bytes) -> Any:
    """The value that `encode` wrote; tuples come back as lists. Raises: NoMessage for anything else."""
    try:
        return _decode(data)
    except Exception as error:  # bytes of another program: an archive may be wrong in more ways than can be listed
        raise NoMessage(str(error)) from error


def _decode(data: bytes) -> Any:
    with ZipFile(io.BytesIO(data)) as archive:
        # `encode` compresses nothing: what unpacks to more than it is was made otherwise
        if sum(member.file_size for member in archive.infolist()) > len(data):
            raise ValueError("it unpacks to more than it is")
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        arrays = dict(found)

    def made(part: Any) -> Any:
        if isinstance(part, list):
            return [made(item) for item in part]
        if not isinstance(part, dict):
            return part
        ((kind, value),) = part.items()
        if kind == "array":
            return arrays[f"a{value}"]
        return float(value) if kind == "float" else {key: made(item) for key, item in value}

    return made(json.loads(arrays["text"].tobytes()))


def pack(value: Any) -> bytes:
    """One message: a value as bytes, with their number in front."""
    data = encode(value)
    return len(data).to_bytes(LENGTH, "big") + data


def send(stream: BinaryIO, value: Any) -> None:
    """Write one message."""
    stream.write(pack(value))
    stream.flush()


def receive(stream: BinaryIO) -> Any:
    """Read one message. Raises: EOFError at the end of the stream."""
    head = stream.read(LENGTH)
    if len(head) < LENGTH:
        raise EOFError
    return decode(stream.read(int.from_bytes(head, "big")))
