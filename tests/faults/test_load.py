"""A budget does not decide which entries are compared, only how many."""

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import keras
import memory
import numpy as np
import pytest

from keras_ref import check_gradients
from keras_ref.comparison import time_budget
from keras_ref.comparison.entries.entrywise import compare_entries
from keras_ref.comparison.time_budget import draw_first_entries


def test_fewer_entries_are_among_more():
    drawn = [set(draw_first_entries(1000, count=count, seed=3)) for count in (2, 10, 300, 1000)]
    assert [len(one) for one in drawn] == [2, 10, 300, 1000]
    assert all(few <= many for few, many in pairwise(drawn))
    assert set(draw_first_entries(1000, count=10, seed=4)) != drawn[1]


class Machine:
    """A clock that goes on by what is compared: `seconds(entries so far)` for each entry."""

    def __init__(self, seconds):
        self.seconds, self.now, self.compared, self.entries = seconds, 0.0, 0, {}

    def perf_counter(self):
        return self.now

    def compare(self, oracle, name, *, entries, **options):
        for _ in entries:
            self.now += self.seconds(self.compared)
            self.compared += 1
        self.entries.setdefault(name, set()).update(map(int, entries))
        return compare_entries(oracle, name, entries=entries, **options)


def checked_on(machine, monkeypatch):
    """The report on a model of 79 entries within 10 s, of which the machine says when they are over."""
    keras.utils.set_random_seed(0)
    layers = [keras.Input((6,)), keras.layers.Dense(8, "tanh", name="first"), keras.layers.Dense(1, name="last")]
    model = keras.Sequential(layers, name="model")
    model.compile(loss="mse")
    g = np.random.default_rng(0)
    monkeypatch.setattr(time_budget, "time", machine)
    monkeypatch.setattr(time_budget, "compare_entries", machine.compare)
    return check_gradients(
        model, g.normal(size=(2, 6)), np.ones((2, 1)), oracles=("forward",), budget=10, seed=3, progress=lambda *_: None
    )


def budget_note(report):
    return next(note for note in report.notes if "were compared one by one" in note)


def test_a_slower_machine_compares_the_first_of_the_same_entries(monkeypatch):
    machines = [Machine(lambda done, slow=slow: slow) for slow in (0.05, 0.2, 1.0, 4.0, 20.0)]
    reports = [checked_on(machine, monkeypatch) for machine in machines]
    for (fast, quick), (slow, late) in pairwise(zip(machines, reports, strict=True)):
        assert fast.entries.keys() >= slow.entries.keys()
        assert all(slow.entries[name] <= fast.entries[name] for name in slow.entries)
        assert sum(map(len, slow.entries.values())) < sum(map(len, fast.entries.values()))
        assert time_budget.LESS in budget_note(late)
        assert {v.name for v in late.verdicts} == {v.name for v in quick.verdicts}
        assert late.ok
        assert all(v.total in (v.compared, v.together) for v in late.verdicts)
    assert budget_note(reports[0]).endswith("within 10 s; none was left out.")


def test_a_machine_that_becomes_slow(monkeypatch):
    """The first entries promise more than there is time for: what is left out is compared along directions."""
    machine = Machine(lambda done: 0.01 if done < 40 else 2.0)
    report = checked_on(machine, monkeypatch)
    assert sum(map(len, machine.entries.values())) < 79
    assert "the others together along random directions" in budget_note(report)
    assert time_budget.LESS in budget_note(report)
    assert all(v.total in (v.compared, v.together) for v in report.verdicts)
    assert report.ok


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is asked of Linux")
@pytest.mark.parametrize("name", memory.LARGE)
def test_memory_of_what_is_large(name):
    """The bounds of the chapter: of a wide layer along directions, of two programs, of a large batch entry by entry.

    In a process of its own: what other tests have left in this one's heap counts, and is not the check's.
    """
    file = Path(memory.__file__)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (file.parents[2], file.parents[1])))}
    done = subprocess.run([sys.executable, file, name], env=environment, capture_output=True, text=True, check=True)
    peak, allowed = re.search(rf"^\| {name} \| (\d+) MB \| \d+ × \| (\d+) MB \|$", done.stdout, re.MULTILINE).groups()
    assert int(peak) < int(allowed)
