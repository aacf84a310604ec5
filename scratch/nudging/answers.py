"""What a worker is asked and what it answers: a block carries what was asked and losses that the caller knows.

A worker of somebody else's executor may be broken in any way: memory that lies, old code, a queue that mixes up its
results. An answer is taken only where it says what it was asked, has the shape and the dtype that were
asked for, and is right at some places whose losses the caller has computed itself and which it has put between the
others. An answer that is wrong elsewhere alone is not found: for that every loss would have to be computed twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scratch.arrays import Array

#: places in each block whose losses the caller knows
PLACES = 3
#: how far a loss may be off that is computed in a stack of another size, in units of the noise of the loss
NOISES = 8.0
#: the same for the slope in the imaginary part of a complex step, as a share of the largest
SHARE = 1e-6


class WrongAnswer(Exception):
    """An answer that is not the losses of the block that was asked for."""


@dataclass(frozen=True)
class Answer:
    """Losses, and the digest of what was asked."""

    asked: str
    losses: Array


@dataclass(frozen=True)
class Answering:
    """What is sent to a worker: a job, whose losses it returns with what it was asked."""

    job: Callable[[Array, Array], Array]

    def __call__(self, entries: Array, offsets: Array) -> Answer:
        """The answer for a block."""
        return Answer(digest(entries, offsets), self.job(entries, offsets))


@dataclass(frozen=True, kw_only=True)
class Known:
    """Nudges whose losses the caller has computed: (k,) each; `noise` is the absolute noise of the loss."""

    entries: Array
    offsets: Array
    losses: Array
    noise: float


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
        """The losses that are wanted. Raises: WrongAnswer."""
        if not isinstance(answer, Answer) or answer.asked != digest(self.entries, self.offsets):
            raise WrongAnswer("it is the answer to another question")
        losses = answer.losses
        if (
            not isinstance(losses, np.ndarray)
            or losses.shape != self.entries.shape
            or losses.dtype != self.known.losses.dtype
        ):
            raise WrongAnswer(f"it has {_described(losses)} for {_described(self.offsets)}")
        if not _is_close(losses[self.places], self.known.losses, noise=self.known.noise):
            raise WrongAnswer("its losses are not those that are known")
        return np.delete(losses, self.places)


def digest(entries: Array, offsets: Array) -> str:
    """A digest of the nudges of a block."""
    parts = (np.ascontiguousarray(array) for array in (entries, offsets))
    return hashlib.sha256(b"".join(str(part.dtype).encode() + part.tobytes() for part in parts)).hexdigest()


def _described(losses: object) -> str:
    if not isinstance(losses, np.ndarray):
        return type(losses).__name__
    return f"{losses.dtype} of shape {losses.shape}"


def _is_close(found: Array, known: Array, *, noise: float) -> bool:
    """Whether losses are those that are known, but for rounding. NaN and infinity have to be where they are known."""
    allowed = NOISES * (noise + np.finfo(np.float64).eps * np.abs(known.real))
    slopes = SHARE * np.abs(known.imag).max(initial=0.0)
    with np.errstate(invalid="ignore"):
        close = (np.abs(found.real - known.real) <= allowed) & (np.abs(found.imag - known.imag) <= slopes)
    return bool((close | (found == known) | (np.isnan(found) & np.isnan(known))).all())
