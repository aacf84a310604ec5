"""The kinds of model_kinds.py as targets that a worker opens: right_3 and planted_3 are the factories of kind 3."""

import keras
from model_kinds import KINDS, PLANTED

#: kinds that are about TensorFlow: train steps with a GradientTape, code that looks at values
OF_TENSORFLOW = (
    "a train_step of its own (check_updates)",
    "a train_step with a loss of its own, returned as a metric (check_updates)",
    "only eagerly",
)
NAMES = [name for name in KINDS if name not in OF_TENSORFLOW]


def made(name, wrong):
    """A kind of model, made as test_any_model.py makes it."""
    keras.utils.set_random_seed(5)
    return KINDS[name](wrong)


def __getattr__(name):
    which, _, number = name.partition("_")
    if which not in ("right", "planted"):
        raise AttributeError(name)
    return lambda: made(NAMES[int(number)], PLANTED if which == "planted" else 0.0).model
