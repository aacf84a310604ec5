"""Every architecture of keras.applications has a NumPy twin whose logits are Keras's, to float64 rounding.

Built in float64 with weights=None at the smallest input, biases, scales and moving averages drawn (as Keras starts them
they would hide an exchange). The fast ones run by default, `-m slow` runs the others.
"""

import gc
import inspect

import keras
import numpy as np
import pytest

from keras_ref import departures
from keras_ref.checks import check_gradients
from keras_ref.reflect import reflect
from scratch.differences import UNIT

ARCHITECTURES = sorted(name for name, thing in vars(keras.applications).items() if inspect.isfunction(thing))
#: those that are built within some seconds; the grouped convolutions of ConvNeXt compile for half a minute
FAST = {"EfficientNetV2B0", "MobileNet", "MobileNetV2", "MobileNetV3Small", "ResNet50V2", "Xception"}
#: the smallest input that Keras takes, where it is not 32
SMALLEST = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}
UNIT32 = float(np.finfo(np.float32).eps)


@pytest.fixture
def in_double():
    """Keras building in float64."""
    before = keras.config.dtype_policy()
    double()
    try:
        yield
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy(before)
        keras.backend.clear_session(free_memory=True)
        gc.collect()


def double():
    """Keras in float64 from now on."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")


def built(name, **options):
    """The architecture with 10 logits, its weights drawn."""
    size = SMALLEST.get(name, 32)
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None, **options)
    generator = np.random.default_rng(0)
    for layer in model._flatten_layers(include_self=False, recursive=True):
        for variable in [] if isinstance(layer, keras.layers.Normalization) else layer.variables:
            part = variable.name.rsplit("/", 1)[-1]
            if "kernel" in part or "seed" in part or variable.path.endswith("seed_generator_state"):
                continue
            positive = part in ("gamma", "moving_variance") or part.startswith("variable")
            drawn = generator.uniform(0.5, 1.5, variable.shape) if positive else generator.normal(scale=0.1, size=variable.shape)
            variable.assign(drawn)
    return model, generator.uniform(0, 255, (1, size, size, 3))


def rounding_of(model, x, output, unit):
    """What rounding may do to the logits: 8 times what they move by when every weight and input moves by 4 units in the
    last place (each layer then makes an error as large as its own rounding), and 64 units of the largest."""
    generator = np.random.default_rng(1)
    for variable in model.variables:
        if variable.shape and "seed" not in variable.path:
            value = variable.numpy()
            variable.assign(value * (1 + 4 * unit * generator.choice([-1.0, 1.0], value.shape)))
    moved = np.asarray(model(x * (1 + 4 * unit), training=False))
    return 8 * np.abs(moved - output).max() + 64 * unit * np.abs(output).max()


def compared(name):
    """(largest difference, what was allowed, the largest logit, departures that round to float32) of an architecture."""
    model, x = built(name)
    twin, weights = reflect(model)
    theirs = np.asarray(model(x, training=False))
    ours = twin.forward(weights, x)
    assert ours.shape == theirs.shape == (1, 10)
    assert np.ptp(theirs) > 1e-3 * np.abs(theirs).max(), "logits that are all alike would show nothing"
    difference, allowed = np.abs(ours - theirs).max(), rounding_of(model, x, theirs, UNIT)
    # Keras rounds some constants to float32 inside float64: where a known departure says so, that is the rounding
    rounded = [d.id for d in departures.every() if d.reading == "precision" and any(d.touches(s) for s in twin.layers.values())]
    if difference > allowed and rounded:
        allowed = rounding_of(model, x, theirs, UNIT32)
    return difference, allowed, np.abs(theirs).max(), rounded


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in ARCHITECTURES])
def test_architecture(name, in_double):
    """The twin's logits are Keras's."""
    difference, allowed, largest, _ = compared(name)
    assert difference <= allowed, f"{name}: {difference / largest:.1e} of the largest logit, allowed {allowed / largest:.1e}"


@pytest.mark.slow
@pytest.mark.parametrize("name, variables", [("MobileNetV2", "*logits*/bias"), ("MobileNetV3Small", "*logits*/bias")])
def test_gradients(name, variables, in_double):
    """Autodiff through a whole architecture: the gradient of some of its weights is the slope of the twin."""
    model, x = built(name, alpha=0.35) if name == "MobileNetV2" else built(name, alpha=0.75)
    report = check_gradients(model, x / 255, variables=variables, wrt=("weights",), oracles=("twin",))
    assert report.ok, report.explain()
    assert sum(v.compared for v in report.verdicts) > 0


if __name__ == "__main__":
    import sys
    import time

    double()
    for name in sys.argv[1:] or ARCHITECTURES:
        start = time.time()
        difference, allowed, largest, rounded = compared(name)
        print(f"{name:20s} {difference / largest:.1e} allowed {allowed / largest:.1e} {time.time() - start:6.1f} s {', '.join(rounded)}", flush=True)
        keras.backend.clear_session(free_memory=True)
        gc.collect()
