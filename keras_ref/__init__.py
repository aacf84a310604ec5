"""Keras beside the scratch network: mirrored models, autodiff, comparison. The public verbs load lazily.

check_gradients, check_updates   the checks;   mirror, reflect   a scratch model as Keras, and back
"""

_HOMES = {
    "check_gradients": "checks",
    "check_updates": "checks",
    "mirror": "mirror",
    "reflect": "reflect",
    "Report": "verdicts",
    "Verdict": "verdicts",
    "GradientMismatch": "verdicts",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    """Import lazily, so that the plugin and the command line start without TensorFlow."""
    if name not in _HOMES:
        raise AttributeError(f"module 'keras_ref' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"keras_ref.{_HOMES[name]}"), name)
