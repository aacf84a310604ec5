"""Every registered schedule, regularizer and constraint against Keras: values, gradients, special points, refusals."""

import numpy as np
import optimizer_cases as cases
import optimizer_rounding as rounding
import pytest
import tensorflow as tf
from hypothesis import given, note
from hypothesis import strategies as st

from keras_ref import strategies as gt
from keras_ref.evaluation.changed_state.float64 import in_float64
from keras_ref.translation import departures
from keras_ref.translation.exceptions.optimizers import as_keras
from keras_ref.translation.from_keras import reflect_object
from keras_ref.translation.to_keras import mirror_object
from scratch import registry
from scratch.constraints import MaxNorm, MinMaxNorm
from scratch.differences import UNIT
from scratch.regularizers import L1, OrthogonalRegularizer
from scratch.schedules import CosineDecay, CosineDecayRestarts, ExponentialDecay, PiecewiseConstantDecay

#: steps around every drawn boundary, and far behind all of them
STEPS = (*range(13), 17, 100, 250)


# Schedules ------------------------------------------------------------------------------------------------------------


def rounding_of_rate(schedule, step):
    """What rounding may do to a rate: how far it moves when every field does, by a unit in the last place.

    A law has fewer than eight operations, each right to half a unit. A power, a cosine or a polynomial magnifies what
    the fraction step/steps is off by, which rolling the fields shows; whole-numbered fields (and boundaries) are exact.
    """
    centre, spread = schedule(step), 0.0
    for seed in range(rounding.ROLLS):
        spread = max(spread, abs(rounding.rolled_fields(schedule, np.random.default_rng(seed))(step) - centre))
    largest = max(abs(value) for value in rounding.numbers(schedule))
    return 2 * spread + 8 * UNIT * max(abs(centre), largest)


@pytest.mark.sampled
@pytest.mark.parametrize("name", cases.SCHEDULES)
@given(data=st.data())
def test_schedule(name, data):
    """The rate of every step is Keras's, at boundaries, in warm-ups, at restarts and long after the end."""
    spec = data.draw(cases.schedules(name))
    note(repr(spec))
    built = mirror_object(spec)
    assert reflect_object(built, "schedule") == spec
    for step in STEPS:
        rate, law = float(built(step)), spec(step)
        if abs(rate - law) > rounding_of_rate(spec, step):
            ids, keras_law = departures.find_departures([spec]), as_keras(spec)
            assert ids, (step, rate, law)
            explained = [keras_law(step)]
            if "cosine-restarts-are-missed" in ids and ends_a_period(spec, step):
                explained.append(spec.alpha * spec.initial_learning_rate)  # the end of the period before
            assert any(abs(rate - known) <= rounding_of_rate(keras_law, step) for known in explained), (
                step,
                rate,
                explained,
            )


def ends_a_period(spec, step):
    """Whether a restart of CosineDecayRestarts falls on this step, which rounding of Σ n·t_mulⁱ may hide."""
    end, length = 0.0, spec.first_decay_steps
    while end < step - 0.5:
        end, length = end + length, length * spec.t_mul
    return abs(end - step) <= 64 * UNIT * step


def test_restart_is_where_the_period_ends():
    """The first step of a period has its full rate: 10, 10·1.5 and 10·1.5² steps, whatever rounding says."""
    rate = CosineDecayRestarts(1.0, 10, t_mul=1.5)
    assert rate(10) == 1.0 and rate(25) == 1.0 and rate(9) < 0.1 and rate(24) < 0.1
    assert [CosineDecayRestarts(1.0, 10, t_mul=t)(s) for t, s in ((1.1, 21), (1.2, 22), (1.3, 23))] == [1.0] * 3


def test_restarts_without_end():
    """Late in training too: periods of one length are counted at once, a maximum that no float holds is infinite."""
    assert CosineDecayRestarts(1.0, 10, t_mul=1.0, m_mul=0.5)(25) == CosineDecayRestarts(0.25, 10, t_mul=1.0)(5)
    assert CosineDecayRestarts(1.0, 1, t_mul=1.0)(10**12) == 1.0
    assert CosineDecayRestarts(1.0, 1, t_mul=1.0, m_mul=1.5)(10**6) == np.inf


# Regularizers ---------------------------------------------------------------------------------------------------------


def penalty_rounding(spec, x):
    """Of a sum of n products: each term right to a few units, their sum to n halves of a unit of Σ|terms|.

    The terms of Σ|x| and Σx² are positive, so that Σ|terms| is the penalty itself; of a dot product of unit vectors it
    is at most 1, and their mean times the factor at most the factor.
    """
    size = max(x.size, 4)
    return 4 * size * UNIT * (abs(float(spec(x))) + getattr(spec, "factor", 0.0))


@pytest.mark.parametrize("name", registry.names("regularizer"))
@given(data=st.data())
def test_regularizer(name, data):
    """The penalty, in float32 as in float64, at zeros, equal rows and saturation too."""
    spec = data.draw(gt.specifications("regularizer", name))
    smallest = 2 if name == "OrthogonalRegularizer" else 1  # one row alone: orthogonal-regularizer-of-one-vector
    shape = (data.draw(st.integers(smallest, 4)), data.draw(st.integers(smallest, 3)))
    x = data.draw(gt.special_points(shape))
    note(repr(spec))
    built = mirror_object(spec)
    assert reflect_object(built, "regularizer") == spec
    ours, theirs = spec(x), float(built(tf.constant(x)))
    assert abs(ours - theirs) <= penalty_rounding(spec, x), (ours, theirs)
    assert np.asarray(spec(x.astype(np.float32))).dtype == np.float32


@pytest.mark.parametrize("name", registry.names("regularizer"))
@given(data=st.data())
def test_regularizer_gradient(name, data):
    """Autodiff's gradient is the slope of the twin: its complex step, which has no truncation, and no kink nearby."""
    spec = data.draw(gt.specifications("regularizer", name))
    x = np.random.default_rng(data.draw(st.integers(0, 2**16))).normal(size=(3, data.draw(st.integers(2, 3))))
    note(repr(spec))
    variable = tf.Variable(x)
    with tf.GradientTape() as tape:
        penalty = mirror_object(spec)(tf.convert_to_tensor(variable))
    gradient = tape.gradient(penalty, variable)
    theirs = np.zeros(x.shape) if gradient is None else gradient.numpy()  # L1L2(0, 0) does not look at x
    step = 1e-100  # far below a unit in the last place of x: the imaginary part is linear in it
    for i in np.ndindex(x.shape):
        tilted = x.astype(complex)
        tilted[i] += 1j * step
        slope = spec(tilted).imag / step
        # |∂/∂x| is at most l1, 2·l2·|x|, or factor·2·(pairs)/‖row‖: the terms that a slope sums, each right to a few
        # units
        length = np.min(np.linalg.norm(x, axis=1 if getattr(spec, "mode", "rows") == "rows" else 0))
        terms = sum(getattr(spec, f, 0.0) for f in ("l1", "factor")) * max(1.0, 2 / length) + 2 * getattr(
            spec, "l2", 0.0
        ) * abs(x[i])
        assert abs(slope - theirs[i]) <= 4 * x.size * UNIT * terms, (i, slope, theirs[i])


# Constraints ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", registry.names("constraint"))
@given(data=st.data())
def test_constraint(name, data):
    """The constrained weight, in both precisions, along one axis and several, of zero and equal vectors too."""
    fields = {} if name == "NonNeg" else {"axis": data.draw(st.sampled_from((0, 1, -1, (0, 1), (0, 2), (1, 2))))}
    spec = data.draw(gt.specifications("constraint", name, **fields))
    weight = data.draw(gt.special_points((2, 3, 2)))
    note(repr(spec))
    with in_float64():
        built = mirror_object(spec)
        assert reflect_object(built, "constraint") == spec
        for dtype, unit in (("float64", UNIT), ("float32", float(np.finfo(np.float32).eps))):
            w = weight.astype(dtype)
            ours, theirs = (
                spec(w),
                np.asarray((exact(built) if dtype == "float64" else mirror_object(spec))(tf.constant(w))),
            )
            assert ours.dtype == w.dtype
            # a length is the root of a sum of at most 12 squares, right to a dozen halves of a unit; what follows is
            # three products and quotients
            assert (np.abs(ours - theirs) <= 16 * unit * np.maximum(np.abs(ours), np.abs(w))).all(), (ours, theirs)


def exact(built):
    """A Keras constraint with numbers of which ops.cast keeps every digit, as in_float64 does for those of a layer."""
    for name, value in list(vars(built).items()):
        if type(value) is float:
            setattr(built, name, np.float64(value))
    return built


@given(weight=gt.special_points((3, 2)), bound=st.integers(1, 16).map(lambda k: k / 8))
def test_max_norm_bounds(weight, bound):
    """No column is longer than allowed afterwards, and a shorter one is as it was, but for ε."""
    after = MaxNorm(bound)(weight)
    lengths = np.linalg.norm(weight, axis=0)
    assert (np.linalg.norm(after, axis=0) <= bound * (1 + 8 * UNIT)).all()
    kept = after[:, lengths <= bound]
    # w·‖w‖/(ε + ‖w‖) falls short of w by w·ε/(ε + ‖w‖), at most ε entry by entry
    assert (np.abs(kept - weight[:, lengths <= bound]) <= 1e-7).all()


REFUSALS = {
    "steps": (
        lambda: ExponentialDecay(0.1, 0, 0.5),
        "`decay_steps` of ExponentialDecay must be greater than 0.0. Received: decay_steps=0. Pass a legal value.",
    ),
    "values": (
        lambda: PiecewiseConstantDecay((1, 2), (0.1, 0.2)),
        (
            "`values` must have one element more than `boundaries`. Received: 2 values and 2 boundaries. "
            "Add or drop values."
        ),
    ),
    "boundaries": (
        lambda: PiecewiseConstantDecay((2, 1), (0.1, 0.2, 0.3)),
        (
            "`boundaries` of PiecewiseConstantDecay must be a sequence of finite numbers, each greater than the one "
            "before. Received: boundaries=(2, 1). Pass a legal value."
        ),
    ),
    "alpha": (
        lambda: CosineDecay(0.1, 10, alpha=2.0),
        "`alpha` of CosineDecay must lie in [0.0, 1.0]. Received: alpha=2.0. Pass a legal value.",
    ),
    "factor": (lambda: L1(-1.0), "`l1` of L1 must be at least 0.0. Received: l1=-1.0. Pass a legal value."),
    "matrix": (
        lambda: OrthogonalRegularizer()(np.ones(3)),
        "OrthogonalRegularizer takes a matrix. Received: an array of shape (3,). Regularize a kernel of rank 2.",
    ),
    "norms": (
        lambda: MinMaxNorm(2.0, 1.0),
        "`min_value` must be at most `max_value`. Received: min_value=2.0, max_value=1.0. Swap them.",
    ),
    "axis": (
        lambda: MaxNorm(axis=(0, 0)),
        (
            "`axis` of MaxNorm must be an integer, an axis, or a sequence of different ones. "
            "Received: axis=(0, 0). Pass a legal value."
        ),
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal(case):
    """What is refused, in whole sentences."""
    make, message = REFUSALS[case]
    with pytest.raises(ValueError) as refusal:
        make()
    assert str(refusal.value) == message
