"""Keras models beside their NumPy twins of `scratch`: gradients by autodiff and by finite differences, compared.

check_gradients, check_updates, check_layer, check_function   the checks; each returns a Report of Verdicts
compare                                                       where two programs part; returns a Comparison
minimise                                                      a finding made small, as a script of a few lines
mirror, reflect                                               a scratch model as a Keras model, and back
GradientCheck                                                 a callback for model.fit
surrogate, Approximation                                      what is meant to differ: a class decorator; an `expect`

The rooms, from the ground up; a module imports from its own room or from those above it in this list:

undoing           a change of the whole process for a block, put back whatever ends it
supervision       processes within limits, of which nothing is left
errors, options   messages of three parts; every option once
reports           verdicts and reports as plain data; terminal, HTML, GitHub and JSON
evaluation        a loss as a pure float64 function of weights and inputs; autodiff; undoing what was changed
translation       scratch to Keras and back: specifications, weights, random draws, known departures
inputs            what a check is given: targets, data, call arguments
programs          a program as a value: Keras of any backend, Keras 2, PyTorch, JAX, NumPy, scratch
comparison        two gradients with their errors become a verdict
checks            the public checks
strategies        Hypothesis strategies for specifications, models, weights and inputs
coverage          what Keras exports, and what of it is compared
homework, lesson  grading of students' programs; the lesson's page and notebook
campaign          the ledger of findings, and a script for each
minimisation      from a failure to a script
frontends         command line, pytest plugin, callback

Importing this package loads neither TensorFlow nor Hypothesis: a name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_ref.checks.compare import compare
    from keras_ref.checks.gradients import check_gradients
    from keras_ref.checks.layers_and_functions import check_function, check_layer
    from keras_ref.checks.surrogates import surrogate
    from keras_ref.checks.updates import check_updates
    from keras_ref.comparison.sources.settings import Approximation
    from keras_ref.frontends.callback import GradientCheck, GradientWarning
    from keras_ref.minimisation.minimise import Minimised, minimise
    from keras_ref.reports.comparison import Comparison, ProgramsDiffer
    from keras_ref.reports.verdict import GradientMismatch, Report, Verdict
    from keras_ref.translation.from_keras import reflect
    from keras_ref.translation.to_keras import mirror

__all__ = [
    "Approximation",
    "Comparison",
    "GradientCheck",
    "GradientMismatch",
    "GradientWarning",
    "Minimised",
    "ProgramsDiffer",
    "Report",
    "Verdict",
    "check_function",
    "check_gradients",
    "check_layer",
    "check_updates",
    "compare",
    "minimise",
    "mirror",
    "reflect",
    "surrogate",
]

#: {public name: the module that defines it}
_HOMES = {
    "Approximation": "comparison.sources.settings",
    "Comparison": "reports.comparison",
    "GradientCheck": "frontends.callback",
    "GradientMismatch": "reports.verdict",
    "GradientWarning": "frontends.callback",
    "Minimised": "minimisation.minimise",
    "ProgramsDiffer": "reports.comparison",
    "Report": "reports.verdict",
    "Verdict": "reports.verdict",
    "check_function": "checks.layers_and_functions",
    "check_gradients": "checks.gradients",
    "check_layer": "checks.layers_and_functions",
    "check_updates": "checks.updates",
    "compare": "checks.compare",
    "minimise": "minimisation.minimise",
    "mirror": "translation.to_keras",
    "reflect": "translation.from_keras",
    "surrogate": "checks.surrogates",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'keras_ref' has no attribute {name!r}")
    return getattr(import_module(f"keras_ref.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
