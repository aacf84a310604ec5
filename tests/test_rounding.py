"""Whether the stated rounding error covers the true one: a quick sample of rounding_coverage.py, and the model's
tables.
"""

import math
from fractions import Fraction
from itertools import islice

import mpmath
import numpy as np
import pytest
import rounding_cases as rc
import rounding_registry as rr
import tensorflow as tf

from keras_ref.evaluation.graphs.operation_rounding import COMPOSED, DECIDED, EXACT, UNITS
from keras_ref.evaluation.many_digits.exact_numbers import Missing
from keras_ref.evaluation.many_digits.exact_operations import BINARY, UNARY
from keras_ref.evaluation.rounding_errors.rounding import Rounded
from scratch import registry
from scratch.differences import UNIT
from scratch.gradient import Nudges
from scratch.losses.base import Projection
from scratch.model import Model
from scratch.noise import ROLLS, measure, noise_of
from scratch.objective import Objective
from scratch.rounding import AHEAD, Rounding, draw_signs

SUBJECTS = [*rc.operations(), *rc.compositions(12), *rr.activations()]


@pytest.mark.sampled
@pytest.mark.parametrize("kind", ["losses", "gradients"])
def test_stated_errors_cover_the_true_ones(kind, record_property):
    """Against 50 digits. The long form has 100,000 cases; here two points of each loss, of every fourth gradient."""
    subjects = SUBJECTS if kind == "losses" else [one.gradient for one in SUBJECTS[::4]]
    generator, found = np.random.default_rng(0), []
    for subject in subjects:
        try:
            found += [(subject.name, case) for case in subject.cases(generator, 2)]
        except Missing:
            continue
    bad = [(name, case) for name, case in found if not case.covered]
    exaggerated = sum(case.exaggerated for _, case in found)
    record_property("covered", f"{len(found) - len(bad)} of {len(found)}, {exaggerated} exaggerated")
    assert not bad
    assert len(found) > len(subjects)
    assert exaggerated <= 0.02 * len(found)


DOMAINS = {
    **dict.fromkeys(("Log", "Log1p", "Sqrt", "Rsqrt", "Reciprocal", "Inv", "Lgamma"), np.abs),
    **dict.fromkeys(("Asin", "Acos", "Atanh"), lambda x: np.tanh(x) * (1 - 1e-9)),
    "Acosh": lambda x: 1 + np.abs(x),
}


def relative_error(value, truth):
    """How far a float is from the truth, in units of the truth."""
    return float(abs(mpmath.mpf(float(value)) - truth) / abs(truth) / mpmath.mpf(UNIT)) if truth else 0.0


@pytest.mark.parametrize("operation", sorted(set(UNARY) & set(UNITS) - {"Digamma"}))
def test_elementwise_operations_err_by_their_units_at_most(operation):
    points = np.random.default_rng(0)
    x = np.concatenate([10.0 ** points.uniform(-8, 2.4, 150) * points.choice([-1, 1], 150), points.normal(size=150)])
    x = DOMAINS.get(operation, lambda x: x)(x)
    argument = "features" if operation in ("Softplus", "Softsign") else "x"
    values = getattr(tf.raw_ops, operation)(**{argument: tf.constant(x)}).numpy()
    with mpmath.workdps(50):
        truths = [UNARY[operation](mpmath.mpf(float(one))) for one in x]
        errors = [
            relative_error(v, t)
            for v, t in zip(values, truths, strict=True)
            if np.isfinite(v) and abs(v) > np.finfo(float).tiny
        ]
    assert len(errors) > 100
    assert max(errors) <= UNITS[operation] / 2


@pytest.mark.parametrize("operation", ["AddV2", "Sub", "Mul", "RealDiv", "Pow", "Atan2", "Xlogy", "Xlog1py"])
def test_operations_of_two_numbers_err_by_their_units_at_most(operation):
    a, b = np.abs(np.random.default_rng(0).normal(size=(2, 200))) + 1e-3
    values = getattr(tf.raw_ops, operation)(x=tf.constant(a), y=tf.constant(b)).numpy()
    if operation == "Atan2":
        values = tf.raw_ops.Atan2(y=tf.constant(a), x=tf.constant(b)).numpy()
    with mpmath.workdps(50):
        truths = [BINARY[operation](mpmath.mpf(float(p)), mpmath.mpf(float(q))) for p, q in zip(a, b, strict=True)]
        assert max(relative_error(v, t) for v, t in zip(values, truths, strict=True)) <= UNITS[operation] / 2


def test_an_operation_is_in_one_table():
    tables = [EXACT, DECIDED, set(UNITS) - set(COMPOSED)]
    assert sum(map(len, tables)) == len(set().union(*tables))


#: products of matrices have no terms to move: of more equal ones than this the model sees too little
SEEN_THROUGH = 100


@pytest.mark.sampled
@pytest.mark.parametrize("terms", ["random", "equal", "one sign", "of all sizes"])
@pytest.mark.parametrize("count", [100, 3_000, 20_000])
def test_long_sums(count, terms):
    """Sums round at every step, and equal terms all alike."""
    generator = np.random.default_rng(count)
    x = {
        "random": generator.normal(size=count),
        "equal": np.full(count, 0.1),
        "one sign": generator.random(count),
        "of all sizes": generator.normal(size=count) * 10.0 ** generator.uniform(-8, 8, count),
    }[terms]
    whole = sum(map(Fraction, x.tolist()))
    squares = sum(Fraction(one) ** 2 for one in x.tolist())
    losses = [
        (tf.reduce_sum, whole),
        (lambda v: tf.cumsum(v)[-1], whole),
        (lambda v: tf.reduce_mean(tf.stack([v, -v], 1), 0)[0], whole / count),
        (lambda v: tf.raw_ops.BiasAddGrad(out_backprop=tf.stack([v, -v], 1))[0], whole),
    ]
    if count <= SEEN_THROUGH:
        losses.append((lambda v: tf.tensordot(v, v, 1), squares))
    for function, truth in losses:
        traced = tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec([count], tf.float64))
        value, stated = float(traced(tf.constant(x))), Rounded(traced).noise([tf.constant(x)], calls=ROLLS)
        assert abs(Fraction(value) - truth) <= Fraction(stated), (value, stated)


@pytest.mark.sampled
def test_the_twins_error_covers_the_true_one(record_property):
    """Of every fourth layer of the registry, against the same forward pass in extended precision where there is one."""
    if np.finfo(np.longdouble).eps >= UNIT:
        pytest.skip("no wider floats on this platform")
    from example_pools import pool

    covered = count = 0
    for name in registry.names("layer")[::4]:
        for architecture in pool(name)[:2]:
            for weights, x in islice(rr.LayerSubject(architecture).points, 3):
                model: Model = architecture.model
                given = [x[n] for n in model.inputs] if len(x) > 1 else x["x0"]
                with np.errstate(all="ignore"):
                    outputs = model.forward(weights, given)
                outputs = outputs if isinstance(outputs, tuple) else (outputs,)
                if any(o.dtype.kind != "f" or not np.isfinite(o).all() for o in outputs):
                    continue
                y = [np.random.default_rng(0).normal(size=o.shape) for o in outputs]
                objective = Objective.of(model, tuple(Projection() for _ in outputs))
                nudges = Nudges(objective, weights, given, y if len(y) > 1 else y[0])
                wide = {
                    n: np.asarray(w, np.longdouble) if w.dtype.kind == "f" else w
                    for n, w in nudges.point.weights.items()
                }
                inputs = {
                    n: np.asarray(v, np.longdouble) if v.dtype.kind == "f" else v
                    for n, v in nudges.point.inputs.items()
                }
                with np.errstate(all="ignore"):
                    truth = nudges.point.loss(wide, inputs)
                if np.isfinite(truth) and np.isfinite(nudges.noise):
                    count += 1
                    covered += bool(abs(np.longdouble(nudges.base) - truth) <= nudges.noise)
    record_property("covered", f"{covered} of {count}")
    assert count > 60
    assert covered == count


def test_nothing_finite_states_nothing():
    assert math.isnan(noise_of([math.nan, math.inf, 1.0], 1.0))
    assert math.isnan(noise_of([1.0], math.inf))
    assert noise_of([0.0, 0.0], 1.0) == UNIT
    assert noise_of([0.0], 0.0) == np.finfo(float).tiny


def test_global_randomness_is_not_touched():
    """The rolls draw from seeds of their own, the same in every run."""

    def loss(x):
        return tf.reduce_sum(tf.exp(x))

    def drawn():
        tf.random.set_seed(7)
        traced = tf.function(loss, autograph=False).get_concrete_function(tf.TensorSpec([3], tf.float64))
        noise = Rounded(traced).noise([tf.constant([1.0, 2.0, 3.0], tf.float64)], calls=ROLLS)
        return noise, float(tf.random.uniform([]))

    tf.random.set_seed(7)
    undisturbed = float(tf.random.uniform([]))
    (noise, first), (again, second) = drawn(), drawn()
    assert noise == again
    assert first == second == undisturbed


def test_differences_do_not_take_steepness_for_rounding():
    """Where operations are out of reach: a length of the spacing, a kink there, and rounding beside them."""
    generator, spacing = np.random.default_rng(0), 2.0**-20

    def directional(direction, steps):
        smooth = [
            spacing / (abs(t * direction["w"][0]) + spacing) + max(0.0, t * direction["w"][1] - spacing) for t in steps
        ]
        return np.array(smooth) + UNIT * generator.uniform(-1, 1, len(steps))

    noise = measure(directional, {"w": np.ones(2)}, 1.0)
    assert UNIT <= noise <= 64 * UNIT


@pytest.mark.parametrize("common", [False, True])
def test_numbers_drawn_ahead_are_those_drawn_one_by_one(common):
    """Of any shapes in any order, also of arrays that are larger than what is drawn ahead."""
    shapes = [(), (0,), (1,), (2, 3), (AHEAD // 3, 2), (), (AHEAD - 1,), (5,), (AHEAD,), (3,), (3 * AHEAD + 7,), (2,)]
    one, other = (Rounding(np.random.default_rng(7), common=common, alone=alone) for alone in (False, True))
    for shape in shapes * 3:
        moved, expected = (np.asarray(rounding.perturb(np.ones(shape))) for rounding in (other, one))
        np.testing.assert_array_equal(moved, expected)
        assert np.all(moved != 1)
    assert sum(map(math.prod, shapes)) > AHEAD


def test_signs_are_those_of_choice():
    one, other = np.random.default_rng(3), np.random.default_rng(3)
    for shape in [(), (4,), (2, 0), (2, 3), (), (1,)] * 3:
        signs = draw_signs(one, shape)
        np.testing.assert_array_equal(signs, other.choice([-1.0, 1.0], shape))
        assert np.shape(signs) == shape
