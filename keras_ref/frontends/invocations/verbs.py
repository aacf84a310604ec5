"""The four checks by name. Importing this module does not import TensorFlow; asking for a check does."""

from __future__ import annotations

from collections.abc import Callable

from keras_ref.reports.verdict import Report

#: names of the checks, as in keras_ref
VERBS = ("check_gradients", "check_updates", "check_layer", "check_function")


def find_check(verb: str) -> Callable[..., Report]:
    """The check of a name in VERBS. TensorFlow is imported here, not before."""
    from keras_ref.checks import gradients, layers_and_functions, updates

    checks: dict[str, Callable[..., Report]] = {
        "check_gradients": gradients.check_gradients,
        "check_updates": updates.check_updates,
        "check_layer": layers_and_functions.check_layer,
        "check_function": layers_and_functions.check_function,
    }
    return checks[verb]
