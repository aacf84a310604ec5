"""Start with recipe.py: the whole idea on one screen. The rest is the same recipe, for any network, with its error.

registry.py, domain.py   who is there, and what a field may be
activations.py, layers/, losses/, optimizers/, schedules.py, regularizers.py, constraints.py   the definitions
model.py, objective.py   a graph of layers; what is being minimised
differences.py           how to difference: Estimate(value, truncation, rounding)
slopes.py                slopes from the left and from the right; kinks
gradient.py              what to evaluate: every nudged loss of a model
training.py              batches, epochs, History: the recipe for any model
"""

_HOMES = {
    "Model": "model",
    "Call": "calls",
    "Objective": "objective",
    "Estimate": "differences",
    "Forward": "differences",
    "Backward": "differences",
    "Central": "differences",
    "Richardson": "differences",
    "ComplexStep": "differences",
    "numeric_gradient": "gradient",
    "fit": "training",
    "History": "training",
    "get": "registry",
    "every": "registry",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    """Import lazily: `python -m scratch.recipe` loads the recipe alone."""
    if name not in _HOMES:
        raise AttributeError(f"module 'scratch' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"scratch.{_HOMES[name]}"), name)
