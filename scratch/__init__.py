"""A NumPy-only network that knows no calculus: it differentiates by nudging one weight at a time.

Start with recipe.py, the whole idea on one screen. The rest is the same recipe for any network, with the error of every
slope. From the ground up:

arrays.py           the type of arrays
fields.py           domains of fields: which values are legal
axes.py             domains of axis arguments
registry.py         the registry of definitions: @layer, @loss, …
naming.py           names of layers and weights
activations/        activations
layers/             layers
losses/             losses
regularizers.py     regularizers
constraints.py      constraints
schedules.py        learning-rate schedules
optimizers/         optimizers
calls.py            calls of layers
model.py            a model: a graph of layers
objective.py        the objective of training: losses and regularization
differences.py      finite-difference schemes: Estimate(value, truncation, rounding)
one_sided.py        slopes from the left and from the right; kinks
random_offset.py    random offsets of weights
noise.py            the rounding error of a loss: the model of rounding
rounding.py         arrays whose operations are off by rounding
progress.py         the type of a progress callback
releases.py         which releases are installed
nudging/            the losses of a model at nudged weights
gradient.py         the numeric gradient of a model
training.py         training of a model by numeric gradients
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scratch.calls import Call
    from scratch.differences import Backward, Central, ComplexStep, Estimate, Forward, Richardson
    from scratch.gradient import numeric_gradient
    from scratch.model import Model
    from scratch.objective import Objective
    from scratch.registry import every, get
    from scratch.training import History, fit

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
__all__ = [
    "Backward",
    "Call",
    "Central",
    "ComplexStep",
    "Estimate",
    "Forward",
    "History",
    "Model",
    "Objective",
    "Richardson",
    "every",
    "fit",
    "get",
    "numeric_gradient",
]


def __getattr__(name: str) -> object:
    """Import a public name at its first use: `python -m scratch.recipe` loads the recipe alone."""
    if name in _HOMES:
        return getattr(import_module(f"scratch.{_HOMES[name]}"), name)
    # gradtwin loads the modules before anybody imports the package by its name (keras_ref/own_modules.py)
    if f"scratch.{name}" in sys.modules:
        return sys.modules[f"scratch.{name}"]
    raise AttributeError(f"module 'scratch' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The names of the module, with the public names that are not imported yet."""
    return sorted({*globals(), *__all__})
