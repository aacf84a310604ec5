"""What a worker is asked and what it answers: a block carries what was asked and losses that the caller knows.

A worker of somebody else's executor may be broken in any way: memory that lies, old code, a queue that mixes up its
results. An answer is taken only where it says what it was asked, has the shape and the dtype that were asked for, and
has the checksum that its losses had when they were computed. It must also have, bit for bit, some losses that the
caller has computed itself and has put between the others. So a machine that rounds otherwise than this one is not taken
either, and who computes a block changes no bit of a result. A worker that computes finite losses wrongly elsewhere
alone is not found: for that every loss would have to be computed twice.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from scratch.arrays import Array
from scratch.releases import find_distribution, find_version

#: places in each block whose losses the caller knows
PLACES = 3
#: modules that losses are computed with; those of gradtwin are known by their files
MODULES = ("numpy", "tensorflow", "keras", "tf_keras")


class WrongAnswer(Exception):
    """An answer that is not the losses of the block that was asked for."""


class OtherSoftware(ValueError):
    """A worker whose software is not that of the caller."""


@dataclass(frozen=True)
class Answer:
    """Losses, the digest of what was asked, the software that they were computed with, and their own digest.

    checksum   made where they were computed: what changes them on their way does not change it
    """

    asked: str
    losses: Array
    software: Mapping[str, str]
    checksum: str


@dataclass(frozen=True)
class Answering:
    """What is sent to a worker: a job, whose losses it returns with what it was asked."""

    job: Callable[[Array, Array], Array]

    def __call__(self, entries: Array, offsets: Array, places: Array) -> Answer:
        """The answer for a block. The losses at the places are computed apart, for the last bits of a loss may depend
        on the size of its stack.
        """
        known = self.job(entries[places], offsets[places])
        asked = self.job(np.delete(entries, places), np.delete(offsets, places))
        losses = np.insert(asked, places - np.arange(len(places)), known)
        return Answer(hash_nudges(entries, offsets), losses, list_software(), hash_nudges(losses))


@dataclass(frozen=True, kw_only=True)
class Known:
    """Nudges whose losses the caller has computed: (k,) each."""

    entries: Array
    offsets: Array
    losses: Array

    @classmethod
    def of(cls, function: Callable[[Array, Array], Array], entries: Array, offsets: Array) -> Known:
        """Some of the nudges, (stack,) each, and their losses, computed here by the function."""
        some = np.unique(np.linspace(0, len(entries) - 1, PLACES).astype(int))
        return cls(entries=entries[some], offsets=offsets[some], losses=function(entries[some], offsets[some]))


@dataclass(frozen=True, kw_only=True)
class Question:
    """A block as it is sent: the nudges that are wanted, with known ones at some places between them."""

    entries: Array
    offsets: Array
    places: Array
    known: Known

    @classmethod
    def of(cls, entries: Array, offsets: Array, *, known: Known, number: int) -> Question:
        """A question for the block of a number, from which the places are drawn."""
        count = len(known.entries)
        places = np.sort(np.random.default_rng(number).choice(len(entries) + count, count, replace=False))
        before = places - np.arange(count)  # np.insert counts places in the array as it was
        return cls(
            entries=np.insert(entries, before, known.entries),
            offsets=np.insert(offsets, before, known.offsets),
            places=places,
            known=known,
        )

    def accept(self, answer: object) -> Array:
        """The losses that are wanted. Raises: WrongAnswer; OtherSoftware."""
        if not isinstance(answer, Answer) or answer.asked != hash_nudges(self.entries, self.offsets):
            raise WrongAnswer("it is the answer to another question")
        require_same_software(answer.software)
        losses = answer.losses
        if (
            type(losses) is not np.ndarray  # a masked one says of what it masks that it is right
            or losses.shape != self.entries.shape
            or losses.dtype != self.known.losses.dtype
        ):
            raise WrongAnswer(f"it has {_describe(losses)} for {_describe(self.offsets)}")
        if answer.checksum != hash_nudges(losses):
            raise WrongAnswer("its losses are not those that were computed")
        if not _has_same_bits(losses[self.places], self.known.losses):
            raise WrongAnswer("its losses are not, bit for bit, those that are known")
        if np.isfinite(self.known.losses).all() and not np.isfinite(losses).all():
            raise WrongAnswer("it has losses that are not finite, which only this process may find")
        return np.delete(losses, self.places)


@cache
def list_software() -> dict[str, str]:
    """{name: version} of what losses are computed with in this process: Python, packages, and these files by digest."""
    found = {"Python": platform.python_version()}
    for name in filter(find_distribution, MODULES):
        brought = find_distribution(name)  # another build of one release may round otherwise
        found[name] = find_version(name) + (f" ({brought})" if brought != name else "")
    folder, files = Path(__file__).parents[2], hashlib.sha256()
    for file in sorted(path for room in ("scratch", "keras_ref") for path in (folder / room).rglob("*.py")):
        files.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    return {**found, "gradtwin": f"with files {files.hexdigest()[:12]}"}


def require_same_software(theirs: Mapping[str, str], worker: str = "a worker") -> None:
    """Raises: OtherSoftware where a worker's software is not that of this process."""
    own = list_software()
    for name in dict.fromkeys((*own, *theirs)):
        if own.get(name) != theirs.get(name):
            raise OtherSoftware(
                f"Workers must have the software of the process that asks them. Received: {name} "
                f"{theirs.get(name, 'missing')} in {worker}, and {own.get(name, 'missing')} here. Install the same."
            )


def hash_nudges(*arrays: Array) -> str:
    """A digest of arrays: the nudges of a block, or its losses."""
    parts = map(np.ascontiguousarray, arrays)
    return hashlib.sha256(b"".join(str(part.dtype).encode() + part.tobytes() for part in parts)).hexdigest()


def _describe(losses: object) -> str:
    if not isinstance(losses, np.ndarray):
        return type(losses).__name__
    return f"{losses.dtype} of shape {losses.shape}"


def _has_same_bits(found: Array, known: Array) -> bool:
    """Whether losses are those that are known. NaN has many bit patterns, and is where it is known."""
    unknown = np.isnan(found) & np.isnan(known)
    return np.where(unknown, 0, found).tobytes() == np.where(unknown, 0, known).tobytes()
