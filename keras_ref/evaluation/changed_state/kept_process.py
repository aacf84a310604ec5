"""What belongs to the whole process and a call of a user's may change: put back when a check ends.

Where modules are looked for stays: a module that a call imports stays loaded, and may look there for others later.
"""

from __future__ import annotations

import decimal
import gc
import locale
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from keras_ref.evaluation.changed_state.kept_contents import restore_contents
from keras_ref.evaluation.changed_state.restoration import Restoration


def keep_process(restoration: Restoration) -> None:
    """Put back what a call changes of the process, where it did."""
    for read, write in _KEPT:
        with suppress(OSError):  # a working directory that is gone
            restoration.undo_by(_write_if_changed, read, write, read())
    for items in (logging.root.handlers, logging.root.filters):
        restoration.undo_by(_restore_list, items, items.copy())


def _write_if_changed(read: Callable[[], Any], write: Callable[[Any], Any], before: Any) -> None:
    try:
        if read() == before:
            return
    except OSError:  # a working directory that a call has removed
        pass
    with suppress(OSError):
        write(before)


def _restore_list(items: list[Any], before: list[Any]) -> None:
    if items != before:
        restore_contents(items, before)


def _write_environment(before: dict[str, str]) -> None:
    for name in os.environ.keys() - before.keys():
        os.environ.pop(name, None)
    os.environ.update(before)


def _read_decimal() -> tuple[Any, ...]:
    now = decimal.getcontext()
    flags = [frozenset(one for one, is_on in table.items() if is_on) for table in (now.flags, now.traps)]
    return now.prec, now.rounding, now.Emin, now.Emax, now.capitals, now.clamp, *flags


def _write_decimal(before: tuple[Any, ...]) -> None:
    now = decimal.getcontext()
    now.prec, now.rounding, now.Emin, now.Emax, now.capitals, now.clamp, flags, traps = before
    for table, on in ((now.flags, flags), (now.traps, traps)):
        for one in table:
            table[one] = one in on


#: (what is read, what writes it)
_KEPT: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (lambda: dict(os.environ), _write_environment),
    (os.getcwd, os.chdir),
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (sys.getswitchinterval, sys.setswitchinterval),
    (np.get_printoptions, lambda before: np.set_printoptions(**before)),
    (_read_decimal, _write_decimal),
    (gc.isenabled, lambda before: gc.enable() if before else gc.disable()),
    (gc.get_threshold, lambda before: gc.set_threshold(*before)),
    (lambda: locale.setlocale(locale.LC_ALL), lambda before: locale.setlocale(locale.LC_ALL, before)),
    (lambda: logging.root.level, logging.root.setLevel),
    (lambda: logging.root.manager.disable, logging.disable),
    (lambda: (sys.excepthook, sys.displayhook), lambda before: _write_hooks(*before)),
)


def _write_hooks(excepthook: Any, displayhook: Any) -> None:
    sys.excepthook, sys.displayhook = excepthook, displayhook
