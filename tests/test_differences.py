"""Schemes: order of convergence, and whether the stated error covers the true one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratch.differences import (
    Backward,
    Central,
    ComplexStep,
    Forward,
    Richardson,
    coefficients,
    measure_step,
    scale_of,
)
from scratch.noise import measure
from scratch.one_sided import LADDER, TIERS, slopes

#: analytic functions and their derivatives, by hand
FUNCTIONS = {
    "sin": (lambda w: np.sin(2 * w), lambda w: 2 * np.cos(2 * w)),
    "tanh": (lambda w: np.tanh(w) + w**2, lambda w: 1 / np.cosh(w) ** 2 + 2 * w),
    "exp": (np.exp, np.exp),
    "rational": (lambda w: 1 / (1 + w * w), lambda w: -2 * w / (1 + w * w) ** 2),
    "cubic": (lambda w: w**3 - 2 * w, lambda w: 3 * w**2 - 2),
}
SCHEMES = [
    Forward(),
    Backward(),
    Forward(order=3),
    Central(),
    Central(order=4),
    Central(order=6),
    Richardson(),
    Richardson(levels=8),
]
NOISE = 2.0**-51


def on(function, at):
    """A line whose losses at the point are all 1, so that one noise fits all entries."""
    return lambda offsets: function(at + offsets) - function(at).real + 1


def noise_of(function, at):
    """`on` subtracts values of the function's own size, whose last place is what these losses are noisy by."""
    return NOISE * max(1.0, float(np.max(np.abs(function(at)))))


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_stated_error_covers_the_true_one(scheme, record_property):
    """Counted over 5 functions × 2,000 points: 10,000 of 10,000 for each scheme."""
    at = np.random.default_rng(0).normal(size=2000)
    covered = []
    for function, derivative in FUNCTIONS.values():
        estimate = scheme(on(function, at), at, noise_of(function, at))
        covered.append(np.abs(estimate.value - derivative(at)) <= estimate.error)
    record_property("covered", f"{int(np.sum(covered))} of {np.size(covered)}")
    assert np.all(covered)


@pytest.mark.parametrize(
    ("scheme", "order"),
    [(Forward, 1), (Forward, 2), (Backward, 1), (Backward, 3), (Central, 2), (Central, 4), (Central, 6)],
)
def test_observed_order(scheme, order):
    """Halving the step divides the error by 2^order."""
    at = np.array([0.3, 0.7, -0.4])
    function, derivative = FUNCTIONS["sin"]
    step = 2.0**-4
    # summed over points: at a single one the leading term of the error can vanish
    errors = [
        np.abs(scheme(order=order, step=h)(on(function, at), at, NOISE).value - derivative(at)).sum()
        for h in (step, step / 2)
    ]
    observed = np.log2(errors[0] / errors[1])
    assert abs(observed - order) < 0.2, observed


def test_coefficients_are_derived():
    assert np.round(coefficients((-1, 0, 1)), 12).tolist() == [-0.5, 0.0, 0.5]
    assert np.round(np.array(coefficients((-2, -1, 0, 1, 2))) * 12, 9).tolist() == [1, -8, 0, 8, -1]


def test_richardson_picks_a_step_per_weight():
    """Weights of 1e-4, 1 and 1e4, each in a variable of its own: each slope to nine digits."""
    for size in (1e-4, 1.0, 1e4):
        at = np.array([size])
        estimate = Richardson()(on(lambda w, size=size: np.sin(w / size), at), at, NOISE)
        truth = np.cos(1.0) / size
        assert (np.abs(estimate.value - truth) <= 1e-9 * truth).all()


@given(st.floats(-20, 20), st.sampled_from(sorted(FUNCTIONS)))
def test_complex_step_is_exact_to_rounding(at, name):
    function, derivative = FUNCTIONS[name]
    point = np.array([at])
    estimate = ComplexStep()(lambda offsets: function(point + offsets), point, 0.0)
    assert abs(estimate.value[0] - derivative(point)[0]) <= estimate.error[0] + 1e-14 * abs(
        derivative(point)[0]
    ) + 1e-13 * (name == "cubic")


def test_steps_are_those_really_taken():
    at = np.array([1e4, 1.0, 3e-7])
    assert ((at + measure_step(at, np.full(3, 1e-5))) - at == measure_step(at, np.full(3, 1e-5))).all()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5))
def test_scale_is_a_power_of_two(values):
    mantissa, _ = np.frexp(scale_of(np.array(values)))
    assert (mantissa == 0.5).all()


@pytest.mark.parametrize("size", [1e-320, 1e-200, 1.0, 1e200, 1.7e308])
@pytest.mark.parametrize("beside", [0.0, np.nan, np.inf, -np.inf])
def test_scale_of_extreme_weights(size, beside):
    """Its fellows' size, of a weight that is 0 or no number, also where no square of them is one; steps are floats."""
    found = scale_of(np.array([size, size, beside]))
    assert (found[:2] == found[0]).all()
    assert np.isfinite(found).all()
    assert (found * 2.0**-46 >= np.finfo(float).tiny).all()
    if size > 1e-290:
        assert 0.5 < found[0] / size < 2
    if beside == 0:
        assert found[2] == found[0] or 0.5 <= found[2] / found[0] < 1


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scheme", [*SCHEMES, ComplexStep()], ids=str)
def test_weights_that_are_no_numbers(scheme, broken):
    """A weight that is not finite has no slope, and asking for it raises nothing."""
    at = np.array([0.5, broken])
    with np.errstate(all="ignore"):
        estimate = scheme(lambda offsets: np.sin(at + offsets).sum(axis=1, keepdims=True) + 0 * offsets, at, NOISE)
    assert not np.isfinite(estimate.value).any()


@pytest.mark.parametrize(
    ("scheme", "options", "rule"),
    [
        *((scheme, {"step": step}, "`step`") for scheme in (Forward, Backward, Central) for step in (0, -1e-4, np.nan)),
        *((scheme, {"order": order}, "`order`") for scheme in (Forward, Backward, Central) for order in (0, 1.5)),
        *((Richardson, {"levels": levels}, "`levels`") for levels in (0, 1, 2.0)),
        *((Richardson, {"start": start}, "`start`") for start in (0.0, -0.25, np.inf, np.array([0.25, 0.0]))),
        *((ComplexStep, {"step": step}, "`step`") for step in (0.0, -1e-100)),
    ],
)
def test_schemes_refuse_what_is_no_step(scheme, options, rule):
    """A step below 0 stated a rounding error below 0, and one of 0 gave no number."""
    with pytest.raises(ValueError, match=f"^{rule} of {scheme.__name__} must be "):
        scheme(**options)


def test_odd_central_order_is_refused():
    with pytest.raises(ValueError) as caught:
        Central(order=3)
    assert str(caught.value) == "`order` of Central must be even. Received: order=3. Pass 2, 4, 6, …."


@pytest.mark.sampled
def test_smooth_slopes_cover(record_property):
    """The adaptive slopes: every one of 10,000 smooth cases is called smooth and covers the truth."""
    at = np.random.default_rng(1).normal(size=2000)
    wrong = 0
    for function, derivative in FUNCTIONS.values():
        found = slopes(on(function, at), at, noise_of(function, at), base=1.0, exponents=LADDER)
        wrong += int(np.sum(np.abs(found.value.value - derivative(at)) > found.value.error))
        assert found.smooth.all()
    record_property("uncovered", f"{wrong} of {5 * len(at)}")
    assert wrong == 0


@given(st.data(), st.sampled_from([0.5, np.inf, -np.inf, np.nan]), st.sampled_from([*TIERS, LADDER]))
def test_losses_that_are_not_finite_have_no_slope(data, base, exponents):
    """Whatever is infinite or NaN, at the point or beside it: no warning, and no slope that claims to be known."""
    losses = st.sampled_from([0.5, 0.75, 1e308, -1e308, np.inf, -np.inf, np.nan])
    found = slopes(
        lambda steps: np.array([[data.draw(losses)] for _ in steps]), np.ones(1), 1e-16, base=base, exponents=exponents
    )
    assert not found.jump[0] or np.isfinite(base)
    if not np.isfinite(base):
        assert np.isinf(found.right.error[0])
        assert np.isinf(found.left.error[0])


@pytest.mark.parametrize("unit", [2.0**-53, 2.0**-24], ids=["float64", "float32 inside"])
def test_noise_is_measured(unit):
    """The noise of a sum of rounded terms is found within a factor of eight, whatever its size."""
    dtype = np.float64 if unit < 1e-10 else np.float32
    weights = {"w": np.random.default_rng(2).normal(size=(40,))}

    def directional(direction, steps):
        return np.array(
            [
                float(np.sum(np.sin(weights["w"] + t * direction["w"]).astype(dtype).astype(np.float64) ** 2))
                for t in steps
            ]
        )

    base = directional({"w": np.zeros(40)}, np.zeros(1))[0]
    noise = measure(directional, weights, base)
    assert unit <= noise <= 2**9 * unit, noise / unit


def test_a_kink_is_not_taken_for_noise():
    weights = {"w": np.zeros(3)}

    def directional(direction, steps):
        return np.array([1 + np.maximum(t * direction["w"], 0).sum() for t in steps])

    assert measure(directional, weights, 1.0) < 1e-14


@pytest.mark.parametrize("exponents", TIERS, ids=["quick", "wider"] + ["ladder"] * (len(TIERS) - 2))
def test_a_term_that_dies_within_the_step_is_not_passed_over(exponents):
    """softplus(-27.4) beside a loss of 438: from steps of a few units on, one side is flat, its slope a constant over
    h. Halved steps agree better and better there the larger they are, and none of them has seen the point.
    """

    def loss(w):
        return 438.0 - np.log1p(np.exp(-27.4248698 + 2.16499099 * (w + 46.0)))

    at = np.array([-46.0])
    truth = -2.16499099 / (1 + np.exp(27.4248698))
    found = slopes(lambda offsets: loss(at + offsets), at, 2.0**-43, base=loss(at)[0], exponents=exponents)
    assert abs(found.value.value[0] - truth) <= found.value.error[0], (found.value, truth)
