"""A value that is not the one defined: what Keras computes beside what the NumPy twin of it computes at the same point.

The script has the number of the definition as it is: it cannot compute it without the twin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_ref.checks.gradients import check_gradients
from keras_ref.checks.layers_and_functions import check_layer
from keras_ref.minimisation.cases import CLAIMS, CallCase
from keras_ref.minimisation.finding import Finding
from keras_ref.minimisation.running import running
from keras_ref.minimisation.showing import Shown, draws_unseeded, find_worst, list_both, run_setup, write_whole_setup
from keras_ref.reports.verdict import Report
from keras_ref.translation.from_keras import reflect
from keras_ref.translation.specifications import reflect_object
from scratch.arrays import Array


def show_definition(case: CallCase) -> Shown | None:
    """What Keras and the definition compute; None where they agree, or where there is no definition."""
    try:
        setup = case.setup()
        with running(_write_case(case)) as names:
            got = np.asarray(names["f"](*names["points"]))
            if draws_unseeded(case, names):
                return None
            want = _compute_twin(names)
            both = list_both(np.ravel(got), np.ravel(want))
            entry = find_worst(both) if got.shape == want.shape else None
            if entry is None:
                return None
            right = float(both.want[0][entry.index])
            claim = CLAIMS["definition"]
            lines = claim.lines.format(given=setup.points[1:-1], at=both.place(entry), want=repr(right))
            own = float(both.got[0][entry.index])
            written = [f"f = {setup.function}", *lines.splitlines()]
            return run_setup(setup, written, got=own, want=right, names=(claim.got, claim.want))
    except Exception:  # noqa: BLE001 (a candidate that makes no sense may raise anything; NoTwin is among them)
        return None


def has_same_definition(case: CallCase, finding: Finding) -> bool:
    """Whether the check of what a case builds has the same finding by the twin."""
    try:
        with running(_write_case(case)) as names:
            return finding.is_in(_check(names))
    except Exception:  # noqa: BLE001 (as above)
        return False


def _write_case(case: CallCase) -> str:
    """The text of a case, with the parts that a twin is made of."""
    writer = case.setup().writer
    given = ", ".join(map(writer.write, case.arguments))
    keywords = ", ".join(f"{name!r}: {writer.write(value)}" for name, value in case.keywords.items)
    subject = "layer" if case.is_layer else writer.write(case.subject)
    lines = (
        write_whole_setup(case.setup()),
        f"subject = {subject}",
        f"given = [{given}]",
        f"keywords = {{{keywords}}}",
    )
    return "\n".join(lines)


def _compute_twin(names: Mapping[str, Any]) -> Array:
    """What the twin computes. Raises: NoTwin."""
    subject, given = names["subject"], names["given"]
    if isinstance(subject, keras.losses.Loss):
        return np.asarray(reflect_object(subject, "loss")(*given))
    layers = [keras.Input(batch_shape=(None, *np.shape(x)[1:]), dtype=np.asarray(x).dtype.name) for x in given]
    inputs = layers if len(layers) > 1 else layers[0]
    twin, weights = reflect(keras.Model(inputs, subject(*layers, **names["keywords"])))
    training = bool(names["keywords"].get("training"))
    return np.asarray(twin.forward(weights, given if len(given) > 1 else given[0], training=training))


def _check(names: Mapping[str, Any]) -> Report:
    subject, given = names["subject"], names["given"]
    if not isinstance(subject, keras.losses.Loss):
        return check_layer(subject, *given, oracles=("twin",), **names["keywords"])
    targets, outputs = given
    same = keras.layers.Activation("linear")
    model = keras.Sequential([keras.Input(np.shape(outputs)[1:]), same])
    return check_gradients(model, outputs, targets, loss=subject, oracles=("twin",))
