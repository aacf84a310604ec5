"""A function of a point that remembers its results computes each once, and takes no point for another."""

import numpy as np

from keras_ref.comparison.sources import points
from keras_ref.comparison.sources.points import KEPT, remember_results


def counted():
    """A function of a point, and the points that it was called with."""
    calls = []

    def function(point):
        calls.append(point)
        return len(calls)

    return remember_results(function), calls


def test_equal_points_are_computed_once():
    """Points are equal by names, shapes, types and bits: another array object is the same point, -0.0 is not 0.0."""
    function, calls = counted()
    value = np.arange(6.0).reshape(2, 3)
    same = [{"w": value}, {"w": value.copy()}, {"w": np.asfortranarray(value)}]
    others = [
        {"v": value},
        {"w": value.T},
        {"w": value.reshape(3, 2)},
        {"w": value.astype("float32")},
        {"w": value, "b": np.zeros(1)},
        {"w": -value},
        {"w": np.where(value == 0, -0.0, value)},
    ]
    assert {function(point) for point in same} == {1}
    assert [function(point) for point in others] == list(range(2, 2 + len(others)))
    assert [function(point) for point in others] == list(range(2, 2 + len(others)))
    assert len(calls) == 1 + len(others)


def test_few_and_small_points_are_remembered(monkeypatch):
    """The oldest is forgotten where there are too many; a large one is never kept."""
    function, calls = counted()
    for k in range(KEPT + 1):
        function({"w": np.array([float(k)])})
    function({"w": np.zeros(1)})
    assert len(calls) == KEPT + 2
    monkeypatch.setattr(points, "LARGEST", 3)
    function, calls = counted()
    for size in (3, 3, 4, 4):
        function({"w": np.zeros(size)})
    assert len(calls) == 3
