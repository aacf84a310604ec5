"""`Central` measures the truncation of a sample of a large tensor's entries: what it states elsewhere, it covers."""

import numpy as np
import pytest

from scratch import differences, registry
from scratch.differences import Central, ComplexStep
from scratch.gradient import numeric_gradient
from scratch.model import Model

#: linear is no activation to speak of, threshold has arguments of its own, and glu halves its last axis
ACTIVATIONS = [name for name in registry.names("activation") if name not in ("linear", "threshold", "glu")]
LOSSES = ("MeanSquaredError", "MeanAbsoluteError", "Huber")


def layer(name, *arguments, **options):
    return registry.get("layer", name)(*arguments, **options)


def random_case(seed, activation):
    """A network of three dense layers with 64 to 1,600 weights in a kernel, at weights of one size or of many."""
    g = np.random.default_rng(seed)
    inputs, first, second = map(int, g.integers(8, 40, 3))
    layers = [layer("Dense", first, activation), layer("Dense", second, activation), layer("Dense", 4)]
    return given(Model.chain(layers, (inputs,)), (inputs,), seed, size=10.0 ** g.integers(-2, 2), spread=seed % 3 == 0)


def given(model, shape, seed, *, size=1.0, spread=False):
    """Model, weights, x, y."""
    g = np.random.default_rng(seed)
    weights = {name: size * g.normal(size=s) / np.sqrt(s[0]) for name, s in model.weight_shapes.items()}
    if spread:
        weights = {name: value * 10.0 ** g.uniform(-2, 0, value.shape) for name, value in weights.items()}
    x = g.normal(size=(int(g.integers(1, 16)), *shape))
    return model, weights, x, g.normal(size=(len(x), *model.shapes[model.outputs[0]][1:]))


def coverage(case, loss, monkeypatch):
    """Booleans over all entries: covered where all is measured, covered now, measured now."""
    exact = numeric_gradient(*case, loss=loss, scheme=ComplexStep())
    now = numeric_gradient(*case, loss=loss)
    with monkeypatch.context() as patch:
        patch.setattr(differences, "SAMPLE", np.inf)
        everywhere = numeric_gradient(*case, loss=loss)
    rows = []
    for name, true in exact.items():
        assert everywhere[name].measured.all()
        assert np.array_equal(now[name].value, everywhere[name].value, equal_nan=True)
        assert np.array_equal(now[name].rounding, everywhere[name].rounding, equal_nan=True)
        at = now[name].measured
        # a loss that is computed in a stack of another size may have other last bits
        moved = np.abs(now[name].truncation - everywhere[name].truncation)[at]
        assert not (moved > everywhere[name].rounding[at]).any()
        off = np.abs(now[name].value - true.value) - true.error
        rows.append([off <= everywhere[name].error, off <= now[name].error, at])
    return [np.concatenate([row[i].ravel() for row in rows]) for i in range(3)]


def assert_as_often(cases, monkeypatch, record_property, *, at_most):
    """No entry lost its coverage, and no more than a share `at_most` of the entries was measured."""
    before, now, measured = (
        np.concatenate(parts)
        for parts in zip(*(coverage(case, loss, monkeypatch) for case, loss in cases), strict=True)
    )
    record_property("uncovered before, now, of", f"{(~before).sum()}, {(~now).sum()}, {now.size}")
    assert not (before & ~now).any()
    assert now.mean() >= before.mean()
    assert 0 < measured.mean() <= at_most


@pytest.mark.sampled
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_random_networks(activation, monkeypatch, record_property):
    """Every activation, smooth ones and those with kinks."""
    seed = ACTIVATIONS.index(activation)
    assert_as_often([(random_case(seed, activation), LOSSES[seed % 3])], monkeypatch, record_property, at_most=0.6)


@pytest.mark.slow
def test_many_random_networks(monkeypatch, record_property):
    """210 networks, some 280,000 entries."""
    cases = (
        (random_case(seed, ACTIVATIONS[seed % len(ACTIVATIONS)]), LOSSES[seed % 5 % 3]) for seed in range(100, 310)
    )
    assert_as_often(cases, monkeypatch, record_property, at_most=0.4)


OTHERS = {
    "convolution": (
        [("Conv2D", 8, 3), ("Activation", "relu"), ("MaxPooling2D", 2), ("Flatten",), ("Dense", 3)],
        (8, 8, 3),
    ),
    "recurrence": ([("LSTM", 8), ("Dense", 3)], (4, 6)),
    "GRU": ([("GRU", 8), ("LayerNormalization",), ("Dense", 3)], (4, 6)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks(name, monkeypatch, record_property):
    """Layers whose weights act many times."""
    layers, shape = OTHERS[name]
    model = Model.chain([layer(*arguments) for arguments in layers], shape)
    assert_as_often([(given(model, shape, 0), "MeanSquaredError")], monkeypatch, record_property, at_most=0.6)


@pytest.mark.parametrize("jump", [1e-3, 1.0])
def test_a_kink_within_the_step_is_measured(jump):
    """A thousand of 20,000 entries have a kink within the step; each is found, wherever it lies, sampled or not."""
    g = np.random.default_rng(0)
    at, kinked = g.uniform(0.6, 0.7, 20000), np.arange(20000) % 20 == 0
    h = 0.5 * (2.0**-52) ** (1 / 3)
    place = np.where(kinked, g.uniform(0, 0.99, at.size) * h * g.choice([-1, 1], at.size), np.inf)

    def line(offsets):
        kink = np.where(kinked, np.maximum(jump * (offsets - np.where(kinked, place, 0)), 0), 0)
        return 1 + np.sin(at + offsets) - np.sin(at) + kink - np.maximum(-jump * np.where(kinked, place, 0), 0)

    found = Central()(line, at, 2.0**-52)
    assert found.measured[kinked].all()
    assert 0.05 < found.measured[~kinked].mean() < 0.1


def test_what_is_measured_everywhere():
    """Few entries, a step of one's own, other orders, one side, a noisy loss, and what is smooth nowhere."""
    at = np.random.default_rng(0).normal(size=2000)

    def line(offsets):
        return 1 + np.sin(at + offsets) - np.sin(at)

    assert not Central()(line, at, 2.0**-52).measured.all()
    for scheme in (Central(step=1e-6), Central(order=4), differences.Forward(), differences.Richardson()):
        assert scheme(line, at, 2.0**-52).measured.all()
    assert Central()(line, at, 1e-6).measured.all()
    assert Central()(lambda offsets: line(offsets) + np.abs(offsets), at, 2.0**-52).measured.all()
    few = at[:64]
    assert Central()(lambda offsets: np.sin(few + offsets), few, 2.0**-52).measured.all()


def test_a_loss_that_is_not_finite_beside_the_point_is_measured():
    """One entry overflows at its first step: its error is not that of the others."""
    at = np.random.default_rng(0).normal(size=2000)

    def line(offsets):
        losses = 1 + np.sin(at + offsets) - np.sin(at)
        losses[:, 7] = np.where(offsets[:, 7] > 0, np.inf, losses[:, 7])
        return losses

    with np.errstate(invalid="ignore"):
        found = Central()(line, at, 2.0**-52)
    assert found.measured[7]
    assert not np.isfinite(found.error[7])
