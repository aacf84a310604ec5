"""What a check in inference leaves out: the forward pass of training, where layers compute something else in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from keras_ref.errors import join_names
from keras_ref.evaluation.changed_state import keras_2
from keras_ref.evaluation.keras_objects.keras_parts import list_layers
from keras_ref.evaluation.keras_objects.training_modes import find_training_dependent
from keras_ref.reports.verdict import Report

#: layers that the note names
NAMED = 5
NOTE_ON_TRAINING = (
    "The forward pass of training was not checked, in which these layers may compute something else: {}. Check it with "
    "training=True, or --training."
)


def note_unchecked_training(report: Report, keras_object: Any, *, training: bool) -> Report:
    """A report that is ok with a note on the layers that were checked in inference alone; else as it is."""
    if training or not report.ok:
        return report
    names = find_training_dependent([*list_layers(keras_object), *keras_2.list_layers(keras_object)])
    if not names:
        return report
    return replace(report, notes=(*report.notes, NOTE_ON_TRAINING.format(join_names(names, most=NAMED))))
