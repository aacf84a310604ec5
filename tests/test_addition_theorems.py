"""Activations are moved by their addition theorems, and products go in pieces: the same to the last units."""

import numpy as np
import pytest

from scratch import registry
from scratch.differences import UNIT
from scratch.nudging import addition_theorems as shifts
from scratch.nudging.matrix_layers import multiply


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
@pytest.mark.parametrize("kind", [float, complex])
def test_shifts(name, kind):
    """f(z + d) by the addition theorem is right to four units in the last place (of f(z), where it is larger)."""
    function, g = registry.get("activation", name), np.random.default_rng(0)
    z = np.concatenate(
        [g.normal(size=4000) * 10.0 ** g.integers(-8, 2, 4000), [0.0, 1e-300, 30.0, -30.0, 800.0, -800.0]]
    )
    d = g.uniform(-1, 1, z.size) * shifts.REACH * 10.0 ** g.integers(-20, 1, z.size)
    d = d if kind is float else d + 1e-30j * g.normal(size=z.size)
    change = d.copy()
    shifts.shift(shifts.expand_activation(function, function(z)), change, np.empty_like(d))
    shifted = function(z) + change
    true = function(z.astype(np.longdouble) + d.real)
    unit = np.spacing(np.maximum(np.abs(true), np.abs(function(z))).astype(float))
    assert (np.abs(shifted.real - true) / unit).max() <= 4
    if kind is complex:
        slope = function(z + d).imag
        assert (np.abs(shifted.imag - slope) <= 1e-12 * np.abs(slope) + 1e-45).all()
    assert shifts.expand_activation(np.exp, z) is None


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
@pytest.mark.parametrize("size", [1e-9, 1e-4, 1.0, 40.0])
def test_two_terms_are_enough_within_their_reach(name, size):
    """What the third term would add is below half a unit in the last place of the largest value of each channel."""
    function, g = registry.get("activation", name), np.random.default_rng(0)
    z = (size * g.normal(size=(200, 12)) * 10.0 ** -np.arange(12.0)).astype(np.longdouble)
    known = function(z)
    terms = shifts.expand_activation(function, known)
    reach = shifts.reach_of_two(known, terms)
    assert (reach > 0).all() and (reach <= shifts.REACH).all()
    two, three = (np.broadcast_to(reach, z.shape).astype(np.longdouble) for _ in range(2))
    shifts.shift(terms[:2], two, np.empty_like(z))
    shifts.shift(terms, three, np.empty_like(z))
    rounding = 4 * np.finfo(np.longdouble).eps * reach
    assert (np.abs(two - three) <= 2.0**-53 * np.abs(known).max(axis=0) + rounding).all()


def test_products_in_pieces_are_products():
    """Any number of rows and columns, none among them: the same to rounding."""
    g = np.random.default_rng(0)
    for leading, k, m in (((3, 500), 256, 10), ((7, 100, 3), 64, 1), ((5,), 3, 2), ((0, 4), 3, 2), ((4, 2), 0, 3)):
        x, matrix = g.normal(size=(*leading, k)), g.normal(size=(k, m))
        for some in (x, x + 1j * x[::-1]):
            found = multiply(some, matrix)
            assert found.shape == (*leading, m) and found.dtype == some.dtype
            # a sum of k products errs by k units at most (Higham 2002, 3.5), on each side; complex ones by twice that
            allowed = 4 * k * UNIT * (np.abs(some) @ np.abs(matrix))
            assert (np.abs(found - some @ matrix) <= allowed).all()
