"""Forty faults to make small: twenty planted in larger models and functions, twenty of Keras's and TensorFlow's own.

`python tests/minimised.py` minimises all of them, and prints the table of the documentation; names select some.
"""

from __future__ import annotations

import sys
from typing import Any

import keras
import minimised_found  # noqa: F401 (registers its faults)
import minimised_planted  # noqa: F401 (registers its faults)
from support_minimised import FAULTS, Fault

__all__ = ["FAULTS", "minimised"]


def minimised(one: Fault, **options: Any) -> Any:
    """A fault made small."""
    from keras_ref.minimisation.minimise import minimise
    from keras_ref.minimisation.programs import minimise_programs

    keras.utils.set_random_seed(7)
    subject, *inputs = one.make()
    return (minimise_programs if one.is_pair else minimise)(subject, *inputs, **one.options, **options)


def main(names: list[str]) -> None:
    """Minimise, and print a row for each: the fault, lines of the script, seconds, what it shows."""
    import time
    from statistics import median

    lines, seconds = [], []
    for one in sorted(FAULTS, key=lambda fault: not fault.is_planted):
        if names and one.name not in names:
            continue
        started = time.monotonic()
        try:
            result = minimised(one)
        except Exception as error:  # noqa: BLE001 (a row of the table)
            print(
                f"| {one.name} | - | {time.monotonic() - started:.0f} | {type(error).__name__}: {error} |", flush=True
            )
            continue
        lines.append(result.lines)
        seconds.append(result.seconds)
        where = "planted" if one.is_planted else "found"
        about = "" if one.about in result.script else f" NOT ABOUT {one.about}"
        more = "".join(f" ({note})" for note in result.notes)
        print(
            f"| {one.name} | {where} | {result.lines} | {result.seconds:.0f} | {result.what}{about}{more} |", flush=True
        )
        if names:
            print(result.script)
    if lines:
        print(
            f"{len(lines)} of {len(names or FAULTS)}; lines: median {median(lines):g}, most {max(lines)}; "
            f"seconds: median {median(seconds):.0f}, most {max(seconds):.0f}"
        )


if __name__ == "__main__":
    from keras_ref.inputs.targets import import_quietly, quiet_tensorflow

    quiet_tensorflow()
    import_quietly()
    main(sys.argv[1:])
