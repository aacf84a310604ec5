"""Every registered activation against keras.activations: values, and gradients under random cotangents."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, note
from hypothesis import strategies as st
from support_built import wrong_only_at_known_points

from keras_ref import strategies as gt
from keras_ref.checks.gradients import check_gradients
from keras_ref.translation import departures
from keras_ref.translation.exceptions import mirrors
from scratch import registry
from scratch.axes import Axes, rank_for
from scratch.calls import Call
from scratch.differences import UNIT
from scratch.layers.base import Layer, activate
from scratch.model import Model

ACTIVATIONS = registry.names("activation")
FLOAT32 = float(np.finfo(np.float32).eps)
#: where the pieces of the piecewise activations meet; their arguments add more of them
EDGES = (0.0, 0.5, 1.0, 3.0, 6.0)


@dataclass(frozen=True)
class Called(Layer):
    """An Activation with arguments: a layer of these tests. It has no twin to be reflected to, so in a check
    differences of Keras's own forward pass decide; that this forward pass has the twin's values is the other property
    of this file.
    """

    activation: str
    arguments: Mapping[str, Any]

    def forward(self, weights, *inputs):
        return activate(self.activation, inputs[0], **self.arguments)

    @property
    def elementwise(self):
        return registry.get("activation", self.activation).elementwise

    def couples_batch(self, training):
        return not self.elementwise and self.arguments.get("axis", -1) != -1


class KerasCalled(keras.layers.Layer):
    """The same in Keras."""

    def __init__(self, spec, **options):
        super().__init__(**options)
        self.spec = spec

    def call(self, x):
        return keras.activations.get(self.spec.activation)(x, **self.spec.arguments)

    def compute_output_spec(self, x):
        shape = list(x.shape)
        if self.spec.activation == "glu":
            axis = self.spec.arguments.get("axis", -1)
            shape[axis] = shape[axis] and shape[axis] // 2
        return keras.KerasTensor(shape, dtype=x.dtype)


@mirrors("Called")
def called(spec, **options):
    return KerasCalled(spec, **options)


@st.composite
def points(draw, shape, arguments):
    """Generic and special inputs, and points on the edges of the pieces."""
    if draw(st.integers(0, 3)):
        return draw(gt.special_points(shape))
    edges = [*EDGES, *(value for value in arguments.values() if isinstance(value, float))]
    size = int(np.prod(shape))
    return np.array(
        draw(
            st.lists(st.sampled_from([sign * edge for edge in edges for sign in (1, -1)]), min_size=size, max_size=size)
        )
    ).reshape(shape)


@st.composite
def cases(draw, name):
    """(specification, x): an activation, its arguments, and an input in which its axis exists and is even if it has to
    be.
    """
    spec = Called(name, draw(gt.arguments(name)))
    axis = spec.arguments.get("axis", -1)
    rank = max(2 + draw(st.integers(0, 1)), rank_for(axis))
    shape = [draw(st.integers(2 if rank < 4 else 1, 3)) for _ in range(rank)]
    if not gt.keeps_shape(registry.get("activation", name)):
        shape[axis] = 2 * draw(st.integers(1, 2))
    # Keras warns of a softmax along an axis of size 1, which is 1 whatever x is
    elif name in ("softmax", "log_softmax"):
        for one in axis if isinstance(axis, tuple) else (axis,):
            shape[one] = max(2, shape[one])
    return spec, draw(points(tuple(shape), spec.arguments))


def units(spec):
    """One unit in the last place: float32's where Keras is known to compute in float32, else float64's. A departure
    that is a wrong number leaves nothing to compare with: infinity.
    """
    entries = [departures.get_departure(known) for known in departures.find_departures([spec], "value")]
    if any(entry.reading != "precision" for entry in entries):
        return np.inf
    return FLOAT32 if entries else UNIT


def allowed(spec, x, y):
    """A dozen operations at most, each of which rounds by half a unit of a number of at most (1 + |x|)(1 + |y|)(1 +
    |argument|); exp rounds by |argument of exp| units of its value. Along an axis, |x| is the largest there is.
    """
    size = np.abs(x) if spec.elementwise else np.max(np.abs(x))
    largest = max((abs(float(v)) for v in spec.arguments.values() if isinstance(v, (int, float))), default=0.0)
    return 16 * units(spec) * (1 + size) * (1 + np.abs(y)) * (1 + largest)


@pytest.mark.sampled
@pytest.mark.parametrize("name", ACTIVATIONS)
@given(data=st.data())
def test_value(name, data):
    """Keras's values are those of the definition, to rounding."""
    spec, x = data.draw(cases(name))
    ours = activate(spec.activation, x, **spec.arguments)
    theirs = np.asarray(keras.activations.get(name)(x, **spec.arguments))
    assert ours.shape == theirs.shape and theirs.dtype == x.dtype
    assert (np.abs(ours - theirs) <= allowed(spec, x, ours)).all(), (spec, x, ours, theirs)


def autodiff(spec, x, cotangent):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(keras.activations.get(spec.activation)(x, **spec.arguments) * cotangent)
    gradient = tape.gradient(y, x)
    return np.zeros(x.shape) if gradient is None else gradient.numpy()


def complex_step(spec, x, cotangent):
    """The slope of cotangent · activation(x) along every entry of x, by a complex step in each."""
    steps = 1e-100j * np.eye(x.size).reshape(x.size, *x.shape)
    slopes = [np.sum(activate(spec.activation, x + step, **spec.arguments).imag * cotangent) / 1e-100 for step in steps]
    return np.reshape(slopes, x.shape)


def model_of(spec, shape):
    """A model of one layer: the Activation of scratch where no arguments are given."""
    layer = (
        spec
        if spec.arguments or not gt.needs_no_arguments(registry.get("activation", spec.activation))
        else registry.get("layer", "Activation")(spec.activation)
    )
    return Model(
        {"x": shape if spec.couples_batch(training=False) else (None, *shape[1:])},
        {"called": layer},
        (Call("called", ("x",), ("y",)),),
        ("y",),
    )


@pytest.mark.sampled
@pytest.mark.parametrize("name", ACTIVATIONS)
@given(data=st.data())
def test_gradient(name, data):
    """Autodiff's gradient under a random cotangent is the slope by complex steps. Where it is not (on an edge the two
    may take another side) differences decide, and the neighbourhood of the point.
    """
    spec, x = data.draw(cases(name))
    seed = data.draw(st.integers(0, 99))
    cotangent = np.random.default_rng(seed).normal(size=activate(name, x, **spec.arguments).shape)
    theirs, ours = autodiff(spec, x, cotangent), complex_step(spec, x, cotangent)
    # as `allowed`, the slope in place of the value; what is added up along an axis is no larger than the cotangents
    largest = np.max(np.abs(cotangent)) * (1 + np.max(np.abs(ours), initial=0))
    if (np.abs(ours - theirs) <= allowed(spec, x, largest)).all():
        return
    note(f"looked at closely: {spec} at {x}: complex steps {ours}, autodiff {theirs}")
    model = model_of(spec, x.shape)
    has_twin = not isinstance(model.layers["called"], Called) and not departures.find_departures([spec], "value")
    oracle = "twin" if has_twin else "forward"
    report = check_gradients(model, x, weights={}, wrt=("inputs",), oracles=(oracle,), seed=seed)
    assert report.ok or wrong_only_at_known_points(report, [spec]), report.explain()


@pytest.mark.sampled
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradient_by_differences(name):
    """Once for each activation, whatever complex steps say: both oracles, on the layer, at special points."""
    function = registry.get("activation", name)
    arguments = {} if gt.needs_no_arguments(function) else {"threshold": 0.5, "default_value": -1.0}
    spec = Called(name, arguments)
    x = np.array([[-6.5, -3.25, -0.75, -0.125], [0.375, 0.875, 2.5, 7.0]])
    report = check_gradients(model_of(spec, x.shape), x, weights={}, wrt=("inputs",), effort="full")
    assert report.ok, report.explain()
    assert {v.oracle for v in report.verdicts} == ({"forward"} if arguments else {"forward", "twin"})
    excused = set(departures.find_departures([spec], "gradient"))
    assert all(v.verdict == "match" or (v.verdict == "departure" and excused) for v in report.verdicts), (
        report.explain()
    )


@pytest.mark.parametrize(
    ("axes", "legal"),
    [
        *((1, True), (-2, True), ((1, 2), True), ([1], True), (0, False), (-1, False), ((1, 0), False)),
        *(((1, 1), False), ((), False), ("12", False), (True, False), (1.0, False), (None, False)),
    ],
)
def test_which_axes_are_legal(axes, legal):
    """A domain of axes excludes those that an operation leaves alone, the same one twice, and what is no integer."""
    assert Axes(examples=(), but=(0, -1)).holds(axes) == legal
    assert Axes(examples=(), but=(0, -1), many=False).holds(axes) == (legal and isinstance(axes, int))
