"""How long the verbs are silent: the longest time between two calls of their progress callback.

python tests/faults/silence.py [name …] measures the subjects of these names, all without one.
"""

import contextlib
import sys
import time
from dataclasses import dataclass, field

import numpy as np
from silence_subjects import SUBJECTS

#: seconds without a tick that a verb may take
SILENCE = 2.0


@dataclass
class Ticks:
    """A progress callback that remembers when it was called, and with what."""

    times: list = field(default_factory=lambda: [time.monotonic()])
    said: list = field(default_factory=lambda: ["beginning"])

    def __call__(self, done, total, what):
        self.times.append(time.monotonic())
        self.said.append(what)

    @property
    def longest(self):
        """(seconds of the longest silence, what was said before it); until now."""
        gaps = np.diff([*self.times, time.monotonic()])
        worst = int(np.argmax(gaps))
        return float(gaps[worst]), self.said[worst]

    @property
    def seconds(self):
        """From the first call to now."""
        return time.monotonic() - self.times[0]


def measure(name):
    """The ticks of a subject's verb."""
    call = SUBJECTS[name]()
    ticks = Ticks()
    try:
        call(ticks)
    except Exception as error:  # noqa: BLE001 (what is measured is how long it was silent, whatever ends it)
        ticks.said[-1] += f"; ended by {type(error).__name__}: {error}"[:200]
    return ticks


if __name__ == "__main__":
    print("| what | seconds | longest silence | after |\n|---|---:|---:|---|")
    for each in sys.argv[1:] or SUBJECTS:
        found = measure(each)
        with contextlib.suppress(BrokenPipeError):
            print(f"| {each} | {found.seconds:.0f} | {found.longest[0]:.1f} | {found.longest[1]} |", flush=True)
