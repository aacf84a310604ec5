"""Workers that lie, fail, answer twice or late: executors, and what becomes of the losses of a block.

CHANGES and ON_THE_WAY change losses, LIES whole answers, FORMS only how losses lie in memory; FAILURES end a block.
"""

import asyncio
import multiprocessing
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace

import numpy as np

from scratch.nudging.answers import Answer, WrongAnswer, hash_nudges


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call of a worker: its number, the answers up to its own, and the places whose losses the caller knows."""

    number: int
    answers: list
    places: np.ndarray

    @property
    def others(self):
        """The places whose losses the caller does not know."""
        return np.setdiff1d(np.arange(len(self.answers[-1].losses)), self.places)


class Lying(Executor):
    """Computes at once, and changes each answer; `lie(answer, call)`."""

    _max_workers = 2

    def __init__(self, lie):
        self.lie, self.answers = lie, []

    @property
    def asked(self):
        return len(self.answers)

    def submit(self, function, /, *arguments, **keywords):
        future = Future()
        answer = function(*arguments, **keywords)
        self.answers.append(answer)
        call = Call(number=self.asked, answers=self.answers, places=arguments[-1])
        future.set_result(self.lie(answer, call))
        return future


def on_the_way(change):
    """Losses that are right where they are computed, and changed by what carries them: memory, a queue, a disk."""
    return lambda answer, call: replace(answer, losses=change(answer.losses, call))


def by_the_worker(change):
    """Losses that are wrong where they are computed."""

    def lie(answer, call):
        losses = change(answer.losses, call)
        return replace(answer, losses=losses, checksum=hash_nudges(losses))

    return lie


def at(places, value):
    """A change of the losses at some places."""

    def change(losses, call):
        changed = losses.copy()
        changed[places(call)] = value(changed[places(call)])
        return changed

    return change


def known(call):
    return call.places


def others(call):
    return call.others


def two(call):
    return call.others[:2]


def off(losses, call):
    """Losses without those that are known."""
    return np.ma.masked_array(losses * 2, mask=np.isin(np.arange(len(losses)), call.places))


#: what becomes of losses
CHANGES = {
    "NaN": lambda losses, call: np.full_like(losses, np.nan),
    "zeros": lambda losses, call: np.zeros_like(losses),
    "negative zeros": lambda losses, call: np.full_like(losses, -0.0),
    "the smallest denormal": lambda losses, call: np.full_like(losses, 5e-324),
    "float32": lambda losses, call: losses.astype(np.float32),
    "float16": lambda losses, call: losses.astype(np.float16),
    "big-endian": lambda losses, call: losses.astype(losses.dtype.newbyteorder(">")),
    "bytes in the other order": lambda losses, call: losses.byteswap(),
    "complex": lambda losses, call: losses.astype(complex),
    "an array of objects": lambda losses, call: losses.astype(object),
    "an array with a mask": off,
    "a matrix": lambda losses, call: losses.view(np.matrix),
    "bits that are read as integers": lambda losses, call: losses.view(np.int64),
    "computed in float32": lambda losses, call: losses.astype(np.float32).astype(np.float64),
    "too short": lambda losses, call: losses[:-1],
    "too long": lambda losses, call: np.append(losses, 1.0),
    "none": lambda losses, call: losses[:0],
    "another shape": lambda losses, call: losses[None],
    "off by a part in a million": lambda losses, call: losses * (1 + 1e-6),
    "off by the last bit": lambda losses, call: np.nextafter(losses, np.inf),
    "shifted by one": lambda losses, call: np.roll(losses, 1),
    "reversed": lambda losses, call: losses[::-1],
    "all the same": lambda losses, call: np.full_like(losses, losses[0]),
    "infinite": lambda losses, call: np.full_like(losses, np.inf),
    "wrong where they are known": at(known, lambda losses: losses * 2),
    "a known and another one exchanged": lambda losses, call: exchanged(losses, [call.places[0], call.others[0]]),
    "NaN where nothing is known": at(others, lambda losses: np.full_like(losses, np.nan)),
    "infinite in one place": at(lambda call: call.others[:1], lambda losses: np.full_like(losses, -np.inf)),
    "the losses of the block before": lambda losses, call: (
        call.answers[max(0, call.number - 2)].losses[: len(losses)] if call.number > 1 else losses * 2
    ),
}


#: what becomes of losses of complex numbers, whose imaginary part has the slope
COMPLEX_CHANGES = {
    **{name: CHANGES[name] for name in ("NaN", "zeros", "reversed", "off by a part in a million")},
    "conjugates": lambda losses, call: np.conj(losses),
    "real and imaginary parts exchanged": lambda losses, call: losses.imag + 1j * losses.real,
    "real parts alone": lambda losses, call: losses.real + 0j,
    "denormal imaginary parts flushed": lambda losses, call: (
        losses.real + 1j * np.where(np.abs(losses.imag) < 1e-190, 0, losses.imag)
    ),
}


def exchanged(losses, pair):
    changed = losses.copy()
    changed[pair] = changed[pair[::-1]]
    return changed


#: what is seen on the way alone: a worker that computes this says nothing by which it could be known
ON_THE_WAY = {
    "two others exchanged": lambda losses, call: exchanged(losses, two(call)),
    "one other off by the last bit": at(lambda call: call.others[:1], lambda losses: np.nextafter(losses, np.inf)),
    "others off by a tenth": at(others, lambda losses: losses * 1.1),
    "others zero": at(others, np.zeros_like),
}


class Sly(np.ndarray):
    """Losses that are not those that their bytes say, and equal to everything."""

    def tobytes(self, *order):
        return np.ndarray.tobytes(np.asarray(self) / 2, *order)

    def __eq__(self, other):
        return np.ones(np.shape(self), bool)

    __hash__ = None


class Unreadable:
    """What cannot be compared, nor asked anything."""

    def __getattr__(self, name):
        raise RuntimeError(name)

    def __eq__(self, other):
        raise RuntimeError(other)

    __hash__ = None


LIES = {
    **{f"{name}, on the way": on_the_way(change) for name, change in (CHANGES | ON_THE_WAY).items()},
    **{f"{name}, by the worker": by_the_worker(change) for name, change in CHANGES.items()},
    "an array that says it is another": on_the_way(lambda losses, call: (losses * 2).view(Sly)),
    "no array": lambda answer, call: replace(answer, losses=list(answer.losses)),
    "the block before": lambda answer, call: call.answers[max(0, call.number - 2)] if call.number > 1 else None,
    "the first block's": lambda answer, call: call.answers[0],
    "the last block's losses under this block's question": lambda answer, call: replace(
        call.answers[max(0, call.number - 2)] if call.number > 1 else replace(answer, losses=answer.losses * 2),
        asked=answer.asked,
    ),
    "another question": lambda answer, call: replace(answer, asked="0" * 64),
    "no question": lambda answer, call: replace(answer, asked=None),
    "no checksum": lambda answer, call: replace(answer, checksum=""),
    "nothing": lambda answer, call: None,
    "text": lambda answer, call: "done",
    "losses alone": lambda answer, call: answer.losses,
    "what cannot be read": lambda answer, call: Unreadable(),
    "losses that cannot be read": lambda answer, call: replace(answer, losses=Unreadable()),
    "a class in the place of an answer": lambda answer, call: Answer,
}


#: right answers in another form
FORMS = {
    "plain": lambda losses, call: losses,
    "read-only": lambda losses, call: as_read_only(losses),
    "every second of an array": lambda losses, call: np.repeat(losses, 2)[::2],
    "backwards in memory": lambda losses, call: losses[::-1].copy()[::-1],
    "a field of records": lambda losses, call: np.rec.fromarrays([losses, losses], names="a,b")["a"],
}


def as_read_only(losses):
    copied = losses.copy()
    copied.flags.writeable = False
    return copied


class Failing(Executor):
    """Each block ends with an error, as `fail(future)` says."""

    _max_workers = 2

    def __init__(self, fail):
        self.fail, self.asked = fail, 0

    def submit(self, function, /, *arguments, **keywords):
        self.asked += 1
        future = Future()
        self.fail(future)
        return future


def no_such_class():
    raise ModuleNotFoundError("No module named 'a class of the worker'")


class Unpicklable(Exception):
    """An error that cannot be made again from its arguments."""

    def __init__(self, *, reason):
        super().__init__()
        self.reason = reason

    def __reduce__(self):
        return no_such_class, ()


#: how the future of a block ends that has no answer
FAILURES = {
    "an error that cannot be unpickled": lambda future: future.set_exception(Unpicklable(reason="lost")),
    "a broken pool": lambda future: future.set_exception(BrokenProcessPool("gone")),
    "no memory": lambda future: future.set_exception(MemoryError()),
    "an end of the process": lambda future: future.set_exception(SystemExit(0)),
    "Ctrl-C in the worker": lambda future: future.set_exception(KeyboardInterrupt()),
    "a generator that was closed": lambda future: future.set_exception(GeneratorExit()),
    "a task that was cancelled": lambda future: future.set_exception(asyncio.CancelledError()),
    "a future that was cancelled": lambda future: future.cancel() and future.set_running_or_notify_cancel(),
    "an error of ours": lambda future: future.set_exception(WrongAnswer("a worker said so")),
    "a group of errors": lambda future: future.set_exception(ExceptionGroup("both", [ValueError("a")])),
}


class Pickling(ProcessPoolExecutor):
    """Processes that answer with what cannot be unpickled here, every second time."""

    def __init__(self):
        super().__init__(2, mp_context=multiprocessing.get_context("forkserver"))
        self.asked = 0

    def submit(self, function, /, *arguments, **keywords):
        self.asked += 1
        return super().submit(raise_what_cannot_be_unpickled)


def raise_what_cannot_be_unpickled():
    raise Unpicklable(reason="lost")


class Repeating(Executor):
    """One future for all blocks, whose result arrives again and again."""

    _max_workers = 2

    def __init__(self):
        self.future, self.asked = Future(), 0

    def submit(self, function, /, *arguments, **keywords):
        self.asked += 1
        answer = function(*arguments, **keywords)
        if not self.future.done():
            self.future.set_result(answer)
        return self.future


class Late(Executor):
    """Answers with zeros, in a thread, when the workers have been given up."""

    _max_workers = 2

    def __init__(self):
        self.timers = []

    def submit(self, function, /, *arguments, **keywords):
        future = Future()
        future.set_running_or_notify_cancel()
        answer = function(*arguments, **keywords)
        lie = replace(answer, losses=np.zeros_like(answer.losses))
        self.timers.append(threading.Timer(0.7, future.set_result, [lie]))
        self.timers[-1].start()
        return future
