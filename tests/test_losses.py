"""Every registered loss against Keras: values and gradients, with reductions, and weights and masks of every rank."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf
from example_pools import losses, record
from hypothesis import given, note
from hypothesis import strategies as st

from keras_ref import strategies as gt
from keras_ref.checks.gradients import check_gradients
from keras_ref.comparison.entries.proven_departures import list_subsets
from keras_ref.translation import departures
from keras_ref.translation.departures.laws import as_keras, states_law
from keras_ref.translation.to_keras import mirror_loss
from scratch import registry
from scratch.calls import Call
from scratch.differences import UNIT
from scratch.fields import Real
from scratch.losses.base import Loss, Reduction, matched
from scratch.losses.regression import MeanSquaredError
from scratch.model import Model
from scratch.objective import Objective

LOSSES = registry.names("loss")
REDUCTIONS = get_args(Reduction)
FLOAT32 = float(np.finfo(np.float32).eps)
FROM_THE_RIGHT = departures.get_departure("sample-weights-align-from-the-right").id


@pytest.fixture(autouse=True)
def drawn(request):
    """The specifications are drawn before the examples are: Hypothesis does not like to draw while it draws."""
    if "name" in request.node.callspec.params:
        losses(request.node.callspec.params["name"])


@dataclass(frozen=True)
class Case:
    """A loss, its data, and weights and mask of its values, either of which may be missing or have fewer axes."""

    loss: Loss
    y_true: np.ndarray
    y_pred: np.ndarray
    sample_weight: np.ndarray | None = None
    mask: np.ndarray | None = None

    @cached_property
    def values(self):
        return self.loss.per_sample(self.y_true, self.y_pred)

    def twin(self, y_pred):
        return self.loss(self.y_true, y_pred, sample_weight=self.sample_weight, mask=self.mask)

    def spread(self, part):
        """Weights or mask with all axes that the values will have: what they mean, and how Keras understands them too.
        Keras aligns fewer axes from the right, which is the departure FROM_THE_RIGHT: by its id this excuse goes when
        the entry goes. Values that lose their last axis to a part of one axis less keep that part as it is.
        """
        if part is None or self.values.ndim == 0:
            return part
        values, own = matched(self.values.shape, part.shape)
        return part.reshape(own + (1,) * (len(values) - len(own)))

    def keras(self, y_pred):
        """The Keras loss of untagged predictions, which carry their mask as Keras's layers leave it."""
        if self.mask is not None:
            y_pred._keras_mask = tf.constant(self.spread(self.mask))
        built = mirror_loss(self.loss)
        return built(self.y_true, y_pred, sample_weight=self.spread(self.sample_weight))


@st.composite
def weights_for(draw, shape):
    """Weights of values of this shape: for each, or for the first axes only (samples, steps), zeros included."""
    axes = draw(st.integers(1, len(shape))) if shape else 0
    own = shape[:axes] + (1,) * draw(st.integers(0, len(shape) - axes))
    size = int(np.prod(own))
    return np.array(draw(st.lists(st.integers(0, 8), min_size=size, max_size=size)), dtype=float).reshape(own) / 4


@st.composite
def cases(draw, name, patterns=gt.PATTERNS):
    loss = draw(st.sampled_from(losses(name)))
    record("loss", loss)
    shapes, domains = loss.shapes(gt.sizes(draw)), loss.domains()
    y_true, y_pred = (
        draw(gt.samples(tuple(shape), domain, patterns)) for shape, domain in zip(shapes, domains, strict=True)
    )
    if isinstance(domains[1], Real) and y_true.shape == y_pred.shape and draw(st.integers(0, 4)) == 0:
        y_pred = y_true.astype(float)  # where differences and distances are 0
    case = Case(loss, y_true, y_pred)
    shape = case.values.shape
    weights = draw(weights_for(shape)) if draw(st.booleans()) else None
    # a value without axes, one for the whole batch, has nothing that a mask could hide
    mask = draw(weights_for(shape)) > 0.5 if shape and draw(st.booleans()) else None
    return Case(loss, y_true, y_pred, weights, mask)


def unit(loss, shows_in):
    """One unit in the last place: float32's where Keras is known to compute in float32 without saying what, else
    float64's.
    """
    entries = [departures.get_departure(known) for known in departures.find_departures([loss], shows_in)]
    return FLOAT32 if any(e.reading == "precision" and not states_law(e.id) for e in entries) else UNIT


def laws(loss, shows_in):
    """The loss itself, and what Keras is known to compute instead: any of its departures, or several together."""
    stated = [known for known in departures.find_departures([loss], shows_in) if states_law(known)]
    objective = Objective.of(Model.chain([registry.get("layer", "Activation")("linear")], (1,)), loss)
    return [as_keras(objective, some, {}).losses[0] for some in list_subsets(stated)]


def rounding(function, y_pred, unit):
    """What rounding may do to a function: how far it moves when y_pred moves by units in the last place, and 64 units
    of the largest of its values and of 1, the size of what is added and taken away inside a loss (1 - similarity, log
    2).
    """
    here = function(y_pred)
    spread = np.zeros(np.shape(here))
    for seed in range(3):
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], y_pred.shape)
        spread = np.maximum(spread, np.abs(function(y_pred * (1 + 4 * unit * signs)) - here))
    return 8 * spread + 64 * unit * max(1.0, float(np.max(np.abs(here), initial=0)))


@pytest.mark.sampled
@pytest.mark.parametrize("name", LOSSES)
@given(data=st.data())
def test_value(name, data):
    """The reduced loss of Keras is that of the definition, to rounding."""
    case = data.draw(cases(name))
    theirs = case.keras(tf.constant(case.y_pred)).numpy()
    assert np.shape(case.twin(case.y_pred)) == theirs.shape and theirs.dtype == np.float64
    one = unit(case.loss, "value")

    def agrees(loss):
        twin = replace(case, loss=loss).twin
        return (np.abs(twin(case.y_pred) - theirs) <= rounding(twin, case.y_pred, one)).all()

    assert any(map(agrees, laws(case.loss, "value"))), (case, case.twin(case.y_pred), theirs)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@given(data=st.data())
def test_reduction(reduction, data):
    """Values of three axes with weights and masks of one to three: the hardest that a reduction meets, for each of
    them.
    """
    shape = tuple(data.draw(st.tuples(*[st.integers(1, 3)] * 3)))
    y_true, y_pred = (data.draw(gt.special_points((*shape, 2), ("generic", "eighths"))) for _ in range(2))
    weights, mask = (
        data.draw(weights_for(shape) | st.none()),
        data.draw(weights_for(shape).map(lambda w: w > 0.5) | st.none()),
    )
    case = Case(MeanSquaredError(reduction=reduction), y_true, y_pred, weights, mask)
    ours, theirs = np.asarray(case.twin(y_pred)), case.keras(tf.constant(y_pred)).numpy()
    assert ours.shape == theirs.shape
    assert (np.abs(ours - theirs) <= rounding(case.twin, y_pred, UNIT)).all(), (case, ours, theirs)


def autodiff(case, cotangent):
    y_pred = tf.constant(case.y_pred)
    with tf.GradientTape() as tape:
        tape.watch(y_pred)
        total = tf.reduce_sum(case.keras(y_pred) * cotangent)
    gradient = tape.gradient(total, y_pred)
    return np.zeros(y_pred.shape) if gradient is None else tf.convert_to_tensor(gradient).numpy()


def complex_step(case, cotangent, y_pred):
    """The slope of cotangent · loss along every entry of y_pred, by a complex step in each."""
    steps = 1e-100j * np.eye(y_pred.size).reshape(y_pred.size, *y_pred.shape)
    return np.reshape([np.sum(case.twin(y_pred + step).imag * cotangent) / 1e-100 for step in steps], y_pred.shape)


def shares(case, cotangent):
    """What each value of the loss counts in cotangent · loss. Reduction, weights and mask are linear in the values, so
    their share is what they give for one value being 1 and all others 0.
    """
    own = case.loss.valid(case.y_true, case.y_pred)
    mask = own if case.mask is None else case.spread(case.mask) if own is None else case.spread(case.mask) & own
    ones = np.eye(case.values.size).reshape(case.values.size, *case.values.shape)
    reduced = [case.loss.reduce(one, sample_weight=case.sample_weight, mask=mask) for one in ones]
    return np.reshape([np.sum(one * cotangent) for one in reduced], case.values.shape)


def looked_at_closely(case, cotangent, seed):
    """The same slopes by differences: predictions are the output of a linear model, reduction and weights are put into
    sample weights, which a gradient checker knows. Differences are those of the twin, from which Keras may depart as it
    is known to.
    """
    loss = replace(case.loss, reduction="sum")
    weights = shares(case, cotangent) if case.values.shape else None
    linear = registry.get("layer", "Activation")("linear")
    model = Model({"x": case.y_pred.shape}, {"linear": linear}, (Call("linear", ("x",), ("y",)),), ("y",))
    return check_gradients(
        model,
        case.y_pred,
        case.y_true,
        loss=loss,
        sample_weight=weights,
        weights={},
        wrt=("inputs",),
        oracles=("twin",),
        seed=seed,
    )


@pytest.mark.sampled
@pytest.mark.parametrize("name", LOSSES)
@given(data=st.data())
def test_gradient(name, data):
    """Autodiff's gradient with respect to the predictions is the slope by complex steps. Where it is not (at a kink the
    two may take another side) differences decide, and the neighbourhood of the point.
    """
    case = data.draw(cases(name))
    seed = data.draw(st.integers(0, 99))
    cotangent = np.random.default_rng(seed).normal(size=np.shape(case.twin(case.y_pred)))
    theirs, ours = autodiff(case, cotangent), complex_step(case, cotangent, case.y_pred)
    one = UNIT if unit(case.loss, "gradient") == UNIT else FLOAT32
    # 64 units of the largest slope of the losses of one value, each of a dozen operations and a sum over a few entries
    allowed = 64 * one * max(1.0, float(np.max(np.abs(ours), initial=0)))
    if (np.abs(ours - theirs) <= allowed).all():
        return
    note(f"looked at closely: {case}: complex steps {ours}, autodiff {theirs}")
    report = looked_at_closely(case, cotangent, seed)
    assert report.ok, report.explain()
