"""Keras beside the scratch network: mirrored models, autodiff, comparison. The public verbs load lazily.

check_gradients, check_updates, check_layer, check_function   the checks
mirror, reflect                                               a scratch model as Keras, and back
GradientCheck                                                 a callback for model.fit
surrogate                                                     a class decorator for layers whose gradient is meant to differ
"""

from typing import Any

_HOMES = {
    "check_function": "functions",
    "check_gradients": "checks",
    "check_layer": "functions",
    "check_updates": "updates",
    "surrogate": "surrogates",
    "GradientCheck": "callback",
    "GradientMismatch": "verdicts",
    "GradientWarning": "callback",
    "Report": "verdicts",
    "Verdict": "verdicts",
}
_CALLABLE = ("mirror", "reflect")
__all__ = [
    "GradientCheck", "GradientMismatch", "GradientWarning", "Report", "Verdict", "check_function", "check_gradients", "check_layer",
    "check_updates", "mirror", "reflect", "surrogate",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import lazily, so that the plugin and the command line start without TensorFlow."""
    from importlib import import_module

    if name in _CALLABLE:
        return import_module(f"keras_ref.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'keras_ref' has no attribute {name!r}")
    return getattr(import_module(f"keras_ref.{_HOMES[name]}"), name)
