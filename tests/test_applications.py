"""Every architecture of keras.applications has a NumPy twin whose logits are Keras's, to float64 rounding.

Built in float64 with weights=None at the smallest input; biases, scales and moving averages are drawn (as Keras starts
them they would hide an exchange), the moving averages about what the layers meet, so that the logits depend on the
image. Where Keras rounds a constant to float32 (a known departure), the twin is given that constant: then nothing but
rounding is left. The fast ones run by default, `-m slow` runs the others. `python tests/test_applications.py [names]`
prints the table.
"""

import gc
import inspect
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import keras
import numpy as np
import pytest

from keras_ref.checks.gradients import check_gradients
from keras_ref.translation import departures
from keras_ref.translation.from_keras import reflect
from scratch import registry
from scratch.activations.special import erf
from scratch.differences import UNIT
from scratch.layers.preprocessing import Normalization, Rescaling

ARCHITECTURES = sorted(name for name, thing in vars(keras.applications).items() if inspect.isfunction(thing))
#: those that are built within some seconds; the grouped convolutions of ConvNeXt compile for half a minute
FAST = {"EfficientNetV2B0", "MobileNet", "MobileNetV2", "MobileNetV3Small", "ResNet50V2", "Xception"}
#: the smallest input that Keras takes, where it is not 32
SMALLEST = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}


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
    """The architecture with 10 logits, its weights drawn, and an image."""
    keras.utils.set_random_seed(0)
    size = SMALLEST.get(name, 32)
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None, **options
    )
    generator = np.random.default_rng(0)
    layers = [
        layer
        for layer in model._flatten_layers(include_self=False, recursive=True)
        if not isinstance(layer, keras.layers.Normalization)
    ]
    for layer in layers:
        for variable in layer.variables:
            part = variable.name.rsplit("/", 1)[-1]
            if "kernel" in part or "seed" in part or variable.path.endswith("seed_generator_state"):
                continue
            positive = part in ("gamma", "moving_variance") or part.startswith("variable")
            # scales below one: with larger ones the deepest of these networks are chaotic, and rounding grows to 1e-6
            drawn = (
                generator.uniform(0.25, 0.75, variable.shape)
                if positive
                else generator.normal(scale=0.1, size=variable.shape)
            )
            variable.assign(drawn)
    images = generator.uniform(0, 255, (4, size, size, 3))
    calibrated(
        model, [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)], images, generator
    )
    return model, images[:1]


def calibrated(model, normalizations, images, generator):
    """Moving averages become those of the images, off by a fifth at random: no layer saturates, none is exact."""
    kept = [layer.momentum for layer in normalizations]
    for layer in normalizations:
        layer.momentum = 0.0
    if normalizations:
        model(images, training=True)
    for layer, momentum in zip(normalizations, kept, strict=True):
        layer.momentum = momentum
        for variable in (layer.moving_mean, layer.moving_variance):
            variable.assign(variable.numpy() * generator.uniform(0.8, 1.2, variable.shape))
        layer.moving_variance.assign(layer.moving_variance.numpy() + 1e-3)


def rounding_of(model, x, output):
    """What rounding may do to the logits: 8 times what they move by when every weight and input moves by 4 units in the
    last place (each layer then makes an error as large as its own rounding), and 64 units of the largest."""
    generator = np.random.default_rng(1)
    for variable in model.variables:
        if variable.shape and "seed" not in variable.path:
            value = variable.numpy()
            variable.assign(value * (1 + 4 * UNIT * generator.choice([-1.0, 1.0], value.shape)))
    moved = np.asarray(model(x * (1 + 4 * UNIT), training=False))
    return 8 * np.abs(moved - output).max() + 64 * UNIT * np.abs(output).max()


def single(value):
    """Numbers as they are after having been float32."""
    return np.asarray(value, np.float32).astype(float).tolist() if value is not None else None


def as_keras_rounds(spec):
    """A layer with the constants that Keras has: the departure preprocessing-numbers-are-float32."""
    if isinstance(spec, Rescaling):
        return Rescaling(single(spec.scale), single(spec.offset))
    if isinstance(spec, Normalization):
        return Normalization(spec.axis, single(spec.mean), single(spec.variance), spec.invert)
    return spec


@contextmanager
def gelu_as_keras_rounds():
    """gelu with its √(1/2) a float32: the departure gelu-has-float32-constants."""
    known = registry.get("activation", "gelu")

    def gelu(x, *, approximate=False):
        assert not approximate
        return x * (1 + erf(x * single(np.sqrt(0.5)))) / 2

    gelu.elementwise = True
    registry._RECORDS["activation"]["gelu"] = gelu
    try:
        yield
    finally:
        registry._RECORDS["activation"]["gelu"] = known


@dataclass(frozen=True)
class Row:
    """Differences from Keras's logits, in parts of the largest: of the definition, of the twin with Keras's constants,
    and what rounding may do; how far the logits move when the image does by a thousandth.
    """

    definition: float
    difference: float
    allowed: float
    moved: float
    rounded: tuple[str, ...]


def compared(name):
    """How the logits of an architecture compare."""
    model, x = built(name)
    twin, weights = reflect(model)
    theirs = np.asarray(model(x, training=False))
    moved = np.abs(np.asarray(model(x * 1.001, training=False)) - theirs).max()
    ours = twin.forward(weights, x)
    assert ours.shape == theirs.shape == (1, 10)
    rounded = tuple(
        d.id
        for d in departures.load_departures()
        if d.reading == "precision" and any(d.applies_to(s) for s in twin.layers.values())
    )
    with gelu_as_keras_rounds() if "gelu-has-float32-constants" in rounded else nullcontext():
        layers = {n: as_keras_rounds(layer) for n, layer in twin.layers.items()}
        same = replace(twin, layers=layers).forward(weights, x) if rounded else ours
    figures = np.abs(ours - theirs).max(), np.abs(same - theirs).max(), rounding_of(model, x, theirs), moved
    return Row(*(float(f / np.abs(theirs).max()) for f in figures), rounded)


@pytest.mark.sampled
@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in ARCHITECTURES])
def test_architecture(name, in_double):
    """The twin's logits are Keras's, and say something of the image."""
    row = compared(name)
    assert row.difference <= row.allowed < 1e-6, row
    assert row.moved > 1e-6, row
    assert row.definition <= row.allowed or row.rounded, row


#: a small architecture, what makes it small, and some of its weights: at its end, at its beginning, in its middle
GRADIENTS = [
    ("MobileNetV2", {"alpha": 0.35}, "predictions/bias"),
    ("MobileNetV2", {"alpha": 0.35}, "bn_Conv1/gamma"),
    ("MobileNetV3Small", {"alpha": 0.75}, "logits/bias"),
    ("MobileNetV3Small", {"alpha": 0.75}, "*squeeze_excite_conv/kernel"),
    ("DenseNet121", {}, "conv1_bn/beta"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "variables"), GRADIENTS, ids=[f"{name}-{variables}" for name, _, variables in GRADIENTS]
)
def test_gradients(name, options, variables, in_double):
    """Autodiff through a whole architecture: the gradient of some of its weights is the slope of the twin."""
    model, x = built(name, **options)
    report = check_gradients(model, x, variables=variables, wrt=("weights",), oracles=("twin",))
    assert report.ok, report.explain()
    assert {v.verdict for v in report.verdicts} <= {"match", "kink"}
    assert all(v.compared == v.total or v.compared >= 64 for v in report.verdicts)


if __name__ == "__main__":
    import sys
    import time

    double()
    for name in sys.argv[1:] or ARCHITECTURES:
        start = time.time()
        row = compared(name)
        seconds = time.time() - start
        print(
            (
                f"{name:20s} {row.definition:.1e} {row.difference:.1e} {row.allowed:.1e} moved {row.moved:.1e} "
                f"{seconds:6.1f} s {', '.join(row.rounded)}"
            ),
            flush=True,
        )
        keras.backend.clear_session(free_memory=True)
        gc.collect()
