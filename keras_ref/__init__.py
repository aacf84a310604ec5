"""Keras beside the scratch network: mirrored models, autodiff, comparison. The public verbs load lazily.

check_gradients, check_updates, check_layer, check_function   the checks
mirror, reflect                                               a scratch model as Keras, and back
GradientCheck                                                 a callback for model.fit
surrogate                                                     a class decorator for layers whose gradient is meant to differ
"""

from typing import Any

_HOMES = {
    "check_function": "checks.layers_and_functions",
    "check_gradients": "checks.gradients",
    "check_layer": "checks.layers_and_functions",
    "check_updates": "checks.updates",
    "surrogate": "checks.surrogates",
    "GradientCheck": "frontends.callback",
    "GradientMismatch": "reports.verdict",
    "GradientWarning": "frontends.callback",
    "Report": "reports.verdict",
    "Verdict": "reports.verdict",
}
_CALLABLE = {"mirror": "translation.to_keras", "reflect": "translation.from_keras"}
__all__ = [
    "GradientCheck",
    "GradientMismatch",
    "GradientWarning",
    "Report",
    "Verdict",
    "check_function",
    "check_gradients",
    "check_layer",
    "check_updates",
    "mirror",
    "reflect",
    "surrogate",
]


def __getattr__(name: str) -> Any:
    """Import lazily, so that the plugin and the command line start without TensorFlow."""
    from importlib import import_module

    if name in _CALLABLE:
        return getattr(import_module(f"keras_ref.{_CALLABLE[name]}"), name)
    if name not in _HOMES:
        raise AttributeError(f"module 'keras_ref' has no attribute {name!r}")
    return getattr(import_module(f"keras_ref.{_HOMES[name]}"), name)
