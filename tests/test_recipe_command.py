"""`gradtwin recipe`: both sides as a table, and one weight in sentences; every number computed here again by hand."""

import re

import numpy as np
import pytest
from reference_network import H, Network, flat

from scratch.recipe import INPUTS, OUTPUTS, RECIPE_1, RECIPE_2, RECIPE_2_NOTE

ONE, TWO = Network.of(INPUTS, OUTPUTS, RECIPE_1, 0.01), Network.of(INPUTS, OUTPUTS, RECIPE_2, 0.01)
#: what the rounding of a nudged slope does to a weight in a step
ROUNDING = max(network.rate * network.noise() for network in (ONE, TWO))


def table(out, first):
    """Rows of the table whose heading begins with `first`, as (label, numbers)."""
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip().startswith(first))
    found = []
    for line in lines[start + 1 :]:
        if not (match := re.match(r"\s*(\S+(?:\[\d+(?:, \d+)*\])?)\s+([-+0-9.e ]+)$", line)):
            break
        found.append((match[1], [float(v) for v in match[2].split()]))
    return found


def same(shown, expected, places):
    """Shown with so many places: half a unit of the last, and what a nudge's rounding does to a weight."""
    np.testing.assert_allclose(shown, expected, rtol=0, atol=0.5 * 10.0**-places + ROUNDING)


def test_the_numbers_of_the_book(gradtwin):
    status, out, err = gradtwin("recipe")
    assert (status, err) == (0, "")
    assert "dense/kernel  1.47786700  1.556179450000           1.556186950000  -7.500e-06            -7.500e-06" in out
    assert "dense/bias    0.00000000  0.026105650000           0.026106650000  -1.000e-06            -1.000e-06" in out
    assert (
        "The forward difference errs by h·mean(x²) = 7.50e-04 in the slope of the weight, hence by 7.50e-06 in "
        "the weight."
    ) in out
    assert RECIPE_2_NOTE in out
    second = [f"{row[1][1]:.8f}" for row in table(out[out.index("recipe2") :], "weight")]
    assert second == [
        "-0.82203424",
        "-0.91858060",
        "-0.12938991",
        "0.00000000",
        "0.00000000",
        "-0.05477719",
        "1.06928960",
        "0.62761235",
        "-0.53204233",
        "0.10094705",
    ]


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("epochs", "weight", "bias"),
    [(2, "1.62143975", "0.04777356"), (10, "1.87214395", "0.12887177"), (100, "1.95980346", "0.11804470")],
)
def test_epochs(gradtwin, epochs, weight, bias):
    status, out, _ = gradtwin("recipe", "recipe1", "--epochs", str(epochs))
    assert status == 0
    rows = table(out, "weight")
    assert [f"{values[1]:.8f}" for _, values in rows] == [weight, bias]
    same([values[2] for _, values in rows], flat(ONE.path(epochs, ONE.chain_rule)[epochs]), 12)
    nudged, beside = ONE.path(epochs, ONE.nudged), ONE.path(epochs, ONE.chain_rule)
    marks = table(out, "after epoch")
    assert [int(label) for label, _ in marks][-1] == epochs
    for label, (mine, theirs, apart) in marks:
        np.testing.assert_allclose(
            # shown with twelve digits: half a unit of the last
            [mine, theirs],
            [ONE.loss(nudged[int(label)]), ONE.loss(beside[int(label)])],
            rtol=5e-12,
        )
        # shown with four digits: half a unit of the last
        np.testing.assert_allclose(apart, ONE.loss(nudged[int(label)]) - ONE.loss(beside[int(label)]), rtol=5e-4)


def test_learning_rate_step_batches_and_weights(gradtwin):
    _, out, _ = gradtwin("recipe", "recipe1", "--learning-rate", "0.05", "--step", "0.01")
    same(
        [v[1] for _, v in table(out, "weight")],
        flat(ONE.weights) - 0.05 * flat(ONE.nudged(list(ONE.weights), 0.01)),
        12,
    )
    assert (
        "The forward difference errs by h·mean(x²) = 7.50e-02 in the slope of the weight, hence by 3.75e-03 in "
        "the weight."
    ) in out
    _, out, _ = gradtwin("recipe", "recipe2", "--batch-size", "1")
    weights = list(TWO.weights)
    for x, y in zip(TWO.x, TWO.y, strict=True):
        one = Network.of(x[None], y[None], weights, 0.01)
        weights = one.path(1, one.nudged)[1]
    same([v[1] for _, v in table(out, "weight")], flat(weights), 12)
    _, out, _ = gradtwin("recipe", "--weights", "[[[1.5]], [0.25]]")
    own = Network.of(INPUTS, OUTPUTS, [[[1.5]], [0.25]], 0.01)
    assert "y = 2x, with weights of your own" in out
    same([v[1] for _, v in table(out, "weight")], flat(own.path(1, own.nudged)[1]), 12)
    same([v[2] for _, v in table(out, "weight")], flat(own.path(1, own.chain_rule)[1]), 12)


@pytest.mark.parametrize("scheme", ["central", "richardson", "complex"])
def test_better_schemes_meet_back_propagation(gradtwin, scheme):
    _, out, _ = gradtwin(
        "recipe", "recipe1", "--scheme", scheme, *(["--step", "0.1"] if scheme == "richardson" else [])
    )
    for (_, values), exact in zip(table(out, "weight"), flat(ONE.path(1, ONE.chain_rule)[1]), strict=True):
        same(values[1:3], [exact, exact], 12)
        assert abs(values[3]) <= ROUNDING


def test_explain_walks_one_weight(gradtwin):
    _, out, _ = gradtwin("recipe", "recipe1", "--explain")
    slope, exact = ONE.nudged(list(ONE.weights))[0][0, 0], ONE.chain_rule(list(ONE.weights))[0][0, 0]
    before, after = ONE.loss(ONE.weights), ONE.loss([ONE.weights[0] + H, ONE.weights[1]])
    told = out[out.index("Look at") :].strip().splitlines()
    assert told == [
        f"Look at dense/kernel of recipe1, which is 1.477867. The loss of all 4 samples is {before:.12g}.",
        f"Push it up by h = 0.0001: the loss becomes {after:.12g}, a change of {after - before:+.6g}.",
        f"The change divided by h is the slope: {slope:.10g}.",
        (
            f"Back-propagation computes {exact:.10g}: the two differ by +0.00075, and may differ by 0.0015, "
            f"truncation and rounding error of the nudge."
        ),
        (
            "The loss is a parabola in this weight, and a nudge to one side measures its slope half a nudge "
            "further on: too large by h · mean(x²) = 0.00075. Measured on the loss itself, h/2·f″ is +0.00075."
        ),
        (
            "The weight steps against the slope, 0.01 times as far: 1.477867 - 0.01 · -7.831245 = 1.55617945. With "
            "back-propagation's slope it would be 1.55618695."
        ),
        "Every other weight is nudged the same way, one at a time, and then all step together: that is one epoch.",
    ]
    _, out, _ = gradtwin("recipe", "recipe2", "--explain")
    assert f"that is one epoch. {RECIPE_2_NOTE}" in out
    assert "Look at hidden/kernel[0, 2] of recipe2, which is 0.03494298." in out


@pytest.mark.parametrize(
    ("scheme", "sentence"),
    [
        ("backward", "Pull it down by h = 0.0001; the change of the loss divided by -h is the slope: -7.832745."),
        (
            "central",
            (
                "Push it up by h = 0.0001, then pull it down by h; half the difference of the two losses divided "
                "by h is the slope: -7.831995."
            ),
        ),
        (
            "complex",
            (
                "Push it by h = 0.0001 in the imaginary direction: the imaginary part of the loss divided by h is the "
                "slope, -7.831995."
            ),
        ),
        (
            "richardson",
            (
                "Push and pull it by ever smaller nudges, the first one 0.0001 times its size, and extrapolate to "
                "a nudge of 0: the slope is -7.831995"
            ),
        ),
    ],
)
def test_explain_knows_every_scheme(gradtwin, scheme, sentence):
    _, out, _ = gradtwin("recipe", "recipe1", "--explain", "--scheme", scheme)
    assert sentence in out
