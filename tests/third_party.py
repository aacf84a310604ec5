"""Third-party layers, losses and functions, checked with default options; with --planted, errors planted inside each.

    python tests/third_party.py                        the table of every subject whose package is installed
    python tests/third_party.py --planted              and how many planted errors of each size are found
    python tests/third_party.py --only keras-hub       one package

Run by hand: the packages are no dependency of gradtwin (install them with --no-deps, in an environment of their own).
What is not installed, or raises by itself, is listed with its reason. Packages that follow tf.keras are checked with
Keras 2; TF_USE_LEGACY_KERAS=0 checks them with Keras 3. The exit status is 1 if a verdict is not the expected one.

An error of relative size e multiplies one entry of the gradient of one variable (of an input, where there is none) by
1 + e: the entry with the largest gradient. A custom gradient around the value does so, inside the subject.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import keras
import numpy as np
import tensorflow as tf
from planting import _standing_in, scaled
from third_party_subjects import SUBJECTS, Made, Subject

import keras_ref
from keras_ref.evaluation.changed_state.keras_2 import is_layer as is_keras_2_layer

SIZES = (1e-2, 1e-3, 1e-4, 1e-6)


@dataclass(frozen=True)
class Row:
    """What came of a subject: its report or why there is none, and processor seconds."""

    subject: Subject
    report: Any
    refused: str
    seconds: float

    @property
    def kinds(self) -> list[str]:
        return sorted({str(v.verdict) for v in self.report.verdicts}) if self.report is not None else ["refused"]

    @property
    def is_expected(self) -> bool:
        return set(self.kinds) <= set(self.subject.expected)

    @property
    def precision(self) -> str:
        if self.report is None:
            return ""
        return "float32" if any("float32 inside" in note for note in self.report.notes) else "float64"

    def __str__(self) -> str:
        s, right = self.subject, "yes" if self.is_expected else "**no**"
        why = self.refused or s.why
        return (
            f"| {s.package} | {s.name} | {', '.join(self.kinds)} | {right}{': ' + why if why else ''} | "
            f"{self.precision} | {self.seconds:.2f} |"
        )


def check(made: Made) -> Any:
    """The report of the check that fits what is made."""
    if isinstance(made.checked, keras.layers.Layer) or is_keras_2_layer(made.checked):
        return keras_ref.check_layer(made.checked, *made.inputs, **made.options)
    more = {"variables": list(made.variables)} if made.variables else {}
    return keras_ref.check_function(made.checked, *made.inputs, **more, **made.options)


def checked(subject: Subject, make: Callable[[], Made]) -> Row:
    """A row of the table. Its seconds include the making."""
    keras.utils.set_random_seed(0)
    start, report, refused = time.process_time(), None, ""
    try:
        report = check(make())
    except Exception as error:  # noqa: BLE001 (a refusal, or what must not happen: it is said, and the run goes on)
        refused = f"{type(error).__name__}: {error}".replace("\n", " ")[:160]
    return Row(subject, report, refused, time.process_time() - start)


# Planting -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where an error is planted: in a variable of the subject, or in input number `input`; at the flat entry."""

    variable: int | None
    input: int | None
    entry: int


def variables_of(made: Made) -> list[Any]:
    """What can be planted in: variables of Keras 3, for which a StatelessScope stands in; of others the input is."""
    is_layer = isinstance(made.checked, keras.layers.Layer)
    return list(made.checked.trainable_variables) if is_layer else []


def planted(made: Made, place: Place, error: float) -> Made:
    """The same with an error in its backward pass."""

    def factor_like(value: Any) -> Any:
        factor = np.ones(int(np.prod(value.shape)))
        factor[place.entry] += error
        return tf.constant(factor.reshape(value.shape), value.dtype)

    function = made.checked.call if hasattr(made.checked, "call") else made.checked

    def changed(*inputs: Any, **options: Any) -> Any:
        standing_in = []
        if place.variable is not None:
            variable = variables_of(made)[place.variable]
            value = tf.convert_to_tensor(variable)
            standing_in = [(variable, scaled(value, factor_like(value)))]
        else:
            leaves = tf.nest.flatten(inputs)
            leaves[place.input] = scaled(leaves[place.input], factor_like(leaves[place.input]))
            inputs = tf.nest.pack_sequence_as(inputs, leaves)
        with _standing_in(standing_in):
            return function(*inputs, **options)

    if not hasattr(made.checked, "call"):
        return replace(made, checked=changed)
    changed.__signature__ = inspect.signature(function)
    made.checked.call = changed
    return made


def tensors_of(made: Made) -> Any:
    """The inputs as a layer takes them in training, floats in float32; those of a function as they are."""
    is_layer = hasattr(made.checked, "call")

    def tensor(leaf: Any) -> Any:
        return tf.constant(leaf, tf.float32 if is_layer and np.asarray(leaf).dtype.kind == "f" else None)

    return tf.nest.map_structure(tensor, made.inputs)


def place_of(made: Made) -> Place | None:
    """The variable or input with the largest gradient, among those that the right check compared, and its entry."""
    floats = [i for i, leaf in enumerate(tf.nest.flatten(made.inputs)) if np.asarray(leaf).dtype.kind == "f"]
    variables = variables_of(made)
    leaves = tf.nest.flatten(tensors_of(made))
    watched = [v.value if hasattr(v, "value") and not callable(v.value) else v for v in variables]
    watched += [] if variables else [leaves[i] for i in floats]
    with tf.GradientTape() as tape:
        for one in watched:
            tape.watch(one)
        found = made.checked(*tf.nest.pack_sequence_as(made.inputs, leaves), **made.options)
        outputs = [o for o in tf.nest.flatten(found) if o.dtype.is_floating]
        loss = tf.add_n([tf.reduce_sum(tf.cast(tf.sin(3 * o + 1), tf.float64)) for o in outputs])
    sizes = [
        np.abs(tf.convert_to_tensor(g).numpy()) if g is not None else np.zeros(1) for g in tape.gradient(loss, watched)
    ]
    largest = max(range(len(sizes)), key=lambda i: float(np.max(sizes[i])), default=None)
    if largest is None or not np.max(sizes[largest]) > 0:
        return None
    entry = int(np.argmax(sizes[largest]))
    return Place(largest, None, entry) if variables else Place(None, floats[largest], entry)


def count_found(make: Callable[[], Made], found: Counter[float]) -> str:
    """Plants each size in a subject; which are found is counted. Returns what was missed, in words, or why none was
    planted.
    """
    keras.utils.set_random_seed(0)
    made = make()
    if isinstance(made.checked, keras.layers.Layer) or is_keras_2_layer(made.checked):
        made.checked(*tensors_of(made), **made.options)
    place = place_of(made)
    if place is None:
        return "its gradient is zero"
    missed = []
    for size in SIZES:
        keras.utils.set_random_seed(0)
        again = make()
        if hasattr(again.checked, "call"):  # built as it is
            again.checked(*tensors_of(again), **again.options)
        report = check(planted(again, place, size))
        is_found = any(v.verdict in ("mismatch", "nan") for v in report.verdicts)
        found[size] += is_found
        if not is_found:
            visible = max(v.visible_relative for v in report.verdicts)
            missed.append(f"{size:.0e} missed ({report.verdicts[0].verdict}, would have seen {visible:.0e})")
    return "; ".join(missed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=(), help="these packages alone, by the names in the table")
    parser.add_argument("--planted", action="store_true", help="plant errors, and count what is found")
    parser.add_argument("--every", type=int, default=1, help="plant in every n-th subject")
    options = parser.parse_args()
    rows: list[Row] = []
    skipped: Counter[str] = Counter()
    found: Counter[float] = Counter()
    number = 0
    print("| package | subject | verdict | is that right | precision | seconds |\n|---|---|---|---|---|---|")
    for i, subject in enumerate(s for s in SUBJECTS if not options.only or s.package in options.only):
        try:
            module = importlib.import_module(subject.module)
            subject.make(module)
        except Exception as error:  # noqa: BLE001 (whatever a package raises is its reason)
            skipped[f"{subject.package}, {subject.name}: {type(error).__name__}: {error}"[:200]] += 1
            continue
        row = checked(subject, lambda s=subject, m=module: s.make(m))
        rows.append(row)
        print(row, flush=True)
        if options.planted and i % options.every == 0 and row.is_expected and not subject.why:
            try:
                said = count_found(lambda s=subject, m=module: s.make(m), found)
            except Exception as error:  # noqa: BLE001 (counted as not planted, and said)
                said = f"not planted: {type(error).__name__}: {str(error)[:150]}"
            is_counted = not said.startswith(("its gradient", "not planted"))
            number += is_counted
            if said:
                print(f"  {subject.package} {subject.name}: {said}", file=sys.stderr, flush=True)
    for reason in skipped:
        print(f"skipped: {reason}")
    unexpected = [row for row in rows if not row.is_expected]
    print(f"\n{len(rows)} subjects, {len(unexpected)} not as expected, {sum(skipped.values())} skipped")
    if rows:
        print(f"median {statistics.median(row.seconds for row in rows):.2f} processor seconds")
    if options.planted:
        print(f"planted in {number}: found " + ", ".join(f"{found[size]} of {size:.0e}" for size in SIZES))
    return int(bool(unexpected))


if __name__ == "__main__":
    sys.exit(main())
